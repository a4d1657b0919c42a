"""Operations tried again after a transient fault, inside a bound in time.

Every operation of this package may be repeated: its statements carry guards. So a fault of the
network, an election, or a write whose acknowledgement was lost is answered by trying again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pymongo
import stamina
from pymongo.errors import (
    AutoReconnect,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0

# The server's codes for "not now": elections, shutdowns, lost hosts, and the acknowledgement of a
# write that did not come in time. https://www.mongodb.com/docs/manual/reference/error-codes/
_TRANSIENT_CODES = frozenset(
    {6, 7, 64, 89, 91, 100, 134, 189, 262, 317, 358, 9001, 10107, 11600, 11602, 13388, 13435, 13436}
)

Result = TypeVar("Result")


def is_transient(exc: Exception) -> bool:
    """Whether the same operation may well succeed a moment later."""
    if isinstance(exc, ServerSelectionTimeoutError):
        return False  # the driver has looked for a server as long as it was allowed to
    if isinstance(exc, (AutoReconnect, WaitQueueTimeoutError, WriteConcernError)):
        return True
    if not isinstance(exc, PyMongoError):
        return False
    return (
        exc.has_error_label("RetryableWriteError")
        or exc.has_error_label("TransientTransactionError")
        or getattr(exc, "code", None) in _TRANSIENT_CODES
    )


async def retried(operation: Callable[[], Awaitable[Result]], *, seconds: float) -> Result:
    """What ``operation`` returns; tried again, with growing pauses, while faults are transient.

    Args:
        operation: Makes the awaitable; called once for each try, so it must be safe to repeat.
        seconds: The time for all tries together, 0 for no bound.

    Raises:
        PyMongoError: the operation's own error, when it is not transient or the time is over.
    """
    with pymongo.timeout(seconds or None):
        try:
            return await operation()
        except PyMongoError as exc:
            if not is_transient(exc):
                raise
            logger.info("Trying again after: %s", exc)
        async for attempt in stamina.retry_context(
            on=is_transient,
            attempts=None,
            timeout=seconds or None,
            wait_initial=FIRST_WAIT_SECONDS,
            wait_max=LONGEST_WAIT_SECONDS,
            wait_jitter=FIRST_WAIT_SECONDS,
        ):
            with attempt:
                return await operation()
    raise AssertionError("retry_context returns or raises")
