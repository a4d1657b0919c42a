"""A huge message does not stop the others: how long each call holds the event loop.

Encoding a message as BSON is one call into the driver, which nobody can divide; what a call holds
the loop beyond the cost of that is ours. A value of many parts would cost calls of functions, and
those are counted.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import bson
import pytest
from chainlit.element import CustomElement
from chainlit.types import Pagination, ThreadFilter
from chainlit.user import User

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.testing.contract import new_id, step

MESSAGE_BYTES = 40_000_000
"""The size of the message: more than MongoDB keeps in one document."""

ALONE = sys.gettrace() is None and "PYTEST_XDIST_WORKER" not in os.environ

HELD_SECONDS = 0.05 if ALONE else 0.3
"""The longest that a call may hold the loop beyond what BSON encoding costs.

Coverage traces every line, which makes Python several times slower, and other workers share its
caches. Run this file by itself to hold the promise to its figure.
"""

ATTEMPTS = 3
"""The best one counts: others use this machine and its memory too."""

WRITES = ("create_step", "update_step")
TICK_SECONDS = 0.001
_THREADS = Path("/proc/self/task")
TEXTS = {
    "ascii": "A word about everything, with blanks. ",
    "latin": "Größe, Maß und Übergröße für alle Fälle. ",
    "emoji": "Wörter, 漢字 und 🙂. ",
}

Call = Callable[[], Awaitable[Any]]


def message(text: str) -> str:
    """A message of :data:`MESSAGE_BYTES`."""
    return text * (MESSAGE_BYTES // len(text.encode()))


def busy_elsewhere() -> float:
    """How long threads have been ready to run while others had the processor, in seconds.

    All threads of the process: the loop waits for one that has the interpreter's lock.
    """
    waited = 0
    for scheduled in _THREADS.glob("*/schedstat"):  # nothing where this is not Linux
        with suppress(OSError):  # it ended
            waited += int(scheduled.read_text().split()[1])
    return waited / 1e9


def own_time() -> float:
    """A clock that stands still while the machine is busy with others."""
    return time.perf_counter() - busy_elsewhere()


async def held(call: Call) -> float:
    """The longest that other tasks waited for the loop while ``call`` ran, in seconds."""
    longest = 0.0
    over = asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        while not over.is_set():
            start = own_time()
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, own_time() - start - TICK_SECONDS)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(5 * TICK_SECONDS)
    longest = 0.0
    try:
        await call()
        await asyncio.sleep(5 * TICK_SECONDS)  # so that it sees the last part of the call too
    finally:
        over.set()
        await ticking
    return longest


def bson_costs(value: Any) -> dict[str, float]:
    """What BSON alone costs: encoding a value, and decoding it, in seconds."""
    start = time.thread_time()
    encoded = bson.encode({"output": value})
    middle = time.thread_time()
    bson.decode(encoded)
    return {"encoding": middle - start, "decoding": time.thread_time() - middle}


@pytest.fixture
async def layer(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    await layer.create_indexes()
    yield layer
    await layer.close()


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_huge_message_does_not_hold_the_loop(layer: MongoDataLayer, kind: str) -> None:
    text = message(TEXTS[kind])
    user = await layer.create_user(User(identifier="alice"))
    best: dict[str, float] = {}
    bson_best: dict[str, float] = {}
    for _ in range(ATTEMPTS):
        keep_lowest(best, {n: await held(call) for n, call in calls(layer, user.id, text).items()})
        keep_lowest(bson_best, bson_costs(text))

    print(  # noqa: T201 - the numbers
        f"\n{len(text.encode()) / 1e6:.1f} MB of {kind}: the loop is held for {shown(best)} ms; "
        f"BSON alone costs {shown(bson_best)} ms"
    )
    writing, reading = bson_best["encoding"], bson_best["decoding"]
    bounds = dict.fromkeys(best, reading) | dict.fromkeys(WRITES, writing)
    assert {n: best[n] for n in best if best[n] > bounds[n] + HELD_SECONDS} == {}


def keep_lowest(best: dict[str, float], measured: dict[str, float]) -> None:
    best.update({name: min(best.get(name, value), value) for name, value in measured.items()})


def shown(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {1000 * value:.0f}" for name, value in seconds.items())


def calls(layer: MongoDataLayer, user_id: str, text: str) -> dict[str, Call]:
    """The calls that carry the message, or walk over it, on a thread of their own."""
    thread_id = new_id()
    made = step(thread_id, 1, id=f"{thread_id} message", output="")
    whole = step(thread_id, 1, id=f"{thread_id} message", output=text)
    search = ThreadFilter(userId=user_id, search="not there")

    async def create() -> None:
        await layer.update_thread(thread_id, name="N", user_id=user_id)
        await layer.create_step(whole)

    async def update() -> None:
        await layer.update_step(made)
        await layer.update_step(whole)

    async def read() -> None:
        thread: Any = await layer.get_thread(thread_id)
        assert thread["steps"][0]["output"] == text

    async def delete() -> None:
        await layer.delete_thread(thread_id)

    return {
        "create_step": create,
        "update_step": update,
        "get_thread": read,
        "list_threads": lambda: layer.list_threads(Pagination(first=10), search),
        "delete_thread": delete,
    }


MANY: dict[str, Any] = {
    "messages": [{"role": "user", "content": f"Message {number}: ü"} for number in range(100_000)],
    "small maps": [{"n": number} for number in range(200_000)],
}


MOST_CALLS = 20_000
"""How many functions one turn of the loop may call: a fraction of the parts of these values."""


async def most_calls(call: Call) -> int:
    """The most functions, Python's and C's, that one turn of the loop calls during ``call``."""
    most = count = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal most, count
        count = 0 if frame.f_code is asyncio.Handle._run.__code__ else count + 1
        most = max(most, count)

    sys.setprofile(counted)  # for this thread alone: what runs in others holds nobody
    try:
        await call()
    finally:
        sys.setprofile(None)
    return most


@pytest.mark.parametrize("kind", MANY)
async def test_values_of_many_parts_do_not_hold_the_loop(layer: MongoDataLayer, kind: str) -> None:
    calls = many_parts(layer, {"values": MANY[kind]})

    counts = {name: await most_calls(call) for name, call in calls.items()}

    print(f"\n{kind}: {counts}")  # noqa: T201 - the numbers
    assert {name: count for name, count in counts.items() if count > MOST_CALLS} == {}


def many_parts(layer: MongoDataLayer, value: dict[str, Any]) -> dict[str, Call]:
    """The calls that carry the value, on a thread of their own."""
    thread_id = new_id()
    generated: Any = step(thread_id, 1, id=f"{thread_id} 1", generation=value)
    described: Any = step(thread_id, 2, id=f"{thread_id} 2", metadata=value)
    element = CustomElement(id=f"{thread_id} element", name="E", props=value, thread_id=thread_id)

    async def read() -> None:
        thread: Any = await layer.get_thread(thread_id)
        assert thread["steps"][0]["generation"] == value
        assert thread["steps"][1]["metadata"] == value
        assert thread["elements"][0]["props"] == value
        assert thread["metadata"] == value

    return {
        "create_step": lambda: layer.create_step(generated),
        "update_step": lambda: layer.update_step(described),
        "create_element": lambda: layer.create_element(element),
        "update_thread": lambda: layer.update_thread(thread_id, metadata=value),
        "get_thread": read,
    }


async def test_the_ticker_sees_a_loop_that_is_held() -> None:
    async def block() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.2)  # noqa: ASYNC251 - that is what it is to see
        await asyncio.sleep(0.01)

    assert 0.19 < await held(block) < 0.5
