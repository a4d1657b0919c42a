"""``mongo-datalayer views``: the views that show conversations in the mongo shell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import click

from mongo_datalayer.cli.connection import connection_options, opened_database
from mongo_datalayer.views import State, apply_views, check_views, require_server, stays

NEEDS_A_PERSON = 1

_MEANINGS = {
    "present": "as this version declares it",
    "missing": "",
    "outdated": "made by another version of mongo_datalayer",
    "foreign": "a view that mongo_datalayer did not make",
    "collection": "no view, but a collection; never touched",
    "set": "",
}


@click.group()
def views() -> None:
    """Check or make the views that show conversations in the mongo shell."""


@views.command(epilog="Example: mongo-datalayer views check --uri mongodb://localhost:27017")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(uri: str | None, database: str | None, *, as_json: bool) -> None:
    """Say whether the views are there, and this version's; change nothing.

    The app does not need them. Exits with 1 when one is missing or another one, and with 2 when the
    server could not be used.
    """
    states = asyncio.run(_check(uri, database))
    if as_json:
        click.echo(json.dumps(states, indent=2))
    else:
        for name, state in states.items():
            click.echo(_line(name, state))
    wrong = {name: state for name, state in states.items() if state != "present"}
    if wrong:
        _hint(wrong)
        raise SystemExit(NEEDS_A_PERSON)


@views.command(epilog="Example: mongo-datalayer views apply --dry-run")
@connection_options
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@click.option("--replace", is_flag=True, help="Replace views that somebody else made.")
def apply(uri: str | None, database: str | None, *, dry_run: bool, replace: bool) -> None:
    """Make the views, or change them to this version's; safe to repeat.

    `conversations` shows each thread whole, with its steps in the order of time, and
    `conversation_steps` each step by itself, also of threads that are too long for one document.
    They need MongoDB 5.2 or newer.

    Exits with 1 when something else has a name and was left alone, and with 2 when the server could
    not be used or is too old.
    """
    states = asyncio.run(_apply(uri, database, dry_run=dry_run, replace=replace))
    left = {}
    for name, state in states.items():
        changes = dry_run and not stays(state, replace_foreign=replace)
        click.echo(_line(name, state) + ("  would be set" if changes else ""))
        if state in ("foreign", "collection") and not changes:
            left[name] = state
    if left:
        _hint(left)
        raise SystemExit(NEEDS_A_PERSON)


async def _check(uri: str | None, name: str | None) -> dict[str, State]:
    async with opened_database(uri, name) as database:
        return await check_views(database)


async def _apply(
    uri: str | None, name: str | None, *, dry_run: bool, replace: bool
) -> dict[str, State]:
    async with opened_database(uri, name) as database:
        if not dry_run:
            return await apply_views(database, replace_foreign=replace)
        states = await check_views(database)
        if not all(stays(state, replace_foreign=replace) for state in states.values()):
            await require_server(database)
        return states


def _line(name: str, state: State) -> str:
    meaning = _MEANINGS[state]
    return f"{name}  {state}" + (f"  {meaning}" if meaning else "")


def _hint(states: Mapping[str, State]) -> None:
    """Say what to do about views that are not as declared."""
    collections = [name for name, state in states.items() if state == "collection"]
    for name in collections:
        click.echo(
            f"Rename the collection {name}, then run `mongo-datalayer views apply`.", err=True
        )
    if len(collections) < len(states):
        replace = " --replace" if "foreign" in states.values() else ""
        click.echo(f"Run `mongo-datalayer views apply{replace}`.", err=True)
