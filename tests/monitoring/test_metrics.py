"""What Prometheus is told while MongoDB stops and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest
from pymongo import monitoring
from pymongo.errors import PyMongoError
from starlette.applications import Starlette

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.mongodb.retries import Retries
from mongo_datalayer.monitoring import mount_metrics
from mongo_datalayer.server import LocalServer

WAIT_SECONDS = 60.0


@pytest.fixture
def measured(app: Starlette) -> Iterator[None]:
    """Measures during the test only."""
    listeners = monitoring._LISTENERS.command_listeners
    before = list(listeners)
    mount_metrics(app)
    mount_metrics(app)
    yield
    Retries.observer = None
    listeners[:] = before


@pytest.fixture
async def layer(measured: None, server: LocalServer) -> MongoDataLayer:
    return MongoDataLayer(f"{server.uri}/?serverSelectionTimeoutMS=500", timeout_ms=2000)


async def scrape(probe: httpx.AsyncClient) -> dict[str, float]:
    """The samples by name and labels."""
    answer = await probe.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = (line.rsplit(" ", 1) for line in answer.text.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in samples}


async def until(probe: httpx.AsyncClient, holds: Callable[[dict[str, float]], bool]) -> None:
    async def poll() -> None:
        while not holds(await scrape(probe)):  # noqa: ASYNC110 - a scrape tells
            await asyncio.sleep(0.02)

    await asyncio.wait_for(poll(), WAIT_SECONDS)


async def test_calls_errors_retries_waiting_writes_and_latencies(
    server: LocalServer, layer: MongoDataLayer, probe: httpx.AsyncClient
) -> None:
    before = await scrape(probe)

    def gained(samples: dict[str, float], name: str) -> float:
        prefix = f"mongo_datalayer_{name}"
        same = [sample for sample in samples if sample.partition("{")[0] == prefix]
        return sum(samples[sample] - before.get(sample, 0) for sample in same)

    assert await layer.get_user("nobody") is None
    up = await scrape(probe)
    server.stop()
    writes = [
        asyncio.create_task(
            layer.update_thread("t", name=f"name {number}")  # behind each other
        )
        for number in range(3)
    ]
    await until(probe, lambda now: now["mongo_datalayer_waiting_writes"] >= 2)
    await until(probe, lambda now: gained(now, "retries_total") >= 1)
    waiting = await scrape(probe)
    failed = await asyncio.gather(*writes, return_exceptions=True)
    server.start()
    assert await layer.get_user("nobody") is None
    back = await scrape(probe)
    await layer.close()

    assert gained(up, "call_seconds_count") >= 1
    assert gained(up, "call_errors_total") == 0
    assert up['mongo_datalayer_command_seconds_count{command="find"}'] >= 1
    assert waiting["mongo_datalayer_calls_in_progress"] >= 1
    assert all(isinstance(error, PyMongoError) for error in failed)
    assert gained(back, "call_errors_total") >= len(writes)
    assert back["mongo_datalayer_calls_in_progress"] == 0
    assert back["mongo_datalayer_waiting_writes"] == 0
