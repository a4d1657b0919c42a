"""``mongo-datalayer setup``: everything that should exist in the database, checked or made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
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
from mongo_datalayer.schema.indexes import Index, check_indexes
from mongo_datalayer.schema.plan import SchemaObject, apply_plan
from mongo_datalayer.schema.validators import Validator, check_validators
from mongo_datalayer.schema.version import SchemaVersion, check_version
from mongo_datalayer.schema.views import View, check_views

_KINDS: Mapping[type[SchemaObject], str] = {
    Index: "indexes",
    Validator: "validators",
    View: "views",
    SchemaVersion: "version",
}
_DONE = ("present", "created", "set")

only_option = click.option(
    "--only",
    type=click.Choice(["indexes", "validators", "views"]),
    multiple=True,
    help="Only these. May be repeated. [default: indexes, and what else is in use]",
)


@click.group()
def setup() -> None:
    """Check or create the indexes, validators and views.

    Every app needs the indexes. Validators and views are optional: `setup apply --only views`
    creates the views the first time. Once one of them exists it is in use, and `setup` without
    --only looks after it too.
    """


@setup.command(epilog="Example: mongo-datalayer setup check --json")
@database_command(bucket=True)
@only_option
@json_option
async def check(database: Database, *, bucket: str, only: Sequence[str], as_json: bool) -> int:
    """Show what is present, missing or different. Changes nothing.

    \b
    Exit codes:
      0  everything is in place
      1  something is missing or different
      2  the server could not be used
    """
    plan = await _plan(database, bucket, only)
    if as_json:
        print_json([_record(item) for item in plan])
    else:
        _show(plan)
    return _hint([item for item in plan if _is_wrong(item)], only)


@setup.command(epilog="Example: mongo-datalayer setup apply --dry-run")
@database_command(bucket=True, creates=True, question=replacing)
@only_option
@click.option("--dry-run", is_flag=True, help="Show what would be created, but change nothing.")
@click.option(
    "--replace",
    is_flag=True,
    help="Also replace indexes that differ, and validators and views that someone else made.",
)
@json_option
async def apply(
    database: Database,
    *,
    bucket: str,
    only: Sequence[str],
    dry_run: bool,
    replace: bool,
    as_json: bool,
) -> int:
    """Create what is missing, and update what is older. Safe to repeat.

    Without --only these are the indexes, and the validators and views if they are in use. A new
    validator makes MongoDB log writes that do not fit, and an older one keeps what it does.
    `mongo-datalayer schema apply --action error` makes MongoDB refuse such writes.

    At the end it records the version of the schema. A database that a newer version of
    mongo_datalayer set up is left alone.

    \b
    Exit codes:
      0  everything is in place
      1  something was left alone and needs you, or you declined
      2  the server could not be used or is too old for the views, or there
         was no terminal to ask at
    """
    version = await check_version(database)
    if version.state == "newer":
        return _tell_newer(version)
    before = await _plan(database, bucket, only)
    told: set[str] = set()
    # Lines in between would break the JSON.
    report = None if as_json else _reporting(before, told)
    after = await apply_plan(database, before, replace=replace, dry_run=dry_run, on_applied=report)
    # By the state before: an object that was just made has nothing left to change.
    changes = {str(item): item.changes(replace=replace) for item in before}
    if as_json:
        print_json([_record(item) | {"changed": changes[str(item)]} for item in after])
    else:
        # A dry run leaves all of them in the state before.
        ends = {str(item): planned(item, replace=replace) for item in after} if dry_run else {}
        _show(after, ends, told)
    return _hint([item for item in after if _is_left(item, changes)], only)


def _reporting(
    plan: Sequence[SchemaObject], told: set[str]
) -> Callable[[SchemaObject, float], None]:
    """What prints an object of the plan as soon as it is applied, and notes it in ``told``."""
    width = max(len(str(item)) for item in plan)

    def tell(item: SchemaObject, seconds: float) -> None:
        _print_object(item, f"({seconds:.1f} s)", width)
        told.add(str(item))

    return tell


def _is_left(item: SchemaObject, changes: dict[str, bool]) -> bool:
    """Whether an object needs a person, once the others were made."""
    return _is_wrong(item) and (item.state == "failed" or not changes[str(item)])


async def _plan(database: Database, bucket: str, only: Sequence[str]) -> list[SchemaObject]:
    """The kinds of ``only``; without any the indexes, and the other kinds that are in use."""
    plan: list[SchemaObject] = []
    if not only or "indexes" in only:
        plan += (await check_indexes(database, bucket=bucket)).indexes
    for kind, checked in (("validators", check_validators), ("views", check_views)):
        if only and kind not in only:
            continue
        objects: Sequence[SchemaObject] = await checked(database)
        # One that somebody else made does not say that this package's are wanted.
        if only or any(item.state in ("present", "outdated") for item in objects):
            plan += objects
    # Last: a database has this version when it has all the others.
    version = await check_version(database)
    if not only or version.state == "newer":
        plan.append(version)
    return plan


def _is_wrong(item: SchemaObject) -> bool:
    # An app that creates its indexes itself records no version, and is as good.
    unrecorded = isinstance(item, SchemaVersion) and item.state == "missing"
    return item.state not in _DONE and not unrecorded


def _record(item: SchemaObject) -> dict[str, object]:
    return {"kind": _KINDS[type(item)], "name": str(item), "state": item.state}


def _show(
    plan: Sequence[SchemaObject],
    ends: Mapping[str, str] = MappingProxyType({}),
    told: Collection[str] = (),
) -> None:
    """Print the plan with the ``ends`` of its lines, without the objects that were ``told``."""
    width = max(len(str(item)) for item in plan)
    for item in plan:
        if str(item) not in told:
            _print_object(item, ends.get(str(item), ""), width)
    counts = Counter(item.state for item in plan)
    print_line(f"{', '.join(f'{count} {state}' for state, count in counts.items())}.")


def _print_object(item: SchemaObject, end: str, width: int) -> None:
    kind_width = max(map(len, _KINDS.values()))
    print_row(_KINDS[type(item)], str(item), item.state, end, widths=(kind_width, width))


def _tell_newer(version: SchemaVersion) -> int:
    print_line(
        f"Error: The version of the schema is {version.explanation}. Upgrade mongo_datalayer.",
        err=True,
    )
    return NEEDS_A_PERSON


def _hint(wrong: Sequence[SchemaObject], only: Sequence[str]) -> int:
    """Say what to do about what is not as it should be; the exit code."""
    command = " ".join(["mongo-datalayer setup apply", *(f"--only {kind}" for kind in only)])
    for item in wrong:
        if isinstance(item, Index) and item.state == "failed":
            print_line(f"Error: {item} cannot be created: {item.problem}", err=True)
        if isinstance(item, SchemaVersion) and item.state == "newer":
            _tell_newer(item)
        if item.state == "collection":
            print_line(f"Rename the collection {item}, then run `{command}`.", err=True)
    if any(item.changes() for item in wrong):
        print_line(f"Run `{command}`.", err=True)
    if any(item.state in ("different", "foreign") for item in wrong):
        print_line(
            f"Run `{command} --replace` to replace what differs or was made by someone else.",
            err=True,
        )
    return NEEDS_A_PERSON if wrong else 0
