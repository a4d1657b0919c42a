"""``mongo-datalayer threads``: conversations on the terminal, of all users."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import click

from mongo_datalayer.admin.dataset import Dataset, markdown_text
from mongo_datalayer.admin.selection import Selection
from mongo_datalayer.chainlit.codec import read_name, read_thread, read_time
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.cli.app import NEEDS_A_PERSON, database_command, json_option, print_json
from mongo_datalayer.cli.export import NotThere
from mongo_datalayer.cli.terminal import (
    is_terminal,
    print_line,
    print_lines,
    print_row,
    print_table,
)
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.console.listing import Listing, Page
from mongo_datalayer.errors import NotFoundError
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.mongodb.client import Database

Row: TypeAlias = tuple[str, str, str, tuple[str, ...]]
"""Id, time of the newest step, user, and the name with perhaps a hit below it."""

_user = click.option(
    "--user", metavar="IDENTIFIER", default="", help="Only this user's conversations."
)
_limit = click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many conversations at most.",
)
_cursor = click.option(
    "--cursor", metavar="CURSOR", help="Continue where an earlier list or search ended."
)


@click.group()
def threads() -> None:
    """List, show and search Chainlit's conversations."""


@threads.command(name="list", epilog="Example: mongo-datalayer threads list --feedback down")
@database_command()
@_user
@click.option(
    "--feedback", type=click.Choice(["up", "down"]), help="Only conversations with such feedback."
)
@click.option(
    "--tool", metavar="NAME", default="", help="Only conversations in which this tool was called."
)
@click.option("--errors", is_flag=True, help="Only conversations in which a step failed.")
@_limit
@_cursor
@json_option
async def list_(
    database: Database,
    *,
    errors: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """List conversations, newest first.

    \b
    Exit codes:
      0  the list is printed
      1  there is no such user
      2  the server could not be used
    """
    filters = Filters.parse(
        {name: value or "" for name, value in wanted.items()} | {"errors": "1" if errors else ""}
    )
    await _list(database, filters, limit, cursor, as_json=as_json)


@threads.command(epilog="Example: mongo-datalayer threads search refund")
@click.argument("text")
@database_command()
@_user
@_limit
@_cursor
@json_option
async def search(
    database: Database, *, text: str, user: str, limit: int, cursor: str | None, as_json: bool
) -> None:
    """Find conversations with TEXT in a message or in their name.

    Newest first.

    \b
    Exit codes:
      0  the list is printed
      1  there is no such user
      2  the server could not be used, or the search took too long
    """
    if not text.strip():
        raise click.UsageError("The text to search for is empty.")
    filters = Filters.parse({"user": user, "search": text})
    await _list(database, filters, limit, cursor, as_json=as_json)


@threads.command(epilog="Example: mongo-datalayer threads show THREAD_ID")
@click.argument("thread_id")
@database_command()
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the whole thread as JSON, as Chainlit's get_thread returns it.",
)
async def show(database: Database, *, thread_id: str, as_json: bool) -> int:
    """Show a conversation's messages and tool calls as Markdown.

    \b
    Exit codes:
      0  the conversation is printed
      1  there is no such conversation
      2  the server could not be used
    """
    stored = await ThreadDocuments(database).get(thread_id)
    if stored is None:
        print_line(f"Error: There is no thread {thread_id!r}.", err=True)
        return NEEDS_A_PERSON
    thread = read_thread(stored)
    if as_json:
        print_json(thread)
    else:
        print_lines(markdown_text(thread).rstrip() or "It has no messages.")
    return 0


async def _list(
    database: Database, filters: Filters, limit: int, cursor: str | None, *, as_json: bool
) -> None:
    position = None if cursor is None else Cursor.decode(cursor)
    page = await Listing(database, ThreadDocuments(database)).page(filters, position, limit)
    if filters.user and not page.threads:
        await _check_user(database, filters.user)
    if as_json:
        print_json(_as_json(page))
    else:
        _tell(page)


async def _check_user(database: Database, identifier: str) -> None:
    """Say that there is no such user: a typing error looks like somebody who said nothing."""
    try:
        await Dataset(database, Selection(user=identifier)).filter()
    except NotFoundError as exc:
        raise NotThere(str(exc)) from exc


def _tell(page: Page) -> None:
    rows = [_row(thread, page.hits.get(thread["_id"])) for thread in page.threads]
    columns = ("Thread", "Newest step", "User", "Name")
    if not rows:
        print_line("No conversations.")
    elif is_terminal():
        _print_below(columns[:3], rows)
    else:
        print_table("Conversations", columns, rows, texts=columns, whole=columns[:2])
    if page.searched_to is not None:
        print_line(f"Searched back to {read_time(page.searched_to)}.", err=True)
    if page.following is not None:
        print_line(f"There is more: --cursor {page.following}", err=True)


def _print_below(columns: tuple[str, str, str], rows: list[Row]) -> None:
    """Print name and hit below the rest: an id and a time leave no room beside them."""
    widths = [max(len(row[place]) for row in rows) for place in (0, 1)]
    print_row(*columns, widths=widths)
    for thread, time, user, lines in rows:
        print_row(thread, time, user, widths=widths)
        for line in filter(None, lines):
            print_row("", line, widths=())


def _as_json(page: Page) -> dict[str, Any]:
    return {
        "threads": [_entry(thread, page.hits.get(thread["_id"])) for thread in page.threads],
        "cursor": page.following,
        "searched_back_to": read_time(page.searched_to),
    }


def _entry(thread: dict[str, Any], hit: tuple[str, ...] | None) -> dict[str, Any]:
    entry = {
        "id": thread["_id"],
        "name": read_name(thread),
        **{name: thread.get(name) for name in ("userId", "userIdentifier")},
        "tags": thread.get("tags") or [],
        **{name: read_time(thread.get(name)) for name in ("createdAt", "updatedAt")},
    }
    return entry if hit is None else {**entry, "hit": "".join(hit)}


def _row(thread: dict[str, Any], hit: tuple[str, ...] | None) -> Row:
    name = read_name(thread) or ""
    lines = (name,) if hit is None else (name, " ".join("".join(hit).split()))
    user = str(thread.get("userIdentifier") or "")
    newest = read_time(thread.get("updatedAt")) or ""
    return (str(thread["_id"]), re.sub(r"\.\d+", "", newest), user, lines)
