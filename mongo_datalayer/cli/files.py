"""``mongo-datalayer files``: looks after what is stored beside the threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.documents import CHATKIT_OVERFLOW, CHATKIT_THREADS
from mongo_datalayer.driver import Database
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.indexes import BUCKET
from mongo_datalayer.orphans import Abandoned, ChatKit, Leftover, Leftovers, Orphan, find_orphans
from mongo_datalayer.threads import Threads

BATCH = 100


@click.group()
def files() -> None:
    """Look after the stored files of elements, and what else is stored beside the threads."""


@files.command(epilog="Example: mongo-datalayer files gc --delete --grace-hours 48")
@connection_options
@bucket_option
@click.option("--delete", is_flag=True, help="Delete what was found; without it nothing changes.")
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Leave alone what is younger: what points to it may be on its way.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(
    uri: str | None,
    database: str | None,
    bucket: str,
    *,
    delete: bool,
    grace_hours: float,
    as_json: bool,
) -> None:
    """Find, and with --delete remove, what nothing points to.

    Files that no element and no attachment points to, large values that no thread points to, pieces
    of large texts that are gone, parts that no thread lists, and attachments of ChatKit that were
    never sent or whose thread is gone. They are left when a process is killed in the middle of its
    work, and when MongoDB removes threads by itself. Files of other applications in the same bucket
    are never touched, and parts only when they are an hour old.

    With --delete it may remove more than it finds without: what only the removed things pointed to.
    """
    before = datetime.now(timezone.utc) - timedelta(hours=grace_hours)
    found: list[dict[str, Any]] = []
    tell: Callable[[dict[str, Any]], None] = found.append if as_json else _tell
    count = asyncio.run(_collect(uri, database, bucket, before, tell, delete=delete))
    if as_json:
        click.echo(json.dumps({"deleted": delete, "found": found}, indent=2))
    elif delete:
        click.echo(f"{count} deleted.")
    elif count:
        click.echo(f"{count} found; nothing was changed. Run with --delete to remove them.")
    else:
        click.echo("0 found.")


async def _collect(
    uri: str | None,
    name: str | None,
    bucket: str,
    before: datetime,
    tell: Callable[[dict[str, Any]], None],
    *,
    delete: bool,
) -> int:
    count = 0
    async with opened_database(uri, name) as database:
        values = FileBucket(database, BUCKET)
        leftovers = Leftovers(database, values)
        of_chatkit = Leftovers(database, values, heads=CHATKIT_THREADS, parts=CHATKIT_OVERFLOW)
        chatkit = ChatKit(database, FileBucket(database, bucket))
        # In this order: a file that a part points to stays as long as the part, and the pieces of
        # a text as long as its file.
        for store in (leftovers, of_chatkit):
            count += await _overflow(store, store.parts(before), tell, delete=delete)
        async for left in chatkit.abandoned(before):
            if not delete or await chatkit.delete(left, before):
                tell(_of_attachment(left))
                count += 1
        async for orphan in _files(database, bucket, chatkit, before, delete=delete):
            tell(_of_file(orphan))
            count += 1
        count += await _overflow(leftovers, leftovers.pieces(before), tell, delete=delete)
    return count


async def _overflow(
    leftovers: Leftovers,
    found: AsyncIterator[Leftover],
    tell: Callable[[dict[str, Any]], None],
    *,
    delete: bool,
) -> int:
    count = 0
    async for left in found:
        if not delete or await leftovers.delete(left):
            tell(_of_overflow(left))
            count += 1
    return count


async def _files(
    database: Database, bucket: str, chatkit: ChatKit, before: datetime, *, delete: bool
) -> AsyncIterator[Orphan]:
    """The orphans of the bucket of files, and of that of large values if it is another one."""
    threads = Threads(database)
    for name in dict.fromkeys((bucket, BUCKET)):
        place = FileBucket(database, name)
        found = find_orphans(
            place,
            threads,
            before,
            chatkit=chatkit,
            elements=name == bucket,
            values=name == BUCKET,
        )
        batch: list[str] = []
        async for orphan in found:
            yield orphan
            batch.append(orphan.file_id)
            if delete and len(batch) == BATCH:
                await place.discard(batch)
                batch = []
        if delete:
            await place.discard(batch)


def _of_file(orphan: Orphan) -> dict[str, Any]:
    kind = "unfinished upload" if orphan.object_key is None else "file"
    return {"kind": kind, "id": orphan.file_id, "key": orphan.object_key, "bytes": orphan.size}


def _of_attachment(left: Abandoned) -> dict[str, Any]:
    kind = "attachment never sent" if left.thread is None else "attachment of no thread"
    told = {"kind": kind, "id": left.key["id"], "key": left.object_key, "bytes": None}
    return told | {"owner": left.key["owner"], "thread": left.thread}


def _of_overflow(left: Leftover) -> dict[str, Any]:
    kind = "part" if left.value is None else "piece of a text"
    return {"kind": kind, "id": left.id, "key": left.value, "bytes": left.size} | {
        "thread": left.thread
    }


def _tell(found: dict[str, Any]) -> None:
    told = {
        "unfinished upload": "an upload that was never finished",
        "file": "{bytes} bytes  {key}",
        "part": "a part that its thread {thread} does not list",
        "piece of a text": "a piece of a text that is gone  {key}",
        "attachment never sent": "an attachment of {owner} that was never sent",
        "attachment of no thread": "an attachment of {owner}, whose thread {thread} is gone",
    }
    click.echo(f"{found['id']}  {told[found['kind']].format(**found)}")
