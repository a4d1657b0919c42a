"""``mongo-datalayer stats``: what is stored, how it grows, which threads are the longest."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.cli.tables import console, table
from mongo_datalayer.statistics import Statistics, Totals, count_everything

if TYPE_CHECKING:
    from rich.table import Table

_BYTES = 1024
_UNITS = ("B", "kB", "MB", "GB", "TB")


@click.command(epilog="Example: mongo-datalayer stats --weeks 12 --longest 10")
@connection_options
@bucket_option
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON; sizes are in bytes.")
def stats(
    uri: str | None,
    database: str | None,
    bucket: str,
    *,
    weeks: int,
    longest: int,
    as_json: bool,
) -> None:
    """Count what is stored and how it grows; change nothing.

    Users, threads, steps, feedback, elements, ChatKit's threads, items and attachments, files,
    bytes, and the longest of Chainlit's threads. Every thread is read.

    Exits with 2 when the server could not be used.
    """
    with nullcontext() if as_json else _waiting():
        counted = asyncio.run(_count(uri, database, bucket, weeks, longest))
    if as_json:
        click.echo(json.dumps(asdict(counted), indent=2, default=str))
    else:
        _show(counted)


async def _count(
    uri: str | None, name: str | None, bucket: str, weeks: int, longest: int
) -> Statistics:
    async with opened_database(uri, name) as database:
        return await count_everything(
            database,
            weeks=weeks,
            longest=longest,
            now=datetime.now(timezone.utc),
            bucket=bucket,
        )


def _waiting() -> AbstractContextManager[Any]:
    return console(stderr=True).status("Counting …") if sys.stderr.isatty() else nullcontext()


def _show(counted: Statistics) -> None:
    printed = console()
    for each in _tables(counted):
        printed.print(each)


def _tables(counted: Statistics) -> Iterable[Table]:
    yield table("Stored", ("", "Count"), _total_rows(counted.totals))
    yield table(
        "Collections",
        ("", "Documents", "Size", "On disk", "Indexes"),
        (
            (c.name, str(c.documents), *map(readable, (c.bytes, c.stored_bytes, c.index_bytes)))
            for c in counted.collections
        ),
    )
    if counted.weeks:
        yield table(
            "New in the week of",
            (
                "",
                "Users",
                "Threads",
                "ChatKit",
                "Files",
                "Size of files",
                "Large values",
                "Their size",
            ),
            (
                (
                    *map(str, (w.begins, w.users, w.threads, w.chatkit_threads, w.files)),
                    readable(w.file_bytes),
                    str(w.large_values),
                    readable(w.large_value_bytes),
                )
                for w in counted.weeks
            ),
        )
    if counted.longest:
        yield table(
            "Longest threads",
            ("", "Steps", "Size", "Large values", "User", "Name"),
            (
                (
                    t.id,
                    str(t.steps),
                    *map(readable, (t.bytes, t.large_value_bytes)),
                    t.user or "",
                    t.name or "",
                )
                for t in counted.longest
            ),
        )


def _total_rows(totals: Totals) -> Iterable[tuple[str, str]]:
    for item in fields(totals):
        value = getattr(totals, item.name)
        shown = readable(value) if item.name.endswith("bytes") else str(value)
        yield item.name.replace("_", " "), shown


def readable(size: float) -> str:
    """A size in bytes as people read it."""
    for unit in _UNITS[:-1]:
        if size < _BYTES:
            return f"{size:.0f} {unit}" if unit == _UNITS[0] else f"{size:.1f} {unit}"
        size /= _BYTES
    return f"{size:.1f} {_UNITS[-1]}"
