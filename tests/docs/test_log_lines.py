"""The log lines that an operator is told to look for are those that the code writes."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, ROOT, table_rows

LEVELS = re.compile(r"`(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)`")
LINES = [
    shown
    for cells in table_rows(DOCS / "production.md")
    if LEVELS.search(cells[0])
    for shown in re.findall(r"`([^`]+)`", cells[1])
]


def test_the_page_shows_lines() -> None:
    assert len(LINES) > 8


@pytest.mark.parametrize("line", LINES)
def test_the_code_writes_it(line: str) -> None:
    sources = (ROOT / "mongo_datalayer").rglob("*.py")
    code = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    fixed = [part.strip(" ,") for part in re.split(r"…|\d+\.\d+\.\d+", line)]

    # The rest of a line are values, and the names of operations.
    assert [part for part in fixed if part and part not in code] == []
