"""The Python on the pages: it compiles, and what can run here runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chainlit.config import config
from chainlit.server import app as chainlit_app
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.files.route import ROUTE_NAME
from tests.docs.pages import DOCS, PAGES, README, code_blocks, page_name
from tests.docs.reader import environment, free_port, serving
from tests.migrate.sources import TABLES

GETTING_STARTED = DOCS / "getting-started.md"
CONFIGURATION = DOCS / "configuration.md"


@pytest.fixture
def _chainlit_unchanged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what an example registers with Chainlit."""
    monkeypatch.setattr(config, "code", config.code.model_copy())
    routes = list(chainlit_app.router.routes)
    yield
    chainlit_app.router.routes[:] = routes


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_on_a_page_compiles(page: Path) -> None:
    for number, code in enumerate(code_blocks(page, "python")):
        compile(code, f"{page_name(page)}[{number}]", "exec")


@pytest.mark.usefixtures("_chainlit_unchanged")
async def test_the_three_lines_of_the_readme_make_a_data_layer(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)

    _run(code_blocks(README, "python")[0])

    assert config.code.data_layer is not None
    layer = config.code.data_layer()
    assert isinstance(layer, MongoDataLayer)
    assert await layer.get_user("nobody") is None
    await layer.close()


def test_the_three_lines_are_the_same_everywhere() -> None:
    three_lines = code_blocks(README, "python")[0]

    assert code_blocks(GETTING_STARTED, "python")[0].startswith(three_lines)


@pytest.mark.usefixtures("_chainlit_unchanged")
async def test_the_first_app_of_getting_started_defines_what_a_history_needs(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongo_uri)

    _run(code_blocks(GETTING_STARTED, "python")[0])

    code = config.code
    assert isinstance(code.data_layer and code.data_layer(), MongoDataLayer)
    assert code.on_message is not None
    assert code.on_chat_resume is not None
    assert code.password_auth_callback is not None
    user = await code.password_auth_callback("alice", "alice")
    assert user is not None
    assert await code.password_auth_callback("alice", "wrong") is None


@pytest.mark.usefixtures("_chainlit_unchanged")
async def test_the_file_example_mounts_the_route(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    example = next(c for c in code_blocks(GETTING_STARTED, "python") if "mount_files(" in c)

    names = _run(example)

    assert getattr(names["app"].router.routes[0], "name", None) == ROUTE_NAME
    await names["layer"].close()


@pytest.mark.parametrize("code", code_blocks(CONFIGURATION, "python"))
async def test_the_examples_of_the_configuration_run(code: str) -> None:
    names = _run(code)

    assert isinstance(names["layer"], MongoDataLayer)
    await names["client"].close()


async def test_the_example_of_the_search_index_makes_a_layer(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongo_uri)

    names = _run(code_blocks(DOCS / "administration.md", "python")[0])

    assert isinstance(names["layer"], MongoDataLayer)
    await names["layer"].close()


async def test_the_example_of_a_migration_moves_a_database(
    database: AsyncDatabase[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(tmp_path / "chainlit.db") as old:
        for name, columns in TABLES.items():
            old.execute(f"CREATE TABLE {name} ({columns})")
        old.execute("INSERT INTO users (id, identifier, metadata) VALUES ('u1', 'alice', '{}')")
    old.close()
    monkeypatch.chdir(tmp_path)
    (example,) = code_blocks(DOCS / "migrating.md", "python")

    await _run(example)["move"](database)

    assert await database.users.count_documents({"identifier": "alice"}) == 1


async def test_the_examples_with_mongomock_run() -> None:
    assert isinstance(_run(code_blocks(README, "python")[1])["layer"], MongoDataLayer)
    example = next(c for c in code_blocks(GETTING_STARTED, "python") if "async def test_" in c)

    test = _run(example)["test_a_user_is_kept"]

    # The page names pytest-asyncio, and nothing else configures it there.
    assert [mark.name for mark in test.pytestmark] == ["asyncio"]
    await test()


def test_the_first_app_of_getting_started_runs_by_the_pages_commands(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(code_blocks(GETTING_STARTED, "python")[0], encoding="utf-8")
    shell = code_blocks(GETTING_STARTED, "sh")
    (run,) = (block for block in shell if block.startswith("chainlit run"))
    (secret,) = (block for block in shell if "CHAINLIT_AUTH_SECRET" in block)
    set_secret = next(line for line in secret.splitlines() if "CHAINLIT_AUTH_SECRET" in line)
    port = free_port()
    script = f"{set_secret}\nexec {run.strip()} --headless --port {port}"
    env = environment(MONGODB_URI=mongo_uri, MONGODB_DATABASE=database_name)
    env["CHAINLIT_APP_ROOT"] = str(tmp_path)

    with serving(["bash", "-ec", script], tmp_path, port, env) as log:
        login = {"username": "alice", "password": "alice"}
        answer = httpx.post(f"http://127.0.0.1:{port}/login", data=login, timeout=30)

    assert answer.status_code == 200, log.read_text()
    assert "Traceback" not in log.read_text()


def _run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)  # noqa: S102 - our own documentation
    return names
