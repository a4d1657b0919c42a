"""What was deleted stays deleted, whatever comes late, from whichever process."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
from chainlit.types import Pagination, ThreadFilter

from mongo_datalayer import MongoDataLayer, NotFoundError
from tests.chainlit.order.conftest import Database
from tests.chainlit.order.turn import Call, Turn


async def late(call: Call, layer: MongoDataLayer) -> None:
    """A call that comes too late; only feedback, which a person gives, is refused loudly."""
    with suppress(NotFoundError):
        await call.run(layer)


def late_calls(turn: Turn) -> list[Call]:
    """All but the first message: after a deletion it begins a new conversation."""
    return [call for call in turn.calls if call.item != "name"]


async def assert_gone(turn: Turn, layer: MongoDataLayer, database: Database) -> None:
    assert await layer.get_thread(turn.thread_id) is None
    assert await layer.get_thread_author(turn.thread_id) == ""
    listed = await layer.list_threads(Pagination(first=10), ThreadFilter(userId=turn.user_id))
    assert listed.data == []
    stored = await database.threads.find_one({"_id": turn.thread_id})
    assert stored is not None
    assert stored.keys() == {"_id", "deletedAt"}


@pytest.mark.parametrize("there", [True, False], ids=["stored", "never stored"])
@pytest.mark.parametrize("deleting", [0, 1], ids=["same process", "other process"])
async def test_no_late_write_brings_a_thread_back(
    layers: list[MongoDataLayer], alice: str, database: Database, there: bool, deleting: int
) -> None:
    turn = Turn("deleted", alice)
    if there:
        for call in turn.calls:
            await call.run(layers[0])

    await layers[deleting].delete_thread(thread_id=turn.thread_id)
    for call in late_calls(turn):
        await late(call, layers[0])

    await assert_gone(turn, layers[0], database)


@pytest.mark.parametrize("seed", range(10))
async def test_a_thread_deleted_among_its_writes_is_gone(
    layers: list[MongoDataLayer], alice: str, database: Database, seed: int
) -> None:
    turn = Turn("deleted", alice)
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    calls = late_calls(turn) * 2
    chance.shuffle(calls)
    half = chance.randrange(len(calls))
    await turn.calls[0].run(layers[0])

    tasks = [late(call, chance.choice(layers)) for call in calls[:half]]
    tasks.append(layers[0].delete_thread(thread_id=turn.thread_id))
    tasks += [late(call, chance.choice(layers)) for call in calls[half:]]
    await asyncio.gather(*tasks)

    await assert_gone(turn, layers[0], database)


async def test_deleting_twice_keeps_the_tombstone(
    layer: MongoDataLayer, alice: str, database: Database
) -> None:
    turn = Turn("deleted", alice)
    await asyncio.gather(*(layer.delete_thread(thread_id=turn.thread_id) for _ in range(5)))

    await assert_gone(turn, layer, database)


FAMILY = ("run", "search", "model", "answer")


@pytest.mark.parametrize("deleting", [0, 1], ids=["same process", "other process"])
async def test_no_late_write_brings_a_step_or_what_is_below_it_back(
    layers: list[MongoDataLayer], alice: str, database: Database, deleting: int
) -> None:
    turn = Turn("cut", alice)
    for call in turn.calls:
        await call.run(layers[0])

    await layers[deleting].delete_step(step_id=turn.id("run"))
    for call in turn.calls:
        await late(call, layers[0])

    thread: Any = await layers[0].get_thread(turn.thread_id)
    assert thread["steps"] == [turn.final(turn.message)]
    assert thread["elements"] == []
    stored: Any = await database.threads.find_one({"_id": turn.thread_id})
    assert {step["id"] for step in stored["deletedSteps"]} == set(map(turn.id, FAMILY))
    assert all(step.keys() == {"id", "at"} for step in stored["deletedSteps"])
    assert not stored.get("pendingFeedback")


@pytest.mark.parametrize("seed", range(10))
async def test_a_step_deleted_among_its_writes_is_gone(
    layers: list[MongoDataLayer], alice: str, seed: int
) -> None:
    """The process that deletes knows the step: its first write was called before."""
    turn = Turn("cut", alice)
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    about = {turn.id("answer"), "image"}
    mine = [call for call in turn.calls if call.item in about] * 2
    chance.shuffle(mine)

    first, *others = [call for call in mine if call.item in about - {"image"}]
    tasks = [first.run(layers[0])]
    tasks += [call.run(chance.choice(layers)) for call in others[:2]]
    tasks.append(layers[0].delete_step(step_id=turn.id("answer")))
    tasks += [call.run(chance.choice(layers)) for call in mine]
    await asyncio.gather(*tasks)
    # Whatever was refused while it was on its way is refused for ever.
    await asyncio.gather(*(call.run(layer) for call in mine for layer in layers))

    thread: Any = await layers[0].get_thread(turn.thread_id)
    assert (thread["steps"], thread["elements"]) == ([], [])


async def test_a_session_that_ends_late_brings_nothing_back(
    layer: MongoDataLayer, alice: str, database: Database
) -> None:
    turn = Turn("ended", alice)
    for call in turn.calls:
        await call.run(layer)
    saving = next(call for call in reversed(turn.calls) if call.item == "metadata")

    await asyncio.gather(layer.delete_thread(thread_id="ended"), saving.run(layer))
    await asyncio.gather(*(saving.run(layer) for _ in range(3)))

    await assert_gone(turn, layer, database)


async def test_late_writes_do_not_touch_other_threads(layer: MongoDataLayer, alice: str) -> None:
    kept, deleted = Turn("kept", alice), Turn("deleted", alice)
    for call in kept.calls + deleted.calls:
        await call.run(layer)

    await layer.delete_thread(thread_id="deleted")
    for call in deleted.calls:
        await late(call, layer)

    thread: Any = await layer.get_thread("kept")
    assert thread == kept.thread()
