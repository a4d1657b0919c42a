"""Retries of operations after transient errors, until their time is over.

Every operation of this package may be repeated, because its updates are conditional. So a lost
connection, an election, or a write whose acknowledgement never came is answered by a retry. The
driver bounds all waiting: for a server, for a connection, for an answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar, Generic, Protocol, TypeVar

import pymongo
import stamina
from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from mongo_datalayer.mongodb.client import Client
from mongo_datalayer.mongodb.error_reason import error_reason, is_login_refused
from mongo_datalayer.mongodb.outage import NOTICE_SECONDS, OutageWatch

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

ATTEMPT_SHARE = 1 / 3
"""How much of an operation's time one attempt may take.

A primary that froze keeps its connections open and answers nothing. With the default of 20 s the
second attempt ends after 13 s, and by then the other members have elected a new primary (10 s).
"""

AWAY_SECONDS = 5.0
"""How long a person waits for a server while MongoDB is known to be away."""

_ILLEGAL_OPERATION = 20

# The server's codes for "not now": elections, shutdowns, lost hosts, and a write whose
# acknowledgement did not come in time. https://www.mongodb.com/docs/manual/reference/error-codes/
_TRANSIENT_CODES = frozenset(
    {6, 7, 43, 64, 89, 91, 100, 133, 134, 189, 262, 317, 358, 9001}
    | {10107, 11600, 11602, 13388, 13435, 13436}
)

Result = TypeVar("Result")


def is_transient(exc: Exception) -> bool:
    """Whether the same operation may well succeed a moment later."""
    if isinstance(exc, (AutoReconnect, WaitQueueTimeoutError, WriteConcernError)):
        return True
    if not isinstance(exc, PyMongoError):
        return False
    code = getattr(exc, "code", None)
    # PyMongo 4.20 takes a lone server that has just come back for one of a set, and sends it a
    # transaction number. It refuses, and the next attempt is right.
    if code == _ILLEGAL_OPERATION and "Transaction numbers" in str(exc):
        return True
    return (
        exc.has_error_label("RetryableWriteError")
        or exc.has_error_label("TransientTransactionError")
        or code in _TRANSIENT_CODES
    )


class Observer(Protocol):
    """Is told of every operation; the metrics are one."""

    def begun(self) -> None:
        """An operation begins."""

    def retried(self, error: Exception) -> None:
        """An attempt failed, and another one follows."""

    def ended(self, seconds: float, error: BaseException | None) -> None:
        """An operation ended, by an error for good if there is one."""


class Retries:
    """Runs operations, and retries them with growing pauses while errors are transient.

    While MongoDB is away the log says so: since when, why, how many operations wait, and when it is
    back.

    Args:
        client: The client that the operations use.
        seconds: The time for all attempts of an operation together, 0 for no bound.
        queued: How many more operations wait for one of these.

    Attributes:
        observer: Is told of the operations of all instances.
    """

    observer: ClassVar[Observer | None] = None

    def __init__(
        self, client: Client, seconds: float, queued: Callable[[], int] = lambda: 0
    ) -> None:
        self._outage = OutageWatch(client, queued)
        self._seconds = seconds
        # A tenth at most: with a short timeout, pauses must not use up the time for attempts.
        self._longest_pause = min(LONGEST_PAUSE_SECONDS, seconds / 10 or math.inf)

    async def run(
        self, operation: Callable[[], Awaitable[Result]], *, patient: bool = True
    ) -> Result:
        """What ``operation`` returns.

        Args:
            operation: Makes the awaitable; called once for each attempt, so it must be safe to
                repeat.
            patient: False for what a person waits for: while MongoDB is known to be away it ends
                after :data:`AWAY_SECONDS`, with the driver's error that says so.

        Raises:
            PyMongoError: the operation's own error, when it is not transient or the time is over.
        """
        outage = self._outage
        waiting = object()
        outage.waiting[waiting] = time.monotonic()
        # Past where the loop was closed on which it was to look.
        if outage.next_look < time.monotonic():
            outage.look_in(NOTICE_SECONDS)
        try:
            attempts = self._attempts if self.observer is None else self._observed
            result = await attempts(operation, patient)
        except OperationFailure as exc:
            if is_login_refused(exc):
                outage.login_refused()
            raise
        finally:
            del outage.waiting[waiting]
        if outage.away_since is not None:
            outage.answered()
        return result

    async def _observed(self, operation: Callable[[], Awaitable[Result]], patient: bool) -> Result:
        observer = self.observer
        assert observer is not None  # noqa: S101 - asked by the caller
        observer.begun()
        began = time.monotonic()
        error = None
        try:
            return await self._attempts(operation, patient)
        except Exception as exc:
            error = exc
            raise
        finally:
            observer.ended(time.monotonic() - began, error)

    async def _attempts(self, operation: Callable[[], Awaitable[Result]], patient: bool) -> Result:
        timed = _Timed(operation, self._seconds, self._longest_pause, self._outage, patient)
        # The first one outside of stamina, whose loop costs a sixth of a read.
        try:
            return await timed.attempt()
        except Exception as exc:  # noqa: BLE001 - stamina raises what is not worth a retry
            failures = [exc]
        async for attempt in stamina.retry_context(
            on=timed.is_worth_a_retry,
            # is_worth_a_retry ends it: the deadline moves when MongoDB is found to be away.
            attempts=None,
            timeout=None,
            wait_initial=FIRST_PAUSE_SECONDS,
            wait_max=self._longest_pause,
            wait_jitter=FIRST_PAUSE_SECONDS,
        ):
            with attempt:
                if failures:
                    raise failures.pop()
                return await timed.attempt()
        raise AssertionError("retry_context returns or raises")


class _Timed(Generic[Result]):
    """An operation with its time: what each attempt has of it, and when there is no other."""

    def __init__(
        self,
        operation: Callable[[], Awaitable[Result]],
        seconds: float,
        longest_pause: float,
        outage: OutageWatch,
        patient: bool,
    ) -> None:
        self._operation = operation
        self._began = time.monotonic()
        self._deadline = self._began + seconds if seconds else math.inf
        share = seconds * ATTEMPT_SHARE if seconds else math.inf
        # At its end it is known whether MongoDB is away.
        self._share = share if patient else min(share, AWAY_SECONDS)
        self._longest_pause = longest_pause
        self._outage = outage
        self._patient = patient

    async def attempt(self) -> Result:
        """What the operation returns, within its share of the time that is left."""
        seconds = min(self._end() - time.monotonic(), self._share)
        # Never 0, which is no bound to pymongo.timeout; it refuses negative numbers.
        with pymongo.timeout(None if seconds == math.inf else max(seconds, 0.001)):
            try:
                return await self._operation()
            except OperationFailure as exc:
                # Chainlit awaits few writes, so asyncio logs their errors, with the texts of the
                # chat that the server quotes: only its reason stays, and ``details``.
                exc.args = (error_reason(exc),)
                raise

    def is_worth_a_retry(self, exc: Exception) -> bool:
        """Whether another attempt may succeed, and has the time for it."""
        slow = isinstance(exc, ExecutionTimeout) and self._share < math.inf
        if slow:  # the server lives and needs longer: it may have all the time that is left
            self._share = math.inf
        # An attempt without time would end in an error that hides this one.
        in_time = time.monotonic() + self._longest_pause < self._end()
        worth = in_time and (slow or is_transient(exc))
        if worth and Retries.observer is not None:
            Retries.observer.retried(exc)
        return worth

    def _end(self) -> float:
        is_away = not self._patient and self._outage.away_since is not None
        return min(self._deadline, self._began + AWAY_SECONDS) if is_away else self._deadline
