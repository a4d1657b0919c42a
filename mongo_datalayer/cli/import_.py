"""``mongo-datalayer import``: stores what ``mongo-datalayer export`` wrote."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mongo_datalayer.admin.export_format import read_records
from mongo_datalayer.admin.front_data import Counts
from mongo_datalayer.admin.importer import Import, Imported
from mongo_datalayer.cli.app import (
    Failure,
    confirm,
    connection_options,
    failures_explained,
    json_option,
    on_database,
    print_json,
    yes_option,
)
from mongo_datalayer.cli.export import TRANSFERRED, transferred
from mongo_datalayer.cli.terminal import print_line, progress
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.mongodb.client import Database

STANDARD_INPUT = "-"


@click.command(name="import", epilog="Example: mongo-datalayer import chats.jsonl --dry-run")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True)
)
@connection_options(bucket=True)
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "replace"]),
    default="skip",
    show_default=True,
    help="What to do with users, threads, attachments and files that exist already.",
)
@click.option("--dry-run", is_flag=True, help="Verify FILE and count, but change nothing.")
@yes_option
@json_option
def import_(
    file: Path,
    uri: str | None,
    database: str | None,
    bucket: str,
    on_conflict: str,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Store what is in FILE, as `mongo-datalayer export` wrote it.

    That is users, threads and files, and ChatKit's threads and attachments. With - as FILE it reads
    standard input.

    FILE is read twice: nothing changes before all of it is verified. If the import is interrupted,
    run it again.

    \b
    Exit codes:
      0  everything is stored, or was there already
      1  you declined
      2  FILE is not a complete, unchanged export, the server could not be
         used, or there was no terminal to ask at
    """
    replace = on_conflict == "replace"

    async def store(opened: Database) -> Imported:
        importer = Import(opened, FileBucket(opened, bucket), replace=replace, dry_run=dry_run)
        with path.open("rb") as source, progress("importing", size) as advance:
            return await importer.store(read_records(source, advance))

    try:
        if replace and not dry_run and not yes:
            _confirm_replacing(file, uri, database)
        on_database(uri, database, _answers)  # before a long file is read
        with _readable_twice(file) as path:
            size = _verified_size(path)
            done = on_database(uri, database, store)
    except OSError as exc:
        raise Failure(f"{file} cannot be read: {exc.strerror}") from exc
    (_print_as_json if as_json else _tell)(done, dry_run=dry_run)


def _confirm_replacing(file: Path, uri: str | None, database: str | None) -> None:
    if str(file) == STANDARD_INPUT:
        raise Failure("Standard input is the export, so you cannot answer there. Pass --yes.")
    confirm("Replace what is there already with what FILE holds?", uri, database)


def _print_as_json(done: Imported, *, dry_run: bool) -> None:
    counts = {"stored": _as_json(done.stored), "skipped": _as_json(done.skipped)}
    print_json({"changed": not dry_run, **counts})


def _tell(done: Imported, *, dry_run: bool) -> None:
    print_line(f"{'Would be stored' if dry_run else 'Stored'}: {transferred(done.stored)}.")
    print_line(f"There already, left as they are: {transferred(done.skipped)}.")
    if dry_run:
        print_line("Nothing was changed.")


async def _answers(_: Database) -> None:
    """A database that is opened has answered."""


@contextmanager
def _readable_twice(file: Path) -> Iterator[Path]:
    """The file; for standard input a copy of it that only its owner can read."""
    if str(file) != STANDARD_INPUT:
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "standard input"
        with copy.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
        yield copy


def _verified_size(path: Path) -> int:
    """The bytes of a file that is a whole, unchanged export."""
    size = path.stat().st_size
    with failures_explained(), path.open("rb") as file, progress("verifying", size) as advance:
        for _ in read_records(file, advance):
            pass
    return size


def _as_json(counts: Counts) -> dict[str, int]:
    return {name: counts[name] for name in TRANSFERRED}
