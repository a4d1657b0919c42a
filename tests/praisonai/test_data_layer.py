"""What the two classes take, refuse and say; none of it needs PraisonAI."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from chainlit.types import Pagination, ThreadFilter

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.errors import ConfigurationError, MongoDataLayerError
from mongo_datalayer.praisonai import DatabaseManager, SQLAlchemyDataLayer

VARIABLES = ("MONGODB_URI", "MONGODB_DATABASE", "DATABASE_URL", "SUPABASE_DATABASE_URL")
URI = "mongodb://localhost:27017"


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the data layer below was given, without connecting anything."""
    given: list[dict[str, Any]] = []

    def note(_self: object, uri: str, **options: Any) -> None:
        given.append({"uri": uri, **options})

    monkeypatch.setattr(MongoDataLayer, "__init__", note)
    return given


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        ("sqlite+aiosqlite:////home/ada/.praison/database.sqlite", None),
        ("sqlite:///chat.db", None),
        (
            "postgresql+asyncpg://ada:secret@db.example:5432/chat?ssl=require",
            "postgresql+asyncpg://ada:***@db.example:5432/chat",
        ),
        ("postgres://db.example/chat", None),
        ("mysql+aiomysql://ada@db.example/chat", None),
    ],
)
def test_a_sql_url_is_refused_with_the_command_that_moves_the_data(
    conninfo: str, shown: str | None
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SQLAlchemyDataLayer(conninfo)

    assert f"mongo-datalayer migrate run '{shown or conninfo}' --uri " in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("conninfo", ["redis://localhost", "chat.db", ""])
def test_what_is_no_address_is_refused(conninfo: str) -> None:
    with pytest.raises(ConfigurationError):
        SQLAlchemyDataLayer(conninfo)


def test_a_storage_client_without_links_is_refused() -> None:
    class LocalFileStorageClient:
        async def upload_file(self) -> None: ...

    client: Any = LocalFileStorageClient()
    with pytest.raises(ConfigurationError, match=r"LocalFileStorageClient has no get_read_url"):
        SQLAlchemyDataLayer(URI, storage_provider=client)


@pytest.mark.parametrize(
    ("conninfo", "wanted"),
    [
        ("mongodb://a:1,b:2", "mongodb://a:1,b:2/?tls=true"),
        ("mongodb+srv://u:p@a.example/chat", "mongodb+srv://u:p@a.example/chat?tls=true"),
        ("mongodb://a/?w=majority", "mongodb://a/?w=majority&tls=true"),
        ("mongodb://a/?ssl=TRUE", "mongodb://a/?ssl=TRUE"),
    ],
)
def test_ssl_require_connects_with_tls(
    conninfo: str, wanted: str, opened: list[dict[str, Any]]
) -> None:
    SQLAlchemyDataLayer(conninfo, True)
    SQLAlchemyDataLayer(conninfo)

    assert [given["uri"] for given in opened] == [wanted, conninfo]


def test_ssl_require_and_a_uri_without_tls_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="tls=false"):
        SQLAlchemyDataLayer("mongodb://a/?tls=false", ssl_require=True)


def test_the_manager_takes_its_address_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, opened: list[dict[str, Any]]
) -> None:
    for name in ("DATABASE_URL", "SUPABASE_DATABASE_URL", "MONGODB_URI"):
        monkeypatch.setenv(name, f"mongodb://{name.lower()}")
        DatabaseManager()
    monkeypatch.setenv("MONGODB_DATABASE", "chat")
    manager = DatabaseManager()

    addresses = [f"mongodb://{name}" for name in ("database_url", "supabase_database_url")]
    assert [given["uri"] for given in opened] == [*addresses, *["mongodb://mongodb_uri"] * 2]
    assert [given["database"] for given in opened] == [None, None, None, "chat"]
    assert manager.conninfo == manager.database_url == "mongodb://mongodb_uri"


def test_without_an_address_the_manager_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"MONGODB_URI.*migrate run ~/\.praison"):
        DatabaseManager()
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:secret@db/chat")
    with pytest.raises(ConfigurationError, match=r"migrate run 'postgresql://ada:\*\*\*@db/chat'"):
        DatabaseManager()


async def test_sql_is_answered_with_a_hint() -> None:
    layer = SQLAlchemyDataLayer(URI)

    with pytest.raises(MongoDataLayerError, match="SELECT 1"):
        await layer.execute_sql("SELECT 1", {})
    with pytest.raises(AttributeError, match="There is no SQL in MongoDB"):
        _ = layer.engine
    with pytest.raises(MongoDataLayerError, match="DatabaseManager"):
        SQLAlchemyDataLayer.from_env()
    await layer.close()


@pytest.mark.filterwarnings("ignore:Unclosed AsyncMongoClient:ResourceWarning")
def test_the_app_may_save_and_load_settings_on_a_loop_of_the_moment(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PraisonAI's chat runs each of these calls with ``asyncio.run``."""
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)
    manager = DatabaseManager()

    manager.initialize()
    asyncio.run(manager.create_schema_async())
    asyncio.run(manager.save_setting("model_name", "gpt-4o-mini"))
    loaded = asyncio.run(manager.load_setting("model_name"))

    assert loaded == "gpt-4o-mini"
    with pytest.raises(MongoDataLayerError, match="create_schema_async"):
        manager.create_schema_sqlite()
    asyncio.run(manager.close())
    del manager
    gc.collect()  # each loop had a client of its own, and those complain when they are collected


async def test_a_cursor_of_somebody_elses_thread_starts_over(
    mongo_uri: str, database_name: str
) -> None:
    layer = SQLAlchemyDataLayer(mongo_uri, database=database_name)
    for user, thread_id in (("ada", "a"), ("ada", "b"), ("bob", "c")):
        await layer.update_thread(thread_id, name="A chat", user_id=user)

    pages = [
        await layer.list_threads(Pagination(first=1, cursor=cursor), ThreadFilter(userId="ada"))
        for cursor in (None, "b", "c", "a")
    ]

    assert [[thread["id"] for thread in page.data] for page in pages] == [["b"], ["a"], ["b"], []]
    assert [page.pageInfo.hasNextPage for page in pages] == [True, False, True, False]
    await layer.close()
