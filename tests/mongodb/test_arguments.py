"""What the constructors of both fronts refuse, before anything is connected."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import mongomock
import pytest
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore

URI = "mongodb://localhost:1"
ACCEPTED = "AsyncMongoClient, Motor's AsyncIOMotorClient or mongomock-motor's AsyncMongoMockClient"
FRONTS: list[Callable[..., Any]] = [MongoDataLayer, MongoChatKitStore]

pytestmark = pytest.mark.parametrize("front", FRONTS)


@pytest.fixture
async def client() -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](URI) as client:
        yield client


@pytest.mark.parametrize("kind", [MongoClient, mongomock.MongoClient])
async def test_a_blocking_client(front: Callable[..., Any], kind: Callable[..., Any]) -> None:
    blocking = kind(URI)

    with pytest.raises(ConfigurationError, match=r"client=….*blocking.*AsyncMongoClient") as caught:
        front(client=blocking)

    blocking.close()
    assert ACCEPTED in str(caught.value)


async def test_a_database(
    front: Callable[..., Any], client: AsyncMongoClient[dict[str, Any]]
) -> None:
    databases = [client["d"], AsyncMongoMockClient()["d"], AsyncIOMotorClient[Any](URI)["d"]]
    for database in databases:
        with pytest.raises(ConfigurationError, match=r"client=….*its name as database=…"):
            front(client=database)


@pytest.mark.parametrize(
    "value", [object(), URI, 7, AsyncMongoClient], ids=("object", "text", "int", "class")
)
def test_any_other_object(front: Callable[..., Any], value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"client=….*AsyncMongoClient, Motor's"):
        front(client=value)


async def test_a_client_as_the_first_argument(
    front: Callable[..., Any], client: AsyncMongoClient[dict[str, Any]]
) -> None:
    with pytest.raises(ConfigurationError, match=r"URI as text, not .*Pass a client as client=…"):
        front(client)


@pytest.mark.parametrize("uri", [b"mongodb://localhost", 27017, ["mongodb://localhost"]])
def test_a_uri_that_is_no_text(front: Callable[..., Any], uri: object) -> None:
    with pytest.raises(ConfigurationError, match=f"URI as text, not {type(uri).__name__}"):
        front(uri)


@pytest.mark.parametrize("value", [0, -1, -0.5, "x", "20", None, True, float("inf"), float("nan")])
async def test_a_timeout_that_is_no_positive_number(
    front: Callable[..., Any], client: AsyncMongoClient[dict[str, Any]], value: object
) -> None:
    for place in ({"uri": URI}, {"client": client}):
        with pytest.raises(ConfigurationError, match=f"timeout_ms={value!r} .*positive number"):
            front(**place, timeout_ms=value)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "ü" * 32, 7, object])
async def test_a_name_that_no_database_can_have(
    front: Callable[..., Any], client: AsyncMongoClient[dict[str, Any]], name: object
) -> None:
    for place in ({"uri": URI}, {"client": client}):
        with pytest.raises(ConfigurationError, match=r"^database=.*cannot be the name of a data"):
            front(**place, database=name)


async def test_unacknowledged_writes(front: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="The MongoDB URI asks for w=0"):
        front(f"{URI}/?w=0")
    async with AsyncMongoClient[dict[str, Any]](URI, w=0) as client:
        with pytest.raises(ConfigurationError, match=r"client=… asks for w=0"):
            front(client=client)


async def test_the_clients_that_are_accepted(
    front: Callable[..., Any], client: AsyncMongoClient[dict[str, Any]]
) -> None:
    class Own(AsyncMongoClient[dict[str, Any]]):
        """A class of the app's own."""

    motor = AsyncIOMotorClient[Any](URI)
    async with Own(URI) as own:
        for accepted in (client, own, motor, AsyncMongoMockClient()):
            await front(client=accepted, timeout_ms=1.5).close()
    motor.close()


# The database ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "chainlit"),
        ("/", "chainlit"),
        ("/staging", "staging"),
        ("/staging?w=1", "staging"),
        ("/staging.threads", "staging"),
        ("/admin", "chainlit"),  # the database to log in to
        ("/?authSource=staging", "chainlit"),
    ],
)
async def test_the_uris_database_counts_where_none_is_named(
    front: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    monkeypatch.setenv("MONGODB_URI", f"{URI}{path}")
    motor = AsyncIOMotorClient[Any](f"{URI}{path}")
    async with AsyncMongoClient[dict[str, Any]](f"{URI}{path}") as client:
        made = [
            front(f"{URI}{path}"),
            front(client=client),
            front(client=motor),
            front.from_env(),  # type: ignore[attr-defined]  # a class
        ]
    motor.close()

    assert [layer._database.name for layer in made] == [name] * 4
    for layer in made:
        await layer.close()


async def test_a_database_that_is_named_wins(front: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"{URI}/staging"
    monkeypatch.setenv("MONGODB_URI", uri)
    monkeypatch.setenv("MONGODB_DATABASE", "talks")

    made = [front(uri, database="mine"), front.from_env(), front.from_env(database="mine")]

    assert [layer._database.name for layer in made] == ["mine", "talks", "mine"]
    for layer in made:
        await layer.close()


# The environment ------------------------------------------------------------------------------


def test_from_env_without_a_uri_names_itself(front: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"MONGODB_URI is not set\. .*pass the URI to {front.__name__}\("
    ):
        front.from_env()


def test_a_misspelled_option_of_from_env(front: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", URI)

    with pytest.raises(TypeError, match="databse"):
        front.from_env(databse="mine")


def test_from_env_takes_what_the_constructor_takes(front: Any) -> None:
    taken = dict(inspect.signature(front.from_env).parameters)
    arguments = dict(inspect.signature(front.__init__).parameters)

    assert set(taken) == set(arguments) - {"self", "uri", "client"}
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in taken.values())
    for name in set(taken) - {"timeout_ms"}:
        assert taken[name].default == arguments[name].default


def test_a_bad_variable_is_named(front: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", URI)
    monkeypatch.setenv("MONGODB_DATABASE", "my chats")
    with pytest.raises(ConfigurationError, match=r"^MONGODB_DATABASE='my chats' cannot be the n"):
        front.from_env()

    monkeypatch.setenv("MONGODB_URI", "localhost:27017")
    with pytest.raises(ConfigurationError, match=r"^MONGODB_URI cannot be used: "):
        front.from_env()


@pytest.mark.parametrize("value", ["", "  "])
async def test_blank_variables_are_not_set(
    front: Any, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MONGODB_URI", URI)
    monkeypatch.setenv("MONGODB_DATABASE", value)
    monkeypatch.setenv("MONGO_DATALAYER_TIMEOUT_MS", value)

    layer = front.from_env()
    await layer.close()

    assert layer._database.name == "chainlit"


@pytest.mark.parametrize("value", [10**9, 10**30])
def test_a_timeout_that_the_driver_refuses(front: Callable[..., Any], value: int) -> None:
    with pytest.raises(ConfigurationError, match=r"timeout_ms=.*below a billion"):
        front(URI, timeout_ms=value)
