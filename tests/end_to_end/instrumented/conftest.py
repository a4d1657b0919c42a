"""A chat in Chainlit's context, whose steps go to a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import chainlit.data
import pytest
from chainlit.context import init_http_context
from chainlit.message import Message
from chainlit.user import User

from mongo_datalayer import MongoDataLayer


class Chat:
    """One user's chat: what it stores, and what was stored of it."""

    def __init__(self, layer: MongoDataLayer) -> None:
        self.layer = layer
        self.thread_id = ""
        self.message = ""

    async def begin(self) -> None:
        """The first message, in a thread of its own."""
        user = await self.layer.create_user(User(identifier="ann"))
        self.thread_id = init_http_context(user=user).session.thread_id
        message = Message(content="hi", type="user_message")
        await message.send()  # type: ignore[no-untyped-call]  # Chainlit's
        self.message = message.id

    async def names(self) -> list[tuple[str, str]]:
        """Type and name of each stored step, in reading order."""
        await self.layer._connection._writes.drain(20)
        thread: Any = await self.layer.get_thread(self.thread_id)
        return [(step["type"], step["name"]) for step in thread["steps"]]


@pytest.fixture
async def chat(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Chat]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    monkeypatch.setattr(chainlit.data, "_data_layer", layer)
    monkeypatch.setattr(chainlit.data, "_data_layer_initialized", True)
    await layer.create_indexes()
    chat = Chat(layer)
    await chat.begin()
    yield chat
    await layer.close()
