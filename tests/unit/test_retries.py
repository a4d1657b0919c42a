"""Which tries follow a fault, and when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

from mongo_datalayer.retries import WATCH_SECONDS, retried

Operation = Callable[[], Awaitable[str]]


def failing(*faults: Exception) -> Operation:
    """An operation that fails in these ways, one after the other, and then succeeds."""
    waiting = list(faults)

    async def operation() -> str:
        if waiting:
            raise waiting.pop(0)
        return "done"

    return operation


@pytest.mark.parametrize(
    "fault",
    [
        AutoReconnect("closed"),
        ServerSelectionTimeoutError("none yet"),  # the URI may allow less than an election takes
        OperationFailure("an election", code=189),
    ],
    ids=repr,
)
async def test_transient_faults_are_followed_by_another_try(fault: Exception) -> None:
    assert await retried(failing(fault, fault), seconds=5) == "done"
    assert await retried(failing(fault, fault), seconds=0) == "done"  # no bound


async def test_other_errors_are_not() -> None:
    with pytest.raises(OperationFailure):
        await retried(failing(OperationFailure("not authorised", code=13)), seconds=5)


async def test_the_bound_holds_the_first_try_too() -> None:
    async def operation() -> str:
        await asyncio.sleep(0.4)
        raise AutoReconnect("late")

    start = time.monotonic()
    with pytest.raises(AutoReconnect, match="late"):
        await retried(operation, seconds=0.4)
    assert time.monotonic() - start < 0.6


async def test_when_the_time_is_over_the_error_is_the_operations_own() -> None:
    start = time.monotonic()
    with pytest.raises(AutoReconnect, match="closed"):
        await retried(failing(*[AutoReconnect("closed")] * 1000), seconds=0.5)
    assert 0.3 < time.monotonic() - start < 0.6


class Hosts:
    """Two servers, of which the first does not answer."""

    def __init__(self) -> None:
        self.primary: str | None = "first"
        self.asked: list[str | None] = []
        self.cancelled = 0

    async def operation(self) -> str:
        self.asked.append(self.primary)
        if self.primary != "first":
            return "done"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "never"


async def test_a_try_ends_when_its_primary_has_been_replaced() -> None:
    hosts = Hosts()
    trying = asyncio.ensure_future(
        retried(hosts.operation, seconds=20, primary=lambda: hosts.primary)
    )
    await asyncio.sleep(2 * WATCH_SECONDS)
    hosts.primary = None  # an election
    await asyncio.sleep(2 * WATCH_SECONDS)
    assert (hosts.asked, hosts.cancelled) == (["first"], 0)

    hosts.primary = "second"

    assert await asyncio.wait_for(trying, 5) == "done"
    assert (hosts.asked, hosts.cancelled) == (["first", "second"], 1)


async def test_a_slow_try_goes_on_while_its_primary_stays() -> None:
    async def operation() -> str:
        await asyncio.sleep(3 * WATCH_SECONDS)
        return "done"

    assert await retried(operation, seconds=20, primary=lambda: "first") == "done"


async def test_cancelling_reaches_the_try() -> None:
    hosts = Hosts()
    trying = asyncio.ensure_future(
        retried(hosts.operation, seconds=20, primary=lambda: hosts.primary)
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    trying.cancel()

    with pytest.raises(asyncio.CancelledError):
        await trying
    assert hosts.cancelled == len(hosts.asked) == 1
