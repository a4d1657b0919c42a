"""``mongo-datalayer import``: stores what ``mongo-datalayer export`` wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.cli.failure import Failure, failures_explained
from mongo_datalayer.cli.progress import progress
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.transfer.incoming import Import, Imported
from mongo_datalayer.transfer.records import Counts, read_records


@click.command(name="import", epilog="Example: mongo-datalayer import chats.jsonl --dry-run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@connection_options
@bucket_option
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "replace"]),
    default="skip",
    show_default=True,
    help="What to do with users, threads, attachments and files that are there already.",
)
@click.option("--dry-run", is_flag=True, help="Verify FILE and count; change nothing.")
def import_(
    file: Path,
    uri: str | None,
    database: str | None,
    bucket: str,
    on_conflict: str,
    *,
    dry_run: bool,
) -> None:
    """Store what FILE holds, as `mongo-datalayer export` wrote it.

    Users, threads and files, and ChatKit's threads and attachments.

    FILE is read twice: nothing is changed before all of it was verified. When the import was
    interrupted, run it again.

    Exits with 2 when FILE is not a whole, unchanged export, or the server could not be used.
    """
    replace = on_conflict == "replace"
    try:
        done = asyncio.run(_run(file, uri, database, bucket, replace=replace, dry_run=dry_run))
    except OSError as exc:
        raise Failure(f"{file} cannot be read: {exc.strerror}") from exc
    click.echo(f"{'Would be stored' if dry_run else 'Stored'}: {_counts(done.stored)}.")
    click.echo(f"There already, left as they are: {_counts(done.skipped)}.")
    if dry_run:
        click.echo("Nothing was changed.")


async def _run(
    path: Path, uri: str | None, name: str | None, bucket: str, *, replace: bool, dry_run: bool
) -> Imported:
    async with opened_database(uri, name):
        pass  # a server that cannot be used is better known before a long file is read
    size = _verified_size(path)
    async with opened_database(uri, name) as database:
        store = Import(database, FileBucket(database, bucket), replace=replace, dry_run=dry_run)
        with path.open("rb") as file, progress("importing", size) as advance:
            return await store.store(read_records(file, advance))


def _verified_size(path: Path) -> int:
    """The bytes of a file that is a whole, unchanged export."""
    size = path.stat().st_size
    with failures_explained(), path.open("rb") as file, progress("verifying", size) as advance:
        for _ in read_records(file, advance):
            pass
    return size


def _counts(counts: Counts) -> str:
    return (
        f"{counts.users} users, {counts.threads} threads, "
        f"{counts.chatkit_threads} ChatKit threads, {counts.chatkit_attachments} attachments, "
        f"{counts.files} files"
    )
