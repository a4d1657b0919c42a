"""Writes that wait their turn, in the order in which they were called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


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

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait until everybody who joined the line of ``key`` before is done."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._standing[key] = self._standing.get(key, 0) + 1
        task = asyncio.current_task()
        # The event loop holds tasks weakly, and nobody else may hold the one that calls us.
        new = task is not None and task not in self._tasks
        if task is not None and new:
            self._tasks.add(task)
        try:
            async with lock:
                yield
        finally:
            if task is not None and new:
                self._tasks.discard(task)
            self._leave(key)

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

    def _leave(self, key: Hashable) -> None:
        self._standing[key] -= 1
        if not self._standing[key]:
            del self._standing[key], self._locks[key]
        if not self._standing and self._idle is not None:
            self._idle.set()
            self._idle = None
