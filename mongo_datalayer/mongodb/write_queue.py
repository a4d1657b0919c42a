"""Writes run one after the other for each key, in the order of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, ClassVar, TypeAlias, TypeVar
from weakref import WeakSet

from mongo_datalayer.mongodb.logger import get_logger, log_failure

logger = get_logger(__name__)

Result = TypeVar("Result")

Behind: TypeAlias = Callable[[Hashable, str | None], bool]
"""Whether to wait for an earlier operation, by its key and its name."""


def is_named(_key: Hashable, name: str | None) -> bool:
    """Whether an operation has a name. Those without are several, with uploads that take long."""
    return name is not None


class WriteQueue:
    """One first-in, first-out queue for each key.

    A write takes its slot before anything is awaited, so writes run in the order of the calls.
    """

    _all: ClassVar[WeakSet[WriteQueue]] = WeakSet()

    def __init__(self) -> None:
        self._last: dict[Hashable, asyncio.Task[Any]] = {}
        # The event loop holds tasks weakly, and Chainlit keeps no reference to those it starts.
        self._running: dict[asyncio.Task[Any], tuple[Hashable, str | None]] = {}
        self._queued = 0
        self._all.add(self)

    def submit(
        self,
        key: Hashable,
        operation: Callable[[], Awaitable[Result]],
        name: str | None = None,
        *,
        behind: Behind | None = None,
    ) -> asyncio.Future[Result]:
        """Run ``operation`` behind all earlier ones of ``key``, even if the caller is cancelled.

        Args:
            key: Which queue.
            operation: Makes the awaitable.
            name: What the log calls the operation when it fails; None logs nothing.
            behind: Wait also for the earlier operations for which it returns True.

        Returns:
            What to await: it returns what the operation returned, or raises its error.
        """
        earlier = {self._last[key]} if key in self._last else set()
        if behind is not None:
            earlier |= {task for task, queued in self._running.items() if behind(*queued)}
        task = asyncio.get_running_loop().create_task(self._behind(earlier, operation, name))
        self._last[key] = task
        self._running[task] = (key, name)
        task.add_done_callback(partial(self._remove, key))
        # In a task of its own: cancelled inside the driver, it could lock the connection pool for
        # ever, and the next write would overtake it.
        return asyncio.shield(task)

    def count_queued(self) -> int:
        """How many writes wait behind earlier ones."""
        return self._queued

    @classmethod
    def count_all_queued(cls) -> int:
        """How many writes of the process wait behind earlier ones."""
        return sum(queue.count_queued() for queue in cls._all)

    async def drain(self, seconds: float) -> list[str]:
        """Wait until no write is left; the names of those that ``seconds`` were not enough for."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._running:  # a write may start further ones
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return [name or "a write" for _, name in self._running.values()]
            await asyncio.wait(tuple(self._running), timeout=left)
        return []

    def _remove(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        # A later write of the key may have taken the place already.
        if self._last.get(key) is task:
            del self._last[key]

    async def _behind(
        self,
        earlier: set[asyncio.Task[Any]],
        operation: Callable[[], Awaitable[Result]],
        name: str | None,
    ) -> Result:
        if earlier:
            self._queued += 1
            try:
                # Not awaited, as their errors belong to their own callers.
                await asyncio.wait(earlier)
            finally:
                self._queued -= 1
        try:
            return await operation()
        except Exception as exc:
            if name is not None:  # Chainlit awaits few writes: the log is where an error shows up
                log_failure(logger, name, exc)
            raise
