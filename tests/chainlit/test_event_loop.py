"""A huge message does not stop the others: how long each call holds the event loop.

Encoding a message as BSON is one call into the driver, which nobody can divide; what a call holds
the loop beyond the cost of that is ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from chainlit.types import Pagination, ThreadFilter
from chainlit.user import User

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.testing.contract import new_id, step

MESSAGE_BYTES = 40_000_000
"""The size of the message: more than MongoDB keeps in one document."""

HELD_SECONDS = 0.05
"""The longest that a call may hold the loop beyond what BSON encoding costs."""

ATTEMPTS = 3
"""The best one counts: others use this machine and its memory too."""

WRITES = ("create_step", "update_step")
TICK_SECONDS = 0.001
_SCHEDULED = Path("/proc/thread-self/schedstat")
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
    """How long this thread has been ready to run while others had the processor, in seconds."""
    try:
        return int(_SCHEDULED.read_text().split()[1]) / 1e9
    except OSError:
        return 0.0  # not on Linux


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


def bson_costs(text: str) -> dict[str, float]:
    """What BSON alone costs: encoding the message, and decoding it, in seconds."""
    start = own_time()
    encoded = bson.encode({"output": text})
    middle = own_time()
    bson.decode(encoded)
    return {"encoding": middle - start, "decoding": own_time() - middle}


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


async def test_the_ticker_sees_a_loop_that_is_held() -> None:
    async def block() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.2)  # noqa: ASYNC251 - that is what it is to see
        await asyncio.sleep(0.01)

    assert 0.19 < await held(block) < 0.5
