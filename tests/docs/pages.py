"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


def page_name(page: Path) -> str:
    """How a page is called in the output of the tests."""
    return str(page.relative_to(ROOT))


def code_blocks(page: Path, language: str) -> list[str]:
    """The code of one language on a page."""
    blocks = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [block["code"] for block in blocks if block["language"] == language]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = (heading["title"] for heading in _HEADING.finditer(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table_rows(page: Path) -> Iterator[list[str]]:
    """The cells of every row of every table on a page."""
    for line in prose(page).splitlines():
        if line.startswith("|") and not line.startswith("|-"):
            yield [cell.strip() for cell in line[1:].rstrip("|").split("|")]
