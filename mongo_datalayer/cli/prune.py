"""``mongo-datalayer prune``: removes threads that nobody has touched for long."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click

from mongo_datalayer.admin import retention
from mongo_datalayer.admin.chainlit_data import ChainlitData
from mongo_datalayer.admin.chatkit_data import ChatKitData
from mongo_datalayer.admin.front_data import Counts, FrontData, Rule
from mongo_datalayer.cli.app import database_command, json_option, print_json
from mongo_datalayer.cli.terminal import count_list, print_line, progress
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Database

# A hundred years; some 739,000 days ago Python's dates begin.
LONGEST_DAYS = 36_500

_COUNTED = {
    "threads": "thread",
    "chatkit_threads": "ChatKit thread",
    "chatkit_attachments": "ChatKit attachment",
    "files": "file",
    "file_bytes": "byte{s} of files",
    "large_values": "large value",
    "large_value_bytes": "byte{s} of large values",
    "overflow": "overflow document",
}


def _question(days: int, *, dry_run: bool, **_others: object) -> str | None:
    untouched = counted(days, "day")
    return None if dry_run else f"Remove the threads that were not touched for {untouched}?"


@click.command(epilog="Example: mongo-datalayer prune --days 365 --keep-pinned --dry-run")
@database_command(bucket=True, question=_question)
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST_DAYS),
    required=True,
    help="Delete threads whose newest step is older than this.",
)
@click.option(
    "--only",
    type=click.Choice(["chainlit", "chatkit"]),
    help="Only threads of this kind. [default: both]",
)
@click.option("--keep-pinned", is_flag=True, help="Keep threads with metadata.pinned: true.")
@click.option("--keep-shared", is_flag=True, help="Keep threads that are shared.")
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, but change nothing.")
@json_option
async def prune(
    database: Database,
    bucket: str,
    days: int,
    only: str | None,
    *,
    keep_pinned: bool,
    keep_shared: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete threads that were not touched for a number of days.

    Their files and all else that belongs to them go too. A ChatKit thread was touched when it or
    one of its items was last written, and its attachments go with it.

    It reads all threads once. If it is interrupted, run it again within 24 hours to finish. Later,
    `mongo-datalayer files gc` finds what is left.

    \b
    Exit codes:
      0  done, or there was nothing to do
      1  you declined
      2  the server could not be used, or there was no terminal to ask at
    """
    rule = Rule(
        before=datetime.now(timezone.utc) - timedelta(days=days),
        keep_pinned=keep_pinned,
        keep_shared=keep_shared,
    )
    pruned = await _prune(database, bucket, rule, only, dry_run=dry_run)
    if as_json:
        print_json({"changed": not dry_run, **{name: pruned[name] for name in _COUNTED}})
        return
    counts = count_list((pruned[name], noun) for name, noun in _COUNTED.items())
    if dry_run:
        print_line(f"Would be removed: {counts}. Nothing was changed.")
    else:
        print_line(f"Removed: {counts}.")


async def _prune(
    database: Database, bucket: str, rule: Rule, only: str | None, *, dry_run: bool
) -> Counts:
    files = FileBucket(database, bucket)
    fronts: dict[str, FrontData] = {
        "chainlit": ChainlitData(database, files),
        "chatkit": ChatKitData(database, files),
    }
    chosen = [front for name, front in fronts.items() if only in (None, name)]
    if dry_run:
        return await retention.count_prunable(chosen, rule)
    with progress("threads removed") as advance:
        return await retention.prune(chosen, rule, advance)
