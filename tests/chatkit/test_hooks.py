"""An app's functions before ChatKit's items are stored, and after feedback is."""

from __future__ import annotations

from typing import Any

import pytest
from chatkit.store import NotFoundError

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.storage.hooks import StoredFeedback
from mongo_datalayer.testing.chatkit_contract import message, thread

ADA = {"user_id": "ada"}


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> Any:
    store = MongoChatKitStore[dict[str, str]](mongo_uri, database=database_name)
    await store.save_thread(thread(), ADA)
    yield store
    await store.close()


async def text(store: MongoChatKitStore[dict[str, str]]) -> str:
    item: Any = await store.load_item("t", "i", ADA)
    return str(item.content[0].text)


async def test_items_are_redacted(store: MongoChatKitStore[dict[str, str]]) -> None:
    @store.before_store
    def redact(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        assert kind == "item"
        for part in fields["content"]:
            part["text"] = "[redacted]"
        return fields

    item = message("i")
    await store.add_thread_item("t", item, ADA)
    assert await text(store) == "[redacted]"
    await store.save_item("t", item, ADA)
    assert await text(store) == "[redacted]"


async def test_a_refused_item_is_not_stored(store: MongoChatKitStore[dict[str, str]]) -> None:
    store.before_store(lambda _kind, _fields: None)
    await store.add_thread_item("t", message("i"), ADA)
    with pytest.raises(NotFoundError):
        await store.load_item("t", "i", ADA)


async def test_feedback_is_told(store: MongoChatKitStore[dict[str, str]]) -> None:
    told: list[StoredFeedback] = []
    store.on_feedback(told.append)
    await store.add_thread_item("t", message("i"), ADA)
    await store.add_feedback("t", ["i"], "positive", ADA)
    assert told == [StoredFeedback("t", ("i",), positive=True)]
