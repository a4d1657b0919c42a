"""Faults made by the server on demand: every write ends up there exactly once, or is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chainlit.element import Image
from chainlit.types import Feedback
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.testing.contract import step

WRITES = ["update", "findAndModify"]

# Before the write is applied, and after: a write concern error comes of a write that was applied.
FAULTS: dict[str, dict[str, Any]] = {
    "connection closed": {"closeConnection": True},
    "not the primary": {"errorCode": 10107},
    "shutting down": {"errorCode": 11600},
    "applied, then shutting down": {"writeConcernError": {"code": 91, "errmsg": "shutdown"}},
    "applied, then no majority": {"writeConcernError": {"code": 64, "errmsg": "timed out"}},
}


# A made-up "not the primary" does not change the server's state, which the driver waits for unless
# it polls.
POLLING = "appName=under+test&serverMonitoringMode=poll&heartbeatFrequencyMS=500"


class Server:
    """Orders faults from the server, through a connection of its own."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client = client

    async def fail(self, commands: list[str], mode: Any, **fault: Any) -> None:
        data = {"failCommands": commands, "appName": "under test", **fault}
        await self._order({"mode": mode, "data": data})

    async def recover(self) -> None:
        await self._order({"mode": "off"})

    async def _order(self, order: dict[str, Any]) -> None:
        await self._client.admin.command({"configureFailPoint": "failCommand", **order})


@pytest.fixture
async def server(client: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[Server]:
    server = Server(client)
    yield server
    await server.recover()


@pytest.fixture
async def layer(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    uri = f"{mongo_uri}/?{POLLING}&retryWrites=false&retryReads=false"
    # Faults by chance need more tries than real ones, and each waits for the driver's next look.
    layer = MongoDataLayer(uri, database=database_name, timeout_ms=120_000)
    await layer.create_indexes()
    yield layer
    await layer.close()


async def chat(layer: MongoDataLayer) -> None:
    """One turn of a chat, every kind of write in it."""
    await layer.update_thread("t", name="N", metadata={"a": 1})
    await layer.create_step(step_dict=step("t", 1, id="q", output="question"))
    await layer.create_step(step_dict=step("t", 2, id="run", parentId="q"))
    await layer.create_step(step_dict=step("t", 3, id="gone", parentId="run"))
    await layer.update_step(step_dict=step("t", 2, id="run", parentId="q", output="answer"))
    image = Image(id="e", name="i", url="https://example.org/i.png", thread_id="t", for_id="run")
    await layer.create_element(image)
    await layer.upsert_feedback(Feedback(forId="run", value=0, threadId="t", comment="c"))
    await layer.upsert_feedback(Feedback(forId="late", value=1, threadId="t"))
    await layer.create_step(step_dict=step("t", 4, id="late"))
    await layer.delete_step("gone")


async def assert_whole(layer: MongoDataLayer) -> None:
    """Everything of :func:`chat` is there, once."""
    thread = await layer.get_thread("t")
    assert thread is not None
    assert (thread["name"], thread["metadata"]) == ("N", {"a": 1})
    assert [(s["id"], s["output"]) for s in thread["steps"]] == [
        ("q", "question"),
        ("run", "answer"),
        ("late", ""),
    ]
    given = [s["feedback"] for s in thread["steps"]]
    assert [f["value"] if f else None for f in given] == [None, 0, 1]
    assert [e["id"] for e in thread["elements"] or []] == ["e"]


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_transient_fault_loses_and_doubles_nothing(
    layer: MongoDataLayer, server: Server, fault: str, times: int
) -> None:
    await server.fail(WRITES, {"times": times}, **FAULTS[fault])
    await chat(layer)
    await assert_whole(layer)


@pytest.mark.parametrize("fault", ["connection closed", "applied, then no majority"])
async def test_every_third_write_fails(layer: MongoDataLayer, server: Server, fault: str) -> None:
    await server.fail(WRITES, {"activationProbability": 0.33}, **FAULTS[fault])
    await chat(layer)
    await server.recover()
    await assert_whole(layer)


async def test_reads_are_tried_again(layer: MongoDataLayer, server: Server) -> None:
    await chat(layer)
    await server.fail(["find", "aggregate"], {"times": 2}, closeConnection=True)
    await assert_whole(layer)
    await server.fail(["find", "aggregate"], {"times": 2}, closeConnection=True)
    assert await layer.get_favorite_steps("nobody") == []


@pytest.fixture
async def hasty(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    """A layer whose operations may take half a second."""
    uri = f"{mongo_uri}/?{POLLING}"
    layer = MongoDataLayer(uri, database=database_name, timeout_ms=500)
    yield layer
    await layer.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"closeConnection": True},
        {"blockConnection": True, "blockTimeMS": 5_000},
        {"errorCode": 10107},
    ],
    ids=["no connection", "no answer", "no primary"],
)
async def test_a_fault_that_lasts_is_an_error_in_time_and_is_logged(
    hasty: MongoDataLayer, server: Server, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await hasty.update_thread("t", name="N")
    await server.fail(["update", "find"], "alwaysOn", **fault)
    start = time.monotonic()
    with pytest.raises(PyMongoError):
        await hasty.create_step(step_dict=step("t", id="s"))
    with pytest.raises(PyMongoError):
        await hasty.get_thread("t")
    assert time.monotonic() - start < 5  # two operations of half a second each
    assert "create_step of s in thread t failed" in caplog.text
    await server.recover()
    await asyncio.sleep(1)  # the driver looks again
    await hasty.create_step(step_dict=step("t", id="s"))
    thread = await hasty.get_thread("t")
    assert thread is not None
    assert [s["id"] for s in thread["steps"]] == ["s"]


async def test_what_cannot_succeed_is_not_tried_again(
    layer: MongoDataLayer, server: Server
) -> None:
    await server.fail(["update"], "alwaysOn", errorCode=13)  # not authorised
    start = time.monotonic()
    with pytest.raises(PyMongoError):
        await layer.update_thread("t", name="N")
    assert time.monotonic() - start < 5


# PyMongo does not close the socket of a connection whose making was cancelled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_cancelled_write_is_applied_once_or_not_at_all(
    layer: MongoDataLayer, server: Server
) -> None:
    await layer.update_thread("t", name="N")
    for number in range(40):
        made = step("t", number, id=f"s{number}")
        writing = asyncio.ensure_future(layer.create_step(step_dict=made))
        await asyncio.sleep(number * 0.0001)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    thread = await layer.get_thread("t")
    assert thread is not None
    ids = [s["id"] for s in thread["steps"]]
    assert len(ids) == len(set(ids))
    for number in range(40):
        await layer.create_step(step_dict=step("t", number, id=f"s{number}"))
    thread = await layer.get_thread("t")
    assert thread is not None
    assert sorted(s["id"] for s in thread["steps"]) == sorted(f"s{n}" for n in range(40))
