"""Faults of the server at the commands of long threads: everything is there once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.storage import overflow
from tests.chainlit.test_faults import FAULTS, POLLING, Server, assert_whole, chat
from tests.storage.bench import ROOMY, SMALL, Database, fill, leftovers, read


@pytest.fixture
async def server(client: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[Server]:
    server = Server(client)
    yield server
    await server.recover()


@pytest.fixture(params=[ROOMY, SMALL], ids=["overflowIds", "parts and large values"])
async def layer(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[MongoDataLayer]:
    monkeypatch.setattr(overflow, "BOUNDS", request.param)
    uri = f"{mongo_uri}/?{POLLING}&retryWrites=false&retryReads=false"
    layer = MongoDataLayer(uri, database=database.name, timeout_ms=120_000)
    await layer.create_indexes()
    yield layer
    await layer.close()


COMMANDS = ["insert", "update", "findAndModify", "delete"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("collection", ["threads", "thread_overflow"])
async def test_a_transient_fault_loses_and_doubles_nothing(
    layer: MongoDataLayer,
    server: Server,
    client: AsyncMongoClient[dict[str, Any]],
    database: Database,
    collection: str,
    fault: str,
) -> None:
    """Of the moves too: before and after the insert of the part, and the write that lists it."""
    await fill(layer, "long", 7)
    times = 3 if layer._threads._overflow.bounds == SMALL else 1
    namespace = f"{database.name}.{collection}"
    await server.fail(COMMANDS, {"times": times}, namespace=namespace, **FAULTS[fault])
    await fill(layer, "long", 7, first=7)
    off = await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert off["count"] >= times
    thread = await read(layer, "long")
    assert [s["output"] for s in thread["steps"]] == [f"word{n} " * 20 for n in range(14)]
    await layer.delete_thread("long")
    assert await leftovers(database) == {}


async def test_every_third_write_fails(
    layer: MongoDataLayer, server: Server, database: Database
) -> None:
    fault = FAULTS["applied, then no majority"]
    await server.fail(COMMANDS, {"activationProbability": 0.33}, **fault)
    await chat(layer)
    await server.recover()
    await assert_whole(layer)
    await read(layer, "t")
    await layer.delete_thread("t")
    assert await leftovers(database) == {}
