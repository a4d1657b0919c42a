"""``mongo-datalayer files``: looks after the stored files of elements."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.orphans import Orphan, find_orphans
from mongo_datalayer.threads import Threads

BATCH = 100


@click.group()
def files() -> None:
    """Look after the stored files of elements."""


@files.command(epilog="Example: mongo-datalayer files gc --delete --grace-hours 48")
@connection_options
@bucket_option
@click.option("--delete", is_flag=True, help="Delete what was found; without it nothing changes.")
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Leave files alone that are younger: their element may be on its way.",
)
def gc(
    uri: str | None, database: str | None, bucket: str, *, delete: bool, grace_hours: float
) -> None:
    """Find, and with --delete remove, files that no element points to.

    Such files are left when a process is killed between a file and its element. Files of other
    applications in the same bucket are never touched.
    """
    before = datetime.now(timezone.utc) - timedelta(hours=grace_hours)
    count = asyncio.run(_collect(uri, database, bucket, before, delete=delete))
    if delete:
        click.echo(f"{count} deleted.")
    elif count:
        click.echo(f"{count} found; nothing was changed. Run with --delete to remove them.")
    else:
        click.echo("0 found.")


async def _collect(
    uri: str | None, name: str | None, bucket_name: str, before: datetime, *, delete: bool
) -> int:
    count = 0
    async with opened_database(uri, name) as database:
        bucket = FileBucket(database, bucket_name)
        batch: list[str] = []
        async for orphan in find_orphans(bucket, Threads(database), before):
            click.echo(_line(orphan))
            count += 1
            batch.append(orphan.file_id)
            if delete and len(batch) == BATCH:
                await bucket.discard(batch)
                batch = []
        if delete:
            await bucket.discard(batch)
    return count


def _line(orphan: Orphan) -> str:
    if orphan.object_key is None:
        return f"{orphan.file_id}  an upload that was never finished"
    return f"{orphan.file_id}  {orphan.size} bytes  {orphan.object_key}"
