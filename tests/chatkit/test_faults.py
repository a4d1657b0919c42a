"""The faults of tests/faults on the ChatKit store: each write is there once, or is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatkit.types import FileAttachment
from pymongo.errors import PyMongoError

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import message, thread
from tests.chainlit.test_faults import FAULTS, POLLING, WRITES, Server, server
from tests.chatkit.conftest import links

__all__ = ["server"]  # a fixture

ADA = {"user_id": "ada"}


@pytest.fixture(params=["one document", "overflowIds"])
async def store(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[MongoChatKitStore[Any]]:
    if request.param == "overflowIds":
        monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(main=2000, kept=500, value=5000))
    uri = f"{mongo_uri}/?{POLLING}&retryWrites=false&retryReads=false"
    # Faults by chance need more tries than real ones, and each waits for the driver's next look.
    store = MongoChatKitStore[Any](uri, database=database_name, timeout_ms=120_000, links=links())
    await store.create_indexes()
    yield store
    await store.close()


async def chat(store: MongoChatKitStore[Any]) -> None:
    """Every kind of write."""
    await store.save_thread(thread(), ADA)
    for number in range(8):
        await store.add_thread_item("t", message(f"i{number}", number), ADA)
    await store.save_item("t", message("i1", 1, text="changed"), ADA)
    await store.save_item("t", message("saved", 9), ADA)
    await store.add_feedback("t", ["i2"], "positive", ADA)
    await store.delete_thread_item("t", "i0", ADA)
    await store.delete_thread_item("t", "i6", ADA)
    await store.save_thread(thread(title="T", metadata={"a": 1}), ADA)
    attachment = FileAttachment(id="a", name="n", mime_type="text/plain")
    await store.save_attachment(attachment, ADA)
    await store.save_thread(thread("gone"), ADA)
    await store.add_thread_item("gone", message("i", thread_id="gone"), ADA)
    await store.delete_thread("gone", ADA)


async def assert_whole(store: MongoChatKitStore[Any]) -> None:
    """Everything of :func:`chat` is there, once."""
    assert await store.load_thread("t", ADA) == thread(title="T", metadata={"a": 1})
    assert [each.id for each in (await store.load_threads(9, None, "asc", ADA)).data] == ["t"]
    items: list[Any] = (await store.load_thread_items("t", None, 99, "asc", ADA)).data
    names = ["i1", "i2", "i3", "i4", "i5", "i7", "saved"]
    assert [item.id for item in items] == names
    texts = ["changed", *["hello"] * 6]
    assert [item.content[0].text for item in items] == texts
    assert (await store.load_attachment("a", ADA)).name == "n"


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_transient_fault_loses_and_doubles_nothing(
    store: MongoChatKitStore[Any], server: Server, fault: str, times: int
) -> None:
    await server.fail([*WRITES, "insert"], {"times": times}, **FAULTS[fault])
    await chat(store)
    await assert_whole(store)


@pytest.mark.parametrize("fault", ["connection closed", "applied, then no majority"])
async def test_every_third_write_fails(
    store: MongoChatKitStore[Any], server: Server, fault: str
) -> None:
    await server.fail([*WRITES, "insert"], {"activationProbability": 0.33}, **FAULTS[fault])
    await chat(store)
    await server.recover()
    await assert_whole(store)


async def test_reads_are_tried_again(store: MongoChatKitStore[Any], server: Server) -> None:
    await chat(store)
    await server.fail(["find", "aggregate"], {"times": 2}, closeConnection=True)
    await assert_whole(store)


async def test_a_fault_that_lasts_is_an_error_in_time(
    mongo_uri: str, database_name: str, server: Server
) -> None:
    uri = f"{mongo_uri}/?{POLLING}"
    store = MongoChatKitStore[Any](uri, database=database_name, timeout_ms=500)
    await store.save_thread(thread(), ADA)
    await server.fail([*WRITES, "find"], "alwaysOn", closeConnection=True)
    start = time.monotonic()
    with pytest.raises(PyMongoError):
        await store.add_thread_item("t", message("i"), ADA)
    with pytest.raises(PyMongoError):
        await store.load_thread("t", ADA)
    assert time.monotonic() - start < 5
    await server.recover()
    await asyncio.sleep(1)  # the driver looks again
    await store.add_thread_item("t", message("i"), ADA)
    assert await store.load_item("t", "i", ADA) == message("i")
    await store.close()


async def test_what_cannot_succeed_is_not_tried_again(
    store: MongoChatKitStore[Any], server: Server
) -> None:
    await server.fail(["update"], "alwaysOn", errorCode=13)  # not authorised
    start = time.monotonic()
    with pytest.raises(PyMongoError):
        await store.save_thread(thread(), ADA)
    assert time.monotonic() - start < 5


# PyMongo does not close the socket of a connection whose making was cancelled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_cancelled_write_is_applied_once_or_not_at_all(
    store: MongoChatKitStore[Any], server: Server
) -> None:
    await store.save_thread(thread(), ADA)
    for number in range(40):
        made = message(f"i{number:02}", number)
        writing = asyncio.ensure_future(store.add_thread_item("t", made, ADA))
        await asyncio.sleep(number * 0.0001)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writing.cancelled() or writing.done()
    items = (await store.load_thread_items("t", None, 99, "asc", ADA)).data
    assert len(items) == len({item.id for item in items})
    for number in range(40):
        await store.add_thread_item("t", message(f"i{number:02}", number), ADA)
    items = (await store.load_thread_items("t", None, 99, "asc", ADA)).data
    assert [item.id for item in items] == [f"i{number:02}" for number in range(40)]
