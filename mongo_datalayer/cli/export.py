"""``mongo-datalayer export``: writes users, threads and files as lines of JSON."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from mongo_datalayer.admin.exporter import Export, Scope
from mongo_datalayer.admin.front_data import Counts
from mongo_datalayer.cli.app import (
    NEEDS_A_PERSON,
    Failure,
    connection_options,
    on_database,
    print_json,
    tell_missing,
)
from mongo_datalayer.cli.terminal import count_list, print_line, progress
from mongo_datalayer.errors import MongoDataLayerError, NotFoundError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.mongodb.client import Database

ONLY_THE_OWNER = 0o600

TRANSFERRED = {
    "users": "user",
    "threads": "thread",
    "chatkit_threads": "ChatKit thread",
    "chatkit_attachments": "ChatKit attachment",
    "files": "file",
}
"""What is counted, with its noun."""


class NotThere(Failure):
    """There is nothing of that name."""

    exit_code = NEEDS_A_PERSON


@click.command(epilog="Example: mongo-datalayer export --output chats.jsonl --files")
@connection_options(bucket=True)
@click.option(
    "--user", "identifier", metavar="IDENTIFIER", help="Only this user and their threads."
)
@click.option("--thread", "thread_id", metavar="ID", help="Only this thread.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write. An earlier file is replaced at the end. [default: standard output]",
)
@click.option("--files", is_flag=True, help="Include the content of files.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the counts as JSON. Without --output, they go to stderr.",
)
def export(
    uri: str | None,
    database: str | None,
    bucket: str,
    identifier: str | None,
    thread_id: str | None,
    output: Path | None,
    *,
    files: bool,
    as_json: bool,
) -> None:
    """Write users, threads and files as JSON, one document a line.

    Files come with --files. ChatKit's threads and attachments are included, and --user also takes
    the id of their owner. docs/export-format.md describes the format, and `mongo-datalayer import`
    reads it.

    \b
    Exit codes:
      0  everything was written
      1  there is no such user or thread, or damaged data was left out
      2  the server could not be used, or the output could not be written
    """
    if identifier is not None and thread_id is not None:
        raise click.UsageError("--user and --thread exclude each other.")
    scope = Scope(identifier, thread_id)

    async def write(opened: Database) -> Export:
        await tell_missing(opened)
        exporter = Export(opened, FileBucket(opened, bucket), scope, with_files=files)
        await _write(exporter, output)
        return exporter

    exporter = on_database(uri, database, write)
    # On stderr where the export itself is on stdout.
    on_stderr = output is None
    if as_json:
        print_json({name: exporter.counts[name] for name in TRANSFERRED}, err=on_stderr)
    else:
        print_line(f"{transferred(exporter.counts)} written.", err=on_stderr)
    if exporter.damaged or exporter.damaged_threads:
        _tell_damaged(exporter)
        raise SystemExit(NEEDS_A_PERSON)


def _tell_damaged(exporter: Export) -> None:
    for key in exporter.damaged:
        print_line(f"Error: The file {key!r} is damaged in the database; left out.", err=True)
    for thread in exporter.damaged_threads:
        name = f"thread {thread!r}"
        if isinstance(thread, dict):
            name = f"ChatKit thread {thread['id']!r} of {thread['owner']!r}"
        print_line(f"Error: The {name} is damaged; left out.", err=True)


def transferred(counts: Counts) -> str:
    """What an export holds or an import stored."""
    return count_list((counts[name], noun) for name, noun in TRANSFERRED.items())


async def _write(exporter: Export, output: Path | None) -> None:
    lines = exporter.lines()
    try:
        # Before the output is opened: a wrong name must not replace an earlier file.
        first = await anext(lines)
    except NotFoundError as exc:
        raise NotThere(str(exc)) from exc
    with _opened(output) as file, progress("lines written") as advance:
        file.write(first)
        async for line in lines:
            file.write(line)
            advance(1)


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """The output, open for writing.

    A file gets its name at the end, so that a file of that name is always a whole export. Only its
    owner can read it.
    """
    try:
        if output is None:
            yield standard_output()
            sys.stdout.buffer.flush()
        elif output.exists() and not output.is_file():  # a pipe or a device
            with output.open("wb") as file:
                yield file
        else:
            partial = output.with_name(f"{output.name}.partial")
            with open_private(partial) as file:
                yield file
                file.flush()
                # On disk before it gets the name: a power failure must not leave half a file.
                os.fsync(file.fileno())
            partial.replace(output)
    except OSError as exc:
        if isinstance(exc, MongoDataLayerError) or exc.errno == errno.EPIPE:
            raise  # MongoDB's error, or the reader of a pipe ended, which click takes care of
        raise Failure(f"The output cannot be written: {exc}") from exc


def standard_output() -> BinaryIO:
    """Where bytes go without ``--output``.

    Raises:
        Failure: the shell closed it.
    """
    if sys.stdout is None:
        raise Failure("There is no standard output to write to. Name a file with --output.")
    return sys.stdout.buffer


def open_private(path: Path) -> BinaryIO:
    """Open a new file for writing in place of an earlier one; only its owner can read it."""
    path.unlink(missing_ok=True)  # an earlier one may have other permissions
    # O_EXCL: a link of this name that another user made meanwhile is not followed.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, ONLY_THE_OWNER), "wb")
