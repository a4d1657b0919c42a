"""Which items of overflow documents a process knows, and which lookups that saves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from chainlit.element import CustomElement
from chainlit.types import Feedback
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.storage import overflow, overflow_ids
from tests.costs.commands import Commands, name
from tests.storage.bench import Database, Dict, fill, place, read, step

BOUNDS = overflow.Bounds(main=6000, kept=2000)


class Process(NamedTuple):
    """A layer of its own, and the commands that it sent."""

    layer: MongoDataLayer
    commands: Commands

    async def append(self, number: int) -> list[str]:
        """Append a step to the thread; the names of the commands that it took."""
        with self.commands.counted() as sent:
            await self.layer.create_step(step("t", f"new {number}", 600 + number))
        return [name(command) for command in sent]


class Bench(NamedTuple):
    database: Database
    here: Process
    there: Process


@pytest.fixture
async def bench(
    mongo_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """Two processes, and a thread with several parts that the first one filled."""
    monkeypatch.setattr(overflow, "BOUNDS", BOUNDS)
    both = (Commands(), Commands())
    async with (
        AsyncMongoClient[Dict](mongo_uri, event_listeners=[both[0]]) as one,
        AsyncMongoClient[Dict](mongo_uri, event_listeners=[both[1]]) as other,
    ):
        here, there = (
            Process(MongoDataLayer(client=client, database=database.name), commands)
            for client, commands in zip((one, other), both, strict=True)
        )
        await here.layer.create_indexes()
        await fill(here.layer, "t", 60)
        head = await database.threads.find_one({"_id": "t"}) or {}
        assert len(head["overflowIds"]) > 1
        yield Bench(database, here, there)


async def room(bench: Bench) -> None:
    """Leave room in the head for some steps."""
    await bench.database.threads.update_one({"_id": "t"}, {"$set": {"bytes": 0}})


async def test_who_filled_the_parts_appends_with_one_command(bench: Bench) -> None:
    await room(bench)

    assert await bench.here.append(1) == ["update"]


async def test_who_read_the_thread_appends_with_one_command(bench: Bench) -> None:
    await room(bench)
    await bench.there.layer.get_thread("t")

    assert await bench.there.append(1) == ["update"]


async def test_who_knows_no_ids_looks_each_item_up(bench: Bench) -> None:
    await room(bench)

    assert await bench.there.append(1) == ["update", "find", "find", "update"]
    assert await bench.there.append(2) == ["find", "update"]
    assert await bench.there.append(3) == ["find", "update"]


async def test_after_another_process_moved_items_each_item_is_looked_up(bench: Bench) -> None:
    await bench.there.layer.get_thread("t")
    before = (await bench.database.threads.find_one({"_id": "t"}) or {})["overflowIds"]
    await fill(bench.here.layer, "t", 60, first=100)
    after = (await bench.database.threads.find_one({"_id": "t"}) or {})["overflowIds"]
    assert after[: len(before)] == before
    assert len(after) > len(before)
    await room(bench)

    assert await bench.there.append(1) == ["update", "find", "find", "update"]
    assert await bench.there.append(2) == ["find", "update"]
    await bench.there.layer.get_thread("t")
    assert await bench.there.append(3) == ["update"]


@pytest.mark.parametrize("moved_by_another", [False, True])
async def test_what_a_part_holds_is_not_appended_again(
    bench: Bench, moved_by_another: bool
) -> None:
    layer = bench.there.layer
    await layer.get_thread("t")
    await bench.here.layer.create_step(step("t", "moves", 500))
    if moved_by_another:
        await fill(bench.here.layer, "t", 60, first=100)
        assert await place(bench.database, "t", "t/moves") == "overflow"

    await layer.create_step(step("t", "s0", 0, output="new"))
    await layer.create_step(step("t", "moves", 500, output="new"))
    await layer.update_step({"id": "t/s1", "threadId": "t", "output": "changed"})

    steps = [(each["id"], each["output"]) for each in (await read(layer, "t"))["steps"]]
    ids = [step_id for step_id, _ in steps]
    assert len(ids) == len(set(ids))
    assert dict(steps)["t/s1"] == "changed"


async def test_an_old_item_is_changed_where_it_is_known_to_be(bench: Bench) -> None:
    layer, commands = bench.there
    await layer.get_thread("t")
    assert await place(bench.database, "t", "t/s0") == "overflow"
    with commands.counted() as sent:
        await layer.update_step({"id": "t/s0", "threadId": "t", "output": "x"})
        await layer.upsert_feedback(Feedback(forId="t/s0", threadId="t", value=1))
        await layer.set_step_favorite({"id": "t/s0", "threadId": "t"}, True)
    assert [command[name(command)] for command in sent] == ["thread_overflow"] * 3

    whole = await read(layer, "t")
    (changed,) = [each for each in whole["steps"] if each["id"] == "t/s0"]
    assert changed["output"] == "x"
    assert changed["feedback"]["value"] == 1
    assert changed["metadata"]["favorite"] is True


async def test_a_step_that_left_its_part_can_come_back(bench: Bench) -> None:
    """Deleted, and forgotten as deleted: a new one of the same id is in the head."""
    layer = bench.there.layer
    await layer.get_thread("t")
    await bench.here.layer.delete_step("t/s0")
    await bench.database.threads.update_one({"_id": "t"}, {"$set": {"deletedSteps": []}})
    await room(bench)

    await layer.create_step(step("t", "s0", 601))
    await layer.set_step_favorite({"id": "t/s0", "threadId": "t"}, True)
    await layer.upsert_feedback(Feedback(forId="t/s0", threadId="t", value=1))
    await layer.update_step({"id": "t/s0", "threadId": "t", "output": "again"})

    assert await place(bench.database, "t", "t/s0") == "main"
    (back,) = [each for each in (await read(layer, "t"))["steps"] if each["id"] == "t/s0"]
    assert (back["output"], back["feedback"]["value"]) == ("again", 1)
    assert back["metadata"]["favorite"] is True


async def test_who_reads_old_elements_does_not_read_all_ids(bench: Bench) -> None:
    for number in range(60):
        element = CustomElement(thread_id="t", id=f"e{number}", name="n" * 100, props={})
        await bench.here.layer.create_element(element)
    layer, commands = bench.there
    for number in range(4):
        assert await place(bench.database, "t", f"e{number}") == "overflow"
        with commands.counted() as sent:
            assert await layer.get_element("t", f"e{number}") is not None
        assert [name(command) for command in sent] == ["find"] * 2


async def test_an_element_is_appended_with_one_command(bench: Bench) -> None:
    await room(bench)
    with bench.here.commands.counted() as sent:
        await bench.here.layer.create_element(
            CustomElement(thread_id="t", id="e", name="n", props={})
        )
    assert [name(command) for command in sent] == ["update"]


@pytest.mark.parametrize("knows", [True, False])
async def test_of_too_many_items_nothing_is_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    monkeypatch.setattr(overflow_ids, "MAX_ITEMS", 20)
    if knows:
        await bench.there.layer.get_thread("t")

    sent = []
    for number in range(5):
        await room(bench)
        sent.append(len(await bench.there.append(number)))

    assert sent == [2] * 5 if knows else [4, 2, 2, 2, 2]
    whole = await read(bench.there.layer, "t")
    assert len({each["id"] for each in whole["steps"]}) == len(whole["steps"]) == 65


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow_ids, "REMEMBERED_BYTES", 2 * 1024 + 10 * 75)
    items = overflow_ids.OverflowIds(["steps"])
    for number in range(100):
        items.learn(
            number, ["p"], [{"steps": [{"id": f"{number}-{n}"} for n in range(number % 7)]}]
        )

    known = [number for number in range(100) if items.may_hold(number, ["p"], "x") is not None]

    assert known == [98, 99]
