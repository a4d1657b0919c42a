"""``mongo-datalayer views``: the views that show conversations in the mongo shell."""

from __future__ import annotations

from collections.abc import Sequence

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
from mongo_datalayer.schema.views import VIEWS, View, apply_views, check_views

_MEANINGS = {
    "present": "as this version declares it",
    "outdated": "made by another version of mongo_datalayer",
    "foreign": "a view that mongo_datalayer did not make",
    "collection": "no view, but a collection; never touched",
}


@click.group()
def views() -> None:
    """Check or create the views for the mongo shell."""


@views.command(epilog="Example: mongo-datalayer views check --uri mongodb://localhost:27017")
@database_command()
@json_option
async def check(database: Database, *, as_json: bool) -> int:
    """Show whether the views are there and of this version. Changes nothing.

    Your app does not need them.

    \b
    Exit codes:
      0  the views are there
      1  a view is missing, or is another one
      2  the server could not be used
    """
    checked = await check_views(database)
    if as_json:
        print_json({view.collection: view.state for view in checked})
    else:
        for view in checked:
            _print_view(view)
    return _hint([view for view in checked if view.state != "present"])


@views.command(epilog="Example: mongo-datalayer views apply --dry-run")
@database_command(creates=True, question=replacing)
@click.option("--dry-run", is_flag=True, help="Show what would be done, but change nothing.")
@click.option("--replace", is_flag=True, help="Replace views that someone else made.")
@json_option
async def apply(database: Database, *, dry_run: bool, replace: bool, as_json: bool) -> int:
    """Create the views, or update them to this version. Safe to repeat.

    `conversations` shows each thread whole, with its steps in the order of time.
    `conversation_steps` shows each step by itself, also of threads that are too long for one
    document. Both need MongoDB 5.2 or newer.

    \b
    Exit codes:
      0  the views are there
      1  something else has one of the names and was left alone, or you
         declined
      2  the server could not be used or is too old, or there was no terminal
         to ask at
    """
    left = []
    applied = await apply_views(database, replace=replace, dry_run=dry_run)
    if as_json:
        print_json({view.collection: view.state for view in applied})
    for view in applied:
        end = planned(view, replace=replace) if dry_run else ""
        if not as_json:
            _print_view(view, end)
        if view.state in ("foreign", "collection") and not end:
            left.append(view)
    return _hint(left)


def _print_view(view: View, end: str = "") -> None:
    text = "  ".join(filter(None, (_MEANINGS.get(view.state), end)))
    print_row(view.collection, view.state, text, widths=[max(map(len, VIEWS))])


def _hint(wrong: Sequence[View]) -> int:
    """Say what to do about views that are not as declared; the exit code."""
    collections = [view for view in wrong if view.state == "collection"]
    for view in collections:
        print_line(
            f"Rename the collection {view}, then run `mongo-datalayer views apply`.", err=True
        )
    if len(collections) < len(wrong):
        replace = " --replace" if any(view.state == "foreign" for view in wrong) else ""
        print_line(f"Run `mongo-datalayer views apply{replace}`.", err=True)
    return NEEDS_A_PERSON if wrong else 0
