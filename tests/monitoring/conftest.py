"""A server of its own, which a test may stop, and an app that is asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.server import LocalServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    """A mongod that keeps its port and its data when it is started again."""
    with LocalServer(tmp_path / "data") as server:
        yield server


@pytest.fixture
def app() -> Starlette:
    return Starlette()


@pytest.fixture
async def probe(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
        yield client


@pytest.fixture
async def layer(server: LocalServer) -> AsyncIterator[MongoDataLayer]:
    # Few seconds, so that calls fail for good while the server is stopped.
    uri = f"{server.uri}/?serverSelectionTimeoutMS=500"
    layer = MongoDataLayer(uri, timeout_ms=2000)
    yield layer
    await layer.close()
