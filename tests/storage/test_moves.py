"""Items that move to a part just now, or whose move never came to its end."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from bson import ObjectId
from chainlit.element import CustomElement
from chainlit.types import Feedback

from mongo_datalayer import MongoDataLayer
from tests.storage.bench import ROOMY, Database, Dict, fill, found, leftovers, place, read, step
from tests.storage.commands import Meanwhile, unwatched, watch
from tests.storage.conftest import Make

Layers = list[MongoDataLayer]


async def leave_copy(database: Database, thread_id: str = "t") -> None:
    """What a move that was killed leaves: a copy of what the head holds, which no head lists."""
    head: Dict = await database.threads.find_one({"_id": thread_id}) or {}
    copied = {name: head.get(name) or [] for name in ("steps", "elements")}
    copy = {"_id": str(ObjectId()), "thread": thread_id, "bytes": 1, **copied}
    await database.thread_overflow.insert_one(copy)
    await database.threads.update_one({"_id": thread_id}, {"$set": {"overflow": True}})


def element(**props: Any) -> CustomElement:
    return CustomElement(thread_id="t", id="e", name="n", props=props)


async def step_of(layer: MongoDataLayer, name: str) -> Any:
    (one,) = [s for s in (await read(layer, "t"))["steps"] if s["id"] == f"t/{name}"]
    return one


# A thread that was made by hand ---------------------------------------------------------------


@pytest.mark.parametrize("write", ["create", "update", "element", "early feedback"])
async def test_a_thread_whose_bytes_nobody_counts(
    make: Make, database: Database, write: str
) -> None:
    layer = make(ROOMY)
    moment = datetime(2026, 3, 1, tzinfo=timezone.utc)
    made = {"createdAt": moment, "updatedAt": moment, "steps": [{"id": "t/old"}]}
    await database.threads.insert_one({"_id": "t", "name": "by hand", **made})
    if write == "create":
        await layer.create_step(step("t", "new", 1))
    elif write == "update":
        await layer.update_step(step("t", "new", 1))
    elif write == "element":
        await layer.create_element(element(version=1))
    else:
        await layer.upsert_feedback(Feedback(forId="t/new", threadId="t", value=1))
        await layer.create_step(step("t", "new", 1))

    stored: Dict = await database.threads.find_one({"_id": "t"}) or {}
    assert stored["bytes"] > 0
    assert "overflow" not in stored
    assert "pendingFeedback" not in stored or stored["pendingFeedback"] == []
    assert stored["name"] == "by hand"
    await fill(layer, "t", 30)
    assert await place(database, "t", "t/old") == "overflow"
    assert len((await read(layer, "t"))["steps"]) == 31 + (write != "element")


# A copy that nobody lists ---------------------------------------------------------------------


@pytest.fixture(params=["with parts", "without"])
async def prepared(request: pytest.FixtureRequest, layers: Layers, alice: str) -> Layers:
    """A thread whose newest step is in the head, with parts or not."""
    await layers[0].update_thread("t", name="n", user_id=alice)
    await fill(layers[0], "t", 8 if request.param == "with parts" else 1)
    await layers[0].update_step({"id": "t/x", "threadId": "t", "output": "x marks"})
    await layers[0].create_element(element(version=1))
    await layers[0].upsert_feedback(Feedback(forId="t/x", threadId="t", value=1))
    await layers[0].set_step_favorite({"id": "t/x", "threadId": "t"}, True)
    return layers


@pytest.mark.parametrize("knows", [True, False])
async def test_writes_do_not_go_into_a_copy(
    prepared: Layers, database: Database, knows: bool
) -> None:
    _, layer, reader = prepared
    await leave_copy(database)
    if knows:
        await layer.get_thread("t")
    await layer.create_step(step("t", "x", 50, input="filled in"))
    await layer.create_element(element(version=2))
    stored = await step_of(reader, "x")
    assert (stored["input"], stored["output"]) == ("filled in", "x marks")
    assert [e["props"] for e in (await read(reader, "t"))["elements"]] == [{"version": 2}]


async def test_nothing_is_read_from_a_copy(
    prepared: Layers, database: Database, alice: str
) -> None:
    layer = prepared[0]
    await leave_copy(database)
    assert [s["id"] for s in await layer.get_favorite_steps(alice)] == ["t/x"]
    await layer.set_step_favorite({"id": "t/x", "threadId": "t"}, False)
    await layer.update_step({"id": "t/x", "threadId": "t", "output": "other"})
    await layer.upsert_feedback(Feedback(forId="t/x", threadId="t", value=0))
    await layer.delete_element("e", "t")
    assert await layer.get_favorite_steps(alice) == []
    assert await found(layer, alice, search="x marks") == []
    assert await found(layer, alice, search="other") == ["t"]
    assert await found(layer, alice, feedback=1) == []
    assert await layer.get_element("t", "e") is None
    assert (await read(layer, "t"))["elements"] == []
    await fill(layer, "t", 12, first=20)
    assert await place(database, "t", "t/x") == "overflow"
    await layer.update_step({"id": "t/x", "threadId": "t", "output": "once more"})
    assert (await step_of(layer, "x"))["output"] == "once more"


async def test_deleting_takes_copies_along(
    prepared: Layers, database: Database, alice: str
) -> None:
    layer = prepared[0]
    await leave_copy(database)
    await layer.delete_step("t/x")
    assert await database.thread_overflow.count_documents({"steps.id": "t/x"}) == 0
    assert await found(layer, alice, search="x marks") == []
    await layer.delete_thread("t")
    assert await leftovers(database) == {}


# Knowledge that is not true any more ------------------------------------------------------------


async def test_a_favorite_that_another_process_has_moved(
    layers: Layers, alice: str, database: Database
) -> None:
    layer, other, _ = layers
    await layer.update_thread("t", name="n", user_id=alice)
    await layer.create_step(step("t", "s0", 0, output="x", metadata={"k": 1}))
    await fill(other, "t", 8, first=1)
    assert await place(database, "t", "t/s0") == "overflow"
    await layer.set_step_favorite(step("t", "s0", 0, metadata={"k": 1}), True)
    assert [s["id"] for s in await layer.get_favorite_steps(alice)] == ["t/s0"]


@pytest.mark.parametrize("count", range(7, 11))
@pytest.mark.parametrize("at", range(1, 6))
async def test_a_step_that_moves_while_it_is_created_again(
    layers: Layers, count: int, at: int
) -> None:
    """Another process moves it, and this one reads the thread: what it knows changes midway."""
    layer, other, reader = layers
    await fill(other, "t", 8)
    await layer.get_thread("t")

    async def move_and_read(moving: MongoDataLayer, thread: str) -> None:
        await fill(moving, thread, count, first=20)
        watch(layer, unwatched)
        await layer.get_thread(thread)

    watch(layer, Meanwhile(at, move_and_read, other, "t"))
    await layer.create_step(step("t", "s7", 7))
    steps = (await read(reader, "t"))["steps"]
    assert len(steps) in (8, 8 + count)


async def test_the_time_of_an_old_step_that_is_filled_in(
    layers: Layers, database: Database
) -> None:
    layer = layers[0]
    await layer.update_step({"id": "t/x", "threadId": "t", "output": "x" * 200})
    await fill(layer, "t", 8)
    assert await place(database, "t", "t/x") == "overflow"
    earlier = step("t", "x", 0)
    earlier["createdAt"] = "2023-05-06T12:00:00.000000Z"
    await layer.create_step(earlier)
    assert (await read(layer, "t"))["createdAt"].startswith("2023")


# Items of any shape -----------------------------------------------------------------------------


async def test_any_value_moves_as_it_is(layers: Layers, database: Database) -> None:
    """A map with $ref and $id, which drivers read as something else; numbers of any width."""
    deep: Any = "bottom"
    for _ in range(28):
        deep = {"down": [deep]}
    metadata = {
        "x": 1,
        "$ref": "w" * 200,
        "$id": "i",
        "a.b": 2**62,
        "f": 1.0,
        "n": None,
        "$all": [{"$elemMatch": {"$size": 1}}],
        "deep": deep,
    }
    for number in range(12):
        await layers[0].create_step(step("t", f"s{number}", number, metadata=metadata))
    assert await place(database, "t", "t/s5") == "overflow"
    steps = (await read(layers[1], "t"))["steps"]
    assert [one["metadata"] for one in steps] == [metadata] * 12


async def test_a_head_that_was_full_before_it_was_counted(make: Make, database: Database) -> None:
    layer = make()
    steps = [{"id": f"t/s{number}", "output": "w" * 200_000} for number in range(83)]
    await database.threads.insert_one({"_id": "t", "steps": steps, "elements": [], "metadata": {}})
    await layer.create_step(step("t", "x", 0, output="w" * 230_000))
    assert len((await read(layer, "t"))["steps"]) == 84
