"""What the pages point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Command, Group

from mongo_datalayer.cli import main
from mongo_datalayer.config import Settings
from tests.cli.commands import subcommands
from tests.docs.pages import DOCS, PAGES, README, ROOT, anchors, page_name, prose, table_rows

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_COMMAND = re.compile(r"\bmongo-datalayer ((?:[a-z][a-z-]* ?)+)")
_VARIABLE = re.compile(r"\bMONGO_DATALAYER_(?!TESTS_)[A-Z_]+[A-Z]\b")


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


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=page_name)
def test_a_page_is_in_the_navigation_of_the_site(page: Path) -> None:
    site = (ROOT / "scripts" / "mkdocs.yml").read_text(encoding="utf-8")

    assert f"- {page.name}\n" in site.partition("\nnav:\n")[2]


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=page_name)
def test_the_commands_on_a_page_exist(page: Path) -> None:
    for words in _COMMAND.findall(page.read_text(encoding="utf-8")):
        assert isinstance(_command(words.split()), Command), words


def _command(words: list[str]) -> Command | None:
    found: Command | None = main
    for word in words:
        if not isinstance(found, Group):  # what follows are arguments, or prose
            break
        found = subcommands(found).get(word)
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


@pytest.mark.parametrize("page", [README, *sorted(DOCS.rglob("*.md"))], ids=page_name)
def test_the_scripts_and_extras_on_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    for name in re.findall(r"(?<![\w/])scripts/\w+(?:\.\w+)?", text):
        assert (ROOT / name).is_file(), name
    for extra in re.findall(r"pip install '[^']*\[([a-z]+)\]'", text):
        assert f"\n{extra} = [" in project, extra
