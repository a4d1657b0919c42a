"""Writes that wait their turn, in the order in which they were called."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable


class Turns:
    """One first-in, first-out line for each key.

    A caller joins the line before anything is awaited, so tasks take their turns in the order in
    which they began. A line exists only while somebody stands in it.
    """

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._standing: dict[Hashable, int] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._idle: asyncio.Event | None = None

    def turn(self, key: Hashable) -> _Turn:
        """Wait until everybody who joined the line of ``key`` before is done.

        Joined when the ``async with`` begins.
        """
        return _Turn(self, key)

    async def drained(self, seconds: float) -> bool:
        """Wait until nobody stands in any line; False when ``seconds`` were not enough."""
        if not self._standing:
            return True
        self._idle = self._idle or asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def _join(self, key: Hashable) -> asyncio.Lock:
        self._standing[key] = self._standing.get(key, 0) + 1
        return self._locks.setdefault(key, asyncio.Lock())

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

    def _leave(self, key: Hashable) -> None:
        self._standing[key] -= 1
        if not self._standing[key]:
            del self._standing[key], self._locks[key]
        if not self._standing and self._idle is not None:
            self._idle.set()
            self._idle = None


class _Turn:
    """One caller's place in a line."""

    __slots__ = ("_key", "_lock", "_new", "_task", "_turns")

    def __init__(self, turns: Turns, key: Hashable) -> None:
        self._turns = turns
        self._key = key

    async def __aenter__(self) -> None:
        self._lock = self._turns._join(self._key)
        self._task = asyncio.current_task()
        self._new = self._turns._hold(self._task)
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        if self._new:
            self._turns._release(self._task)
        self._turns._leave(self._key)
