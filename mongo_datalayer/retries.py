"""Operations tried again after a transient fault, inside a bound in time.

Every operation of this package may be repeated: its statements carry guards. So a fault of the
network, an election, or a write whose acknowledgement was lost is answered by trying again. So is
a primary that does not answer any more, as soon as the driver knows of another one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

import pymongo
import stamina
from pymongo.errors import (
    AutoReconnect,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0
WATCH_SECONDS = 0.25
"""How often a try that waits for its answer looks whether there is another primary."""

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


def no_primary() -> None:
    """Nobody is the primary, or nobody knows."""


async def retried(
    operation: Callable[[], Awaitable[Result]],
    *,
    seconds: float,
    primary: Callable[[], Hashable] = no_primary,
) -> Result:
    """What ``operation`` returns; tried again, with growing pauses, while faults are transient.

    Args:
        operation: Makes the awaitable; called once for each try, so it must be safe to repeat.
        seconds: The time for all tries together, 0 for no bound.
        primary: Which server the driver takes for the replica set's primary now, if any. A try
            that still waits when this is another one is given up, and tried again there.

    Raises:
        PyMongoError: the operation's own error, when it is not transient or the time is over.
    """
    deadline = time.monotonic() + seconds if seconds else math.inf
    longest_wait = min(LONGEST_WAIT_SECONDS, seconds / 10 or math.inf)

    def is_worth_another_try(exc: Exception) -> bool:
        # A try without time would end in an error that hides this one.
        return is_transient(exc) and time.monotonic() + longest_wait < deadline

    with pymongo.timeout(seconds or None):
        try:
            return await _tried(operation, primary)
        except PyMongoError as exc:
            if not is_worth_another_try(exc):
                raise
            logger.info("Trying again after: %s", exc)
        async for attempt in stamina.retry_context(
            on=is_worth_another_try,
            attempts=None,
            timeout=None,
            wait_initial=FIRST_WAIT_SECONDS,
            wait_max=longest_wait,
            wait_jitter=FIRST_WAIT_SECONDS,
        ):
            with attempt:
                return await _tried(operation, primary)
    raise AssertionError("retry_context returns or raises")


async def _tried(
    operation: Callable[[], Awaitable[Result]], primary: Callable[[], Hashable]
) -> Result:
    """One try, given up when the primary it began with has been replaced.

    A host that froze, or fell off the network, leaves its connections open. Without this a try
    would wait for an answer until the time for all tries is over.
    """
    first = primary()
    if first is None:
        return await operation()
    trying = asyncio.ensure_future(operation())
    try:
        while not trying.done():
            await asyncio.wait({trying}, timeout=WATCH_SECONDS)
            if primary() not in (first, None):
                break
    finally:
        if not trying.done():
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
    if trying.cancelled():
        raise AutoReconnect(f"{first} did not answer, and is not the primary any more.")
    return trying.result()
