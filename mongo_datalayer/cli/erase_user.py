"""``mongo-datalayer erase-user``: removes everything of a person."""

from __future__ import annotations

import asyncio

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.cli.progress import progress
from mongo_datalayer.erasure import Belongings, Erased, Erasure, Person, Remains
from mongo_datalayer.files.bucket import FileBucket

INCOMPLETE = 1


@click.command(
    name="erase-user",
    epilog="Example: mongo-datalayer erase-user alice@example.com --dry-run",
)
@click.argument("identifier")
@connection_options
@bucket_option
@click.option("--dry-run", is_flag=True, help="Count what would be removed; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def erase_user(
    identifier: str,
    uri: str | None,
    database: str | None,
    bucket: str,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove everything of the person who logs in as IDENTIFIER.

    Threads with all in them, files, feedback, words in the search index, and last the user; of
    ChatKit the threads and attachments whose owner's id is IDENTIFIER. Then every collection is
    searched for what is left. When it was interrupted, run it again.

    Exits with 1 when nobody is called so, when something is left, or when the question was
    answered with no; with 2 when the server could not be used.
    """
    found = asyncio.run(_look(identifier, uri, database, bucket))
    if found == Belongings():
        raise SystemExit(INCOMPLETE)
    if dry_run:
        click.echo("Nothing was changed.")
        return
    if not yes:
        click.confirm(f"Remove all of this for {identifier!r}?", abort=True, err=True)
    if not asyncio.run(
        _erase(identifier, uri, database, bucket, found.threads + found.chatkit_threads)
    ):
        raise SystemExit(INCOMPLETE)


async def _look(identifier: str, uri: str | None, name: str | None, bucket: str) -> Belongings:
    """Say what there is of the person."""
    async with opened_database(uri, name) as database:
        erasure = Erasure(database, FileBucket(database, bucket), identifier)
        person = await erasure.person()
        found = await erasure.count(person)
        if found == Belongings():
            nobody = f"Error: There is no user {identifier!r} in the database {database.name!r}."
            click.echo(nobody, err=True)
            _show_remains(await erasure.remains(person, Erased()))
        else:
            _show(found)
            await _name_files_elsewhere(erasure, person)
    return found


async def _erase(
    identifier: str, uri: str | None, name: str | None, bucket: str, threads: int
) -> bool:
    """Remove everything; False when something is left."""
    async with opened_database(uri, name) as database:
        erasure = Erasure(database, FileBucket(database, bucket), identifier)
        person = await erasure.person()
        with progress("threads", threads) as advance:
            erased = await erasure.erase(person, lambda: advance(1))
        click.echo(
            f"Removed: {len(erased.thread_ids)} threads, {erased.chatkit.threads} ChatKit threads, "
            f"{erased.chatkit.attachments} attachments, {erased.files} files, "
            f"{erased.values} large values, {erased.words} documents of words, {erased.users} user."
        )
        return not _show_remains(await erasure.remains(person, erased))


def _show(found: Belongings) -> None:
    counts = {
        "user": found.users,
        "threads": found.threads,
        "steps": found.steps,
        "feedback": found.feedback,
        "elements": found.elements,
        "ChatKit threads": found.chatkit_threads,
        "ChatKit items": found.chatkit_items,
        "ChatKit attachments": found.chatkit_attachments,
        "ChatKit deleted": found.chatkit_deleted,
        "files": found.files,
        "bytes of files": found.size,
        "large values": found.large_values,
        "bytes of large values": found.large_value_bytes,
        "documents of overflow": found.overflow,
        "documents of words": found.words,
    }
    for what, count in counts.items():
        click.echo(f"{what:<21} {count:>12,}")


async def _name_files_elsewhere(erasure: Erasure, person: Person) -> None:
    """Say which files this command cannot reach, while their keys are still known."""
    count = 0
    async for key in erasure.keys_elsewhere(person):
        count += 1
        click.echo(f"not in the bucket: {key}")
    if count:
        click.echo(
            f"{count} files of elements are not in the bucket. If the app keeps files in another "
            "store, remove them there: the keys are listed above.",
            err=True,
        )


def _show_remains(remains: Remains) -> bool:
    """Say what is left; True when there is something, or may be."""
    for place, count in remains.documents.items():
        click.echo(f"Left in {place}: {count}", err=True)
    for name in remains.unread:
        click.echo(f"Not searched, the login may not read it: {name}", err=True)
    if remains.documents:
        click.echo("Error: Something is left of this person; see above.", err=True)
    elif remains.unread:
        click.echo("Error: Nothing was found, but not all collections were searched.", err=True)
    else:
        click.echo("Searched all collections: nothing is left.")
    return remains != Remains()
