"""Brings conversations from another data layer: looked at, moved, and read back.

>>> report = await migrate.run("postgresql://localhost/chainlit", database)
>>> report.complete
True

The extra ``mongo-datalayer[migrate]`` brings what reads SQL databases.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mongo_datalayer.config import BUCKET
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.migrate.choosing import (
    SourceUsers,
    give_owner,
    owner_names,
    select_threads,
    selected_user,
)
from mongo_datalayer.migrate.engine import Migration, Progress
from mongo_datalayer.migrate.file_mover import FileMover
from mongo_datalayer.migrate.options import Options
from mongo_datalayer.migrate.reader import Reader, opened
from mongo_datalayer.migrate.records import ThreadRecord, UserRecord
from mongo_datalayer.migrate.report import STORED, Report
from mongo_datalayer.migrate.sources import open_source
from mongo_datalayer.migrate.target import Target
from mongo_datalayer.migrate.verify import Verification
from mongo_datalayer.mongodb.client import Database

__all__ = ["Options", "Progress", "Report", "inspect", "run", "verify"]


FILES_STAY = (
    "Files stay in the storage they are in. Name it with --files or --storage to move them, or "
    "give your app the same storage client."
)


def _silent(_phase: str, _rows: int) -> None:
    """No progress is shown."""


async def inspect(
    source: str, options: Options | None = None, *, progress: Progress = _silent
) -> Report:
    """Read a whole source and say what a migration would do; nothing is written anywhere.

    Args:
        source: A URL or a path.
        options: How to read it, and what of it.
        progress: Told how far it is.

    Returns:
        The report, in which everything that could be moved counts as stored.

    Raises:
        ConfigurationError: it is no source, or an option cannot be used.
        SourceError: the source could not be read to its end.
    """
    options = options or Options()
    async with _reading(source, options, progress) as (reader, report):
        named = SourceUsers()
        async for batch in reader.batches(reader.source.users):
            for record in batch:
                if isinstance(record, UserRecord):
                    if not selected_user(record, options):
                        continue
                    named.is_repeated(record)
                report.add(record.rows, STORED)
                progress("reading", sum(record.rows.read.values()))
        async for batch in reader.batches(lambda: select_threads(reader.source.threads(), options)):
            for record in batch:
                if isinstance(record, ThreadRecord):
                    found = {name: name for name in owner_names(record) if name in named}
                    give_owner(record, found, options)
                report.add(record.rows, STORED)
                progress("reading", sum(record.rows.read.values()))
        return report


async def run(
    source: str,
    database: Database,
    options: Options | None = None,
    *,
    bucket: str = BUCKET,
    progress: Progress = _silent,
) -> Report:
    """Move a source's users, threads and files into a database, and read each back.

    Safe to repeat and to kill: the next run goes on, and brings what came since.

    Args:
        source: A URL or a path.
        database: The database to fill.
        options: How to read the source, and what of it to move.
        bucket: Name of the bucket of the files.
        progress: Told how far it is.

    Returns:
        What became of each row.

    Raises:
        ConfigurationError: it is no source, or an option cannot be used.
        SourceError: the source could not be read to its end; what came before is stored.
        MigrationConflictError: the target has something else under an id, and that was to fail.
        PyMongoError: the target could not be written.
    """
    options = options or Options()
    target = Target(database, FileBucket(database, bucket))
    files = options.open_files()
    mover = None if files is None else FileMover(files, target.bucket, dry_run=options.dry_run)
    async with _reading(source, options, progress) as (reader, report):
        await Migration(reader, target, options, report, mover, progress).run()
        return report


async def verify(
    source: str,
    database: Database,
    options: Options | None = None,
    *,
    bucket: str = BUCKET,
    progress: Progress = _silent,
) -> Report:
    """Compare a source with a database it was moved to; nothing is written.

    What the app changed in the database since differs, of course.

    Args:
        source: A URL or a path.
        database: The database.
        options: The same as of the run.
        bucket: Name of the bucket of the files.
        progress: Told how far it is.

    Returns:
        The report; what is the same counts as already there.

    Raises:
        ConfigurationError: it is no source, or an option cannot be used.
        SourceError: the source could not be read to its end.
        PyMongoError: the database could not be read.
    """
    options = options or Options()
    target = Target(database, FileBucket(database, bucket))
    files = options.open_files()
    mover = None if files is None else FileMover(files, target.bucket)
    async with _reading(source, options, progress) as (reader, report):
        await Verification(reader, target, options, report, mover, progress).run()
        return report


@asynccontextmanager
async def _reading(
    source: str, options: Options, progress: Progress
) -> AsyncIterator[tuple[Reader, Report]]:
    begin = time.monotonic()
    async with opened(lambda: open_source(source, options)) as reader:
        report = Report(reader.source.kind, reader.source.identity)
        report.tables, report.warnings = reader.source.tables, list(reader.source.warnings)
        if not options.moves_files:
            report.warnings.append(FILES_STAY)
        progress("total", sum(table.rows for table in report.tables))
        try:
            yield reader, report
            _require_found(report, options)
        except BaseException:
            # The caller does not get the report, and could not delete its temporary file.
            report.close()
            raise
        report.seconds = time.monotonic() - begin


def _require_found(report: Report, options: Options) -> None:
    """Say that a name was wrong: nothing was done, and that would look like success."""
    threads, users = report.read("threads"), report.read("users")
    if options.thread is not None and not threads:
        raise ConfigurationError(f"The source has no such thread: {options.thread!r}.")
    if options.user is not None and not threads and not users:
        raise ConfigurationError(f"The source has no such user: {options.user!r}.")
