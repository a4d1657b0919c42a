"""Steps that are created at once: in their order, and each with its own outcome."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from chainlit.types import Feedback
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError, WriteError

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.storage import overflow
from tests.chainlit.order.conftest import Database
from tests.costs.commands import Commands

Dict = dict[str, Any]
COUNT = 40


class Bench(NamedTuple):
    layer: MongoDataLayer
    commands: Commands
    database: Database

    async def together(self, *steps: Dict) -> list[Any]:
        """Create steps at once; what each learned."""
        given: list[Any] = list(steps)
        calls = (self.layer.create_step(step_dict=each) for each in given)
        return await asyncio.gather(*calls, return_exceptions=True)

    async def ids(self, thread_id: str = "t") -> list[str]:
        thread: Any = await self.layer.get_thread(thread_id)
        return [each["id"] for each in thread["steps"]]


@pytest.fixture
async def bench(mongo_uri: str, database: Database) -> AsyncIterator[Bench]:
    commands = Commands()
    async with AsyncMongoClient[Dict](mongo_uri, event_listeners=[commands]) as client:
        layer = MongoDataLayer(client=client, database=database.name)
        await layer.create_indexes()
        await layer.update_thread("t", name="n")
        yield Bench(layer, commands, database)


def step(number: int, **fields: Any) -> Dict:
    return {"id": f"s{number}", "threadId": "t", "type": "run", "output": f"o{number}", **fields}


async def test_the_thread_lasts_from_its_earliest_step_to_its_latest(bench: Bench) -> None:
    days = [f"2026-03-{day:02}T00:00:00.000000Z" for day in (5, 3, 9, 7)]
    steps = (step(n, createdAt=day, threadId="new") for n, day in enumerate(days))
    await bench.together(*steps)

    stored: Any = await bench.database.threads.find_one({"_id": "new"})
    assert [stored[field].day for field in ("createdAt", "updatedAt")] == [3, 9]
    assert await bench.ids("new") == ["s1", "s0", "s3", "s2"]


async def test_a_thread_is_made_by_them(bench: Bench) -> None:
    await bench.together(*(step(number, threadId="new") for number in range(5)))

    assert await bench.ids("new") == [f"s{number}" for number in range(5)]


async def test_other_writes_keep_their_place(bench: Bench) -> None:
    """What was called between two creations is done between them."""
    layer = bench.layer
    steps: list[Any] = [step(0), step(1), step(2, parentId="s1"), step(1, output="again"), step(3)]
    await asyncio.gather(
        layer.create_step(steps[0]),
        layer.create_step(steps[1]),
        layer.update_step(dict(steps[1], output="changed")),  # type: ignore[arg-type]
        layer.create_step(steps[2]),
        layer.delete_step("s1"),
        layer.create_step(steps[3]),
        layer.create_step(steps[4]),
    )

    assert await bench.ids() == ["s0", "s3"]


@pytest.mark.parametrize("odd", ["there", "twice", "deleted", "voted for", "large"])
async def test_each_learns_its_own_outcome(bench: Bench, odd: str) -> None:
    layer = bench.layer
    steps = [step(number) for number in range(COUNT)]
    if odd == "there":
        await layer.update_step({"id": "s7", "threadId": "t", "output": "there"})
    elif odd == "twice":
        steps.insert(20, step(7, output="twice", name="filled in"))
    elif odd == "deleted":
        await layer.create_step(step(7))  # type: ignore[arg-type]
        await layer.delete_step("s7")
    elif odd == "voted for":
        await layer.upsert_feedback(Feedback(forId="s7", threadId="t", value=1))
    else:
        steps[7]["output"] = "x" * 300_000

    assert set(await bench.together(*steps)) == {None}

    thread: Any = await layer.get_thread("t")
    by_id = {each["id"]: each for each in thread["steps"]}
    assert len(by_id) == len(thread["steps"]) == COUNT - (odd == "deleted")
    if odd == "there":
        assert by_id["s7"]["output"] == "there"
    elif odd == "twice":
        assert (by_id["s7"]["output"], by_id["s7"]["name"]) == ("o7", "filled in")
    elif odd == "voted for":
        assert by_id["s7"]["feedback"]["value"] == 1
    elif odd == "large":
        assert by_id["s7"]["output"] == "x" * 300_000


async def test_what_the_database_refuses_is_told_to_whom_it_concerns(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    refused = {"steps.output": {"$ne": "o7"}}
    await bench.database.command("collMod", "threads", validator=refused)
    with caplog.at_level(logging.ERROR):
        outcomes = await bench.together(*map(step, range(COUNT)))

    assert [type(each) for each in outcomes] == [
        WriteError if number == 7 else type(None) for number in range(COUNT)
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"create_step of s7 in thread t failed: {outcomes[7]}. Run `mongo-datalayer doctor`."
    ]
    assert await bench.ids() == [f"s{number}" for number in range(COUNT) if number != 7]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_who_is_cancelled_does_not_take_others_along(bench: Bench, cancelled: int) -> None:
    tasks = [asyncio.create_task(bench.layer.create_step(each)) for each in map(step, range(9))]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0.001 if cancelled == 1 else 0)
    tasks[cancelled].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    others = [outcome for number, outcome in enumerate(outcomes) if number != cancelled]
    assert others == [None] * 8
    assert {f"s{number}" for number in range(9) if number != cancelled} <= set(await bench.ids())


@pytest.mark.parametrize("seed", range(6))
async def test_in_long_threads_too(
    mongo_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With next to nothing in one document, and two processes that write the same steps."""
    monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(900, 300, 100_000))
    layers = [MongoDataLayer(mongo_uri, database=database.name) for _ in range(2)]
    await layers[0].create_indexes()
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    numbers = [chance.randrange(60) for _ in range(300)]

    await asyncio.gather(
        *(chance.choice(layers).create_step(step(number)) for number in numbers)  # type: ignore[arg-type]
    )

    stored = await Threads(database).documents.get("t")
    ids = [each["id"] for each in (stored or {})["steps"]]
    assert sorted(ids) == sorted({f"s{number}" for number in numbers})
    assert (stored or {}).get("steps")
    main: Any = await database.threads.find_one({"_id": "t"})
    assert len(main["overflowIds"]) > 3
    for layer in layers:
        with suppress(PyMongoError):
            await layer.close()
