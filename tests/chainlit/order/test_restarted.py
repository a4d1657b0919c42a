"""A chat that goes on under the id of a deleted thread: what a person writes is kept."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from chainlit.types import Pagination, ThreadFilter
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit.threads import ThreadChanges, Threads
from mongo_datalayer.model.times import iso
from mongo_datalayer.storage import overflow
from tests.chainlit.order.conftest import Database
from tests.chainlit.order.test_interleavings import bounded

Dict = dict[str, Any]
START = datetime(2024, 5, 6, 12, tzinfo=timezone.utc)


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


def step(step_id: str, created: datetime, **fields: Any) -> Any:
    return {"id": step_id, "type": "run", "output": step_id, "createdAt": iso(created), **fields}


def message(step_id: str, created: datetime, **fields: Any) -> Any:
    return step(step_id, created, type="user_message", **fields)


async def say(layer: MongoDataLayer, words: str, thread_id: str = "t") -> None:
    now = datetime.now(timezone.utc)
    await layer.create_step(message(words, now, threadId=thread_id))


async def ids(layer: MongoDataLayer, thread_id: str = "t") -> list[str] | None:
    thread: Any = await layer.get_thread(thread_id)
    return thread and [each["id"] for each in thread["steps"]]


async def names(layer: MongoDataLayer, user_id: str) -> list[str | None]:
    page = await layer.list_threads(Pagination(first=9), ThreadFilter(userId=user_id))
    return [each["name"] for each in page.data]


@pytest.fixture
async def deleted(layer: MongoDataLayer, alice: str) -> MongoDataLayer:
    """A layer in whose database ``t`` was deleted."""
    await layer.update_thread("t", name="old", user_id=alice, metadata={"old": 1})
    await say(layer, "old")
    await layer.delete_thread("t")
    await asyncio.sleep(0.002)  # times are stored in milliseconds
    return layer


async def test_a_first_message_begins_a_new_thread(deleted: MongoDataLayer, alice: str) -> None:
    await deleted.update_thread("t", name="new", user_id=alice, tags=["a"])
    await say(deleted, "new")
    await deleted.update_step(step("answer", datetime.now(timezone.utc), threadId="t"))

    thread: Any = await deleted.get_thread("t")
    assert (thread["name"], thread["userId"], thread["userIdentifier"]) == ("new", alice, "alice")
    assert (thread["metadata"], thread["tags"]) == ({}, ["a"])
    assert await ids(deleted) == ["new", "answer"]
    assert await names(deleted, alice) == ["new"]


async def test_a_message_of_a_running_session_names_the_new_thread(
    deleted: MongoDataLayer, database: Database
) -> None:
    await say(deleted, "goes on")

    thread: Any = await deleted.get_thread("t")
    assert (thread["name"], await ids(deleted)) == ("goes on", ["goes on"])
    stored: Any = await database.threads.find_one({"_id": "t"})
    assert "deletedAt" not in stored


@pytest.mark.parametrize("kind", ["message", "first message"])
async def test_what_was_written_before_the_deletion_stays_out(
    layer: MongoDataLayer, database: Database, kind: str
) -> None:
    threads = Threads(database)
    await threads.delete("t", at(1))
    if kind == "message":
        assert not await threads.steps.create("t", message("m", at(1)))
        assert not await threads.steps.update("t", message("m", at(0)))
    else:
        changes = ThreadChanges({"name": "n", "userId": "u"}, called_at=at(1))
        assert not await threads.update("t", changes)

    assert await ids(layer) is None
    stored: Any = await database.threads.find_one({"_id": "t"})
    assert stored == {"_id": "t", "deletedAt": at(1)}


async def test_nothing_of_the_old_comes_back(
    layers: list[MongoDataLayer], deleted: MongoDataLayer, database: Database, alice: str
) -> None:
    """The answer in flight, the metadata of a disconnect, a retry: before and after the restart."""
    old = datetime.now(timezone.utc) - timedelta(seconds=1)
    late: list[Any] = [
        message("retried", old, threadId="t"),
        step("run", old, threadId="t"),
        step("answer", old, threadId="t", type="assistant_message"),
    ]
    for layer in layers:
        for given_step in late:
            await layer.create_step(given_step)
            await layer.update_step(given_step)
        await layer.update_thread("t", metadata={"chat_settings": {}, "client_type": "webapp"})
        await layer.update_thread("t", name="renamed")
    assert await ids(deleted) is None

    await layers[1].update_thread("t", name="new", user_id=alice)
    for layer in layers:
        for given_step in late:
            await layer.create_step(given_step)
            await layer.update_step(given_step)
    await say(layers[2], "new")

    for layer in layers:
        assert await ids(layer) == ["new"]
    stored: Any = await database.threads.find_one({"_id": "t"})
    assert stored["bytes"] < 1000


async def test_what_a_deletion_left_of_a_long_thread_goes_before_the_new_begins(
    mongo_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was killed after the tombstone; and the new thread grows long in its turn."""
    monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(900, 300, 600))
    layers = [MongoDataLayer(mongo_uri, database=database.name) for _ in range(2)]
    for number in range(20):
        created = at(number)
        large = "old " * (200 if number == 7 else 20)
        await layers[0].create_step(step(f"old{number}", created, threadId="t", output=large))
    await database.threads.replace_one({"_id": "t"}, {"deletedAt": at(100)})

    for number in range(20):
        large = "new " * (200 if number == 0 else 20)
        words = message(f"new{number}", at(200 + number), threadId="t", output=large)
        await layers[number % 2].create_step(words)

    assert await ids(layers[0]) == [f"new{number}" for number in range(20)]
    thread: Any = await layers[1].get_thread("t")
    assert thread["steps"][0]["output"] == "new " * 200
    in_overflow = await database.thread_overflow.distinct("steps.id", {"thread": "t"})
    assert in_overflow
    assert not [each for each in in_overflow if each.startswith("old")]
    files = await database["fs.files"].distinct("filename")
    assert not [name for name in files if "old" in name]
    for layer in layers:
        await layer.close()


async def test_a_deletion_that_is_repeated_leaves_the_new_conversation(database: Database) -> None:
    threads = Threads(database)
    await threads.delete("t", at(1))
    assert await threads.steps.create("t", message("m", at(2)))

    assert await threads.delete("t", at(1)) == []
    assert await threads.documents.get("t") is not None
    await threads.delete("t", at(3))
    assert await threads.documents.get("t") is None


async def test_what_waits_behind_a_deletion_counts_from_the_calls(layer: MongoDataLayer) -> None:
    """A message that was sent while the deletion waited for its turn is newer than that."""
    await say(layer, "old")
    deletion = asyncio.ensure_future(layer.delete_thread("t"))
    await asyncio.sleep(0)
    await asyncio.sleep(0.002)
    await asyncio.gather(deletion, say(layer, "new"))

    assert await ids(layer) == ["new"]


async def test_processes_that_begin_at_once_lose_nothing(
    layers: list[MongoDataLayer], deleted: MongoDataLayer, alice: str
) -> None:
    await asyncio.gather(
        *(layer.update_thread("t", name="new", user_id=alice) for layer in layers),
        *(say(layer, f"new {number}") for number, layer in enumerate(layers)),
    )

    assert set(await ids(deleted) or ()) == {"new 0", "new 1", "new 2"}


async def test_a_dropped_step_is_a_warning_once_for_each_thread(
    deleted: MongoDataLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mongo_datalayer")
    late = datetime.now(timezone.utc) - timedelta(hours=1)
    await deleted.update_thread("t", metadata={"saved": "when the browser left"})
    for number in range(3):
        await deleted.create_step(step(f"late {number}", late, threadId="t"))
    await deleted.update_step(step("late 0", late, threadId="t"))

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "A write to 'late 0' in thread 't' came after its deletion and is dropped.")
    ]


# The rule, as a model ---------------------------------------------------------------------------

seconds = st.integers(0, 9)
events = st.one_of(
    st.tuples(st.just("delete"), seconds),
    st.tuples(st.just("first message"), seconds),
    st.tuples(st.sampled_from(["message", "step"]), seconds),
)


class Model:
    """What must be stored under one id after each event."""

    def __init__(self) -> None:
        self.deleted: int | None = None
        self.steps: set[str] | None = None

    def event(self, kind: str, second: int, step_id: str) -> None:
        newer = self.deleted is None or second > self.deleted
        if kind == "delete":
            if self.steps is None or second != self.deleted:
                self.deleted, self.steps = second, None
        elif kind == "first message":
            if self.steps is None and newer:
                self.steps = set()
        elif newer and (self.steps is not None or self.deleted is None or kind == "message"):
            self.steps = (self.steps or set()) | {step_id}


@bounded
@given(events=st.lists(events, min_size=1, max_size=12), spread=st.lists(st.integers(0, 1)))
async def test_whatever_comes_in_whichever_order(
    layers: list[MongoDataLayer],
    database: Database,
    events: list[tuple[str, int]],
    spread: list[int],
) -> None:
    thread_id, model = f"thread {uuid.uuid4()}", Model()
    processes = [Threads(database), Threads(database)]
    for number, (kind, second) in enumerate(events):
        threads = processes[spread[number] if number < len(spread) else 0]
        moment, step_id = at(second), f"s{number}"
        if kind == "delete":
            await threads.delete(thread_id, moment)
        elif kind == "first message":
            changes = ThreadChanges({"name": "n", "userId": "u"}, called_at=moment)
            await threads.update(thread_id, changes)
        else:
            make = message if kind == "message" else step
            write = threads.steps.create if number % 2 else threads.steps.update
            await write(thread_id, make(step_id, moment))
        model.event(kind, second, step_id)

        found = await ids(layers[0], thread_id)
        assert (None if found is None else set(found)) == model.steps
