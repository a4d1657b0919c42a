"""Writes that wait their turn, in the order in which they were called."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from itertools import islice, takewhile
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """One first-in, first-out line for each key.

    A caller joins the line before anything is awaited, so tasks take their turns in the order in
    which they began. A line exists only while somebody stands in it.
    """

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._lines: dict[Hashable, deque[Turn[Item]]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._idle: asyncio.Event | None = None

    def turn(self, key: Hashable, item: Item | None = None) -> Turn[Item]:
        """Wait until everybody who joined the line of ``key`` before is done.

        Joined when the ``async with`` begins.

        Args:
            key: Names the line.
            item: What whoever stands before may do along with its own; None for nothing.
        """
        return Turn(self, key, item)

    async def drained(self, seconds: float) -> bool:
        """Wait until nobody stands in any line; False when ``seconds`` were not enough."""
        if not self._lines:
            return True
        self._idle = self._idle or asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def _join(self, turn: Turn[Item]) -> asyncio.Lock:
        self._lines.setdefault(turn.key, deque()).append(turn)
        return self._locks.setdefault(turn.key, asyncio.Lock())

    def _hold(self, task: asyncio.Task[object] | None) -> bool:
        """Keep a task: the event loop holds it weakly, and nobody else may hold one that calls us.

        Returns:
            False when it is kept already.
        """
        if task is None or task in self._tasks:
            return False
        self._tasks.add(task)
        return True

    def _release(self, task: asyncio.Task[object] | None) -> None:
        if task is not None:
            self._tasks.discard(task)

    def _leave(self, turn: Turn[Item]) -> None:
        line = self._lines[turn.key]
        line.remove(turn)  # the first, but for one that was cancelled
        if not line:
            del self._lines[turn.key], self._locks[turn.key]
        if not self._lines and self._idle is not None:
            self._idle.set()
            self._idle = None


class Turn(Generic[Item]):
    """One caller's place in a line.

    Attributes:
        key: Names the line.
        item: What whoever stands before may do along with its own; None for nothing.
        done: Somebody before has done it.
    """

    __slots__ = ("_lock", "_new", "_task", "_turns", "done", "item", "key")

    def __init__(self, turns: Turns[Item], key: Hashable, item: Item | None) -> None:
        self._turns = turns
        self.key = key
        self.item = item
        self.done = False

    def behind(self, at_most: int) -> list[Turn[Item]]:
        """Those right behind the one whose turn it is that have items; nobody without between."""
        line = self._turns._lines[self.key]
        return list(takewhile(lambda turn: turn.item is not None, islice(line, 1, 1 + at_most)))

    async def __aenter__(self) -> Turn[Item]:
        self._lock = self._turns._join(self)
        self._task = asyncio.current_task()
        self._new = self._turns._hold(self._task)
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        if self._new:
            self._turns._release(self._task)
        self._turns._leave(self)
