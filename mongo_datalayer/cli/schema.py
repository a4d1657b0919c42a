"""``mongo-datalayer schema``: compares the stored documents with the models, and guards them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import click

from mongo_datalayer.cli.connection import connection_options, opened_database
from mongo_datalayer.driver import Database
from mongo_datalayer.schema import (
    MODELS,
    Action,
    Misfit,
    Validator,
    apply_validators,
    check_validators,
    find_misfits,
)

NEEDS_A_PERSON = 1

_WIDTH = max(map(len, MODELS))


@dataclass
class Misfits:
    """Documents of one collection that do not fit; ``more`` when the limit cut the list."""

    found: list[Misfit] = field(default_factory=list)
    more: bool = False


@click.group()
def schema() -> None:
    """Check or set validators made from the models of the documents."""


@schema.command(epilog="Example: mongo-datalayer schema check --limit 50")
@connection_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many documents to list of each collection.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(uri: str | None, database: str | None, *, limit: int, as_json: bool) -> None:
    """List the documents that do not fit, by their ids, and why; change nothing.

    Every document is read. A validator is not needed for it, and not wrong to be without. Exits
    with 1 when a document does not fit or a validator is not this version's, and with 2 when the
    server could not be used.
    """
    validators, misfits = asyncio.run(_check(uri, database, limit))
    if as_json:
        click.echo(json.dumps(_report(validators, misfits), indent=2))
    else:
        _show(validators, misfits)
    if any(there.found for there in misfits.values()) or _stale(validators):
        raise SystemExit(NEEDS_A_PERSON)


@schema.command(epilog="Example: mongo-datalayer schema apply --action error --dry-run")
@connection_options
@click.option(
    "--action",
    type=click.Choice(["warn", "error"]),
    default="warn",
    show_default=True,
    help="What MongoDB does with a write that does not fit: log it, or refuse it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be set; change nothing.")
@click.option("--replace", is_flag=True, help="Replace validators that somebody else made.")
def apply(
    uri: str | None, database: str | None, *, action: str, dry_run: bool, replace: bool
) -> None:
    """Set the validators, making collections that are missing; safe to repeat.

    A document that did not fit before can still be changed. Exits with 1 when a validator that
    somebody else made was left alone, and with 2 when the server could not be used.
    """
    chosen = cast(Action, action)
    validators = asyncio.run(_apply(uri, database, chosen, dry_run=dry_run, replace=replace))
    for validator in validators:
        changes = dry_run and not validator.stays(chosen, replace_foreign=replace)
        click.echo(_line(validator, f"  would be set ({action})" if changes else ""))
    if not replace and any(validator.state == "foreign" for validator in validators):
        click.echo("Run with --replace to replace what somebody else made.", err=True)
        raise SystemExit(NEEDS_A_PERSON)


async def _check(
    uri: str | None, name: str | None, limit: int
) -> tuple[list[Validator], dict[str, Misfits]]:
    async with opened_database(uri, name) as database:
        validators = await check_validators(database)
        return validators, {name: await _misfits(database, name, limit) for name in MODELS}


async def _misfits(database: Database, collection: str, limit: int) -> Misfits:
    misfits = Misfits()
    async for misfit in find_misfits(database, collection):
        if len(misfits.found) == limit:
            misfits.more = True
            break
        misfits.found.append(misfit)
    return misfits


async def _apply(
    uri: str | None, name: str | None, action: Action, *, dry_run: bool, replace: bool
) -> list[Validator]:
    async with opened_database(uri, name) as database:
        if dry_run:
            return await check_validators(database)
        return await apply_validators(database, action, replace_foreign=replace)


def _stale(validators: Iterable[Validator]) -> bool:
    return any(validator.state in ("outdated", "foreign") for validator in validators)


def _show(validators: Iterable[Validator], misfits: dict[str, Misfits]) -> None:
    for validator in validators:
        there = misfits[validator.collection]
        count = f"{'more than ' if there.more else ''}{len(there.found)} do not fit"
        click.echo(_line(validator, f"  {count if there.found else 'every document fits'}"))
        for misfit in there.found:
            click.echo(f"  {misfit.id}  {'; '.join(misfit.faults)}")


def _line(validator: Validator, end: str) -> str:
    action = "" if validator.action is None else f" ({validator.action})"
    return f"{validator.collection:<{_WIDTH}} validator {validator.state}{action}{end}"


def _report(validators: Iterable[Validator], misfits: dict[str, Misfits]) -> dict[str, Any]:
    return {
        validator.collection: {
            "validator": validator.state,
            "action": validator.action,
            "misfits": {str(m.id): list(m.faults) for m in misfits[validator.collection].found},
            "more": misfits[validator.collection].more,
        }
        for validator in validators
    }
