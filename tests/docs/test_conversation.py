"""The conversation on the README is one that a Chainlit app really stores."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import chainlit as cl
import pytest
from chainlit.config import config
from chainlit.socket import disconnect, process_message
from chainlit.types import Feedback
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from tests.chainlit.chats import in_chat
from tests.docs.pages import README, code_blocks

QUESTION = "Where is my order?"
THREAD = "5f0c8f6e-2f4b-4f0e-9a59-6a1f3f1b2c10"
MESSAGE = "732a0775-ddf0-4745-a835-a1778e9814cb"
PATIENCE_SECONDS = 30


@pytest.fixture
async def layer(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    yield layer
    await layer.close()


@pytest.fixture
def _app(monkeypatch: pytest.MonkeyPatch, layer: MongoDataLayer) -> None:
    """The README's three lines, and an answer with a tool call."""
    monkeypatch.setattr(config, "code", config.code.model_copy())
    monkeypatch.setattr("chainlit.data._data_layer", None)
    monkeypatch.setattr("chainlit.data._data_layer_initialized", False)
    cl.data_layer(lambda: layer)

    @cl.on_message
    async def answer(message: cl.Message) -> None:
        async with cl.Step(name="search_orders", type="tool") as step:
            step.input = message.content
            step.output = "1006: delivered"
        await cl.Message(content="Order 1006 was delivered.").send()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("_app")
async def test_the_shown_conversation_has_the_fields_that_chainlit_stores_in_their_order(
    layer: MongoDataLayer, database: AsyncDatabase[dict[str, Any]]
) -> None:
    user = await layer.create_user(cl.User(identifier="alice@example.com"))
    with in_chat(THREAD, user) as session:
        session.has_first_interaction = False
        await process_message(session, cast("Any", {"message": _message()}))
        await _stored(database, steps=4)
        await disconnect(session.socket_id)
    (run,) = [s for s in (await _stored(database, 4))["steps"] if s["type"] == "run"]
    await layer.upsert_feedback(Feedback(forId=run["id"], value=1, comment="That was quick."))

    stored = await _stored(database, steps=4)

    shown = json.loads(code_blocks(README, "json")[0])
    assert _names(stored) == _names(shown)
    assert _texts(stored) == _texts(shown)


def _message() -> dict[str, Any]:
    """A person's message as the page sends it."""
    metadata = {"location": "https://chat.example.com/"}
    fields = {"id": MESSAGE, "threadId": "", "name": "alice@example.com", "type": "user_message"}
    return {**fields, "output": QUESTION, "createdAt": "", "metadata": metadata}


async def _stored(database: AsyncDatabase[dict[str, Any]], steps: int) -> dict[str, Any]:
    """The thread, once what Chainlit does not await is stored."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        stored = await database.threads.find_one({"_id": THREAD}) or {}
        finished = [s for s in stored.get("steps", []) if "message" in s["type"] or "end" in s]
        if len(finished) == steps and "name" in stored:
            return stored
        assert time.monotonic() < deadline, stored
        await asyncio.sleep(0.02)


def _names(value: Any) -> Any:
    """The names of all fields, in their order; a date is a value, not a map."""
    if isinstance(value, list):
        return [_names(item) for item in value]
    if isinstance(value, dict) and "$date" not in value:
        return [(name, _names(inner)) for name, inner in value.items()]
    return None


def _texts(thread: dict[str, Any]) -> list[Any]:
    keys = ("type", "name", "input", "output", "metadata")
    return [[step.get(key) for key in keys] for step in thread["steps"]]
