"""Turns of a chat in any order, from several layers and processes, where next to nothing fits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from mongo_datalayer import MongoDataLayer
from tests.chainlit.order.test_interleavings import interleavings, run, spreads
from tests.chainlit.order.test_processes import PROCESSES, run_together
from tests.chainlit.order.turn import Call, Turn
from tests.chainlit.order.writer import NAME
from tests.storage.bench import Database, leftovers, read

STEPS = 12
"""Of each process, and of both."""

bounded = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["roomy", "small"])
def several(request: pytest.FixtureRequest) -> list[MongoDataLayer]:
    """Layers with parts alone, and layers with parts and large values."""
    layers: list[MongoDataLayer] = request.getfixturevalue(
        {"roomy": "layers", "small": "small"}[request.param]
    )
    return layers


async def assert_same(turn: Turn, layer: MongoDataLayer) -> None:
    thread = await read(layer, turn.thread_id)
    thread["elements"].sort(key=lambda element: element["id"])
    assert thread == turn.thread()


@bounded
@given(interleaving=interleavings(repeats=3))
async def test_any_order_in_one_process(
    several: list[MongoDataLayer], alice: str, interleaving: tuple[Turn, list[list[Call]]]
) -> None:
    turn, rounds = interleaving
    turn.user_id = alice
    await run(rounds, several[:1], [0])
    await assert_same(turn, several[0])


@bounded
@given(interleaving=interleavings(repeats=2), spread=spreads)
async def test_any_order_through_several_layers(
    several: list[MongoDataLayer],
    alice: str,
    database: Database,
    interleaving: tuple[Turn, list[list[Call]]],
    spread: list[int],
) -> None:
    turn, rounds = interleaving
    turn.user_id = alice
    await run(rounds, several, spread)
    await assert_same(turn, several[0])
    await several[1].delete_thread(turn.thread_id)
    assert await leftovers(database, turn.thread_id) == {}


async def test_two_processes_write_every_step_once(
    mongo_uri: str, several: list[MongoDataLayer], database: Database
) -> None:
    layer = several[0]
    bounds = layer._threads._overflow.bounds
    given_bounds = f"{bounds.main},{bounds.kept},{bounds.value},{STEPS}"
    places = [(given_bounds, mongo_uri, database.name, "t", name) for name in PROCESSES]
    await run_together("tests.storage.writer", *places)

    thread: Any = await read(layer, "t")
    assert len(thread["steps"]) == STEPS * (1 + len(PROCESSES))
    assert (thread["name"], thread["userIdentifier"]) == (NAME, "alice")
    assert thread["metadata"] == dict.fromkeys(PROCESSES, True)
    for step in thread["steps"]:
        writers_of = PROCESSES if step["id"].startswith("shared") else (step["id"].split()[0],)
        assert (step["name"], step["output"]) == (step["id"], step["id"])
        assert all(step[f"created by {me}"] and step[f"updated by {me}"] for me in writers_of)
        assert step["feedback"]["comment"] in writers_of
    head: Any = await database.threads.find_one({"_id": "t"})
    assert not head.get("pendingFeedback")
    stored = Counter([part["_id"] async for part in database.thread_overflow.find({"value": None})])
    assert stored == Counter(head["overflowIds"])  # moves that others were quicker at left nothing
