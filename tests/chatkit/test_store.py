"""Making a store, whose data it is, and what stands in the database."""

from __future__ import annotations

import os
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from chatkit.types import AttachmentCreateParams, HiddenContextItem
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.model.documents import ChatKitAttachmentDocument, ChatKitThreadDocument
from mongo_datalayer.schema.validators import MODELS, apply_validators, find_misfits
from mongo_datalayer.testing.chatkit_contract import at, message, thread
from tests.chatkit.conftest import links

Database = AsyncDatabase[dict[str, Any]]
Store = MongoChatKitStore[Any]


def test_a_uri_or_a_client_not_both() -> None:
    with pytest.raises(ConfigurationError, match="exactly one"):
        MongoChatKitStore[Any]()
    with pytest.raises(ConfigurationError, match="exactly one"):
        MongoChatKitStore[Any]("mongodb://x", client=object())


async def test_the_environment_names_the_database(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="MONGODB_URI"):
        MongoChatKitStore[Any].from_env()
    monkeypatch.setitem(os.environ, "MONGODB_URI", mongo_uri)
    monkeypatch.setitem(os.environ, "MONGODB_DATABASE", database_name)
    store = MongoChatKitStore[Any].from_env(user_id=lambda context: "x")
    await store.save_thread(thread(), None)
    assert await store._database["chatkit_threads"].count_documents({"_id.owner": "x"}) == 1
    await store.close()
    await store.close()


async def test_a_borrowed_client_stays_open(
    client: AsyncMongoClient[dict[str, Any]], database: Database, ada: Any
) -> None:
    store = MongoChatKitStore[Any](client=client, database=database.name)
    await store.save_thread(thread(), ada)
    await store.close()
    assert await database["chatkit_threads"].count_documents({}) == 1


@pytest.mark.parametrize(
    "context", [{"user_id": "ada"}, SimpleNamespace(user_id="ada")], ids=["key", "attribute"]
)
async def test_the_owner_is_the_contexts_user(store: Store, context: Any) -> None:
    await store.save_thread(thread(), context)
    assert await store.load_thread("t", {"user_id": "ada"}) == thread()


NO_OWNERS = [None, "", "  \n", "\ud800", False, True, 1.5, b"ada", ["ada"], {"$ne": None}, object()]


@pytest.mark.parametrize(
    "context", [None, {}, SimpleNamespace(), *({"user_id": owner} for owner in NO_OWNERS)]
)
async def test_without_an_owner_nothing_is_done(
    store: Store, database: Database, context: Any
) -> None:
    for operation in (
        lambda: store.load_thread("t", context),
        lambda: store.save_thread(thread(), context),
        lambda: store.load_threads(1, None, "asc", context),
        lambda: store.delete_thread("t", context),
        lambda: store.load_thread_items("t", None, 1, "asc", context),
        lambda: store.add_thread_item("t", message("i"), context),
        lambda: store.save_item("t", message("i"), context),
        lambda: store.load_item("t", "i", context),
        lambda: store.delete_thread_item("t", "i", context),
        lambda: store.add_feedback("t", ["i"], "positive", context),
        lambda: store.load_attachment("a", context),
        lambda: store.delete_attachment("a", context),
        lambda: store.read_attachment("a", context),
    ):
        with pytest.raises(ConfigurationError, match="owner"):
            await operation()
    assert await database["chatkit_threads"].count_documents({}) == 0


async def test_a_function_may_name_the_owner(mongo_uri: str, database_name: str) -> None:
    store = MongoChatKitStore[int](
        mongo_uri, database=database_name, user_id=lambda number: f"user {number}"
    )
    await store.save_thread(thread(), 7)
    assert (await store.load_threads(9, None, "asc", 7)).data == [thread()]
    assert (await store.load_threads(9, None, "asc", 8)).data == []
    await store.close()


async def test_an_int_or_a_uuid_may_be_the_owner(store: Store) -> None:
    for owner in (0, 7, uuid.UUID(int=7)):
        await store.save_thread(thread(f"of {owner}"), {"user_id": owner})
        page = await store.load_threads(9, None, "asc", {"user_id": str(owner)})
        assert [found.id for found in page.data] == [f"of {owner}"]


async def test_an_async_function_cannot_name_the_owner(mongo_uri: str, database_name: str) -> None:
    async def owner(context: Any) -> str:
        return "ada"

    store = MongoChatKitStore[Any](mongo_uri, database=database_name, user_id=owner)  # type: ignore[arg-type]  # mypy refuses it, too
    with pytest.raises(ConfigurationError, match="user_id= is an async function"):
        await store.save_thread(thread(), None)
    await store.close()


async def test_a_thread_can_be_read_in_the_shell(
    store: Store, database: Database, ada: Any
) -> None:
    await store.save_thread(thread(title="Titled"), ada)
    await store.add_thread_item("t", message("i", text="words"), ada)
    await store.add_feedback("t", ["i"], "negative", ada)
    await store.save_item("t", message("i", text="other words"), ada)

    stored: Any = await database["chatkit_threads"].find_one({"_id": {"owner": "ada", "id": "t"}})

    assert stored["thread"]["title"] == "Titled"
    (item,) = stored["items"]
    assert (item["id"], item["type"]) == ("i", "user_message")
    assert item["item"]["content"][0]["text"] == "other words"
    assert item["feedback"]["kind"] == "negative"
    assert item["sortKey"].startswith("2026-03-01T10:00:00.123456 ")
    model = ChatKitThreadDocument.model_validate(stored)
    assert model.model_extra == {}


async def test_what_the_store_writes_fits_the_validators(
    store: Store, database: Database, ada: Any
) -> None:
    await apply_validators(database, "error")
    await store.save_thread(thread(), ada)
    await store.add_thread_item("t", message("i"), ada)
    large = HiddenContextItem(id="l", thread_id="t", created_at=at(), content="x" * 300_000)
    await store.add_thread_item("t", large, ada)
    await store.add_feedback("t", ["i"], "positive", ada)
    await store.delete_thread_item("t", "i", ada)
    params = AttachmentCreateParams(name="n", size=1, mime_type="image/png")
    made = await store.create_attachment(params, ada)
    await store.save_attachment(made, ada)
    await store.save_thread(thread("gone"), ada)
    await store.delete_thread("gone", ada)
    await store.delete_attachment(made.id, ada)
    made = await store.create_attachment(params, ada)
    for name in MODELS:
        assert [misfit async for misfit in find_misfits(database, name)] == []
    async for stored in database["chatkit_attachments"].find({}):
        assert ChatKitAttachmentDocument.model_validate(stored).model_extra == {}


async def test_an_item_of_any_size_is_kept(store: Store, database: Database, ada: Any) -> None:
    """Also beyond the 16 MB that a document may have."""

    def large(letter: str) -> HiddenContextItem:
        return HiddenContextItem(
            id="l", thread_id="t", created_at=at(), content=letter * 20_000_000
        )

    await store.save_thread(thread(), ada)
    await store.add_thread_item("t", large("x"), ada)
    await store.add_thread_item("t", large("x"), ada)  # the very same
    assert await store.load_item("t", "l", ada) == large("x")
    another = large("y").model_copy(update={"created_at": at(1)})
    with pytest.raises(Exception, match="nother item"):
        await store.add_thread_item("t", another, ada)
    (loaded,) = (await store.load_thread_items("t", None, 9, "asc", ada)).data
    assert loaded == large("x")
    await store.save_item("t", large("z"), ada)
    assert await store.load_item("t", "l", ada) == large("z")
    assert await database["fs.files"].count_documents({}) == 1
    await store.save_item("t", message("l"), ada)
    assert await store.load_item("t", "l", ada) == message("l")
    assert await database["fs.files"].count_documents({}) == 0
    await store.save_item("t", large("z"), ada)
    await store.delete_thread("t", ada)
    assert await database["fs.files"].count_documents({}) == 0


async def test_one_database_serves_chainlit_too(
    mongo_uri: str, database: Database, store: Store, ada: Any
) -> None:
    layer = MongoDataLayer(mongo_uri, database=database.name)
    await layer.update_thread("t", name="Chainlit's")
    await store.save_thread(thread(title="ChatKit's"), ada)
    await store.delete_thread("t", ada)
    found: Any = await layer.get_thread("t")
    assert found["name"] == "Chainlit's"
    await layer.close()


def test_ids_may_be_made_otherwise(mongo_uri: str) -> None:
    class Counting(MongoChatKitStore[Any]):
        def generate_thread_id(self, context: Any) -> str:
            return f"{context['user_id']}-1"

    store = Counting(mongo_uri, links=links())
    assert store.generate_thread_id({"user_id": "ada"}) == "ada-1"


@pytest.mark.parametrize("item", [None, 7, {}, {"id": "odd", "sortKey": "2026", "item": {"a": 1}}])
async def test_a_damaged_item_does_not_hide_the_others(
    store: Store, ada: Any, database: Any, caplog: pytest.LogCaptureFixture, item: Any
) -> None:
    await store.save_thread(thread("t"), ada)
    for number in range(3):
        await store.add_thread_item("t", message(f"m{number}", number), ada)
    await database.chatkit_threads.update_one({}, {"$push": {"items": {"$each": [item]}}})

    page = await store.load_thread_items("t", None, 20, "asc", ada)
    assert [found.id for found in page.data] == ["m0", "m1", "m2"]
    assert ("'odd'" in caplog.text) == (item is not None and item != 7 and item != {})


async def test_a_damaged_thread_does_not_hide_the_others(
    store: Store, ada: Any, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        await store.save_thread(thread(name), ada)
    await database.chatkit_threads.update_one({"_id.id": "b"}, {"$set": {"thread": {"id": 5}}})

    page = await store.load_threads(20, None, "asc", ada)
    assert [found.id for found in page.data] == ["a", "c"]
    assert "Damaged, and left out: 'b'" in caplog.text
