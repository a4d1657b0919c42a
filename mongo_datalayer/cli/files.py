"""``mongo-datalayer files``: looks after what is stored beside the threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from mongo_datalayer.admin.garbage import Garbage, Orphan
from mongo_datalayer.cli.app import database_command, json_option, print_json
from mongo_datalayer.cli.terminal import print_line
from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Database


def _question(*, delete: bool, **_others: object) -> str | None:
    return "Delete the files and documents that nothing points to?" if delete else None


@click.group()
def files() -> None:
    """Find stored data that nothing points to."""


@files.command(epilog="Example: mongo-datalayer files gc --delete --grace-hours 48")
@database_command(bucket=True, question=_question)
@click.option("--delete", is_flag=True, help="Delete what was found. Without it, nothing changes.")
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Leave younger data alone: what points to it may be on its way.",
)
@json_option
async def gc(
    database: Database, bucket: str, *, delete: bool, grace_hours: float, as_json: bool
) -> None:
    """Find data that nothing points to, and delete it with --delete.

    \b
    It looks for
    - files without an element or an attachment
    - large values without a thread, and pieces of large texts that are gone
    - overflow documents that no thread lists
    - ChatKit attachments that were never sent, or whose thread is gone

    A process that is killed in the middle of its work leaves them behind, and so does MongoDB when
    it deletes expired threads. Files of other applications in the same bucket are never touched,
    and overflow documents only when they are an hour old.

    With --delete it may remove more than it finds without: also what only the removed data pointed
    to.

    \b
    Exit codes:
      0  done, or there was nothing to do
      1  you declined
      2  the server could not be used, or there was no terminal to ask at
    """
    before = datetime.now(timezone.utc) - timedelta(hours=grace_hours)
    found: list[dict[str, Any]] = []
    tell: Callable[[dict[str, Any]], None] = found.append if as_json else _tell
    count = 0
    async for orphan in Garbage(database, bucket, before).collect(delete=delete):
        tell(_told(orphan))
        count += 1
    if as_json:
        print_json({"deleted": delete, "found": found})
    elif delete:
        print_line(f"{count} deleted.")
    elif count:
        print_line(f"{count} found; nothing was changed. Run with --delete to remove them.")
    else:
        print_line("0 found.")


def _told(orphan: Orphan) -> dict[str, Any]:
    told = {"kind": orphan.kind, "id": orphan.id, "key": orphan.key, "bytes": orphan.size}
    if orphan.owner is not None:
        return told | {"owner": orphan.owner, "thread": orphan.thread}
    if orphan.kind in ("file", "unfinished upload"):
        return told
    return told | {"thread": orphan.thread}


def _tell(found: dict[str, Any]) -> None:
    told = {
        "unfinished upload": "an upload that was never finished",
        "file": "{size}  {key}",
        "overflow document": "an overflow document that its thread {thread} does not list",
        "piece of a text": "a piece of a text that is gone  {key}",
        "attachment never sent": "an attachment of {owner} that was never sent",
        "attachment of no thread": "an attachment of {owner}, whose thread {thread} is gone",
    }
    size = counted(found["bytes"] or 0, "byte")
    print_line(f"{found['id']}  {told[found['kind']].format(**found, size=size)}")
