"""The table of docs/design/sharding.md: written by a command, compared by a test."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tests.scaling.recorded import KEYS, WITH_OVERFLOW, Recorded
from tests.scaling.routing import Route

PAGE = Path(__file__).parents[2] / "docs" / "design" / "sharding.md"
BEGIN = "<!-- The table is written by: python -m tests.scaling --write -->\n"
REWRITE = "python -m tests.scaling --write"

_WORDS = {
    Route.ONE: "one",
    Route.SOME: "those of the ids",
    Route.ALL: "**all**",
    Route.REFUSED: "**refused before 7.1**",
}


def table(recorded: Iterable[Recorded]) -> str:
    """One row for each way in which an operation goes to shards."""
    rows = {
        (each.operation, _in_order(each.routes(KEYS)), _in_order(each.routes(WITH_OVERFLOW)))
        for each in recorded
    }
    head = ["| operation | shards | with the overflow sharded |", "|---|---|---|"]
    lines = [f"| `{name}` | {one} | {other} |" for name, one, other in sorted(rows)]
    return "\n".join([*head, *lines, ""])


def _in_order(routes: Iterable[Route]) -> str:
    return ", then ".join(_WORDS[each] for each, _ in groupby(routes)) or "none"


def expected() -> str:
    """The table on the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].strip() + "\n"


def write(found: str) -> None:
    """Put a table on the page in place of the one there."""
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{text}{BEGIN}\n{found}", encoding="utf-8")
