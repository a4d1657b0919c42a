"""``mongo-datalayer prune``: removes threads that nobody has touched for long."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone

import click

from mongo_datalayer import retention
from mongo_datalayer.chatkit.retention import Expiry
from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.cli.progress import progress
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.indexes import BUCKET
from mongo_datalayer.retention import Pruned, Rule
from mongo_datalayer.threads import Threads

LONGEST_DAYS = 36_500


@click.command(epilog="Example: mongo-datalayer prune --days 365 --keep-pinned --dry-run")
@connection_options
@bucket_option
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST_DAYS),
    required=True,
    help="Remove threads whose newest step is older than this.",
)
@click.option(
    "--only",
    type=click.Choice(["chainlit", "chatkit"]),
    help="Only the threads of one of the two. [default: both]",
)
@click.option("--keep-pinned", is_flag=True, help="Keep threads with metadata.pinned: true.")
@click.option("--keep-shared", is_flag=True, help="Keep threads that are shared.")
@click.option("--dry-run", is_flag=True, help="Count what would be removed; change nothing.")
def prune(
    uri: str | None,
    database: str | None,
    bucket: str,
    days: int,
    only: str | None,
    *,
    keep_pinned: bool,
    keep_shared: bool,
    dry_run: bool,
) -> None:
    """Remove threads that were not touched for a number of days, with all that belongs to them.

    A ChatKit thread counts as touched when it, or an item of it, was last written; its attachments
    go with it.

    Reads all threads once. When it was interrupted, run it again: what it had no time for is
    removed then, for 24 hours; later `mongo-datalayer files gc` finds it.

    Exits with 0 also when there was nothing to do, and with 2 when the server could not be used.
    """
    rule = Rule(
        before=datetime.now(timezone.utc) - timedelta(days=days),
        keep_pinned=keep_pinned,
        keep_shared=keep_shared,
    )
    pruned = asyncio.run(_prune(uri, database, bucket, rule, only, dry_run=dry_run))
    counts = (
        f"{pruned.threads} threads, {pruned.chatkit_threads} ChatKit threads, "
        f"{pruned.attachments} attachments, {pruned.files} files, {pruned.size} bytes of files, "
        f"{pruned.large_values} large values, {pruned.large_value_bytes} bytes of large values, "
        f"{pruned.overflow} documents of overflow"
    )
    if dry_run:
        click.echo(f"Would be removed: {counts}. Nothing was changed.")
    else:
        click.echo(f"Removed: {counts}.")


async def _prune(
    uri: str | None, name: str | None, bucket: str, rule: Rule, only: str | None, *, dry_run: bool
) -> Pruned:
    pruned = Pruned()
    async with opened_database(uri, name) as database:
        files, values = FileBucket(database, bucket), FileBucket(database, BUCKET)
        threads, expiry = Threads(database), Expiry(database, files, values)
        with nullcontext(None) if dry_run else progress("threads removed") as advance:
            if only != "chatkit":
                pruned = (
                    await retention.count_prunable(threads, files, values, rule)
                    if advance is None
                    else await retention.prune(threads, files, values, rule, advance)
                )
            if only != "chainlit":
                pruned.add_chatkit(
                    await expiry.count(rule.chatkit_condition)
                    if advance is None
                    else await expiry.remove(rule.chatkit_condition, advance)
                )
    return pruned
