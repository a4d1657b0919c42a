"""Every command with MongoDB's Stable API, strict: what is not in it is refused by the server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import chainlit as cl
import pytest
from click.testing import CliRunner, Result
from pymongo import MongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.cli import main
from mongo_datalayer.config import LEAST_SERVER_OF_VIEWS
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.mongodb.client import connect
from tests.chainlit.order.turn import Turn
from tests.cli.people import small_documents
from tests.end_to_end.secured.test_app import COMMANDS, FILE

LAYERS = [MongoDataLayer, MongoChatKitStore]


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_DATALAYER_SERVER_API", "1-strict")
    monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", "a secret of the tests " * 2)


def test_every_command(
    strict: None,
    where: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server_client: MongoClient[dict[str, Any]],
) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(_chat(*where))
    done: dict[tuple[str, ...], Result] = {}
    for command in COMMANDS:
        words = ["export.jsonl" if word == FILE else word for word in command]
        done[command] = CliRunner().invoke(main, [*words, *where])

    failed = {words for words, ended in done.items() if ended.exit_code}
    expected: set[tuple[str, ...]] = {
        ("scaling", "plan")
    }  # this server is none of a sharded cluster
    if tuple(server_client.server_info()["versionArray"][:2]) < LEAST_SERVER_OF_VIEWS:
        expected |= {words for words in done if "views" in words}
    assert failed == expected
    lines = done[("doctor",)].output.splitlines()
    told = (line.removeprefix("warning") for line in lines if "strict Stable API" in line)
    unknown = {line.strip().split("  ")[0] for line in told}
    assert unknown == {"server version", "access", "disk"}
    stats = json.loads(CliRunner().invoke(main, ["stats", "--json", *where]).output)
    sizes = {each["name"]: each for each in stats["collections"]}
    assert sizes["threads"]["documents"] > 0
    assert sizes["threads"]["bytes"] is None


async def _chat(_uri: str, uri: str, _database: str, database: str) -> None:
    for name in ("of zoe", "long"):
        with small_documents():
            layer = MongoDataLayer(uri, database=database, server_api="1-strict")
        await layer.create_indexes()
        user = await layer.create_user(cl.User(identifier="zoe"))
        for call in Turn(name, user.id).calls:
            await call.run(layer)
        await layer.close()


@pytest.mark.parametrize("front", LAYERS)
def test_the_environment_and_the_argument(
    strict: None, front: type[MongoDataLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://localhost")
    from_env = front.from_env()
    argued = front.from_env(server_api="1")

    options = [each._connection._client.options for each in (from_env, argued)]
    found = [each.pool_options.server_api for each in options]
    assert [each and (each.version, each.strict) for each in found] == [("1", True), ("1", False)]
    asyncio.run(from_env.close())
    asyncio.run(argued.close())


@pytest.mark.parametrize("front", LAYERS)
def test_what_cannot_be_used(front: type[MongoDataLayer]) -> None:
    with pytest.raises(ConfigurationError, match="server_api='2' cannot be used"):
        front("mongodb://localhost", server_api="2")
    client = connect("mongodb://localhost")
    with pytest.raises(ConfigurationError, match="with a URI only"):
        front(client=client, server_api="1")
    asyncio.run(client.close())


def test_a_wrong_variable_is_named(where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_DATALAYER_SERVER_API", "2")

    done = CliRunner().invoke(main, ["doctor", *where])

    assert done.exit_code == 2
    assert "MONGO_DATALAYER_SERVER_API='2'" in done.output
