"""``mongo-datalayer search-index``: looks after the index for keyword search."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import click

from mongo_datalayer.cli.connection import connection_options, opened_database
from mongo_datalayer.cli.progress import progress
from mongo_datalayer.cli.tables import console, table
from mongo_datalayer.search_coverage import Coverage, Footprint, SearchCoverage
from mongo_datalayer.search_index import Built

NEEDS_A_PERSON = 1

_COLUMNS = ("User", "Segments", "Worn", "Threads indexed", "Not indexed")


@click.group(name="search-index")
def search_index() -> None:
    """Check, build or remove the index that makes keyword search quick.

    An app uses it with MongoDataLayer(search_index=True), and then builds it by itself.
    """


@search_index.command(epilog="Example: mongo-datalayer search-index check --json")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(uri: str | None, database: str | None, *, as_json: bool) -> None:
    """Say how many threads of each user are indexed; change nothing.

    Of users with 200 threads or more, and of those who have a segment; threads that are too long
    for one document are never indexed, and not counted. Worn segments are made anew by the next
    build.

    Exits with 1 when more than a tenth of some user's threads is not indexed, if the user has at
    least 200; and with 2 when the server could not be used.
    """
    found = asyncio.run(_check(uri, database))
    if as_json:
        click.echo(json.dumps([asdict(coverage) for coverage in found], indent=2))
    else:
        _show(found)
    if any(coverage.poor for coverage in found):
        click.echo("Run `mongo-datalayer search-index build`.", err=True)
        raise SystemExit(NEEDS_A_PERSON)


@search_index.command(epilog="Example: mongo-datalayer search-index build --user alice@example.com")
@connection_options
@click.option("--user", metavar="IDENTIFIER", help="Only the threads of this user, few or many.")
@click.option("--dry-run", is_flag=True, help="Say how much would be indexed; change nothing.")
def build(uri: str | None, database: str | None, user: str | None, *, dry_run: bool) -> None:
    """Index the threads that are not indexed; makes the indexes first.

    Of users with 200 threads or more, and of those who have a segment. The words of threads that
    are gone are removed with the segments that are made anew: those in which a quarter of the
    threads is gone or changed, and those of a week ago with any.

    May be interrupted at any moment and repeated, also while the app runs. What another process may
    be indexing, or was killed in, is left to it for an hour.

    Exits with 1 when there is no such user, and with 2 when the server could not be used.
    """
    if not asyncio.run(_build(uri, database, user, dry_run=dry_run)):
        click.echo(f"Error: There is no user {user!r}.", err=True)
        raise SystemExit(NEEDS_A_PERSON)


@search_index.command(epilog="Example: mongo-datalayer search-index drop --dry-run")
@connection_options
@click.option("--dry-run", is_flag=True, help="Count what would be removed; change nothing.")
def drop(uri: str | None, database: str | None, *, dry_run: bool) -> None:
    """Remove the search index; the threads stay as they are.

    Take search_index=True out of the app before. All words and all marks in threads go, then the
    collection and the index on threads, if the login may drop them. When it was interrupted, run
    it again.

    Exits with 1 when something was written meanwhile, and with 2 when the server could not be used.
    """
    if not asyncio.run(_drop(uri, database, dry_run=dry_run)):
        click.echo(
            "Error: Something was written meanwhile: an app still uses the search index. "
            "Take search_index=True out of it, then run this again.",
            err=True,
        )
        raise SystemExit(NEEDS_A_PERSON)


async def _check(uri: str | None, name: str | None) -> list[Coverage]:
    async with opened_database(uri, name) as database:
        index = SearchCoverage(database)
        return [await index.of(user_id) for user_id in await index.user_ids()]


def _show(found: list[Coverage]) -> None:
    rows = (
        (
            coverage.user_id if coverage.identifier is None else coverage.identifier,
            *(f"{count:,}" for count in (coverage.segments, coverage.worn)),
            *(f"{count:,}" for count in (coverage.indexed, coverage.missing)),
        )
        for coverage in found
    )
    console().print(table("Search index", _COLUMNS, rows))


async def _build(uri: str | None, name: str | None, user: str | None, *, dry_run: bool) -> bool:
    """Build, and say what was built; False when there is no such user."""
    async with opened_database(uri, name) as database:
        index = SearchCoverage(database)
        users = [await index.user_id(user)] if user is not None else await index.user_ids()
        found = [await index.of(user_id) for user_id in users if user_id is not None]
        if user is not None and not found:
            return False
        waiting = sum(coverage.waiting for coverage in found)
        if dry_run:
            people = sum(coverage.waiting > 0 for coverage in found)
            click.echo(
                f"Would be indexed: {waiting} threads of {people} users. Nothing was changed."
            )
            return True
        await index.prepare()
        built = Built()
        with progress("threads", waiting) as advance:
            for coverage in found:
                _add(built, await index.build(coverage.user_id))
                advance(coverage.waiting)
    click.echo(
        f"Indexed: {built.threads} threads in {built.segments} segments; "
        f"{built.removed} segments were replaced or removed."
    )
    return True


def _add(total: Built, more: Built) -> None:
    total.threads += more.threads
    total.segments += more.segments
    total.removed += more.removed


async def _drop(uri: str | None, name: str | None, *, dry_run: bool) -> bool:
    """Remove everything, and say what; False when there is something again."""
    async with opened_database(uri, name) as database:
        index = SearchCoverage(database)
        if dry_run:
            click.echo(f"Would be removed: {_counts(await index.footprint())}.")
            click.echo("Nothing was changed.")
            return True
        click.echo(f"Removed: {_counts(await index.drop())}.")
        if await index.footprint() != Footprint():
            return False
        if not await index.drop_indexes():
            click.echo(
                "The empty collection search_words and the index threads.user_search stay: this "
                "login may not drop them."
            )
        return await index.footprint() == Footprint()


def _counts(footprint: Footprint) -> str:
    return f"{footprint.documents} documents of words, {footprint.threads} marks in threads"
