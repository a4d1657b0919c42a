"""Operations tried again after a transient fault, inside a bound in time.

Every operation of this package may be repeated: its statements carry guards. So a fault of the
network, an election, or a write whose acknowledgement was lost is answered by trying again. So is
a primary that does not answer any more, as soon as the driver knows of another one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import pymongo
import stamina
from pymongo.errors import (
    AutoReconnect,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from mongo_datalayer import driver
from mongo_datalayer.driver import Client

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0
WATCH_SECONDS = 0.25
"""How often it is looked whether the tries that wait for an answer still may."""

# The server's codes for "not now": elections, shutdowns, lost hosts, and the acknowledgement of a
# write that did not come in time. https://www.mongodb.com/docs/manual/reference/error-codes/
_TRANSIENT_CODES = frozenset(
    {
        6,
        7,
        43,
        64,
        89,
        91,
        100,
        133,
        134,
        189,
        262,
        317,
        358,
        9001,
        10107,
        11600,
        11602,
        13388,
        13435,
        13436,
    }
)

Result = TypeVar("Result")


def is_transient(exc: Exception) -> bool:
    """Whether the same operation may well succeed a moment later."""
    if isinstance(exc, (AutoReconnect, WaitQueueTimeoutError, WriteConcernError)):
        return True
    if not isinstance(exc, PyMongoError):
        return False
    return (
        exc.has_error_label("RetryableWriteError")
        or exc.has_error_label("TransientTransactionError")
        or getattr(exc, "code", None) in _TRANSIENT_CODES
    )


class Retries:
    """Operations on a client, tried again with growing pauses while faults are transient.

    Args:
        client: The client.
        seconds: The time for all tries of an operation together, 0 for no bound.
    """

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._longest_wait = min(LONGEST_WAIT_SECONDS, seconds / 10 or math.inf)
        # The driver's own bound makes a task for each command. Where that can be cancelled, the
        # watch is enough; a thread cannot.
        self._driver_seconds = 0.0 if driver.is_cancellable(client) else seconds or None
        self._watch = _Watch(client, seconds)

    async def run(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """What ``operation`` returns.

        Args:
            operation: Makes the awaitable; called once for each try, so it must be safe to repeat.

        Raises:
            PyMongoError: the operation's own error, when it is not transient or the time is over.
        """
        deadline = time.monotonic() + self._seconds if self._seconds else math.inf
        with pymongo.timeout(self._driver_seconds):
            try:
                with self._watch.over(deadline):
                    return await operation()
            except PyMongoError as exc:
                if not self._is_worth_another_try(exc, deadline):
                    raise
                logger.info("Trying again after: %s", exc)
            async for attempt in stamina.retry_context(
                on=lambda exc: self._is_worth_another_try(exc, deadline),
                attempts=None,
                timeout=None,
                wait_initial=FIRST_WAIT_SECONDS,
                wait_max=self._longest_wait,
                wait_jitter=FIRST_WAIT_SECONDS,
            ):
                with attempt, self._watch.over(deadline):
                    return await operation()
        raise AssertionError("retry_context returns or raises")

    def _is_worth_another_try(self, exc: Exception, deadline: float) -> bool:
        # A try without time would end in an error that hides this one.
        return is_transient(exc) and time.monotonic() + self._longest_wait < deadline


class _Watch:
    """Ends the tries whose time is over, or whose primary has been replaced.

    A host that froze, or fell off the network, leaves its connections open. Without this a try
    would wait for an answer until the time for all tries is over.

    One timer looks at all tries: they are many, and hardly one of them is ever ended.
    """

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._tries: set[_Try] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def over(self, deadline: float) -> _Try:
        """Watch over what the current task does inside of a ``with``."""
        return _Try(self, driver.primary(self._client), deadline)

    def add(self, each: _Try) -> None:
        self._tries.add(each)
        loop = asyncio.get_running_loop()
        if self._timer is None or each.deadline < self._due or loop is not self._loop:
            self._set_timer(loop)

    def remove(self, each: _Try) -> None:
        self._tries.discard(each)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = time.monotonic()
        self._due = min(now + WATCH_SECONDS, *(each.deadline for each in self._tries))
        self._loop = loop
        self._timer = loop.call_later(max(self._due - now, 0), self._look)

    def _look(self) -> None:
        self._timer = None
        now, primary = time.monotonic(), driver.primary(self._client)
        for each in tuple(self._tries):
            if now >= each.deadline:
                each.end(driver.no_answer(self._client, self._seconds))
            elif each.primary is not None and primary not in (each.primary, None):
                each.end(
                    AutoReconnect(
                        f"{each.primary} did not answer, and is not the primary any more."
                    )
                )
        if self._tries and self._loop is not None:
            self._set_timer(self._loop)


class _Try:
    """One try of an operation: a ``with``, which raises the error that the try was ended with."""

    __slots__ = ("_cancelled_before", "_error", "_task", "_watch", "deadline", "primary")

    def __init__(self, watch: _Watch, primary: str | None, deadline: float) -> None:
        self._watch = watch
        self._error: PyMongoError | None = None
        self.primary = primary
        self.deadline = deadline

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._cancelled_before = _cancelling(self._task)
        self._watch.add(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.remove(self)
        if self._error is None:
            return
        by_others = _uncancel(self._task) > self._cancelled_before
        if exc_type is asyncio.CancelledError and not by_others:
            raise self._error from None

    def end(self, error: PyMongoError) -> None:
        """Cancel what is awaited."""
        if self._error is None and self._task is not None:
            self._error = error
            self._task.cancel()


if sys.version_info >= (3, 11):

    def _cancelling(task: asyncio.Task[object] | None) -> int:
        return 0 if task is None else task.cancelling()

    def _uncancel(task: asyncio.Task[object] | None) -> int:
        return 0 if task is None else task.uncancel()

else:  # it does not tell who else cancelled a task

    def _cancelling(task: asyncio.Task[object] | None) -> int:
        return 0

    def _uncancel(task: asyncio.Task[object] | None) -> int:
        return 0
