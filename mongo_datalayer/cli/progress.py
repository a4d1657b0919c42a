"""Progress on stderr, for a person who waits; nothing where stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far a command is.

    Args:
        label: What is done.
        total: How much there is to do; None where that is not known, then what is done is counted.

    Yields:
        A function to tell how much more is done.
    """
    if not sys.stderr.isatty():
        yield _silent
    elif total is None:
        yield from _counter(label)
    else:
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update


def _silent(_more: int) -> None:
    pass


def _counter(label: str) -> Iterator[Advance]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        click.echo(f"\r{label}: {done:,}", err=True, nl=False)

    try:
        yield advance
    finally:
        click.echo(err=True)
