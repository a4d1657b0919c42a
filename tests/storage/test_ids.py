"""Nothing is stored under an empty id: all would share it, and nobody could find it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chainlit.element import Text
from chainlit.types import Feedback
from chainlit.user import User
from chatkit.types import FileAttachment
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.errors import InvalidIdError
from mongo_datalayer.testing.chatkit_contract import message, thread
from mongo_datalayer.testing.contract import step

Database = AsyncDatabase[dict[str, Any]]
ADA = {"user_id": "ada"}

CHAINLIT: dict[str, Callable[[MongoDataLayer], Awaitable[object]]] = {
    "update_thread": lambda layer: layer.update_thread("", name="n"),
    "update_thread without": lambda layer: layer.update_thread(None, name="n"),  # type: ignore[arg-type]  # wrong
    "its owner": lambda layer: layer.update_thread("t", user_id=""),
    "pinned": lambda layer: layer.update_pinned_state("", True),
    "delete_thread": lambda layer: layer.delete_thread(""),
    "create_user": lambda layer: layer.create_user(User(identifier="")),
    "create_step": lambda layer: layer.create_step(step("t", id="")),
    "update_step": lambda layer: layer.update_step(step("", id="s")),
    "favorite": lambda layer: layer.set_step_favorite(step("", id="s"), True),
    "delete_step": lambda layer: layer.delete_step(""),
    "upsert_feedback": lambda layer: layer.upsert_feedback(Feedback(forId="", value=1)),
    "its thread": lambda layer: layer.create_element(
        Text(id="e", thread_id="", name="n", content="c")
    ),
    "create_element": lambda layer: layer.create_element(
        Text(id="", thread_id="t", name="n", content="c")
    ),
    "delete_element": lambda layer: layer.delete_element("", "t"),
}
CHATKIT: dict[str, Callable[[MongoChatKitStore[Any]], Awaitable[object]]] = {
    "save_thread": lambda store: store.save_thread(thread(""), ADA),
    "add_thread_item": lambda store: store.add_thread_item("t", message("", 1), ADA),
    "its thread": lambda store: store.add_thread_item("", message("i", 1), ADA),
    "save_item": lambda store: store.save_item("t", message("", 1), ADA),
    "save_attachment": lambda store: store.save_attachment(
        FileAttachment(id="", name="n", mime_type="text/plain"), ADA
    ),
    "add_attachment": lambda store: store.add_attachment("", "n", "text/plain", b"c", ADA),
}


async def count(database: Database) -> int:
    names = await database.list_collection_names()
    return sum([await database[name].count_documents({}) for name in names])


@pytest.mark.parametrize("name", CHAINLIT)
async def test_chainlit(mongo_uri: str, database: Database, name: str) -> None:
    layer = MongoDataLayer(mongo_uri, database=database.name)
    with pytest.raises((InvalidIdError, ValueError), match=r"is empty|needs an 'id'"):
        await CHAINLIT[name](layer)
    assert await count(database) == 0
    await layer.close()


@pytest.mark.parametrize("name", CHATKIT)
async def test_chatkit(mongo_uri: str, database: Database, name: str) -> None:
    store = MongoChatKitStore[Any](mongo_uri, database=database.name)
    await store.save_thread(thread(), ADA)
    with pytest.raises(InvalidIdError, match="is empty"):
        await CHATKIT[name](store)
    assert await count(database) == 1
    await store.close()


async def test_reads_find_nothing(mongo_uri: str, database: Database) -> None:
    layer = MongoDataLayer(mongo_uri, database=database.name)
    assert await layer.get_thread("") is None
    assert await layer.get_thread_author("") == ""
    assert await layer.get_element("", "") is None
    assert await layer.get_user("") is None
    assert await layer.delete_feedback("") is False
    await layer.close()
