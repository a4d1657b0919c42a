"""close() finishes what is on its way, in bounded time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.mongodb import connection
from tests.chainlit.order.conftest import Database

MANY = 200


def writes(layer: MongoDataLayer, threads: int) -> list[asyncio.Task[Any]]:
    """Writes as Chainlit makes them: tasks that nobody awaits."""
    return [
        asyncio.create_task(
            layer.create_step({"id": f"s{number}", "threadId": f"t{number % threads}"})
        )
        for number in range(MANY)
    ]


async def stored_steps(database: Database) -> int:
    return sum([len(thread["steps"]) async for thread in database.threads.find({})])


@pytest.mark.parametrize("threads", [1, 50])
@pytest.mark.parametrize("ticks", [0, 1, 5])
async def test_writes_on_their_way_are_finished(
    mongo_uri: str, database: Database, threads: int, ticks: int
) -> None:
    """Also those whose tasks were made just now and have not begun."""
    layer = MongoDataLayer(mongo_uri, database=database.name)
    tasks = writes(layer, threads)
    for _ in range(ticks):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)

    await layer.close()

    assert await stored_steps(database) == MANY
    await asyncio.gather(*tasks)


async def test_a_deletion_that_looks_for_its_step_is_finished(
    mongo_uri: str, database: Database
) -> None:
    writer = MongoDataLayer(mongo_uri, database=database.name)
    await asyncio.gather(*writes(writer, 1))
    await writer.close()
    layer = MongoDataLayer(mongo_uri, database=database.name)
    tasks = [asyncio.create_task(layer.delete_step(step_id=f"s{n}")) for n in range(MANY)]

    await layer.close()

    assert await stored_steps(database) == 0
    await asyncio.gather(*tasks)


async def test_closing_again_is_harmless(mongo_uri: str, database: Database) -> None:
    layer = MongoDataLayer(mongo_uri, database=database.name)
    tasks = writes(layer, 3)

    await asyncio.gather(layer.close(), layer.close())
    await layer.close()

    await asyncio.gather(*tasks)
    assert await stored_steps(database) == MANY


async def test_a_client_that_was_given_stays_open(
    client: AsyncMongoClient[dict[str, Any]], database: Database
) -> None:
    layer = MongoDataLayer(client=client, database=database.name)
    tasks = writes(layer, 3)

    await layer.close()

    assert all(task.done() for task in tasks)
    assert await stored_steps(database) == MANY


async def test_closing_gives_up_in_time_and_says_so(
    mongo_uri: str,
    client: AsyncMongoClient[dict[str, Any]],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.2)
    layer = MongoDataLayer(mongo_uri, database=database.name)
    blocked = {"failCommands": ["update"], "blockConnection": True, "blockTimeMS": 3000}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=blocked)
    task = asyncio.create_task(layer.create_step({"id": "s", "threadId": "t"}))
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with caplog.at_level(logging.ERROR):
            await layer.close()
        assert 0.15 < loop.time() - began < 2
    finally:
        await client.admin.command("configureFailPoint", "failCommand", mode="off")
        await asyncio.gather(task, return_exceptions=True)

    assert "Still on its way 0.2 s after close(): create_step of s in thread t" in caplog.text
