"""Every order of a turn's calls leaves the same thread."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from chainlit.element import Text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.model.times import EPOCH, milliseconds, parse_time
from tests.chainlit.order.conftest import Database
from tests.chainlit.order.turn import Call, Dict, Turn

bounded = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    # Each example takes a thread of its own: sharing the database is no sharing of state.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def shuffled(calls: list[Call], draw: st.DrawFn) -> list[Call]:
    """The calls in any order that keeps, for each item, the order of what overrules."""
    order = draw(st.permutations(range(len(calls))))
    mixed = [calls[number] for number in order]
    for item in {call.item for call in calls}:
        places = [n for n, call in enumerate(mixed) if call.ordered and call.item == item]
        in_order = [call for call in calls if call.ordered and call.item == item]
        for place, call in zip(places, in_order, strict=True):
            mixed[place] = call
    return mixed


@st.composite
def interleavings(draw: st.DrawFn, *, repeats: int = 1) -> tuple[Turn, list[list[Call]]]:
    """A turn in a new thread, and its calls in rounds that run at the same time."""
    turn = Turn(f"thread {uuid.uuid4()}", "")
    calls = [call for call in turn.calls for _ in range(draw(st.integers(1, repeats)))]
    calls = shuffled(calls, draw)
    rounds: list[list[Call]] = [[]]
    for call in calls:
        if rounds[-1] and draw(st.integers(0, 4)) == 0:
            rounds.append([])
        rounds[-1].append(call)
    return turn, rounds


async def run(rounds: list[list[Call]], layers: list[MongoDataLayer], spread: list[int]) -> None:
    """Run each round's calls at once; what overrules the same item goes through one layer."""
    owners: dict[str, MongoDataLayer] = {}
    number = 0
    for calls in rounds:
        tasks = []
        for call in calls:
            layer = layers[spread[number % len(spread)] % len(layers)]
            number += 1
            if call.ordered:
                layer = owners.setdefault(call.item, layer)
            tasks.append(asyncio.create_task(call.run(layer)))
        await asyncio.gather(*tasks)


async def assert_same(turn: Turn, layer: MongoDataLayer, database: Database) -> None:
    thread: Any = await layer.get_thread(turn.thread_id)
    thread["elements"].sort(key=lambda element: element["id"])
    assert thread == turn.thread()
    stored: Dict = await database.threads.find_one({"_id": turn.thread_id}) or {}
    assert not stored.get("pendingFeedback")
    assert len(stored["steps"]) == len(turn.creates)
    times = [milliseconds(parse_time(step["createdAt"]) or EPOCH) for step in turn.creates]
    lasts = [milliseconds(stored[field]) for field in ("createdAt", "updatedAt")]
    assert lasts == [min(times), max(times)]
    assert "stepless" not in stored


spreads = st.lists(st.integers(0, 2), min_size=1, max_size=30)


@bounded
@given(interleaving=interleavings())
async def test_any_order_in_one_process(
    layer: MongoDataLayer,
    alice: str,
    database: Database,
    interleaving: tuple[Turn, list[list[Call]]],
) -> None:
    turn, rounds = interleaving
    turn.user_id = alice

    await run(rounds, [layer], [0])

    await assert_same(turn, layer, database)


@bounded
@given(interleaving=interleavings(repeats=3))
async def test_any_order_with_repetitions(
    layer: MongoDataLayer,
    alice: str,
    database: Database,
    interleaving: tuple[Turn, list[list[Call]]],
) -> None:
    turn, rounds = interleaving
    turn.user_id = alice

    await run(rounds, [layer], [0])

    await assert_same(turn, layer, database)


@bounded
@given(interleaving=interleavings(repeats=2), spread=spreads)
async def test_any_order_through_several_layers(
    layers: list[MongoDataLayer],
    alice: str,
    database: Database,
    interleaving: tuple[Turn, list[list[Call]]],
    spread: list[int],
) -> None:
    turn, rounds = interleaving
    turn.user_id = alice

    await run(rounds, layers, spread)

    await assert_same(turn, layers[0], database)


async def test_chainlits_own_order(layer: MongoDataLayer, alice: str, database: Database) -> None:
    turn = Turn("plain", alice)

    for call in turn.calls:
        await call.run(layer)

    await assert_same(turn, layer, database)


async def test_backwards_but_for_what_overrules(
    layer: MongoDataLayer, alice: str, database: Database
) -> None:
    """All updates, feedback and elements before every create."""
    turn = Turn("backwards", alice)

    for call in sorted(turn.calls, key=lambda call: call.method, reverse=True):
        await call.run(layer)

    await assert_same(turn, layer, database)


async def test_no_step_is_seen_while_feedback_and_elements_wait_for_it(
    layer: MongoDataLayer, alice: str
) -> None:
    turn = Turn("waiting", alice)
    for call in turn.calls:
        if call.method in ("upsert_feedback", "create_element"):
            await call.run(layer)

    thread: Any = await layer.get_thread("waiting")

    assert thread["steps"] == []
    assert len(thread["elements"]) == 2


async def test_a_new_thread_loses_nothing_to_writers_that_begin_at_once(
    layers: list[MongoDataLayer], alice: str
) -> None:
    """Several processes make one thread: now and then one's upsert loses against another's insert.

    That happens to a few threads of a hundred, so there are enough of them.
    """
    for layer in layers:
        await layer.get_user("alice")  # connected, all are equally quick

    for number in range(200):
        turn = Turn(f"raced {number}", alice)
        step: Any = turn.message
        await asyncio.gather(
            layers[0].update_thread(thread_id=turn.thread_id, name="n", user_id=alice),
            layers[1].update_thread(thread_id=turn.thread_id, metadata={"a": 1}),
            layers[2].update_thread(thread_id=turn.thread_id, metadata={"b": 2}),
            layers[2].create_step(step_dict=step),
        )

    for number in range(200):
        thread: Any = await layers[0].get_thread(f"raced {number}")
        assert (thread["name"], thread["userId"], thread["userIdentifier"]) == ("n", alice, "alice")
        assert thread["metadata"] == {"a": 1, "b": 2}
        assert len(thread["steps"]) == 1


async def test_a_thread_begins_with_its_first_step_whichever_write_says_when(
    layer: MongoDataLayer,
) -> None:
    """Also where the step was there before its time was known."""
    for later in (layer.create_step, layer.update_step):
        thread_id = later.__name__
        step: Any = {"id": "s", "threadId": thread_id, "output": "o"}
        await layer.update_thread(thread_id=thread_id, name="n")
        await layer.update_step(step)
        step = {**step, "createdAt": "2024-05-06T12:00:00.123456Z"}
        await later(step)

        thread: Any = await layer.get_thread(thread_id)
        assert thread["createdAt"] == "2024-05-06T12:00:00.123000Z"
        assert thread["steps"][0]["createdAt"] == "2024-05-06T12:00:00.123456Z"


async def test_a_thread_without_steps_has_the_times_of_its_creation(
    layer: MongoDataLayer, alice: str, database: Database
) -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    await layer.update_thread(thread_id="named", name="n", user_id=alice)
    await layer.create_element(Text(thread_id="elements", id="e", for_id="s", content="c"))
    await layer.update_thread(thread_id="elements", name="n", user_id=alice)

    async for stored in database.threads.find():
        assert before <= stored["createdAt"] == stored["updatedAt"] <= datetime.now(timezone.utc)


@pytest.mark.parametrize("writer", [0, 1], ids=["same process", "other process"])
@pytest.mark.parametrize("first", ["thread", "element", "update", "step"])
async def test_an_imported_thread_has_the_times_of_its_steps(
    layers: list[MongoDataLayer], alice: str, database: Database, first: str, writer: int
) -> None:
    """Whatever is written first, and whichever of the steps: the sidebar and ``prune`` go by it."""
    layer = layers[writer]
    days: list[Any] = [
        {"id": f"s{day}", "threadId": "t", "createdAt": f"2024-05-{day:02}T12:00:00.000000Z"}
        for day in (6, 4, 9, 5)
    ]
    if first == "element":
        await layers[0].create_element(Text(thread_id="t", id="e", for_id="s4", content="c"))
    elif first == "update":
        await layers[0].update_step({"id": "s4", "threadId": "t", "output": "o"})
    elif first == "step":
        await layers[0].create_step(days[0])
    await layers[0].update_thread("t", name="n", user_id=alice)
    for step in days:
        await layer.create_step(step)

    stored: Any = await database.threads.find_one({"_id": "t"})
    assert (stored["createdAt"].day, stored["updatedAt"].day) == (4, 9)
    assert len(stored["steps"]) == 4
