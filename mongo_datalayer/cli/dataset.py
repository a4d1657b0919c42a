"""``mongo-datalayer dataset``: writes conversations for training, evaluation and reading."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import click

from mongo_datalayer.admin.dataset import FORMATS, Dataset, csv_header
from mongo_datalayer.admin.dataset_parquet import ParquetTurns, require_pyarrow
from mongo_datalayer.admin.selection import FEEDBACK, Selection
from mongo_datalayer.cli.app import (
    NEEDS_A_PERSON,
    Failure,
    Moment,
    connection_options,
    failures_explained,
    heeded_signals,
    on_database,
    print_json,
    tell_missing,
)
from mongo_datalayer.cli.export import NotThere, open_private, standard_output
from mongo_datalayer.cli.terminal import print_line, progress
from mongo_datalayer.errors import MongoDataLayerError, NotFoundError
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Database

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and SIGINT, as of other programs."""

PARQUET = "parquet"

_DAY = Moment()


@click.command(epilog="Example: mongo-datalayer dataset --format csv --feedback down > down.csv")
@connection_options()
@click.option(
    "--format",
    required=True,
    type=click.Choice([*FORMATS, PARQUET]),
    help="What to write. docs/datasets.md describes the formats.",
)
@click.option("--user", metavar="IDENTIFIER", help="Only conversations of this user.")
@click.option(
    "--since",
    metavar="DAY",
    type=_DAY,
    help="Only conversations whose newest step is on this day (UTC) or later.",
)
@click.option(
    "--until",
    metavar="DAY",
    type=_DAY,
    help="Only conversations whose newest step is on this day (UTC) or earlier.",
)
@click.option("--tag", metavar="TAG", help="Only conversations with this tag.")
@click.option("--profile", metavar="NAME", help="Only conversations with this chat profile.")
@click.option(
    "--feedback", type=click.Choice([*FEEDBACK]), help="Only conversations with such feedback."
)
@click.option("--tool", metavar="NAME", help="Only conversations in which this tool was called.")
@click.option("--errors", is_flag=True, help="Only conversations in which a step failed.")
@click.option("--shared", is_flag=True, help="Only shared conversations.")
@click.option(
    "--after",
    metavar="THREAD_ID",
    help="Continue after this conversation, and append to FILE. An interrupted run names it.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Where to write. Without --after, an earlier file is replaced. [default: standard output]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the summary as JSON. Without --output, it goes to stderr.",
)
def dataset(
    uri: str | None,
    database: str | None,
    format: str,
    since: datetime | None,
    until: datetime | None,
    after: str | None,
    output: Path | None,
    *,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Write conversations for training, evaluation or reading.

    They are Chainlit's. CSV and Parquet have a row for each turn, the other formats an entry for
    each conversation. Filters choose whole conversations, which come in the order of their ids.

    \b
    Exit codes:
      0    everything was written
      1    there is no such user, or damaged data was left out
      2    the server could not be used, or the output could not be written
      130  interrupted
    """
    begin, before = _times(since, until)
    selection = Selection(since=begin, before=before, **wanted)
    target = None if output is None or str(output) == "-" else output
    _check_output(format, target, after)
    written = (_ParquetOutput if format == PARQUET else _Output)(target, format, after)

    async def write(opened: Database) -> Dataset:
        await tell_missing(opened)
        source = Dataset(opened, selection, after)
        try:
            # Before the output is opened: a wrong name must not replace an earlier file.
            filter = await source.filter()
        except NotFoundError as exc:
            raise NotThere(str(exc)) from exc
        await _write(source, filter, written)
        return source

    source = on_database(uri, database, write)
    _tell(written, source.damaged, as_json=as_json, err=target is None)
    if written.interrupted or source.damaged:
        raise SystemExit(INTERRUPTED if written.interrupted else NEEDS_A_PERSON)


def _tell(written: _Output, damaged: list[str], *, as_json: bool, err: bool) -> None:
    """Say what was written; on stderr where the conversations themselves are on stdout."""
    if as_json:
        complete = not written.interrupted
        summary = {"conversations": written.count, "complete": complete, "last": written.last}
        print_json({**summary, "damaged": damaged}, err=err)
    else:
        print_line(f"{counted(written.count, 'conversation')} written.", err=err)
    for thread_id in damaged:
        print_line(f"Error: The thread {thread_id!r} is damaged; left out.", err=True)


def _check_output(format: str, target: Path | None, after: str | None) -> None:
    if after == "":  # a variable of the shell, perhaps: all would be appended a second time
        raise click.UsageError("--after is empty. Name the conversation to go on after.")
    if format != PARQUET:
        return
    with failures_explained():
        require_pyarrow()
    if target is None or (target.exists() and not target.is_file()):
        raise click.UsageError("Parquet needs a file: name it with --output.")
    if after is not None and target.exists():
        raise click.UsageError("A Parquet file cannot be appended to: name another with --output.")


def _times(
    since: datetime | None, until: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """When a selection begins and ends, for days in UTC that are both included."""
    if since is not None and until is not None and since > until:
        raise click.UsageError("--since is a later day than --until, so nothing can match.")
    return since, until and until + timedelta(days=1)


class _Output:
    """Where the conversations go, and the last one that is there whole.

    Args:
        path: The file; None is standard output.
        format: One of ``FORMATS``.
        after: The conversation that an earlier run ended with.
    """

    def __init__(self, path: Path | None, format: str, after: str | None) -> None:
        self._path = path
        self._format = format
        self._resumed = after is not None
        self.last = after
        self.count = 0
        self.interrupted = False

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open it; a resumed file is appended to."""
        if self._path is None:
            yield standard_output()
            return
        appends = self._resumed and self._path.exists()
        if appends or (self._path.exists() and not self._path.is_file()):  # a pipe or a device
            file: BinaryIO = self._path.open("ab" if appends else "wb")
        else:
            file = open_private(self._path)
        with file:
            if not appends:
                self._resumed = False  # a new file needs its header
            yield file

    def begin(self, file: BinaryIO) -> None:
        """Write what comes before the first conversation."""
        if self._format == "csv" and not self._resumed:
            file.write(csv_header().encode())
            file.flush()

    def add(self, file: BinaryIO, thread: Document) -> None:
        """Write a conversation whole, or nothing of it where the disk is full."""
        # The arguments of a tool may name half of a surrogate pair.
        text = FORMATS[self._format](thread).encode(errors="replace")
        start = file.tell() if self._path is not None and file.seekable() else None
        try:
            file.write(text)
            file.flush()
        except OSError:
            if start is not None:
                os.ftruncate(file.fileno(), start)
            raise
        self.last = thread["id"]
        self.count += bool(text)

    def end(self) -> None:
        """Write what comes after the last conversation."""


class _ParquetOutput(_Output):
    """The same for Parquet, where an interrupted file has to be ended as well."""

    def begin(self, file: BinaryIO) -> None:
        self._turns = ParquetTurns(file)

    def add(self, file: BinaryIO, thread: Document) -> None:
        self.count += self._turns.add(thread)
        self.last = thread["id"]

    def end(self) -> None:
        # Without its end the file cannot be read, so there is nothing to go on from.
        last, self.last = self.last, None
        if self._turns.close():
            self.last = last


async def _write(source: Dataset, filter: Document, output: _Output) -> None:
    """Write all conversations; say where to go on when that ends early."""
    try:
        with output.opened() as file, _signals_cancel(), progress("conversations") as advance:
            output.begin(file)
            try:
                async for thread in source.threads(filter):
                    output.add(file, thread)
                    advance(1)
            finally:
                output.end()
    except BrokenPipeError:
        raise  # the reader of a pipe has all that it wants
    except asyncio.CancelledError:
        _tell_where(output)
        output.interrupted = True
    except OSError as exc:
        _tell_where(output)
        if isinstance(exc, MongoDataLayerError):
            raise
        raise Failure(f"The output cannot be written: {exc}") from exc
    except Exception:
        _tell_where(output)
        raise


def _tell_where(output: _Output) -> None:
    if output.last is not None:
        print_line(f"Incomplete. Continue with --after {shlex.quote(output.last)}", err=True)


@contextmanager
def _signals_cancel() -> Iterator[None]:
    """At a signal to stop, cancel the task where it waits for the server, and never in a write."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    heeded = heeded_signals()
    # Windows has no such handlers, and threads have none.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in heeded:
            loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in heeded:
                loop.remove_signal_handler(number)
