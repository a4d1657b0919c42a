"""Servers that speak MongoDB's protocol and lack some of what it can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pymongo.errors import OperationFailure

from mongo_datalayer.mongodb.error_reason import error_reason
from mongo_datalayer.mongodb.logger import get_logger

# CommandNotFound, CommandNotSupported, InvalidPipelineOperator, NotImplemented, what Amazon
# DocumentDB answers (303, 304), APIStrictError, and an unknown stage of an aggregation.
_CODES = frozenset({59, 115, 168, 238, 303, 304, 323, 40324})

logger = get_logger(__name__)

Result = TypeVar("Result")


def is_unsupported(exc: OperationFailure) -> bool:
    """Whether the server refused an operation because it does not know it at all."""
    # Azure Cosmos DB has no code of its own for: let is not supported.
    return exc.code in _CODES or "not supported" in str(exc)


class Fallback:
    """Reads in another way as soon as the server has refused the usual one.

    Attributes:
        in_use: Whether it has.
    """

    def __init__(self) -> None:
        self.in_use = False

    async def read(
        self, usual: Callable[[], Awaitable[Result]], other: Callable[[], Awaitable[Result]]
    ) -> Result:
        """What ``usual`` returns, or ``other`` where the server refuses that."""
        if not self.in_use:
            try:
                return await usual()
            except OperationFailure as exc:
                if not is_unsupported(exc):
                    raise
                reason = error_reason(exc)
                logger.info("Collections are read apart, as the server refuses a join: %s", reason)
                self.in_use = True
        return await other()
