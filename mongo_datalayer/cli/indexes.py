"""``mongo-datalayer indexes``: compares the declared indexes with a database, and creates them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import click

from mongo_datalayer.cli.app import (
    NEEDS_A_PERSON,
    database_command,
    json_option,
    planned,
    print_json,
    replacing,
)
from mongo_datalayer.cli.terminal import print_line, print_row
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.schema.indexes import (
    DECLARED,
    Index,
    IndexReport,
    apply_indexes,
    check_indexes,
)

_CHECKED = ("present", "missing", "different", "unknown")
_WIDTHS = (max(len(str(index)) for index in DECLARED), max(map(len, _CHECKED)))


@click.group()
def indexes() -> None:
    """Check or create the indexes that the queries need."""


@indexes.command(epilog="Example: mongo-datalayer indexes apply --uri mongodb://localhost:27017")
@database_command(bucket=True, creates=True, question=replacing)
@click.option("--dry-run", is_flag=True, help="Show what would be created, but change nothing.")
@click.option(
    "--replace",
    is_flag=True,
    help="Drop and recreate indexes that differ from their declaration.",
)
@json_option
async def apply(
    database: Database, bucket: str, *, dry_run: bool, replace: bool, as_json: bool
) -> int:
    """Create missing indexes. Safe to repeat.

    It prints each index as soon as it is created, with the time that took, and then the others.

    \b
    Exit codes:
      0  all indexes are there
      1  an index differs and was left alone, one could not be created, or you
         declined
      2  the server could not be used, or there was no terminal to ask at
    """
    told: set[str] = set()

    def tell(index: Index, seconds: float) -> None:
        if not as_json:
            _print_index(index, f"  ({seconds:.1f} s)")
            told.add(str(index))

    if dry_run:
        report = await check_indexes(database, bucket=bucket)
    else:
        report = await apply_indexes(
            database, bucket=bucket, replace_different=replace, on_created=tell
        )
    if as_json:
        print_json(_as_json(report, *_CHECKED, "created", "failed"))
    else:
        ends = {
            str(i): f"  ({end})" for i in report.indexes if (end := planned(i, replace=replace))
        }
        _show(report, told, ends if dry_run else {})
    for index in report.failed:
        print_line(f"Error: {index} cannot be created: {index.problem}", err=True)
    # A dry run with --replace finds them different still, but would replace them.
    left = () if replace else report.different
    if left:
        print_line("Run with --replace to drop and recreate what differs.", err=True)
    return NEEDS_A_PERSON if left or report.failed else 0


@indexes.command(epilog="Example: mongo-datalayer indexes check --uri mongodb://localhost:27017")
@database_command(bucket=True)
@json_option
async def check(database: Database, bucket: str, *, as_json: bool) -> int:
    """Show which indexes are there, missing or different. Changes nothing.

    \b
    Exit codes:
      0  all indexes are there
      1  an index is missing or different
      2  the server could not be used
    """
    report = await check_indexes(database, bucket=bucket)
    if as_json:
        print_json(_as_json(report, *_CHECKED))
    else:
        _show(report)
        if not report.complete:
            replace = " --replace" if report.different else ""
            print_line(f"Run `mongo-datalayer indexes apply{replace}`.", err=True)
    return 0 if report.complete else NEEDS_A_PERSON


def _as_json(report: IndexReport, *states: str) -> dict[str, list[str]]:
    return {state: [str(name) for name in getattr(report, state)] for state in states}


def _show(
    report: IndexReport,
    told: Collection[str] = (),
    ends: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print the report with the ``ends`` of its lines, without the indexes that were ``told``."""
    for index in report.indexes:
        if str(index) not in told:
            _print_index(index, ends.get(str(index), ""))
    for name in report.unknown:
        print_row(name, "unknown", "not declared by mongo_datalayer; left alone", widths=_WIDTHS)
    counts = (
        f"{len(getattr(report, state))} {state}"
        for state in ("present", "created", "missing", "different", "failed")
        if state != "failed" or report.failed
    )
    print_line(f"{', '.join(counts)}.")


def _print_index(index: Index, end: str = "") -> None:
    keys = ", ".join(f"{field}: {direction}" for field, direction in index.keys)
    print_row(str(index), index.state, keys + end, widths=_WIDTHS)
