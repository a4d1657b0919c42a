"""Which errors are followed by a retry, and when retrying ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest
from pymongo import AsyncMongoClient, _csot
from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from mongo_datalayer.mongodb.client import Client
from mongo_datalayer.mongodb.retries import ATTEMPT_SHARE, Retries

Operation = Callable[[], Awaitable[str]]


async def retried(operation: Operation, *, seconds: float) -> str:
    """What the operation returns in the end."""
    client: Client = AsyncMongoClient(connect=False)
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
        OperationFailure("Transaction numbers are only allowed on a replica set", code=20),
    ],
    ids=repr,
)
async def test_transient_faults_are_followed_by_another_try(fault: Exception) -> None:
    assert await retried(failing(fault, fault), seconds=5) == "done"
    assert await retried(failing(fault, fault), seconds=0) == "done"  # no bound


async def test_each_retry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    fault = AutoReconnect("closed")

    assert await retried(failing(), seconds=5) == "done"
    assert caplog.records == []

    assert await retried(failing(fault, fault), seconds=5) == "done"
    assert [record.name for record in caplog.records] == ["stamina", "stamina"]


async def test_what_succeeds_has_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("stamina.retry_context")

    assert await retried(failing(), seconds=5) == "done"


async def test_other_errors_are_not() -> None:
    with pytest.raises(OperationFailure):
        await retried(failing(OperationFailure("not authorised", code=13)), seconds=5)


async def bounds_of(*faults: Exception, seconds: float) -> list[float | None]:
    """How long the driver may take for each attempt."""
    fail, bounds = failing(*faults), []

    async def operation() -> str:
        bounds.append(_csot.get_timeout())
        return await fail()

    assert await retried(operation, seconds=seconds) == "done"
    return bounds


async def test_the_driver_is_told_how_long_each_attempt_may_take() -> None:
    """A third each, so that a frozen primary leaves time for its successor."""
    first, second, third = await bounds_of(AutoReconnect("a"), AutoReconnect("b"), seconds=6)
    assert first == second == pytest.approx(6 * ATTEMPT_SHARE)
    assert third is not None
    assert third <= 6 * ATTEMPT_SHARE


async def test_a_slow_answer_gets_all_the_time_that_is_left() -> None:
    first, second = await bounds_of(ExecutionTimeout("slow", 50), seconds=6)
    assert first == pytest.approx(6 * ATTEMPT_SHARE)
    assert second is not None
    assert 5 < second < 6


async def test_without_a_bound_the_driver_has_none() -> None:
    assert await bounds_of(AutoReconnect("a"), seconds=0) == [None, None]


async def test_when_the_time_is_over_the_error_is_the_operations_own() -> None:
    start = time.monotonic()
    with pytest.raises(AutoReconnect, match="closed"):
        await retried(failing(*[AutoReconnect("closed")] * 1000), seconds=0.5)
    assert 0.3 < time.monotonic() - start < 2
