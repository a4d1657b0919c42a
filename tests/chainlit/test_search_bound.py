"""A search that takes too long ends, on the server too, with an error that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pymongo
import pytest
from chainlit.types import Pagination, ThreadFilter
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from mongo_datalayer import MongoDataLayer, SearchTimeoutError
from mongo_datalayer.chainlit import lists
from mongo_datalayer.mongodb import client as driver
from mongo_datalayer.search import upkeep
from mongo_datalayer.search.indexer import SearchIndexer
from mongo_datalayer.search.upkeep import SearchUpkeep
from tests.costs.commands import Commands

Documents = AsyncDatabase[dict[str, Any]]


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def slow(
    mongo_uri: str, database: Documents, monkeypatch: pytest.MonkeyPatch, commands: Commands
) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """A client whose searches take the server many seconds."""
    monkeypatch.setattr(lists, "search_patterns", lambda _: [f"{'s' * 255}q"])
    steps = [{"id": "s", "output": "s" * 1_000_000}]
    for number in range(30):
        await database["threads"].insert_one({"_id": f"t{number}", "userId": "u", "steps": steps})
    async with AsyncMongoClient[dict[str, Any]](mongo_uri, event_listeners=[commands]) as client:
        yield client


async def search(layer: MongoDataLayer) -> Any:
    return await layer.list_threads(
        Pagination(first=5), ThreadFilter(userId="u", search="anything")
    )


@pytest.mark.parametrize("search_index", [False, True])
async def test_a_search_that_takes_too_long_ends_on_the_server_and_is_not_tried_again(
    slow: AsyncMongoClient[dict[str, Any]],
    database: Documents,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    search_index: bool,
) -> None:
    monkeypatch.setattr(driver, "SEARCH_SECONDS", 0.5)
    layer = MongoDataLayer(client=slow, database=database.name, search_index=search_index)
    with pytest.raises(SearchTimeoutError, match=r"took longer than 0\.5 s and was stopped"):
        await search(layer)
    (sent,) = (command for command in commands.sent if "$regex" in str(command))
    assert 0 < sent["maxTimeMS"] <= 500
    for _ in range(100):
        operations = await database.client.admin.aggregate([{"$currentOp": {}}])
        texts = [str(operation) for operation in await operations.to_list(None)]
        if not any(database.name in text and "$regex" in text for text in texts):
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the server goes on")
    await layer.close()


async def test_an_operation_with_less_time_ends_with_the_drivers_error(
    slow: AsyncMongoClient[dict[str, Any]], database: Documents
) -> None:
    layer = MongoDataLayer(client=slow, database=database.name, timeout_ms=600)
    with pytest.raises(PyMongoError):
        await search(layer)
    await layer.close()


async def test_a_build_outlives_the_time_of_the_search_that_began_it(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WORTH_A_SEGMENT", 1)
    layer = MongoDataLayer(client=database.client, database=database.name, search_index=True)
    await layer.create_indexes()
    await database["threads"].insert_one({"_id": "t", "userId": "u", "name": "n", "steps": []})
    build = SearchIndexer.build

    async def built_later(indexer: SearchIndexer, user_id: str, *, at_least: int) -> Any:
        await asyncio.sleep(0.1)
        return await build(indexer, user_id, at_least=at_least)

    monkeypatch.setattr(SearchIndexer, "build", built_later)
    keeper = SearchUpkeep(database)
    with pymongo.timeout(0.05):
        keeper.begin("u")
    await asyncio.gather(*keeper._tasks)
    assert len(await SearchIndexer(database).segments("u")) == 1
    await layer.close()
