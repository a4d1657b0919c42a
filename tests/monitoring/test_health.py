"""Is the app live, is it ready: while MongoDB stops and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from chainlit.config import config
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.monitoring import mount_health
from mongo_datalayer.schema.indexes import DECLARED
from mongo_datalayer.server import LocalServer


@pytest.fixture
def chainlit_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starlette]:
    import chainlit.data
    from chainlit.server import app

    monkeypatch.setattr(config, "code", config.code.model_copy())
    for name in ("_data_layer", "_data_layer_initialized"):
        monkeypatch.setattr(chainlit.data, name, None)
    routes = list(app.router.routes)
    yield app
    app.router.routes[:] = routes


async def test_a_server_that_stops_and_comes_back(
    server: LocalServer, layer: MongoDataLayer, app: Starlette, probe: httpx.AsyncClient
) -> None:
    mount_health(layer, app)

    bare = await probe.get("/readyz")
    await layer.create_indexes()
    ready = await probe.get("/readyz")
    server.stop()
    away = await probe.get("/readyz")
    live = await probe.get("/healthz")
    server.start()
    back = await probe.get("/readyz")

    assert (bare.status_code, bare.json()["reason"]) == (503, "indexes are missing")
    assert bare.json()["indexes"] == [str(index) for index in DECLARED]
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    assert (away.status_code, away.json()) == (
        503,
        {"status": "unavailable", "reason": "MongoDB does not answer"},
    )
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    assert back.status_code == 200
    for answer in (ready, away, live):
        assert answer.headers["cache-control"] == "no-store"
    assert (await probe.head("/healthz")).status_code == 200
    assert (await probe.post("/healthz")).status_code == 405


async def test_chatkits_store_is_asked_too(
    database: AsyncDatabase[dict[str, Any]], app: Starlette, probe: httpx.AsyncClient
) -> None:
    store = MongoChatKitStore[str](
        client=database.client, database=database.name, user_id=lambda context: context
    )
    mount_health(store, app)

    bare = await probe.get("/readyz")
    await store.create_indexes()

    assert bare.status_code == 503
    assert (await probe.get("/readyz")).status_code == 200


async def test_on_chainlits_own_app_it_asks_the_data_layer_in_use(
    chainlit_app: Starlette, database: AsyncDatabase[dict[str, Any]]
) -> None:
    layer = MongoDataLayer(client=database.client, database=database.name)
    await layer.create_indexes()
    mount_health()
    mount_health()
    transport = httpx.ASGITransport(chainlit_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as probe:
        without = await probe.get("/readyz")
        import chainlit.data

        chainlit.data._data_layer = layer
        found = await probe.get("/readyz")
        page = await probe.get("/thread/1")

    assert (without.status_code, without.json()["reason"]) == (
        503,
        "the app has no MongoDB data layer",
    )
    assert (found.status_code, found.json()) == (200, {"status": "ok"})
    assert "<html" in page.text
    names = [getattr(route, "name", "") for route in chainlit_app.router.routes]
    assert names.count("mongo_datalayer_ready") == 1
