"""``mongo-datalayer schema``: compares the stored documents with the models, and guards them."""

from __future__ import annotations

from collections.abc import Sequence

import click
from pymongo.errors import OperationFailure

from mongo_datalayer.cli.app import (
    NEEDS_A_PERSON,
    database_command,
    json_option,
    print_json,
    replacing,
)
from mongo_datalayer.cli.terminal import print_line, print_row
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.error_reason import is_unauthorized
from mongo_datalayer.schema.validators import (
    MODELS,
    Action,
    Misfit,
    Validator,
    apply_validators,
    check_validators,
    find_misfits,
)

_WIDTH = max(map(len, MODELS))


@click.group()
def schema() -> None:
    """Check documents, or let MongoDB check them with validators.

    The validators are made from the models of the documents.
    """


@schema.command(epilog="Example: mongo-datalayer schema check --limit 50")
@database_command()
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many documents of each collection to list.",
)
@json_option
async def check(database: Database, *, limit: int, as_json: bool) -> int:
    """List documents that do not fit, and why. Changes nothing.

    It reads every document. You need no validator for that, and it is fine to have none.

    \b
    Exit codes:
      0  every document fits
      1  a document does not fit, or a validator is not this version's
      2  the server could not be used
    """
    report = {
        validator: await _misfits(database, validator.collection, limit)
        for validator in await check_validators(database)
    }
    if as_json:
        print_json({str(v): _as_json(v, misfits, limit) for v, misfits in report.items()})
    else:
        for validator, misfits in report.items():
            _show(validator, misfits, limit)
    stale = any(validator.state in ("outdated", "foreign") for validator in report)
    return NEEDS_A_PERSON if stale or any(report.values()) else 0


@schema.command(epilog="Example: mongo-datalayer schema apply --action error --dry-run")
@database_command(creates=True, question=replacing)
@click.option(
    "--action",
    type=click.Choice(["warn", "error"]),
    default="warn",
    show_default=True,
    help="What MongoDB does with a write that does not fit: log it or refuse it.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be set, but change nothing.")
@click.option("--replace", is_flag=True, help="Replace validators that someone else made.")
@json_option
async def apply(
    database: Database, *, action: Action, dry_run: bool, replace: bool, as_json: bool
) -> int:
    """Set the validators. Safe to repeat.

    Collections that are missing are created. A document that did not fit before can still be
    changed.

    \b
    Exit codes:
      0  all validators are set
      1  a validator that someone else made was left alone, or you declined
      2  the server could not be used, or there was no terminal to ask at
    """
    applied = await apply_validators(database, action, replace=replace, dry_run=dry_run)
    if as_json:
        print_json({str(v): {"validator": v.state, "action": v.action} for v in applied})
    else:
        for validator in applied:
            changes = dry_run and validator.changes(replace=replace)
            _print_validator(validator, f"would be set ({action})" if changes else "")
    if replace or all(validator.state != "foreign" for validator in applied):
        return 0
    print_line("Run with --replace to replace what was made by someone else.", err=True)
    return NEEDS_A_PERSON


async def _misfits(database: Database, collection: str, limit: int) -> list[Misfit] | None:
    """The misfits up to the limit, and one more where there are more; None if unreadable."""
    misfits: list[Misfit] = []
    try:
        async for misfit in find_misfits(database, collection):
            misfits.append(misfit)
            # The server looks for more only when the next batch is asked for.
            if len(misfits) > limit:
                break
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        return None
    return misfits


def _show(validator: Validator, misfits: Sequence[Misfit] | None, limit: int) -> None:
    if misfits is None:
        _print_validator(validator, "this login may not read it")
        return
    count = f"more than {limit}" if len(misfits) > limit else str(len(misfits))
    _print_validator(validator, f"{count} do not fit" if misfits else "every document fits")
    for misfit in misfits[:limit]:
        print_line(f"  {misfit.id}  {'; '.join(misfit.faults)}")


def _print_validator(validator: Validator, end: str) -> None:
    action = "" if validator.action is None else f"({validator.action})"
    text = f"{action}  {end}".strip()
    print_row(validator.collection, "validator", validator.state, text, widths=[_WIDTH])


def _as_json(
    validator: Validator, misfits: Sequence[Misfit] | None, limit: int
) -> dict[str, object]:
    """The report of one collection; ``misfits`` is None where this login may not read it."""
    shown = None if misfits is None else misfits[:limit]
    return {
        "validator": validator.state,
        "action": validator.action,
        "misfits": None if shown is None else {str(m.id): list(m.faults) for m in shown},
        "more": len(misfits or ()) > limit,
    }
