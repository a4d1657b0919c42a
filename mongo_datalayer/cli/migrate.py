"""``mongo-datalayer migrate``: brings conversations from another data layer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mongo_datalayer import migrate as migration
from mongo_datalayer.cli.app import (
    NEEDS_A_PERSON,
    Failure,
    Function,
    Moment,
    confirm,
    connection_options,
    failures_explained,
    json_option,
    on_database,
    print_json,
    yes_option,
)
from mongo_datalayer.cli.terminal import print_line, progress
from mongo_datalayer.migrate import Options, Progress, Report
from mongo_datalayer.migrate.report import COLUMNS, TABLES
from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Database

STEPS_A_SECOND = 5_000
"""How fast a run is, about: measured by scripts/bench_migrate on two cores."""

ID_LENGTH = 100
"""How much of an id is shown; the report has all of it."""

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _in_a_folder(
    _context: click.Context, _parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Refuse a report that could not be written before the run, and not after it."""
    if path is not None and not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{path.parent} is no folder that you can write to.")
    return path


_SOURCE_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("source"),
    click.option(
        "--files",
        type=_FOLDER,
        metavar="DIR",
        help="The folder with the elements' files, by object key. Nothing outside of it is read.",
    ),
    click.option(
        "--storage",
        metavar="URL",
        help="The storage that has the files: s3://BUCKET, gs://BUCKET or azure://CONTAINER.",
    ),
    click.option(
        "--source-timezone",
        metavar="ZONE",
        help="Time zone of users' and threads' times, if the old layer stored local times.",
    ),
    click.option(
        "--recover-owners",
        is_flag=True,
        help="Give a thread without an owner to the user who speaks in it.",
    ),
    click.option(
        "--orphans",
        type=click.Choice(["report", "import"]),
        default="report",
        show_default=True,
        help="List rows whose thread is missing, or import them as threads without an owner.",
    ),
    click.option("--user", metavar="IDENTIFIER", help="Only this user and their threads."),
    click.option("--thread", metavar="ID", help="Only this thread."),
    click.option(
        "--since",
        type=Moment(has_time=True),
        metavar="TIME",
        help="Only threads that were active at this time (UTC) or later: 2026-01-31 or "
        "2026-01-31T09:30:00.",
    ),
    click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N threads."),
    click.option(
        "--mapping",
        type=_FILE,
        metavar="FILE",
        help="JSON file with the names of tables and columns that cannot be guessed.",
    ),
    click.option(
        "--report",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=_in_a_folder,
        metavar="FILE",
        help="Write everything that is listed, with its ids, to a JSON file.",
    ),
    json_option,
)


def _options(function: Function) -> Function:
    """The options that say how a source is read, and what of it."""
    # click lists the option that was applied last first.
    for option in reversed(_SOURCE_OPTIONS):
        function = option(function)
    return function


@click.group()
def migrate() -> None:
    """Bring conversations from another data layer.

    SOURCE says where they are: postgresql://user:password@host/database, mysql://…, sqlite:///…, or
    the path of a SQLite database. It is read in one snapshot and never written to, so the old app
    can go on serving. docs/migrating.md leads you through all steps and sources.
    """


@migrate.command(epilog="Example: mongo-datalayer migrate inspect sqlite:///chainlit.db")
@_options
def inspect(source: str, report: Path | None, *, as_json: bool, **options: Any) -> None:
    """Show what is in SOURCE and what would be moved. Changes nothing.

    It does not need MongoDB.

    \b
    Exit codes:
      0  everything would be moved
      1  something would be left out, and is listed
      2  SOURCE could not be read
    """

    async def work(progress: Progress) -> Report:
        return await migration.inspect(source, Options(**options), progress=progress)

    with failures_explained(), _progress("reading") as progress:
        found = asyncio.run(work(progress))
    _finish(found, report, as_json=as_json, title="Would be moved", estimate=True)


@migrate.command(epilog="Example: mongo-datalayer migrate run sqlite:///chainlit.db --files files")
@connection_options(bucket=True)
@_options
@click.option("--dry-run", is_flag=True, help="Show what would be done, but change nothing.")
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "replace", "fail"]),
    default="skip",
    show_default=True,
    help="What to do when MongoDB has something else under the same id.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Move at most N steps a second.",
)
@yes_option
def run(source: str, report: Path | None, *, as_json: bool, yes: bool, **options: Any) -> None:
    """Move users, threads and files from SOURCE, and read each back.

    You can run it again at any time. After a failure it continues, and later it brings what is new.
    What was deleted in MongoDB meanwhile stays deleted, and what the app changed there stays.

    \b
    Exit codes:
      0  everything was moved and verified
      1  something was left out or differs, and is listed, or you declined
      2  SOURCE or MongoDB could not be used, a conflict ended the run, or there
         was no terminal to ask at
    """
    if options["on_conflict"] == "replace" and not (options["dry_run"] or yes):
        question = "Replace what is there already with what SOURCE holds?"
        confirm(question, options["uri"], options["database"])
    title = "Would be moved" if options["dry_run"] else "Moved"
    found = _with_target("moving", migration.run, source, options)
    _finish(found, report, as_json=as_json, title=title)
    if options["dry_run"] and not as_json:
        print_line("Nothing was changed.")


@migrate.command(epilog="Example: mongo-datalayer migrate verify sqlite:///chainlit.db")
@connection_options(bucket=True)
@_options
def verify(source: str, report: Path | None, *, as_json: bool, **options: Any) -> None:
    """Compare SOURCE with MongoDB. Changes nothing.

    It compares users, whole threads, and files by their SHA-256. Give it the same options as the
    run. What the app has changed in MongoDB since then differs.

    \b
    Exit codes:
      0  everything is there and the same
      1  something differs or is missing, and is listed
      2  SOURCE or MongoDB could not be read
    """
    found = _with_target("comparing", migration.verify, source, options)
    _finish(found, report, as_json=as_json, title="Compared")


def _with_target(
    label: str, work: Callable[..., Any], source: str, options: dict[str, Any]
) -> Report:
    uri, name = options.pop("uri"), options.pop("database")
    bucket = options.pop("bucket")

    async def with_database(database: Database) -> Report:
        with _progress(label) as progress:
            found: Report = await work(
                source, database, Options(**options), bucket=bucket, progress=progress
            )
        return found

    return on_database(uri, name, with_database)


# Showing --------------------------------------------------------------------------------------


def _finish(
    found: Report, path: Path | None, *, as_json: bool, title: str, estimate: bool = False
) -> None:
    """Print and write a report; the exit code says whether it is complete."""
    with found:
        if as_json:
            print_json(found.as_dict())
        else:
            _show(found, title, listed=path is not None)
            if estimate:
                print_line(_estimate(found))
        try:
            if path is not None:
                found.write(path)
        except OSError as exc:
            raise Failure(f"{path} cannot be written: {exc.strerror}") from exc
        if not found.complete:
            raise SystemExit(NEEDS_A_PERSON)


def _show(found: Report, title: str, *, listed: bool) -> None:
    print_line(f"{found.kind}, {found.source}")
    for table in found.tables:
        print_line(f"  {table.table}: {table.name}, {counted(table.rows, 'row')}")
        if table.extra:
            print_line(f"    kept as extra fields: {', '.join(table.extra)}")
        if table.missing:
            print_line(f"    columns that newer versions have: {', '.join(table.missing)}")
    for warning in found.warnings:
        print_line(f"Note: {warning}")
    print_line(f"{title}:" if found.counts else f"{title}: nothing, no rows were found.")
    for name, counts in sorted(found.counts.items(), key=lambda item: TABLES.index(item[0])):
        ends = [f"{counts[end]:,} {end}" for end in COLUMNS[1:] if counts[end]]
        read = counted(counts["read"], name.removesuffix("s"))
        print_line(f"  {read}: {', '.join(ends) or 'none'}")
    for (outcome, name, reason), count in sorted(found.reasons.items()):
        examples = ", ".join(
            _shortened(finding.id or finding.detail)
            for finding in found.examples[outcome, name, reason]
        )
        print_line(f"{outcome}, {name}: {reason}: {count:,} ({examples}{', …' * (count > 3)})")
    if found.reasons and not listed:
        print_line("All of them are listed with --report FILE.")


def _shortened(text: str) -> str:
    return text if len(text) <= ID_LENGTH else f"{text[:ID_LENGTH]}…"


def _estimate(found: Report) -> str:
    seconds = found.counts["steps"]["read"] / STEPS_A_SECOND
    duration = counted(round(seconds), "second")
    if seconds >= 120:
        duration = counted(round(seconds / 60), "minute")
    return f"A run takes about {duration}, without files. Nothing was changed."


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """Rows, their rate and the time that is left, on stderr where that is a terminal."""
    with progress(label) as advance:

        def tell(phase: str, rows: int) -> None:
            # The number of rows is known when the source has been opened.
            if phase == "total":
                advance(0, total=rows)
            else:
                advance(rows)

        yield tell
