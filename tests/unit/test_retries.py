"""Which tries follow a fault, and when they end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from mongo_datalayer import driver, retries
from mongo_datalayer.retries import WATCH_SECONDS, Retries

Operation = Callable[[], Awaitable[str]]


async def retried(operation: Operation, *, seconds: float) -> str:
    """What the operation returns, with a client that is never connected."""
    client: driver.Client = AsyncMongoClient(connect=False)
    return await Retries(client, seconds).run(operation)


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


@pytest.mark.parametrize("faults", [0, 1])
async def test_the_bound_holds_each_try(faults: int) -> None:
    waiting = [AutoReconnect("closed")] * faults

    async def operation() -> str:
        if waiting:
            raise waiting.pop()
        await asyncio.sleep(60)
        return "never"

    start = time.monotonic()
    with pytest.raises(ServerSelectionTimeoutError, match=r"found within 0\.4 s: localhost:27017"):
        await retried(operation, seconds=0.4)
    assert 0.4 <= time.monotonic() - start < 0.6


async def test_a_known_server_that_does_not_answer_is_not_called_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncMongoClient[Any](connect=False)
    known = client.topology_description
    monkeypatch.setattr(type(known), "has_writable_server", lambda _: True)

    with pytest.raises(NetworkTimeout, match=r"did not answer within 0\.3 s"):
        await Retries(client, 0.3).run(lambda: asyncio.sleep(60, "never"))


async def test_many_that_wait_end_each_at_its_own_time() -> None:
    client: driver.Client = AsyncMongoClient(connect=False)
    bounds = [0.1 * number for number in range(1, 9)]
    start = time.monotonic()
    ended: list[float] = []

    async def wait(retries: Retries) -> None:
        with pytest.raises(ServerSelectionTimeoutError):
            await retries.run(lambda: asyncio.sleep(60, "never"))
        ended.append(time.monotonic() - start)

    await asyncio.gather(*(wait(Retries(client, seconds)) for seconds in reversed(bounds)))
    assert all(bound <= end < bound + 0.1 for bound, end in zip(bounds, ended, strict=True))


async def test_one_layer_serves_several_event_loops() -> None:
    retries = Retries(AsyncMongoClient(connect=False), 0.3)

    def run() -> None:
        with pytest.raises(ServerSelectionTimeoutError):
            asyncio.run(retries.run(lambda: asyncio.sleep(60, "never")))

    await asyncio.to_thread(run)
    await asyncio.to_thread(run)


async def test_when_the_time_is_over_the_error_is_the_operations_own() -> None:
    start = time.monotonic()
    with pytest.raises(AutoReconnect, match="closed"):
        await retried(failing(*[AutoReconnect("closed")] * 1000), seconds=0.5)
    assert 0.3 < time.monotonic() - start < 0.6


class Hosts:
    """Two servers, of which the first does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.primary: str | None = "first"
        self.asked: list[str | None] = []
        self.cancelled = 0
        self.retries = Retries(AsyncMongoClient(connect=False), 20)
        monkeypatch.setattr(driver, "primary", lambda _: self.primary)

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

    def trying(self) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.retries.run(self.operation))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(monkeypatch)


async def test_a_try_ends_when_its_primary_has_been_replaced(hosts: Hosts) -> None:
    trying = hosts.trying()
    await asyncio.sleep(2 * WATCH_SECONDS)
    hosts.primary = None  # an election
    await asyncio.sleep(2 * WATCH_SECONDS)
    assert (hosts.asked, hosts.cancelled) == (["first"], 0)

    hosts.primary = "second"

    assert await asyncio.wait_for(trying, 5) == "done"
    assert (hosts.asked, hosts.cancelled) == (["first", "second"], 1)


async def test_who_was_tried_again_can_still_be_cancelled_and_wait(hosts: Hosts) -> None:
    async def twice() -> str:
        await hosts.retries.run(hosts.operation)
        async with asyncio.timeout(5) if sys.version_info >= (3, 11) else nullcontext():
            await asyncio.sleep(0.01)
        return "went on"

    trying = asyncio.ensure_future(twice())
    await asyncio.sleep(0)
    hosts.primary = "second"

    assert await asyncio.wait_for(trying, 5) == "went on"


async def test_a_slow_try_goes_on_while_its_primary_stays(hosts: Hosts) -> None:
    slow = hosts.retries.run(lambda: asyncio.sleep(3 * WATCH_SECONDS, "done"))

    assert await slow == "done"


async def test_cancelling_reaches_the_try(hosts: Hosts) -> None:
    trying = hosts.trying()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    trying.cancel()

    with pytest.raises(asyncio.CancelledError):
        await trying
    assert hosts.cancelled == len(hosts.asked) == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not tell who cancelled")
async def test_cancelling_goes_before_another_try(hosts: Hosts) -> None:
    trying = hosts.trying()
    await asyncio.sleep(0)
    hosts.primary = "second"

    def end(each: Any, error: Any) -> None:
        ended(each, error)
        trying.cancel()  # before the task runs again

    ended = retries._Try.end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries._Try, "end", end)
        with pytest.raises(asyncio.CancelledError):
            await trying
    assert hosts.asked == ["first"]
