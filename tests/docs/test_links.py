"""What the pages point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Command, Group

from mongo_datalayer.cli import main
from mongo_datalayer.config import Settings
from tests.docs.pages import DOCS, PAGES, README, ROOT, anchors, page_name, prose, table_rows

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_COMMAND = re.compile(r"\bmongo-datalayer ((?:[a-z][a-z-]* ?)+)")
_VARIABLE = re.compile(r"\bMONGO_DATALAYER_[A-Z_]+[A-Z]\b")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_resolves(page: Path) -> None:
    targets = [match["target"] for match in _LINK.finditer(prose(page))]
    relative = [target for target in targets if not target.startswith(("https://", "http://"))]

    broken = [target for target in relative if not _resolves(page, target)]

    assert not broken


def _resolves(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    found = page if not path else page.parent / path
    if not found.exists():
        return False
    return not anchor or anchor in anchors(found)


def test_every_page_of_the_docs_is_linked_from_another() -> None:
    linked = {
        (page.parent / match["target"].partition("#")[0]).resolve()
        for page in PAGES
        for match in _LINK.finditer(prose(page))
    }

    assert {page for page in PAGES if page != README} <= linked


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=page_name)
def test_the_commands_on_a_page_exist(page: Path) -> None:
    for words in _COMMAND.findall(page.read_text(encoding="utf-8")):
        assert isinstance(_command(words.split()), Command), words


def _command(words: list[str]) -> Command | None:
    found: Command | None = main
    for word in words:
        if not isinstance(found, Group):  # what follows are arguments, or prose
            break
        found = found.commands.get(word)
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_environment_variables_on_a_page_exist(page: Path) -> None:
    prefix = Settings.model_config["env_prefix"]
    known = {f"{prefix}{name}".upper() for name in Settings.model_fields}

    assert set(_VARIABLE.findall(page.read_text(encoding="utf-8"))) <= known


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = project.partition("\ndependencies = [\n")[2].partition("\n]")[0]
    needed = re.findall(r'^  "([a-z-]+)', block, re.MULTILINE)

    explained = {cells[0] for cells in table_rows(DOCS / "design" / "dependencies.md")}

    assert needed
    assert set(needed) == explained - {"Package"}


def test_the_scripts_of_the_readme_are_there() -> None:
    named = re.findall(r"\bscripts/\w+(?:\.py)?", README.read_text(encoding="utf-8"))

    assert {"scripts/demo", "scripts/test", "scripts/create_indexes.py"} <= set(named)
    assert all((ROOT / name).is_file() for name in named)
