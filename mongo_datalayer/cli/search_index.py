"""``mongo-datalayer search-index``: looks after the index for keyword search."""

from __future__ import annotations

from dataclasses import asdict

import click

from mongo_datalayer.admin.search_index import Coverage, Footprint, SearchIndex
from mongo_datalayer.cli.app import NEEDS_A_PERSON, database_command, json_option, print_json
from mongo_datalayer.cli.terminal import count_list, print_line, print_table, progress
from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.search.indexer import Built

_COLUMNS = ("User", "Segments", "Stale", "Threads indexed", "Not indexed")


@click.group(name="search-index")
def search_index() -> None:
    """Check, build or drop the index for quick keyword search.

    An app with MongoDataLayer(search_index=True) uses it, and builds it in the background.
    """


@search_index.command(epilog="Example: mongo-datalayer search-index check --json")
@database_command()
@json_option
async def check(database: Database, *, as_json: bool) -> int:
    """Show how many threads of each user are indexed. Changes nothing.

    It lists users with 200 threads or more, and those who have a segment. Threads that are too long
    for one document are never indexed, and not counted. The next build replaces stale segments.

    \b
    Exit codes:
      0  searches are quick
      1  more than a tenth of a user's threads is not indexed, and there are
         at least 200
      2  the server could not be used
    """
    index = SearchIndex(database)
    found = [await index.coverage(user_id) for user_id in await index.user_ids()]
    if as_json:
        print_json([asdict(coverage) for coverage in found])
    else:
        _show(found)
    if not any(coverage.poor for coverage in found):
        return 0
    print_line("Run `mongo-datalayer search-index build`.", err=True)
    return NEEDS_A_PERSON


@search_index.command(epilog="Example: mongo-datalayer search-index build --user alice@example.com")
@database_command()
@click.option("--user", metavar="IDENTIFIER", help="Only this user's threads, however few.")
@click.option("--dry-run", is_flag=True, help="Show how much would be indexed, but change nothing.")
@json_option
async def build(database: Database, *, user: str | None, dry_run: bool, as_json: bool) -> int:
    """Index the threads that are not indexed yet.

    It creates the indexes that are missing first. It takes users with 200 threads or more, and
    those who have a segment. A segment is replaced when a quarter of its threads were deleted or
    changed, and after a week if any were. That removes what the index knew of them.

    You can interrupt it at any moment and run it again, also while the app runs. Threads that
    another process is indexing, or was killed while indexing, are left to it for an hour.

    \b
    Exit codes:
      0  the threads are indexed
      1  there is no such user
      2  the server could not be used
    """
    index = SearchIndex(database)
    users = [await index.user_id(user)] if user is not None else await index.user_ids()
    found = [await index.coverage(user_id) for user_id in users if user_id is not None]
    if user is not None and not found:
        print_line(f"Error: There is no user {user!r}.", err=True)
        return NEEDS_A_PERSON
    waiting = sum(coverage.waiting for coverage in found)
    if dry_run:
        _tell_waiting(waiting, sum(coverage.waiting > 0 for coverage in found), as_json=as_json)
        return 0
    await index.prepare()
    built = Built()
    with progress("threads", waiting) as advance:
        for coverage in found:
            _add(built, await index.build(coverage.user_id))
            advance(coverage.waiting)
    if as_json:
        print_json({"changed": True, **asdict(built)})
    else:
        print_line(
            f"Indexed: {counted(built.threads, 'thread')} in "
            f"{counted(built.segments, 'segment')}. Replaced or removed: "
            f"{counted(built.removed, 'segment')}."
        )
    return 0


def _tell_waiting(threads: int, users: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"changed": False, "threads": threads, "users": users})
    else:
        print_line(
            f"Would be indexed: {counted(threads, 'thread')} of {counted(users, 'user')}. "
            "Nothing was changed."
        )


def _question(*, dry_run: bool, **_others: object) -> str | None:
    return None if dry_run else "Remove the search index?"


@search_index.command(epilog="Example: mongo-datalayer search-index drop --dry-run")
@database_command(question=_question)
@click.option("--dry-run", is_flag=True, help="Count what would be removed, but change nothing.")
@json_option
async def drop(database: Database, *, dry_run: bool, as_json: bool) -> int:
    """Remove the search index. The threads stay as they are.

    Take search_index=True out of your app first. The command removes all segments and all
    references to them in threads. Then it drops the collection and the index on threads, if the
    login may. If it is interrupted, run it again.

    \b
    Exit codes:
      0  the search index is gone
      1  something was written meanwhile, or you declined
      2  the server could not be used, or there was no terminal to ask at
    """
    index = SearchIndex(database)
    footprint = await index.footprint() if dry_run else await index.delete()
    if as_json:
        print_json({"changed": not dry_run, **asdict(footprint)})
    else:
        removed = "Would be removed" if dry_run else "Removed"
        print_line(f"{removed}: {_counts(footprint)}.")
        if dry_run:
            print_line("Nothing was changed.")
    if dry_run:
        return 0
    if await index.footprint() == Footprint():
        if not await index.drop_indexes():
            print_line(
                "The empty collection search_words and the index threads.user_search stay: this "
                "login may not drop them.",
                err=as_json,
            )
        # Again: an app may have written between the removal and the drop.
        if await index.footprint() == Footprint():
            return 0
    print_line(
        "Error: Something was written meanwhile: an app still uses the search index. "
        "Take search_index=True out of it, then run this again.",
        err=True,
    )
    return NEEDS_A_PERSON


def _show(found: list[Coverage]) -> None:
    rows = (
        (
            coverage.user_id if coverage.identifier is None else coverage.identifier,
            *(f"{count:,}" for count in (coverage.segments, coverage.stale)),
            *(f"{count:,}" for count in (coverage.indexed, coverage.missing)),
        )
        for coverage in found
    )
    if not found:
        print_line("No user has enough threads for an index.")
        return
    print_table("Search index", _COLUMNS, rows)


def _add(total: Built, more: Built) -> None:
    total.threads += more.threads
    total.segments += more.segments
    total.removed += more.removed


def _counts(footprint: Footprint) -> str:
    return count_list(
        [(footprint.documents, "segment document"), (footprint.threads, "segment reference")]
    )
