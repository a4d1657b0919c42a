"""``mongo-datalayer erase-user``: removes everything of a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import click
from pymongo.errors import OperationFailure

from mongo_datalayer.admin.erasure import Erasure, Remains
from mongo_datalayer.admin.front_data import Counts, Person
from mongo_datalayer.cli.also import also_option
from mongo_datalayer.cli.app import (
    NEEDS_A_PERSON,
    confirm,
    connection_options,
    on_database,
    print_json,
    tell_missing,
    yes_option,
)
from mongo_datalayer.cli.terminal import count_list, print_line, progress
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.schema.agent_collections import AgentCollections

_COUNTED = {
    "users": "user",
    "threads": "threads",
    "steps": "steps",
    "feedback": "feedback",
    "elements": "elements",
    "chatkit_threads": "ChatKit threads",
    "chatkit_items": "ChatKit items",
    "chatkit_attachments": "ChatKit attachments",
    "chatkit_deleted": "ChatKit deleted",
    "files": "files",
    "file_bytes": "bytes of files",
    "large_values": "large values",
    "large_value_bytes": "bytes of large values",
    "overflow": "overflow documents",
    "words": "search index documents",
}
_REMOVED = {
    "threads": "thread",
    "chatkit_threads": "ChatKit thread",
    "chatkit_attachments": "ChatKit attachment",
    "files": "file",
    "large_values": "large value",
    "words": "search index document",
    "users": "user",
}


@click.command(
    name="erase-user",
    epilog="Example: mongo-datalayer erase-user alice@example.com --dry-run",
)
@click.argument("identifier")
@connection_options(bucket=True)
@also_option("Also remove the person's sessions that this agent library keeps in the database.")
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, but change nothing.")
@yes_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON. The text for people then goes to stderr."
)
def erase_user(
    identifier: str,
    uri: str | None,
    database: str | None,
    bucket: str,
    also: tuple[AgentCollections, ...],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete everything of the person who logs in as IDENTIFIER.

    That is their threads with files, feedback and search words, ChatKit's threads and files, and
    last the user. With --also it begins with what an agent library keeps under their ids. At the
    end every collection is searched for what is left. If it is interrupted, run it again.

    \b
    Exit codes:
      0  everything was deleted
      1  there is no such user, data is left, a collection could not be read,
         or you declined
      2  the server could not be used, or there was no terminal to ask at
    """
    report: dict[str, Any] = {"user": identifier, "changed": False}
    if as_json:
        # Also when it ends early, or with a failure: stdout has what was done until then.
        click.get_current_context().call_on_close(lambda: print_json(report))

    def run(part: Callable[..., Awaitable[bool]]) -> None:
        async def on_opened(opened: Database) -> bool:
            erasure = Erasure(opened, FileBucket(opened, bucket), identifier, also)
            return await part(erasure, report, err=as_json)

        if not on_database(uri, database, on_opened):
            raise SystemExit(NEEDS_A_PERSON)

    run(_count)
    if dry_run:
        print_line("Nothing was changed.", err=as_json)
        return
    # After the count: the answer should know how much goes.
    if not yes:
        confirm(f"Remove all of this for {identifier!r}?", uri, database)
    run(_erase)


async def _count(erasure: Erasure, report: dict[str, Any], *, err: bool) -> bool:
    """Say what there is of the person; False when there is nothing."""
    await tell_missing(erasure.database)
    await _name_collections(erasure)
    person = await erasure.person()
    found = await erasure.count(person)
    also = await erasure.memory.count(person)
    report["found"] = {name: found[name] for name in _COUNTED}
    report["also"] = {name: {"found": count} for name, count in also.items()}
    if not found and not also.total():
        where = f"the database {erasure.database.name!r}"
        print_line(f"Error: There is no user {person.identifier!r} in {where}.", err=True)
        _show_remains(await erasure.remaining(person), report, err=err)
        return False
    _show(found, also, err=err)
    await _name_files_elsewhere(erasure, person, report, err=err)
    return True


async def _name_collections(erasure: Erasure) -> None:
    """Say which collections of agent libraries a wrong name or a forgotten option leaves alone."""
    try:
        existing = await erasure.database.list_collection_names()
    except OperationFailure:
        return
    for name in erasure.memory.missing(existing):
        print_line(f"Note: There is no collection {name!r}. Is its name right?", err=True)
    for left_out in erasure.memory.left_out(existing):
        print_line(
            f"Note: The database has collections of the library {left_out.library}. "
            f"--also {left_out.library} reaches what they hold of the person.",
            err=True,
        )


async def _erase(erasure: Erasure, report: dict[str, Any], *, err: bool) -> bool:
    """Remove everything; False when something is left."""
    # Looked up again: the question may have waited for long.
    person = await erasure.person()
    threads = report["found"]["threads"] + report["found"]["chatkit_threads"]
    report["changed"] = True
    with progress("threads", threads) as advance:
        erased = await erasure.erase(person, lambda: advance(1))
    counts = sum((part.counts for part in erased), Counter())
    report["removed"] = {name: counts[name] for name in _REMOVED}
    removed = count_list((counts[name], noun) for name, noun in _REMOVED.items())
    print_line(f"Removed: {removed}.", err=err)
    documents = sum((part.documents for part in erased), Counter())
    for name, counts_of in report["also"].items():
        counts_of["removed"] = documents[name]
        print_line(f"Removed from {name}: {documents[name]}", err=err)
    return not _show_remains(await erasure.remaining(person, erased), report, err=err)


def _show(found: Counts, also: Counts, *, err: bool) -> None:
    shown = [
        (what, found[name])
        for name, what in _COUNTED.items()
        if found[name] or not what.startswith("ChatKit")
    ]
    shown += [(f"in {name}", count) for name, count in also.items()]
    width = max(21, *(len(what) for what, _ in shown))
    for what, count in shown:
        print_line(f"{what:<{width}} {count:>12,}", err=err)


async def _name_files_elsewhere(
    erasure: Erasure, person: Person, report: dict[str, Any], *, err: bool
) -> None:
    """Say which files this command cannot reach, while their keys are still known."""
    keys = report["not_in_the_bucket"] = []
    async for key in erasure.keys_elsewhere(person):
        keys.append(key)
        print_line(f"not in the bucket: {key}", err=err)
    if keys:
        print_line(
            f"{counted(len(keys), 'file{s} of elements')} not in the bucket. If the app keeps "
            "files in another store, remove them there: the keys are listed above.",
            err=True,
        )


def _show_remains(remains: Remains, report: dict[str, Any], *, err: bool) -> bool:
    """Say what is left; True when there is something, or may be."""
    report |= {"left": dict(remains.documents), "unread": list(remains.unread)}
    for place, count in remains.documents.items():
        print_line(f"Left in {place}: {count}", err=True)
    for name in remains.unread:
        print_line(f"Not searched, the login may not read it: {name}", err=True)
    if remains.documents:
        print_line("Error: Something is left of this person; see above.", err=True)
    elif remains.unread:
        print_line("Error: Nothing was found, but not all collections were searched.", err=True)
    else:
        print_line("Searched all collections: nothing is left.", err=err)
    return remains != Remains()
