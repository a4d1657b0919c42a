"""``mongo-datalayer export``: writes users, threads and files as lines of JSON."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.cli.failure import Failure
from mongo_datalayer.cli.progress import progress
from mongo_datalayer.errors import MongoDataLayerError, NotFoundError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.transfer.outgoing import Export, Scope

NOT_ALL = 1
ONLY_THE_OWNER = 0o600


class NotThere(Failure):
    """There is nothing of that name to export."""

    exit_code = NOT_ALL


@click.command(epilog="Example: mongo-datalayer export --output chats.jsonl --files")
@connection_options
@bucket_option
@click.option(
    "--user", "identifier", metavar="IDENTIFIER", help="Only this user and their threads."
)
@click.option("--thread", "thread_id", metavar="ID", help="Only this thread.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; an earlier file is replaced at the end. [default: standard output]",
)
@click.option("--files", is_flag=True, help="Also the content of files.")
def export(
    uri: str | None,
    database: str | None,
    bucket: str,
    identifier: str | None,
    thread_id: str | None,
    output: Path | None,
    *,
    files: bool,
) -> None:
    """Write users, threads and, with --files, files as JSON, one document a line.

    ChatKit's threads and attachments are among them. Their owner's id is taken for the IDENTIFIER.

    The format is described in docs/export-format.md; `mongo-datalayer import` reads it.

    Exits with 1 when there is no such user or thread, or when something damaged was left out, and
    with 2 when the server could not be used or the output not be written.
    """
    if identifier is not None and thread_id is not None:
        raise click.UsageError("--user and --thread exclude each other.")
    scope = Scope(identifier, thread_id)
    done = asyncio.run(_export(uri, database, bucket, scope, output, with_files=files))
    counts = done.counts
    click.echo(
        f"{counts.users} users, {counts.threads} threads, "
        f"{counts.chatkit_threads} ChatKit threads, {counts.chatkit_attachments} attachments, "
        f"{counts.files} files written.",
        err=output is None,
    )
    for key in done.damaged:
        click.echo(f"Error: The file {key!r} is damaged in the database; left out.", err=True)
    for thread in done.damaged_threads:
        named = f"{thread['id']!r} of {thread['owner']!r}"
        click.echo(f"Error: The ChatKit thread {named} is damaged; left out.", err=True)
    if done.damaged or done.damaged_threads:
        raise SystemExit(NOT_ALL)


async def _export(
    uri: str | None,
    name: str | None,
    bucket: str,
    scope: Scope,
    output: Path | None,
    *,
    with_files: bool,
) -> Export:
    async with opened_database(uri, name) as database:
        export = Export(database, FileBucket(database, bucket), scope, with_files=with_files)
        lines = export.lines()
        try:
            first = await anext(lines)
        except NotFoundError as exc:
            raise NotThere(str(exc)) from exc
        with _opened(output) as file, progress("lines written") as advance:
            file.write(first)
            async for line in lines:
                file.write(line)
                advance(1)
    return export


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """The output, open for writing.

    A file gets its name at the end: under that name there is always a whole export. Only its owner
    can read it.
    """
    try:
        if output is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif output.exists() and not output.is_file():  # a pipe or a device
            with output.open("wb") as file:
                yield file
        else:
            partial = output.with_name(f"{output.name}.partial")
            with _private(partial) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(output)
    except OSError as exc:
        if isinstance(exc, MongoDataLayerError) or exc.errno == errno.EPIPE:
            raise  # not of the output; or its reader has gone, which click takes care of
        raise Failure(f"The output cannot be written: {exc}") from exc


def _private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)  # one with other permissions, perhaps
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, ONLY_THE_OWNER), "wb")
