"""The start of an app: what it says, what it mounts, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import chainlit.data
import pytest
from chainlit.config import config
from chainlit.server import app as chainlit_app
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.chainlit import startup
from mongo_datalayer.files import GridFSStorageClient, mount_files
from mongo_datalayer.files.mount import is_mounted
from mongo_datalayer.files.route import ROUTE_NAME
from mongo_datalayer.schema.indexes import DECLARED

Database = AsyncDatabase[dict[str, Any]]
Start = Callable[[], Any]

APP = """
import chainlit as cl
from mongo_datalayer import MongoDataLayer

@cl.data_layer
def data_layer():
    return MongoDataLayer.from_env()

@cl.on_message
async def answer(message):
    pass
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if `chainlit run app.py` had begun in this process."""
    monkeypatch.setattr(config.run, "module_name", "app.py")
    monkeypatch.setattr(config, "code", config.code.model_copy())
    monkeypatch.setattr(chainlit.data, "_data_layer", None)
    monkeypatch.setattr(chainlit.data, "_data_layer_initialized", False)
    monkeypatch.setenv("CHAINLIT_AUTH_SECRET", "a secret of the tests")
    routes = list(chainlit_app.router.routes)
    yield
    chainlit_app.router.routes[:] = routes


@pytest.fixture
def start(served: None, caplog: pytest.LogCaptureFixture) -> Start:
    """Starts an app with the data layer of Chainlit's configuration; what the log says."""
    caplog.set_level(logging.INFO, "mongo_datalayer")

    async def start() -> list[str]:
        app = Starlette(lifespan=_lifespan_of_chainlit)
        startup.add_startup_check(app, MongoDataLayer)
        async with app.router.lifespan_context(app):
            pass
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    return start


@asynccontextmanager
async def _lifespan_of_chainlit(_app: Any) -> AsyncIterator[None]:
    """The part of Chainlit's own that counts here."""
    if config.code.on_app_startup:
        await config.code.on_app_startup()
    yield


@pytest.fixture
async def layer(mongo_uri: str, database_name: str, served: None) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    config.code.data_layer = lambda: layer
    yield layer
    await layer.close()


# Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (None, "MONGODB_URI is not set."),
        ("http://localhost", "MONGODB_URI cannot be used: Invalid URI scheme"),
    ],
    ids=["missing", "wrong"],
)
def test_a_wrong_uri_ends_the_start_with_one_line(
    uri: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "chainlit.md").write_text("")
    environment = {**os.environ, "CHAINLIT_APP_ROOT": str(tmp_path)}
    environment.pop("CI", None)  # Chainlit would say in a line of its own that it is set
    done = subprocess.run(
        [sys.executable, "-m", "chainlit", "run", "app.py", "--headless", "--port", "0"],
        cwd=tmp_path,
        env=environment if uri is None else {**environment, "MONGODB_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    lines = (done.stdout + done.stderr).splitlines()
    assert "Traceback" not in done.stdout + done.stderr
    assert not [line for line in lines if "Your app is available" in line]
    assert len([line for line in lines if "Created default" not in line]) == 1, lines
    assert (
        f"CRITICAL - mongo_datalayer.chainlit.startup - The app cannot start. {message}"
        in (lines[-1])
    )


async def test_a_refused_login_ends_the_start(
    start: Start, layer: MongoDataLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise ConfigurationError("MongoDB at h:1 refused the login.")

    monkeypatch.setattr(layer, "begin", refuse)
    monkeypatch.setattr(logging, "shutdown", lambda: None)

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(SystemExit) as ended:
        await start()

    assert ended.value.code == 1


async def test_the_apps_own_start_comes_first(start: Start, layer: MongoDataLayer) -> None:
    order: list[str] = []

    async def own() -> None:
        order.append("own")

    def make() -> MongoDataLayer:
        order.append("layer")
        return layer

    config.code.on_app_startup = own
    config.code.data_layer = make
    await start()

    assert order == ["own", "layer"]


async def test_an_app_without_a_data_layer_starts(start: Start) -> None:
    assert await start() == []


async def test_an_unknown_setup_of_indexes_is_refused(mongo_uri: str) -> None:
    with pytest.raises(ConfigurationError, match="indexes is 'check' or 'create', not 'all'"):
        MongoDataLayer(mongo_uri, indexes="all")  # type: ignore[arg-type]


# What the log says ----------------------------------------------------------------------------


async def test_the_log_says_what_is_in_use_and_what_is_missing(
    start: Start, layer: MongoDataLayer, database_name: str, mongo_uri: str
) -> None:
    first, second = await start()

    place = mongo_uri.removeprefix("mongodb://")
    assert first.startswith("INFO MongoDB ")
    assert first.endswith(f" at {place}, database {database_name}.")
    assert second == (
        f"WARNING Indexes missing: {len(DECLARED)}. "
        f"Run `mongo-datalayer setup apply --database {database_name}`."
    )


async def test_with_all_in_place_one_line_is_enough(start: Start, layer: MongoDataLayer) -> None:
    await layer.create_indexes()

    lines = await start()
    await layer.get_user("nobody")

    assert len(lines) == 1


async def test_no_secret_and_no_route_are_told(
    start: Start, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAINLIT_AUTH_SECRET")
    layer = MongoDataLayer(mongo_uri, database=database_name, serve_files=False, indexes="create")
    config.code.data_layer = lambda: layer

    secret, route, server, created = await start()
    await layer.close()

    assert secret.startswith("WARNING Links to files cannot be signed: no secret is set.")
    assert route.startswith("WARNING Links to files lead nowhere: serve_files=False")
    assert server.startswith("INFO MongoDB ")
    assert created == f"INFO Indexes created: {len(DECLARED)}."


async def test_the_routes_for_probes_are_mounted(start: Start, layer: MongoDataLayer) -> None:
    await start()
    await start()

    paths = [getattr(route, "path", "") for route in chainlit_app.router.routes]
    assert (paths.count("/healthz"), paths.count("/readyz")) == (1, 1)


async def test_an_apps_own_route_for_probes_stays(start: Start, layer: MongoDataLayer) -> None:
    async def own(_request: Request) -> Response:
        return Response()

    chainlit_app.router.routes.insert(0, Route("/healthz", own, name="own"))

    await start()

    names = [getattr(route, "name", "") for route in chainlit_app.router.routes]
    assert names[0] == "own"
    assert "mongo_datalayer_live" not in names


async def test_a_server_that_is_away_does_not_stop_the_app(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "ANSWER_SECONDS", 0.3)
    layer = MongoDataLayer("mongodb://127.0.0.1:1")
    config.code.data_layer = lambda: layer

    lines = await start()
    await layer.close()

    assert lines == ["ERROR MongoDB at 127.0.0.1:1 cannot be used yet: it refuses connections"]


async def test_a_mounted_app_is_told_with_its_first_call(
    layer: MongoDataLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Starlette runs no lifespan of a mounted app."""
    caplog.set_level(logging.INFO, "mongo_datalayer")

    await layer.get_user("nobody")
    await layer.begin()

    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


async def test_scripts_are_told_nothing(
    mongo_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mongo_datalayer")
    layer = MongoDataLayer(mongo_uri, database=database_name)

    await layer.get_user("nobody")
    await layer.close()

    assert caplog.messages == []


async def test_a_script_may_have_its_indexes_made(
    mongo_uri: str, database_name: str, database: Database
) -> None:
    layer = MongoDataLayer(mongo_uri, database=database_name, indexes="create")

    await layer.get_user("nobody")
    await layer.close()

    assert "user_activity" in await database.threads.index_information()


# The route of the files -----------------------------------------------------------------------


def route_storages() -> int:
    return [getattr(route, "name", None) for route in chainlit_app.router.routes].count(ROUTE_NAME)


async def test_the_layer_mounts_its_route_where_the_server_runs(
    mongo_uri: str, served: None, database: Database
) -> None:
    unserved = MongoDataLayer(mongo_uri, serve_files=False)
    assert not is_mounted()
    layer = MongoDataLayer(mongo_uri)
    assert route_storages() == 1
    first = chainlit_app.router.routes[0]

    # Another one, such as a script's, leaves it; the app's own call replaces it.
    other = MongoDataLayer(mongo_uri, database="other")
    assert chainlit_app.router.routes[0] is first
    mount_files(layer.storage_client)
    mount_files(GridFSStorageClient(database))
    assert route_storages() == 1
    assert chainlit_app.router.routes[0] is not first
    for each in (unserved, layer, other):
        await each.close()


async def test_elsewhere_it_mounts_nothing(mongo_uri: str) -> None:
    layer = MongoDataLayer(mongo_uri)

    assert not is_mounted()
    await layer.close()


# Failed writes --------------------------------------------------------------------------------


async def test_a_failed_write_of_a_chat_is_one_line_in_the_log(
    mongo_uri: str, database_name: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    from mongo_datalayer.testing.contract import step
    from tests.chainlit.chats import in_chat

    await database.create_collection("threads", validator={"steps.name": {"$ne": "refused"}})
    layer = MongoDataLayer(mongo_uri, database=database_name)
    with in_chat("t"):
        # As Chainlit makes them: nobody keeps them, nobody awaits them.
        task = asyncio.ensure_future(layer.create_step(step("t", id="s", name="refused")))
        await asyncio.wait({task})
    del task
    await layer.close()

    assert caplog.messages == [
        "create_step of s in thread t failed: Document failed validation. "
        "Run `mongo-datalayer doctor`."
    ]


async def test_a_file_that_is_not_stored_is_one_line_too(
    mongo_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    from chainlit.data.storage_clients.base import BaseStorageClient
    from chainlit.element import File

    from tests.chainlit.chats import in_chat

    class Broken(BaseStorageClient):
        async def upload_file(self, *_: Any, **__: Any) -> dict[str, Any]:
            raise OSError("the disk is full")

        async def delete_file(self, *_: Any) -> bool:
            return True

        async def get_read_url(self, *_: Any) -> str:
            return ""

        async def close(self) -> None:
            pass

    layer = MongoDataLayer(mongo_uri, database=database_name, storage_client=Broken())
    with in_chat("t"):
        element = File(id="e", name="f", content=b"x", thread_id="t")
        task = asyncio.ensure_future(layer.create_element(element))
        await asyncio.wait({task})
    del task
    await layer.close()

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("create_element of e in thread t failed: Broken could not")
