"""What operations cost, as a table that people read and tests compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

REWRITE = "python -m tests.costs --write"


class Figures(NamedTuple):
    """What one call costs.

    Attributes:
        commands: Commands sent.
        keys: Index keys that the server examined.
        documents: Documents that it examined.
        written: Index keys that it inserted and deleted.
        sent: Bytes of the commands, without what the driver adds to each.
        received: Bytes of the answers.
    """

    commands: int
    keys: int
    documents: int
    written: int
    sent: int
    received: int


HEADINGS = (
    *("commands", "keys examined", "documents examined", "keys written"),
    *("bytes sent", "bytes received"),
)
Table = Mapping[str, Mapping[str, Figures]]
"""By section and operation."""


def markdown(table: Table) -> str:
    """The table, a section for each thread."""
    parts = []
    for section, rows in table.items():
        width = max(map(len, rows)) + 2
        head = ["operation".ljust(width), *HEADINGS]
        lines = [head, ["-" * width, *(f"{'-' * (len(each) - 1)}:" for each in HEADINGS)]]
        for operation, figures in rows.items():
            values = zip(figures, HEADINGS, strict=True)
            cells = [f"{value:,}".rjust(len(heading)) for value, heading in values]
            lines.append([f"`{operation}`".ljust(width), *cells])
        shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {section}\n\n{shown}\n")
    return "\n".join(parts)


def read(text: str) -> dict[str, dict[str, Figures]]:
    """The table in a text that :func:`markdown` wrote."""
    table: dict[str, dict[str, Figures]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            operation, *cells = (cell.strip() for cell in line.strip("| ").split(" | "))
            figures = Figures(*(int(cell.replace(",", "")) for cell in cells))
            table.setdefault(section, {})[operation.strip("`")] = figures
    return table


def differences(expected: Table, counted: Table) -> list[str]:
    """A line for each figure that is not as expected."""
    return [
        line
        for section in dict.fromkeys((*expected, *counted))
        for line in _differing(section, expected.get(section, {}), counted.get(section, {}))
    ]


def _differing(
    section: str, expected: Mapping[str, Figures], counted: Mapping[str, Figures]
) -> Iterable[str]:
    for operation in dict.fromkeys((*expected, *counted)):
        place = f"{section}: {operation}"
        if operation not in counted:
            yield f"{place}: not counted any more; {REWRITE} takes it out of the table"
        elif operation not in expected:
            yield f"{place}: not in the table; {REWRITE} puts it there"
        else:
            pairs = zip(HEADINGS, expected[operation], counted[operation], strict=True)
            for heading, before, now in pairs:
                if now > before:
                    yield f"{place}: {heading} grew from {before:,} to {now:,}"
                elif now < before:
                    yield f"{place}: {heading} fell from {before:,} to {now:,}; {REWRITE} lowers it"
