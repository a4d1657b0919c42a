"""The order of writes: one at a time for each key, whatever is cancelled or fails."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Hashable

import pytest

from mongo_datalayer.mongodb.write_queue import WriteQueue


async def settle() -> None:
    """Let every task run until it waits for something that does not come by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


class Line:
    """Callers whose writes wait at a door each, and write down when they began and ended."""

    def __init__(self) -> None:
        self.queue = WriteQueue()
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.doors: dict[int, asyncio.Event] = {}

    def join(self, number: int, key: Hashable = "key") -> asyncio.Task[None]:
        self.doors[number] = asyncio.Event()
        return asyncio.ensure_future(self.queue.submit(key, lambda: self._write(number)))

    async def _write(self, number: int) -> None:
        self.begun.append(number)
        await self.doors[number].wait()
        self.ended.append(number)


def is_empty(queue: WriteQueue) -> bool:
    return not (queue._last or queue._running)


async def test_writes_run_one_at_a_time_in_the_order_of_the_calls() -> None:
    line = Line()
    tasks = [line.join(number) for number in range(5)]
    await settle()
    assert line.begun == [0]

    for number in (3, 4, 2, 1):  # doors that are open early change nothing
        line.doors[number].set()
    await settle()
    assert line.begun == [0]

    line.doors[0].set()
    await asyncio.gather(*tasks)
    assert line.begun == line.ended == [0, 1, 2, 3, 4]
    assert is_empty(line.queue)


async def test_a_late_call_runs_last() -> None:
    line = Line()
    first, second = line.join(1), line.join(2)
    await settle()
    line.doors[1].set()
    late = line.join(3)
    for door in line.doors.values():
        door.set()

    await asyncio.gather(first, second, late)
    assert line.begun == [1, 2, 3]


async def test_different_keys_do_not_wait_for_each_other() -> None:
    line = Line()
    tasks = [line.join(1, "a"), line.join(2, ("a", 1)), line.join(3, None)]
    await settle()

    assert line.begun == [1, 2, 3]
    for door in line.doors.values():
        door.set()
    await asyncio.gather(*tasks)
    assert is_empty(line.queue)


async def test_each_caller_learns_its_own_outcome() -> None:
    queue = WriteQueue()

    async def fail(number: int) -> None:
        raise LookupError(number)

    async def succeed() -> str:
        return "done"

    results = await asyncio.gather(
        queue.submit("key", lambda: fail(1)),
        queue.submit("key", succeed),
        queue.submit("key", lambda: fail(2)),
        return_exceptions=True,
    )

    assert list(map(str, results)) == ["1", "done", "2"]
    assert is_empty(queue)


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_write_whose_caller_is_cancelled_is_made_at_its_place(cancelled: int) -> None:
    line = Line()
    tasks = [line.join(number) for number in range(4)]
    await settle()

    tasks[cancelled].cancel()
    await settle()
    assert tasks[cancelled].cancelled()
    assert line.begun == [0]
    for door in line.doors.values():
        door.set()

    await asyncio.gather(*tasks, return_exceptions=True)
    assert line.ended == [0, 1, 2, 3]
    assert is_empty(line.queue)


async def test_a_write_fails_unheard_when_its_caller_was_cancelled() -> None:
    queue = WriteQueue()
    door = asyncio.Event()

    async def fail() -> None:
        await door.wait()
        raise LookupError

    task = asyncio.ensure_future(queue.submit("key", fail))
    await settle()
    task.cancel()
    await settle()
    door.set()
    assert await queue.drain(5) == []
    await settle()
    gc.collect()  # warnings are errors: "exception was never retrieved" would be one
    assert is_empty(queue)


async def test_writes_may_be_nested() -> None:
    queue = WriteQueue()

    async def inner() -> str:
        return "inner"

    assert await queue.submit("outer", lambda: queue.submit("inner", inner)) == "inner"
    assert is_empty(queue)


async def test_a_task_without_references_lives_until_its_write_ends() -> None:
    line = Line()
    references = [weakref.ref(line.join(number)) for number in (1, 2)]
    await settle()

    gc.collect()
    assert all(reference() is not None for reference in references)

    for door in line.doors.values():
        door.set()
    assert await line.queue.drain(5) == []
    assert line.ended == [1, 2]


async def test_an_empty_queue_is_drained_at_once() -> None:
    assert await WriteQueue().drain(0) == []


async def test_drain_waits_for_later_writes_too() -> None:
    line = Line()
    tasks = [line.join(1, "a"), line.join(2, "b")]
    await settle()
    draining = [asyncio.create_task(line.queue.drain(5)) for _ in range(2)]
    await settle()

    line.doors[1].set()
    tasks.append(line.join(3, "c"))
    await settle()
    line.doors[2].set()
    await settle()
    assert not any(task.done() for task in draining)

    line.doors[3].set()
    assert await asyncio.gather(*draining) == [[], []]
    assert line.ended == [1, 2, 3]
    await asyncio.gather(*tasks)


async def test_drain_gives_up_in_time_and_can_be_asked_again() -> None:
    line = Line()
    task = line.join(1)
    await settle()
    loop = asyncio.get_running_loop()

    began = loop.time()
    assert await line.queue.drain(0.05) == ["a write"]
    assert 0.04 < loop.time() - began < 2
    assert line.ended == []

    line.doors[1].set()
    assert await line.queue.drain(5) == []
    assert line.ended == [1]
    await task


@pytest.mark.parametrize("seed", range(5))
async def test_many_writes_on_many_keys_some_cancelled_some_failing(seed: int) -> None:
    queue = WriteQueue()
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    order: dict[int, list[int]] = {}
    inside: set[int] = set()

    async def write(number: int, key: int) -> None:
        assert key not in inside
        inside.add(key)
        try:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            order.setdefault(key, []).append(number)
            if number % 7 == 0:
                raise LookupError
        finally:
            inside.discard(key)

    async def call(number: int) -> None:
        await queue.submit(number % 20, lambda: write(number, number % 20))

    tasks = [asyncio.create_task(call(number)) for number in range(1000)]
    await asyncio.sleep(0)  # all have called
    for _ in range(20):
        await asyncio.sleep(0)
        chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert await queue.drain(5) == []

    assert not [result for result in results if isinstance(result, AssertionError)]
    assert order == {key: list(range(key, 1000, 20)) for key in range(20)}
    assert is_empty(queue)


async def test_keys_that_are_done_leave_nothing_behind() -> None:
    queue = WriteQueue()

    async def write() -> None:
        pass

    for number in range(10_000):
        await queue.submit(number, write)

    assert is_empty(queue)


def test_one_object_serves_several_event_loops_in_turn() -> None:
    line = Line()

    async def load(number: int) -> None:
        tasks = [line.join(number), line.join(number + 1)]
        await settle()
        assert len(await line.queue.drain(0.01)) == 2
        line.doors[number].set()
        line.doors[number + 1].set()
        assert await line.queue.drain(5) == []
        await asyncio.gather(*tasks)

    for number in (1, 3, 5):
        asyncio.run(load(number))
    assert line.ended == [1, 2, 3, 4, 5, 6]
