"""The page of the layout names modules that exist, and every room."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT, table_rows

PACKAGE = ROOT / "mongo_datalayer"
PAGE = DOCS / "design" / "layout.md"


def test_every_module_that_it_names_is_there() -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")]
    modules.append("tests/test_architecture.py")
    named = re.findall(r"`([\w/]+\.py)`", PAGE.read_text(encoding="utf-8"))

    assert named
    assert [name for name in named if not any(f"/{m}".endswith(f"/{name}") for m in modules)] == []


def test_every_room_has_its_row() -> None:
    rooms = {f"`{path.parent.name}/`" for path in PACKAGE.glob("*/__init__.py")}

    assert rooms <= {row[0] for row in table_rows(PAGE) if row}
