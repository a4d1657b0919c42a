"""A thread of 20,000 steps and 50 MB, at the bounds in use: every method, and what it costs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from chainlit.element import CustomElement
from chainlit.types import Feedback
from chainlit.user import User
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from tests.costs.commands import Commands, name
from tests.storage.bench import Database, Dict, found, leftovers, place

STEPS = 20_000
SHORT = 100
START = datetime(2024, 5, 6, 12, tzinfo=timezone.utc)
TEXT = "A sentence of some length. " * 85


def stored_step(thread: str, number: int, size: int = 2500) -> Dict:
    """About ``size`` bytes."""
    when = (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
    text = f"needle{number}! {TEXT}"[: size - 200]
    own = {"id": f"{thread}/{number}", "name": "n", "type": "tool", "output": text}
    step: Dict = {**own, "createdAt": when, "metadata": {"number": number}}
    if number % 10 == 1:
        step["parentId"] = f"{thread}/{number - 1}"
    return step


def stored_thread(thread: str, user: str, count: int, size: int = 2500) -> Dict:
    element = {"type": "custom", "name": "n", "display": "inline"}
    elements = [
        {
            "id": f"{thread}/e{number}",
            "forId": f"{thread}/{number}",
            "props": {"n": number},
            **element,
        }
        for number in range(0, count, 100)
    ]
    return {
        "_id": thread,
        "name": "long",
        "userId": user,
        "userIdentifier": "alice",
        "createdAt": START,
        "updatedAt": START + timedelta(seconds=count - 1),
        "tags": [],
        "metadata": {},
        "steps": [stored_step(thread, number, size) for number in range(count)],
        "elements": elements,
    }


class World(NamedTuple):
    layer: MongoDataLayer
    client: AsyncMongoClient[Dict]
    commands: Commands
    database: Database
    user: str

    def fresh(self) -> MongoDataLayer:
        """A layer that has seen nothing."""
        return MongoDataLayer(client=self.client, database=self.database.name)


@pytest.fixture
async def world(mongo_uri: str, database: Database) -> AsyncIterator[World]:
    commands = Commands()
    async with AsyncMongoClient[Dict](mongo_uri, event_listeners=[commands]) as client:
        layer = MongoDataLayer(client=client, database=database.name)
        await layer.create_indexes()
        user = (await layer.create_user(User(identifier="alice"))).id
        yield World(layer, client, commands, database, user)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.2f} s")  # noqa: T201 - for who reads the log


def written(thread: str, number: int, **fields: Any) -> Any:
    given = stored_step(thread, number)
    return {"id": given["id"], "threadId": thread, "createdAt": given["createdAt"], **fields}


Operation = Callable[[MongoDataLayer, str, int], Awaitable[Any]]

OPERATIONS: dict[str, Operation] = {
    "append": lambda layer, t, n: layer.create_step(written(t, n, output=TEXT)),
    "update, newest": lambda layer, t, n: layer.update_step(written(t, n - 1, output="newest")),
    "update, oldest": lambda layer, t, _: layer.update_step(written(t, 2, output="oldest")),
    "vote, newest": lambda layer, t, n: layer.upsert_feedback(
        Feedback(forId=f"{t}/{n - 1}", threadId=t, value=1)
    ),
    "vote, oldest": lambda layer, t, _: layer.upsert_feedback(
        Feedback(forId=f"{t}/3", threadId=t, value=0)
    ),
    "get": lambda layer, t, _: layer.get_thread(t),
}


async def test_a_thread_of_20_000_steps(world: World) -> None:
    layer, user = world.layer, world.user
    given = stored_thread("long", user, STEPS)
    with timed(f"restore {STEPS} steps"):
        await ChainlitThreads(layer._threads.documents).restore(given, replace=False)
    with timed("get"):
        whole: Any = await layer.get_thread("long")
    assert [step["id"] for step in whole["steps"]] == [step["id"] for step in given["steps"]]
    assert [step["output"] for step in whole["steps"]] == [s["output"] for s in given["steps"]]
    assert [e["id"] for e in whole["elements"]] == [e["id"] for e in given["elements"]]
    largest = await world.database.threads.aggregate([{"$project": {"b": {"$bsonSize": "$$ROOT"}}}])
    assert (await largest.to_list())[0]["b"] < 512 * 1024

    with timed("search"):
        assert await found(layer, user, search="needle7!") == ["long"]
    assert await found(layer, user, search="needle20000!") == []

    await layer.upsert_feedback(Feedback(forId="long/5", threadId="long", value=0, comment="c"))
    assert await found(layer, user, feedback=0) == ["long"]
    assert await found(layer, user, feedback=1) == []
    assert await found(layer, user, feedback=0, search="needle19999!") == ["long"]
    await layer.set_step_favorite(written("long", 6, metadata={"number": 6}), True)
    assert [step["id"] for step in await layer.get_favorite_steps(user)] == ["long/6"]
    assert (await layer.get_favorite_steps(user))[0]["metadata"] == {"number": 6, "favorite": True}

    await layer.update_step(written("long", 8, output="changed", end="2024-05-06T13:00:00Z"))
    element = CustomElement(thread_id="long", id="long/e100", for_id="long/100", name="n", props={})
    await layer.create_element(element)
    await layer.delete_element("long/e200", "long")
    assert await layer.get_element("long", "long/e200") is None
    assert (await layer.get_element("long", "long/e300") or {})["props"] == {"n": 300}
    await layer.delete_step("long/300")  # with its child and its element
    await layer.delete_step("long/20")
    stored: Any = await world.database.threads.find_one({"_id": "long"})
    assert stored["updatedAt"] == given["updatedAt"]
    assert stored["createdAt"] == given["createdAt"]

    gone = {"long/300", "long/301", "long/20", "long/21"}
    whole = await layer.get_thread("long")
    ids = [step["id"] for step in given["steps"] if step["id"] not in gone]
    assert [step["id"] for step in whole["steps"]] == ids
    steps = {step["id"]: step for step in whole["steps"]}
    assert steps["long/8"]["output"] == "changed"
    assert steps["long/5"]["feedback"]["comment"] == "c"
    elements = {element["id"]: element for element in whole["elements"]}
    assert "long/e200" not in elements
    assert "long/e300" not in elements
    assert elements["long/e100"]["props"] == {}
    assert await found(layer, user, search="needle300!") == []
    assert await found(layer, user, search="needle301!") == []

    later: Any = {"id": "long/9", "threadId": "long", "createdAt": "2024-05-07T12:00:00Z"}
    await layer.update_step(later)
    stored = await world.database.threads.find_one({"_id": "long"})
    assert stored["updatedAt"] == datetime(2024, 5, 7, 12, tzinfo=timezone.utc)
    assert await place(world.database, "long", "long/9") == "overflow"
    with timed("delete"):
        await layer.delete_thread("long")
    assert await leftovers(world.database) == {}
    assert await layer.get_thread("long") is None


async def test_the_long_thread_costs_at_most_twice_the_commands(world: World) -> None:
    """Of each operation, by a layer that knows the thread, and by one that has seen nothing.

    That one has to ask once which parts there are: it is held against a thread with parts.
    """
    threads = {"one document": (SHORT, 800), "two parts": (SHORT, 2500), "long": (STEPS, 2500)}
    costs: dict[tuple[str, str, str], list[str]] = {}
    seconds: dict[tuple[str, str, str], float] = {}
    for thread, (count, size) in threads.items():
        given = stored_thread(thread, world.user, count, size)
        await ChainlitThreads(world.layer._threads.documents).restore(given, replace=False)
        await world.layer.get_thread(thread)
        for operation, run in OPERATIONS.items():
            for known in ("known", "fresh"):
                layer = world.layer if known == "known" else world.fresh()
                number = count + (known == "fresh" and operation == "append")
                with world.commands.counted() as sent:
                    start = time.perf_counter()
                    await run(layer, thread, number)
                    seconds[operation, known, thread] = time.perf_counter() - start
                costs[operation, known, thread] = [name(command) for command in sent]
    print("\n" + " " * 24 + "".join(f"{thread:>16}" for thread in threads))  # noqa: T201 - measures
    for operation in OPERATIONS:
        for known in ("known", "fresh"):
            of = [(operation, known, thread) for thread in threads]
            cells = "".join(f"{len(costs[each]):>6}{seconds[each] * 1000:>8.1f}ms" for each in of)
            print(f"{operation + ', ' + known:24}{cells}  {costs[of[-1]]}")  # noqa: T201 - measures
            held_against = costs[of[0] if known == "known" else of[1]]
            if operation != "get":  # that one takes as many commands as it has megabytes
                assert len(costs[of[-1]]) <= 2 * len(held_against), of[-1]
    whole: Any = await world.layer.get_thread("long")
    assert len(whole["steps"]) == STEPS + 2
