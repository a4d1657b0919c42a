"""What the pages cost the server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.console.listing import FIRST_WINDOW, PAGE, Listing
from mongo_datalayer.console.rendering import markdown
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.schema.indexes import apply_console_indexes, apply_indexes, check_indexes
from tests.console import hostile
from tests.costs.commands import Commands, examined, explain, name, stages

Dict = dict[str, Any]
COUNT = 400


@pytest.fixture
async def listing(mongo_uri: str, database_name: str) -> AsyncIterator[tuple[Listing, Any]]:
    """The list of 400 conversations with its index, and a count of what it sends."""
    commands = Commands()
    async with AsyncMongoClient[Dict](mongo_uri, event_listeners=[commands]) as client:
        database = client[database_name]
        await apply_indexes(database)
        await apply_console_indexes(database)
        await hostile.store(database, COUNT)

        async def cost(query: Dict, cursor: Cursor | None = None) -> tuple[list[str], int, Any]:
            filters = Filters.parse(query)
            with commands.counted() as sent:
                page = await Listing(database, ThreadDocuments(database)).page(filters, cursor)
            explained = [await explain(database, command) for command in sent]
            assert not any("COLLSCAN" in stages(plan) for plan in explained)
            assert not any({"SORT", "$sort"} & stages(plan) for plan in explained)
            return [name(command) for command in sent], sum(map(examined, explained)), page

        yield Listing(database, ThreadDocuments(database)), cost


async def test_a_page_reads_what_it_shows(listing: tuple[Listing, Any]) -> None:
    _, cost = listing
    sent, documents, first = await cost({})
    assert (sent, len(first.threads)) == (["aggregate"], PAGE)
    assert documents == PAGE + 1

    sent, documents, second = await cost({}, Cursor.decode(first.following))
    assert second.threads[0]["name"] == f"Name {PAGE}"
    assert (sent, documents) == (["aggregate"], PAGE + 1)
    sent, documents, _ = await cost({"since": "2026-03-01", "until": "2026-03-05"})
    assert (sent, documents) == (["aggregate"], PAGE + 1)


async def test_a_page_of_a_user_uses_the_index_of_the_sidebar(listing: tuple[Listing, Any]) -> None:
    _, cost = listing
    sent, documents, page = await cost({"user": "alice"})

    assert len(page.threads) == PAGE
    assert (sent, documents) == (["find", "aggregate"], PAGE + 2)


async def test_a_filter_looks_at_windows_of_the_newest(listing: tuple[Listing, Any]) -> None:
    _, cost = listing
    sent, documents, page = await cost({"search": "question"})
    # The end of the window, long threads in it, matches, and the texts of the hits.
    assert sent == ["find", "find", "aggregate", "find"]
    assert len(page.threads) == PAGE
    assert documents < FIRST_WINDOW + 3 * PAGE

    sent, documents, page = await cost({"min_steps": "2", "max_steps": "5"})
    assert (sent, len(page.threads)) == (["find", "find", "aggregate"], PAGE)
    assert documents < FIRST_WINDOW

    # The second window begins in the middle of a millisecond, and reads its first thread again.
    sent, documents, page = await cost({"tool": "nobody calls it"})
    assert (sent, documents) == (["find", "find", "aggregate"] * 2, COUNT + 1)
    assert (page.threads, page.following) == ([], None)
    # What the main document alone tells is not looked for in overflow documents.
    sent, documents, _ = await cost({"tag": "nobody's"})
    assert (sent, documents) == (["find", "aggregate"] * 2, COUNT + 1)


async def test_threads_of_one_millisecond_are_found_once(
    database: AsyncDatabase[Dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.console.listing.FIRST_WINDOW", 3)
    monkeypatch.setattr("mongo_datalayer.console.listing.MOST_WINDOW", 3)
    same = [hostile.thread(n, updatedAt=hostile.NOW, tags=["same"]) for n in range(20)]
    older = [hostile.thread(n, tags=["same"]) for n in range(20, 24)]
    await database.threads.insert_many([*older, *same])
    listing = Listing(database, ThreadDocuments(database))
    page = await listing.page(Filters(tag="same"), None)

    numbers = [int(thread["_id"].split()[1]) for thread in page.threads]
    assert sorted(numbers) == list(range(24))
    assert page.following is None


async def test_only_the_long_threads_are_looked_for_in_overflow(
    listing: tuple[Listing, Any], database: AsyncDatabase[Dict]
) -> None:
    _, cost = listing
    await database.threads.update_many(
        {"_id": {"$in": ["thread 7", "thread 300"]}},
        {"$set": {"overflow": True, "overflowIds": ["a", "b"]}},
    )
    _, documents, _ = await cost({"tool": "nobody calls it"})
    assert documents == COUNT + 1 + 2


async def test_the_index_is_none_that_an_app_misses_or_does_not_know(
    mongo_uri: str, database_name: str
) -> None:
    async with AsyncMongoClient[Dict](mongo_uri) as client:
        database = client[database_name]
        await apply_indexes(database)
        assert (await check_indexes(database)).complete
        await apply_console_indexes(database)
        report = await check_indexes(database)

    assert report.complete
    assert report.unknown == ()


async def test_a_search_that_ran_out_of_time_goes_on(
    listing: tuple[Listing, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.console.listing.BUDGET_SECONDS", -1.0)
    _, cost = listing
    _, _, page = await cost({"search": "question 350"})
    assert page.threads == []
    assert page.searched_to is not None
    _, _, page = await cost({"search": "question 350"}, Cursor.decode(page.following))

    assert [thread["name"] for thread in page.threads] == ["Name 350"]


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "٣", "1000001", "x"])
def test_a_number_of_steps_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(ConfigurationError, match="'max_steps' is a number of steps such as 10"):
        Filters.parse({"max_steps": number})


@pytest.mark.parametrize(
    "text", ["[a](JaVaScRiPt:alert(1))", "<b onclick=x>", "[a](data:text/html,x)"]
)
def test_markdown_has_no_html_and_no_other_addresses(text: str) -> None:
    assert re.findall(r"<(?!/?p>)[a-z][^>]*>", str(markdown(text)).replace("&lt;", "")) in (
        [],
        ['<a rel="nofollow noreferrer noopener">'],
    )
