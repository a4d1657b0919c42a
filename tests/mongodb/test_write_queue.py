from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Hashable

import pytest

from mongo_datalayer.ordering import Turns


async def settle() -> None:
    """Let every task run until it waits for something that does not come by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


class Line:
    """Tasks that take turns and write down when."""

    def __init__(self) -> None:
        self.turns: Turns[str] = Turns()
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.doors: dict[int, asyncio.Event] = {}

    def join(self, number: int, key: Hashable = "key") -> asyncio.Task[None]:
        self.doors[number] = asyncio.Event()
        return asyncio.create_task(self._stand(number, key))

    async def _stand(self, number: int, key: Hashable) -> None:
        async with self.turns.turn(key):
            self.begun.append(number)
            await self.doors[number].wait()
            self.ended.append(number)


def empty(turns: Turns[str]) -> bool:
    return not (turns._locks or turns._lines or turns._tasks)


async def test_turns_are_taken_one_at_a_time_in_the_order_of_joining() -> None:
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
    assert empty(line.turns)


async def test_one_who_joins_while_the_line_moves_stands_last() -> None:
    line = Line()
    first, second = line.join(1), line.join(2)
    await settle()
    line.doors[1].set()
    late = line.join(3)  # the lock is free for a moment, but it is the second's turn
    for door in line.doors.values():
        door.set()

    await asyncio.gather(first, second, late)
    assert line.begun == [1, 2, 3]


async def test_lines_of_different_keys_do_not_wait_for_each_other() -> None:
    line = Line()
    tasks = [line.join(1, "a"), line.join(2, ("a", 1)), line.join(3, None)]
    await settle()

    assert line.begun == [1, 2, 3]
    for door in line.doors.values():
        door.set()
    await asyncio.gather(*tasks)
    assert empty(line.turns)


async def test_an_exception_goes_through_and_frees_the_line() -> None:
    turns: Turns[str] = Turns()

    async def fail() -> None:
        async with turns.turn("key"):
            raise LookupError("mine")

    results = await asyncio.gather(fail(), fail(), fail(), return_exceptions=True)

    assert [str(result) for result in results] == ["mine"] * 3
    assert empty(turns)


async def test_cancelling_one_who_waits_leaves_the_others_in_order() -> None:
    line = Line()
    tasks = [line.join(number) for number in range(4)]
    await settle()

    tasks[1].cancel()
    await settle()
    assert line.begun == [0]
    for door in line.doors.values():
        door.set()

    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[1].cancelled()
    assert line.begun == [0, 2, 3]
    assert empty(line.turns)


async def test_cancelling_one_whose_turn_it_is_frees_the_line() -> None:
    line = Line()
    first, second = line.join(1), line.join(2)
    await settle()

    first.cancel()
    line.doors[2].set()

    await second
    assert line.ended == [2]
    assert empty(line.turns)


async def test_cancelling_one_who_was_just_called_passes_the_turn_on() -> None:
    line = Line()
    tasks = [line.join(number) for number in range(3)]
    await settle()
    for door in line.doors.values():
        door.set()
    tasks[0].add_done_callback(lambda _: tasks[1].cancel())  # after the lock woke it

    await asyncio.gather(*tasks, return_exceptions=True)

    assert 2 in line.ended
    assert empty(line.turns)


async def test_turns_may_be_nested() -> None:
    turns: Turns[str] = Turns()

    async with turns.turn("outer"), turns.turn("inner"):
        assert not await turns.drained(0.01)

    assert empty(turns)


async def test_a_task_that_nobody_holds_is_held_while_it_stands_in_line() -> None:
    line = Line()
    reference = weakref.ref(line.join(1))
    waiting = weakref.ref(line.join(2))
    await settle()

    gc.collect()
    assert reference() is not None
    assert waiting() is not None

    for door in line.doors.values():
        door.set()
    assert await line.turns.drained(5)
    await settle()
    assert line.ended == [1, 2]


async def test_an_empty_line_is_drained_at_once() -> None:
    assert await Turns().drained(0)


async def test_drained_waits_for_everybody_also_for_later_ones() -> None:
    line = Line()
    tasks = [line.join(1, "a"), line.join(2, "b")]
    await settle()
    drained = [asyncio.create_task(line.turns.drained(5)) for _ in range(2)]
    await settle()

    line.doors[1].set()
    tasks.append(line.join(3, "c"))
    await settle()
    line.doors[2].set()
    await settle()
    assert not any(task.done() for task in drained)

    line.doors[3].set()
    assert await asyncio.gather(*drained) == [True, True]
    assert line.ended == [1, 2, 3]
    await asyncio.gather(*tasks)


async def test_drained_gives_up_in_time_and_can_be_asked_again() -> None:
    line = Line()
    task = line.join(1)
    await settle()
    loop = asyncio.get_running_loop()

    began = loop.time()
    assert not await line.turns.drained(0.05)
    assert 0.04 < loop.time() - began < 2
    assert line.ended == []

    line.doors[1].set()
    assert await line.turns.drained(5)
    assert line.ended == [1]
    await task


async def test_drained_can_be_asked_after_each_of_several_loads() -> None:
    line = Line()
    for number in range(3):
        task = line.join(number)
        await settle()
        line.doors[number].set()
        assert await line.turns.drained(5)
        await task
    assert empty(line.turns)


@pytest.mark.parametrize("seed", range(5))
async def test_many_tasks_on_many_keys_some_cancelled_some_failing(seed: int) -> None:
    turns: Turns[str] = Turns()
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    taken: dict[int, list[int]] = {}
    inside: set[int] = set()

    async def work(number: int, key: int) -> None:
        async with turns.turn(key):
            assert key not in inside
            inside.add(key)
            try:
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                taken.setdefault(key, []).append(number)
                if number % 7 == 0:
                    raise LookupError
            finally:
                inside.discard(key)

    tasks = [asyncio.create_task(work(number, number % 20)) for number in range(1000)]
    for _ in range(20):
        await asyncio.sleep(0)
        chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert not [result for result in results if isinstance(result, AssertionError)]
    cancelled = [r for r in results if isinstance(r, asyncio.CancelledError)]
    assert sum(map(len, taken.values())) >= 1000 - len(cancelled)
    assert all(numbers == sorted(numbers) for numbers in taken.values())
    assert empty(turns)


async def test_keys_that_are_done_leave_nothing_behind() -> None:
    turns: Turns[str] = Turns()
    for number in range(10_000):
        async with turns.turn(number):
            pass

    assert empty(turns)


def test_one_object_serves_several_event_loops_in_turn() -> None:
    line = Line()

    async def load(number: int) -> None:
        tasks = [line.join(number), line.join(number + 1)]
        await settle()
        assert not await line.turns.drained(0.01)
        line.doors[number].set()
        line.doors[number + 1].set()
        assert await line.turns.drained(5)
        await asyncio.gather(*tasks)

    for number in (1, 3, 5):
        asyncio.run(load(number))
    assert line.ended == [1, 2, 3, 4, 5, 6]


async def test_who_stands_right_behind_with_something_to_take_along() -> None:
    turns: Turns[str] = Turns()
    door = asyncio.Event()
    seen: list[list[str | None]] = []

    async def stand(item: str | None, at_most: int = 9) -> None:
        async with turns.turn("key", item) as turn:
            await door.wait()
            seen.append([each.item for each in turn.behind(at_most)])

    tasks = [asyncio.create_task(stand(item)) for item in ("a", "b", None, "d")]
    tasks += [asyncio.create_task(stand("e", at_most=1)) for _ in range(3)]
    await settle()
    door.set()
    await asyncio.gather(*tasks)

    assert seen == [["b"], [], list("deee"), list("eee"), ["e"], ["e"], []]


async def test_who_was_cancelled_is_not_taken_along() -> None:
    turns: Turns[str] = Turns()
    door = asyncio.Event()
    seen: list[str | None] = []

    async def stand(item: str) -> None:
        async with turns.turn("key", item) as turn:
            await door.wait()
            seen.extend(each.item for each in turn.behind(9))

    tasks = [asyncio.create_task(stand(item)) for item in "abc"]
    await settle()
    tasks[1].cancel()
    await settle()
    door.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert seen == ["c"]
    assert empty(turns)
