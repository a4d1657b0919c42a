"""The contracts on servers that lack what MongoDB has, and messages where nothing can be done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from chainlit.types import Pagination, ThreadFilter
from chainlit.user import User
from chatkit.types import ThreadMetadata
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.errors import InvalidCursorError
from mongo_datalayer.mongodb.unsupported import is_unsupported
from mongo_datalayer.server import LocalServer
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.contract import DataLayerContract, LongThreadContract, step
from tests.chatkit.conftest import links
from tests.cli.commands import run
from tests.servers.refusing_server import refusing_server

SMALL = overflow.Bounds(main=300, kept=100, value=60)
JOINS = "$unionWith"


def refuse_joins(command: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """As Azure Cosmos DB does: no $unionWith, and $lookup without variables and pipelines."""
    for stage in command.get("pipeline", ()):
        if JOINS in stage:
            return {"code": 40324, "errmsg": f"Unrecognized pipeline stage name: '{JOINS}'"}
        if {"let", "pipeline"} & stage.get("$lookup", {}).keys():
            return {"code": 2, "errmsg": "let is not supported"}
    return None


def port(uri: str) -> int:
    found = urlsplit(uri).port
    assert found is not None
    return found


@pytest.fixture(scope="module")
def without_joins(mongo_uri: str) -> Iterator[str]:
    with refusing_server(port(mongo_uri), refuse_joins) as uri:
        yield uri


class TestDataLayerWithoutJoins(DataLayerContract):
    """Next to nothing fits into one document, so that all that is joined elsewhere is needed."""

    @pytest.fixture
    async def layer(
        self, without_joins: str, database_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[MongoDataLayer]:
        monkeypatch.setattr(overflow, "BOUNDS", SMALL)
        layer = MongoDataLayer(without_joins, database=database_name)
        await layer.create_indexes()
        yield layer
        await layer.close()


def break_joins(command: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """As a server that claims joins and fails at those of a field with a pipeline."""
    stages = list(command.get("pipeline", ()))
    for stage in stages:
        stages += stage.get(JOINS, {}).get("pipeline", ())
        if {"localField", "pipeline"} <= stage.get("$lookup", {}).keys():
            return {"code": 8, "errmsg": "broken"}
    return None


@pytest.mark.parametrize(
    "test",
    [
        "test_search_finds_the_oldest_and_the_newest_step",
        "test_the_oldest_step_is_found_by_its_feedback",
        "test_the_oldest_step_may_be_a_favorite",
    ],
)
async def test_a_server_that_joins_badly_fails_the_contract(
    mongo_uri: str, database_name: str, test: str
) -> None:
    with refusing_server(port(mongo_uri), break_joins) as uri:
        layer = MongoDataLayer(uri, database=database_name)
        try:
            with pytest.raises(OperationFailure, match="broken"):
                await getattr(LongThreadContract(), test)(layer)
        finally:
            await layer.close()


async def test_pages_of_chatkit_threads(without_joins: str, database_name: str) -> None:
    store = MongoChatKitStore[Any](without_joins, database=database_name, links=links())
    context = {"user_id": "ada"}
    for number in range(5):
        await store.save_thread(thread(number), context)
    for order in ("asc", "desc"):
        ids: list[str] = []
        after = None
        for _ in range(3):
            page = await store.load_threads(2, after, order, context)
            ids += [each.id for each in page.data]
            after = page.after
        numbers = range(5) if order == "asc" else range(4, -1, -1)
        assert ids == [f"t{number}" for number in numbers]
    with pytest.raises(InvalidCursorError):
        await store.load_threads(2, "unknown", "asc", context)
    await store.close()


def thread(number: int) -> ThreadMetadata:
    return ThreadMetadata(id=f"t{number}", created_at=datetime(2026, 1, number + 1))  # noqa: DTZ001 - as ChatKit makes them


async def test_the_way_is_chosen_once_for_a_connection(
    mongo_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Mapping[str, Any]] = []

    def refuse(command: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if next(iter(command)) in ("aggregate", "find"):
            sent.append(command)
        return refuse_joins(command)

    caplog.set_level("INFO", logger="mongo_datalayer")
    with refusing_server(port(mongo_uri), refuse) as uri:
        layer = MongoDataLayer(uri, database=database_name)
        user = await layer.create_user(User(identifier="ada"))
        await layer.update_thread("t", user_id=user.id, name="Chat")
        await layer.create_step(step("t", id="s", metadata={"favorite": True}))
        counts = []
        for _ in range(2):
            sent.clear()
            favorites = await layer.get_favorite_steps(user.id)
            counts.append(len(sent))
        sent.clear()
        found = await layer.list_threads(
            Pagination(first=5), ThreadFilter(userId=user.id, feedback=1)
        )
        await layer.close()

    assert [each["id"] for each in favorites] == ["s"]
    assert found.data == []
    assert counts == [3, 2]  # the first one was refused
    assert len(sent) == 1
    assert caplog.text.count("Collections are read apart") == 1


async def test_a_step_that_moves_while_collections_are_read_apart_is_found(
    mongo_uri: str, database_name: str, server_client: MongoClient[dict[str, Any]]
) -> None:
    database = server_client[database_name]
    rated = {"id": "s", "output": "words", "feedback": {"id": "f", "value": 1}}
    time = datetime(2026, 1, 1, tzinfo=timezone.utc)
    moved: list[str] = []

    def move_before_the_main_documents_are_read(
        command: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        if "aggregate" in command and not moved and _reads_apart(command):
            moved.append("s")
            database.thread_overflow.insert_one({"_id": "1", "thread": "t", "steps": [rated]})
            change = {"$pull": {"steps": {"id": "s"}}, "$push": {"overflowIds": "1"}}
            database.threads.update_one({"_id": "t"}, change)
        return refuse_joins(command)

    with refusing_server(port(mongo_uri), move_before_the_main_documents_are_read) as uri:
        layer = MongoDataLayer(uri, database=database_name)
        user = await layer.create_user(User(identifier="ada"))
        main = {"_id": "t", "userId": user.id, "createdAt": time, "updatedAt": time}
        long = {"overflow": True, "overflowIds": ["0"], "steps": [rated]}
        database.threads.insert_one({**main, **long})
        database.thread_overflow.insert_one({"_id": "0", "thread": "t", "steps": []})
        found = await layer.list_threads(
            Pagination(first=5), ThreadFilter(userId=user.id, feedback=1)
        )
        await layer.close()

    assert moved
    assert [thread["id"] for thread in found.data] == ["t"]


def _reads_apart(command: Mapping[str, Any]) -> bool:
    text = str(command["pipeline"])
    return JOINS not in text and "{'_id': {'$in': [" in text


async def test_the_search_index_is_left_where_it_cannot_be_used(
    mongo_uri: str, without_joins: str, database_name: str
) -> None:
    layer = MongoDataLayer(without_joins, database=database_name, search_index=True)
    await layer.create_indexes()
    user = await layer.create_user(User(identifier="ada"))
    for number in range(30):
        await layer.update_thread(f"t{number}", user_id=user.id, name=f"Chat {number}")
        await layer.create_step(step(f"t{number}", id=f"s{number}", output=f"word{number:04}"))
    where = ("--uri", mongo_uri, "--database", database_name)
    built = await run("search-index", "build", *where)
    found = await layer.list_threads(
        Pagination(first=5), ThreadFilter(userId=user.id, search="word0007")
    )
    await layer.close()

    assert built.code == 0, built
    assert [thread["id"] for thread in found.data] == ["t7"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (301, "Retryable writes are not supported"),
        (2, "Retryable writes are not supported. Please disable them in the connection string."),
    ],
)
async def test_refused_retryable_writes_say_what_to_set(
    replica_uri: str, database_name: str, code: int, said: str
) -> None:
    def refuse(command: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return {"code": code, "errmsg": said} if "txnNumber" in command else None

    with refusing_server(port(replica_uri), refuse) as uri:
        layer = MongoDataLayer(f"{uri}/?directConnection=true", database=database_name)
        with pytest.raises(OperationFailure, match="Add retryWrites=false to the MongoDB URI"):
            await layer.update_thread("t", name="Chat")
        await layer.close()
        told = f"{uri}/?directConnection=true&retryWrites=false"
        layer = MongoDataLayer(told, database=database_name)
        await layer.update_thread("t", name="Chat")
        await layer.close()


@pytest.fixture(scope="module")
def replica_uri() -> Iterator[str]:
    """A replica set of one: the driver sends a lone server no retryable writes."""
    with LocalServer(arguments=["--replSet", "rs"]) as server:
        with MongoClient[dict[str, Any]](server.uri, directConnection=True) as client:
            member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
            client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
        with MongoClient[dict[str, Any]](f"{server.uri}/?replicaSet=rs") as client:
            client.admin.command("ping")  # waits until the member has been elected
        yield server.uri


@pytest.mark.parametrize(
    ("code", "said", "unsupported"),
    [
        (40324, "Unrecognized pipeline stage name: '$unionWith'", True),
        (304, "Aggregation stage not supported: '$unionWith'", True),
        (2, "let is not supported", True),
        (13, "not authorized on chat", False),
        (50, "operation exceeded time limit", False),
    ],
)
def test_what_counts_as_not_known(code: int, said: str, unsupported: bool) -> None:
    assert is_unsupported(OperationFailure(said, code)) is unsupported
