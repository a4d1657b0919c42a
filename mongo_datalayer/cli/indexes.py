"""``mongo-datalayer indexes``: compares the declared indexes with a database, and makes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.indexes import (
    Index,
    IndexReport,
    apply_indexes,
    check_indexes,
    declared_indexes,
)

INCOMPLETE = 1


@click.group()
def indexes() -> None:
    """Check or create the indexes the data layer's queries use."""


@indexes.command(epilog="Example: mongo-datalayer indexes apply --uri mongodb://localhost:27017")
@connection_options
@bucket_option
@click.option("--dry-run", is_flag=True, help="Say what would be made; change nothing.")
@click.option(
    "--replace",
    is_flag=True,
    help="Drop and make anew the indexes that are there but differ from their declaration.",
)
def apply(
    uri: str | None, database: str | None, bucket: str, *, dry_run: bool, replace: bool
) -> None:
    """Create the indexes that are missing; safe to repeat.

    Says of each when it is made, and how long that took, and then what there is.

    Exits with 1 when an index that differs was left alone, and with 2 when the server could not
    be used.
    """
    report = asyncio.run(_apply(uri, database, bucket, dry_run=dry_run, replace=replace))
    _show(report, bucket)
    _finish(report, hint="Run with --replace to make what differs anew.", missing_is_wrong=False)


@indexes.command(epilog="Example: mongo-datalayer indexes check --uri mongodb://localhost:27017")
@connection_options
@bucket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(uri: str | None, database: str | None, bucket: str, *, as_json: bool) -> None:
    """Say which indexes are there, missing or different; change nothing.

    Exits with 1 when one is missing or different, and with 2 when the server could not be used.
    """
    report = asyncio.run(_check(uri, database, bucket))
    if as_json:
        click.echo(json.dumps(_names(report), indent=2))
        raise SystemExit(0 if report.complete else INCOMPLETE)
    _show(report, bucket)
    _finish(report, hint="Run `mongo-datalayer indexes apply`.", missing_is_wrong=True)


async def _apply(
    uri: str | None, name: str | None, bucket: str, *, dry_run: bool, replace: bool
) -> IndexReport:
    async with opened_database(uri, name) as database:
        if dry_run:
            return await check_indexes(database, bucket=bucket)
        return await apply_indexes(
            database, bucket=bucket, replace_different=replace, on_created=_tell_created
        )


async def _check(uri: str | None, name: str | None, bucket: str) -> IndexReport:
    async with opened_database(uri, name) as database:
        return await check_indexes(database, bucket=bucket)


def _tell_created(index: Index, seconds: float) -> None:
    click.echo(f"Created {index} in {seconds:.1f} s.")


def _show(report: IndexReport, bucket: str) -> None:
    states = {
        **_states(report.present, "present"),
        **_states(report.created, "created"),
        **_states(report.missing, "missing"),
        **_states(report.different, "different"),
    }
    # Those of the search index only where it is used.
    declared = [i for i in declared_indexes(bucket, search=True) if str(i) in states]
    width = max(len(str(index)) for index in declared)
    for index in declared:
        click.echo(f"{index!s:<{width}}  {states[str(index)]:<9}  {_keys(index)}")
    for name in report.unknown:
        click.echo(f"{name:<{width}}  unknown    not declared by mongo_datalayer; left alone")


def _names(report: IndexReport) -> dict[str, list[str]]:
    return {
        "present": [str(index) for index in report.present],
        "missing": [str(index) for index in report.missing],
        "different": [str(index) for index in report.different],
        "unknown": list(report.unknown),
    }


def _states(group: Iterable[Index], state: str) -> dict[str, str]:
    return {str(index): state for index in group}


def _keys(index: Index) -> str:
    return ", ".join(f"{field}: {direction}" for field, direction in index.keys)


def _finish(report: IndexReport, *, hint: str, missing_is_wrong: bool) -> None:
    counts = {
        "present": len(report.present),
        "created": len(report.created),
        "missing": len(report.missing),
        "different": len(report.different),
    }
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()) + ".")
    if report.different or (missing_is_wrong and report.missing):
        click.echo(hint, err=True)
        raise SystemExit(INCOMPLETE)
