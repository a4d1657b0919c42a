"""``mongo-datalayer stats``: what is stored, how it grows, which threads are the longest."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import click

from mongo_datalayer.admin.stats import Row, Statistics, count_everything
from mongo_datalayer.cli.app import database_command, print_json
from mongo_datalayer.cli.terminal import Cell, print_table, waiting
from mongo_datalayer.model.printable import readable_size
from mongo_datalayer.mongodb.client import Database

_CHATKIT = "chatkit"
_WEEKS = {
    "begins": "",
    "users": "Users",
    "threads": "Threads",
    "chatkit_threads": "ChatKit",
    "files": "Files",
    "file_bytes": "Size of files",
    "large_values": "Large values",
    "large_value_bytes": "Their size",
}


@click.command(epilog="Example: mongo-datalayer stats --weeks 12 --longest 10")
@database_command(bucket=True)
@click.option(
    "--weeks",
    type=click.IntRange(0, 520),
    default=8,
    show_default=True,
    help="How many weeks of growth to show, this one included.",
)
@click.option(
    "--longest",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many of the longest threads to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
async def stats(
    database: Database, bucket: str, *, weeks: int, longest: int, as_json: bool
) -> None:
    """Count what is stored and how it grows. Changes nothing.

    Users, threads, steps, feedback, elements and files, ChatKit's threads, items and attachments,
    bytes, and the longest of Chainlit's threads. It reads every thread.

    \b
    Exit codes:
      0  everything was counted
      2  the server could not be used
    """
    now = datetime.now(timezone.utc)
    with nullcontext() if as_json else waiting("Counting …"):
        counted = await count_everything(
            database, weeks=weeks, longest=longest, now=now, bucket=bucket
        )
    if as_json:
        print_json(asdict(counted))
    else:
        _show(counted)


def _show(counted: Statistics) -> None:
    chatkit = any(n for name, n in counted.totals.items() if name.startswith(_CHATKIT))
    totals = _shown(counted.totals, chatkit)
    rows = ((_title(name), _cell(name, count)) for name, count in totals)
    print_table("Stored", ("", "Count"), rows)
    sizes = ("Documents", "Size", "On disk", "Indexes")
    collections = (row for row in counted.collections if _is_shown(row["name"], chatkit))
    print_table("Collections", ("", *sizes), map(_cells, collections))
    if counted.weeks:
        weeks = [dict(_shown(week, chatkit)) for week in counted.weeks]
        print_table("New in the week of", map(_WEEKS.__getitem__, weeks[0]), map(_cells, weeks))
    if counted.longest:
        # A column of zeros would take the room of the users.
        large = any(thread["large_value_bytes"] for thread in counted.longest)
        columns = ("", "Steps", "Size", *(("Large values",) if large else ()), "User")
        threads = (_thread_cells(thread, large=large) for thread in counted.longest)
        print_table("Longest threads", columns, threads)


def _title(name: str) -> str:
    return name.replace("_", " ").replace(_CHATKIT, "ChatKit")


def _shown(row: Row, chatkit: bool) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in row.items() if _is_shown(name, chatkit))


def _is_shown(name: str, chatkit: bool) -> bool:
    """Whether to show what is called so: of ChatKit nothing where it is not used."""
    return chatkit or not name.startswith(_CHATKIT)


def _thread_cells(thread: Row, *, large: bool) -> Iterable[Cell]:
    # The name stands below the id, so that 80 columns have room for both.
    names = ("steps", "bytes", *(("large_value_bytes",) if large else ()))
    sizes = (_cell(name, thread[name]) for name in names)
    lines = (str(thread[name]) for name in ("id", "name") if thread[name] is not None)
    return (tuple(lines), *sizes, str(thread["user"] or ""))


def _cells(row: Row) -> Iterable[str]:
    return (_cell(name, value) for name, value in row.items())


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return readable_size(value) if name.endswith("bytes") else str(value)
