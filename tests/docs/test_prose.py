"""The pages read well: short sentences, hardly a semicolon, and they speak to you."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, README, ROOT, page_name

PROSE: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "prose.py"))
USERS_PAGES = [README, *sorted(DOCS.glob("*.md"))]
NOTES = sorted((DOCS / "design").glob("*.md"))
REFERENCE = {"cli.md", "data-model.md", "export-format.md"}
"""Pages that describe, and hardly ask the reader to do anything."""


@pytest.mark.parametrize("page", [*USERS_PAGES, *NOTES], ids=page_name)
def test_a_page_stays_within_the_bounds(page: Path) -> None:
    figures = PROSE["measure"](page.read_text(encoding="utf-8"))

    assert figures.excess() == {}, "python scripts/prose.py shows the figures of all pages"


@pytest.mark.parametrize("page", [p for p in USERS_PAGES if p.name not in REFERENCE], ids=page_name)
def test_a_page_for_users_speaks_to_them(page: Path) -> None:
    figures = PROSE["measure"](page.read_text(encoding="utf-8"))

    assert figures.rate("you") >= PROSE["LEAST_YOU"]


@pytest.mark.parametrize("page", USERS_PAGES, ids=page_name)
def test_a_page_for_users_begins_with_something_to_copy(page: Path) -> None:
    first_section = re.split(r"^## .*\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[:2]

    assert "```" in "".join(first_section)


@pytest.mark.parametrize(
    ("text", "counts", "sentence"),
    [
        ("You start. It ends; no more.\n", {"semicolons": 1, "you": 1, "negations": 1}, 3.0),
        ("Who waits is told. Who waits?\n\nIt ends: what failed is lost.\n", {"subjects": 2}, 3.33),
        ("# You; no\n\n```sh\nyou; no\n```\n\nRun `you; no` [now](you;no).\n", {}, 3.0),
        ("| you | no |\n|---|---|\n| a; | b |\n\nOne two.\n", {"semicolons": 1, "you": 1}, 2.0),
    ],
)
def test_what_is_measured(text: str, counts: dict[str, int], sentence: float) -> None:
    figures = PROSE["measure"](text)

    assert figures.counts.items() >= counts.items()
    assert figures.sentence == pytest.approx(sentence, abs=0.01)
