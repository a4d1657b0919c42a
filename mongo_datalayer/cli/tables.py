"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


# rich is loaded on use: the other commands, and scripts/create_indexes.py, do without it.
def console(*, stderr: bool = False) -> Console:
    """Where to print; what is printed is data: nothing in it is markup or an emoji's name."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    texts: Collection[str] = ("", "User", "Name"),
) -> Table:
    """A table; the columns that are not ``texts`` hold numbers."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="left" if name in texts else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made
