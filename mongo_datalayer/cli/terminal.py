"""What a person sees on the terminal: lines, rows, tables and progress.

rich decides about colours, widths and cursor movements: it knows ``NO_COLOR``, ``TERM=dumb`` and
pipes. In a pipe nothing wraps, so every id and date is whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import click

from mongo_datalayer.model.printable import counted, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 100_000
"""How wide a line may be where no terminal has to show it."""

_STYLES = (
    dict.fromkeys(("ok", "present", "created", "set"), "green")
    | dict.fromkeys(("warning", "missing", "outdated", "unknown", "foreign"), "yellow")
    | dict.fromkeys(("problem", "different", "collection", "failed", "newer"), "red")
)
"""A cell that holds nothing but one of these states has its colour."""


Cell: TypeAlias = str | tuple[str, ...]
"""The text of a cell, or its lines."""


class Advance(Protocol):
    """Moves a progress bar on by ``more``; ``total`` says anew how much there is to do."""

    def __call__(self, more: int, *, total: int | None = None) -> None:
        """Move on."""


def print_line(text: str, *, err: bool = False) -> None:
    """Print one line; names and ids in it cannot act on the terminal."""
    click.echo(printable(text), err=err)


def print_lines(text: str) -> None:
    """Print a text of several lines."""
    for line in text.split("\n"):
        print_line(line)


def print_row(*cells: str, widths: Sequence[int]) -> None:
    """Print cells side by side; states are coloured.

    Args:
        cells: The cells. On a terminal the last one is wrapped below itself.
        widths: How wide the first ones are at least, to stand below those of other rows.
    """
    from rich.table import Table

    row = Table.grid(padding=(0, 2, 0, 0))
    for _, width in zip_longest(cells[:-1], widths):
        row.add_column(min_width=width, no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(*map(_cell, cells))
    _render(row)


def print_table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[Cell]],
    *,
    texts: Collection[str] = ("", "User"),
    whole: Collection[str] = ("",),
) -> None:
    """Print a table and an empty line.

    Args:
        title: What stands above it.
        columns: The names of its columns.
        rows: The cells, row by row.
        texts: The columns that hold text; all others hold numbers.
        whole: The columns whose cells, or first lines of cells, are never wrapped.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="cyan")
    cells = [tuple(map(_cell, row)) for row in rows]
    for place, name in enumerate(columns):
        table.add_column(
            name,
            justify="left" if name in texts else "right",
            no_wrap=name in whole,
            overflow="fold",
        )
        if name in whole:
            _wrap_below([row[place] for row in cells])
    for row in cells:
        table.add_row(*row)
    print_line(title)
    _render(table)
    print_line("")


def count_list(counts: Iterable[tuple[int, str]]) -> str:
    """Counts with their nouns, such as ``1 user, 2 threads``; of ChatKit only what there is."""
    shown = (pair for pair in counts if pair[0] or not pair[1].startswith("ChatKit"))
    return ", ".join(counted(count, noun) for count, noun in shown)


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far a command is, on stderr and only where that is a terminal.

    Args:
        label: What is done.
        total: How much there is to do. With None the progress is a count.

    Yields:
        A function to call with how much more is done.
    """
    if not _moves():
        yield _ignore
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(text_format_no_percentage="{task.completed:,}"),
        TimeRemainingColumn(),
    )
    # What the command prints meanwhile goes where it should, a pipe perhaps.
    shown = Progress(
        *columns, console=_console(err=True), redirect_stdout=False, redirect_stderr=False
    )
    with shown:
        task = shown.add_task(label, total=total)

        def advance(more: int, *, total: int | None = None) -> None:
            shown.update(task, advance=more, total=total)

        yield advance


def is_terminal() -> bool:
    """Whether a terminal shows the tables, which is then as wide as rich says."""
    return _console().is_terminal


def waiting(label: str) -> AbstractContextManager[Any]:
    """Show that a command works where it cannot say how far it is."""
    return _console(err=True).status(label) if _moves() else nullcontext()


def _ignore(more: int, *, total: int | None = None) -> None:
    """The progress that nobody sees."""


def _moves() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _cell(cell: Cell) -> Text:
    from rich.text import Text

    if isinstance(cell, str):
        return Text(printable(cell), style=_STYLES.get(cell, ""))
    return Text("\n".join(map(printable, cell)))


def _wrap_below(cells: Sequence[Text]) -> None:
    """Wrap all lines but the first ones to the longest of those."""
    console = _console()
    if not console.is_terminal:
        return
    width = max((cell.split(allow_blank=True)[0].cell_len for cell in cells), default=0)
    for cell in cells:
        cell.plain = "\n".join(line.plain for line in cell.wrap(console, width, overflow="fold"))


def _render(table: Table) -> None:
    console = _console()
    with console.capture() as captured:
        console.print(table)
    # Through click like everything else: one place meets a pipe that nobody reads any more.
    lines = (line.rstrip() for line in captured.get().splitlines())
    click.echo("\n".join(lines), color=True)


# rich is loaded on use: half of the commands print no table.
def _console(*, err: bool = False) -> Console:
    """Where to print. Cells hold data, so nothing in them is markup or the name of an emoji."""
    from rich.console import Console

    console = Console(stderr=err, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console
