"""The page that holds the table: written by a command, compared by a test, read by people."""

from __future__ import annotations

from pathlib import Path

from tests.costs.figures import Figures, Table, markdown, read

PAGE = Path(__file__).parents[2] / "docs" / "design" / "costs.md"
BEGIN = "<!-- The tables are written by: python -m tests.costs --write -->\n"


def expected() -> dict[str, dict[str, Figures]]:
    """The figures on the page."""
    return read(PAGE.read_text(encoding="utf-8").partition(BEGIN)[2])


def write(counted: Table) -> None:
    """Put figures on the page in place of those there."""
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{text}{BEGIN}\n{markdown(counted)}", encoding="utf-8")
