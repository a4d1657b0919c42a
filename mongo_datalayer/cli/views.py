"""``mongo-datalayer views``: the view that shows conversations in the mongo shell."""

from __future__ import annotations

import asyncio

import click

from mongo_datalayer.cli.connection import connection_options, opened_database
from mongo_datalayer.views import (
    CONVERSATIONS,
    State,
    apply_view,
    check_view,
    require_server,
    stays,
)

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
    """Check or make the view that shows conversations in the mongo shell."""


@views.command(epilog="Example: mongo-datalayer views check --uri mongodb://localhost:27017")
@connection_options
def check(uri: str | None, database: str | None) -> None:
    """Say whether the view is there, and this version's; change nothing.

    The app does not need it. Exits with 1 when it is missing or another one, and with 2 when the
    server could not be used.
    """
    state = asyncio.run(_check(uri, database))
    click.echo(_line(state))
    if state != "present":
        click.echo(_hint(state), err=True)
        raise SystemExit(NEEDS_A_PERSON)


@views.command(epilog="Example: mongo-datalayer views apply --dry-run")
@connection_options
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@click.option("--replace", is_flag=True, help="Replace a view that somebody else made.")
def apply(uri: str | None, database: str | None, *, dry_run: bool, replace: bool) -> None:
    """Make the view `conversations`, or change it to this version's; safe to repeat.

    It shows each thread whole, with its steps in the order of time. It needs MongoDB 5.2 or newer.

    Exits with 1 when something else has the name and was left alone, and with 2 when the server
    could not be used or is too old.
    """
    state = asyncio.run(_apply(uri, database, dry_run=dry_run, replace=replace))
    changes = dry_run and not stays(state, replace_foreign=replace)
    click.echo(_line(state) + ("  would be set" if changes else ""))
    if state in ("foreign", "collection") and not changes:
        click.echo(_hint(state), err=True)
        raise SystemExit(NEEDS_A_PERSON)


async def _check(uri: str | None, name: str | None) -> State:
    async with opened_database(uri, name) as database:
        return await check_view(database)


async def _apply(uri: str | None, name: str | None, *, dry_run: bool, replace: bool) -> State:
    async with opened_database(uri, name) as database:
        if not dry_run:
            return await apply_view(database, replace_foreign=replace)
        state = await check_view(database)
        if not stays(state, replace_foreign=replace):
            await require_server(database)
        return state


def _line(state: State) -> str:
    meaning = _MEANINGS[state]
    return f"{CONVERSATIONS}  {state}" + (f"  {meaning}" if meaning else "")


def _hint(state: State) -> str:
    if state == "collection":
        return f"Rename the collection {CONVERSATIONS}, then run `mongo-datalayer views apply`."
    return f"Run `mongo-datalayer views apply{' --replace' if state == 'foreign' else ''}`."
