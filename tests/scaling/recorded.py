"""Records the commands of every operation, and says which shards each of them asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple
from unittest.mock import patch

from chatkit.types import FileAttachment, ThreadMetadata, UserMessageItem
from pymongo import AsyncMongoClient

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.schema.shard_keys import shard_keys
from mongo_datalayer.storage import overflow
from tests.chatkit.conftest import links
from tests.costs.commands import Commands, name
from tests.costs.measure import DATABASE, calls
from tests.scaling.routing import NOT_ROUTED, Keys, Route, route

KEYS: Keys = shard_keys()
WITH_OVERFLOW: Keys = shard_keys(overflow=True)
CHATKIT_DATABASE = "scaling"
CONTEXT = {"user_id": "ada"}
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FEW_ITEMS = overflow.Bounds(main=1500, kept=400, value=100_000)


class Recorded(NamedTuple):
    """An operation and a command of it, in order.

    Attributes:
        operation: Its name.
        commands: What it sent.
    """

    operation: str
    commands: tuple[Mapping[str, Any], ...]

    def routes(self, keys: Keys) -> tuple[Route, ...]:
        """Where each command goes."""
        return tuple(route(command, keys) for command in self.commands)


async def record(uri: str) -> list[Recorded]:
    """Every operation of the layer and the store, in every situation that costs are counted in."""
    return [*await _of_the_layer(uri), *await _of_the_store(uri)]


async def _of_the_layer(uri: str) -> list[Recorded]:
    commands = Commands()
    recorded = []
    async for call in calls(uri, commands):
        with commands.counted() as sent:
            await call.operation(call.target)
        recorded.append(Recorded(call.name, _routed(sent, DATABASE)))
    return recorded


async def _of_the_store(uri: str) -> list[Recorded]:
    commands = Commands()
    recorded = []
    async with AsyncMongoClient[dict[str, Any]](uri, event_listeners=[commands]) as client:
        await client.drop_database(CHATKIT_DATABASE)
        with patch.object(overflow, "BOUNDS", FEW_ITEMS):
            store = MongoChatKitStore[Any](client=client, database=CHATKIT_DATABASE, links=links())
        await store.create_indexes()
        for title, operation in _STORE_OPERATIONS.items():
            with commands.counted() as sent:
                await operation(store)
            recorded.append(Recorded(f"ChatKit {title}", _routed(sent, CHATKIT_DATABASE)))
        await store.close()
        await client.drop_database(CHATKIT_DATABASE)
    return recorded


def _routed(sent: list[dict[str, Any]], database: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        command
        for command in sent
        if command["$db"] == database and name(command) not in NOT_ROUTED
    )


# ChatKit --------------------------------------------------------------------------------------


def _thread() -> ThreadMetadata:
    return ThreadMetadata(id="t", created_at=NOW)


def _item(number: int) -> UserMessageItem:
    return UserMessageItem.model_validate(
        {
            "id": f"i{number:02}",
            "thread_id": "t",
            "created_at": NOW,
            "type": "user_message",
            "content": [{"type": "input_text", "text": "words " * 20}],
            "attachments": [],
            "inference_options": {},
        }
    )


async def _add_many(store: MongoChatKitStore[Any]) -> None:
    for number in range(1, 20):
        await store.add_thread_item("t", _item(number), CONTEXT)


def _attachment() -> FileAttachment:
    return FileAttachment(id="a", name="a.txt", mime_type="text/plain")


# In this order: each finds what the earlier ones stored.
_STORE_OPERATIONS: Mapping[str, Callable[[MongoChatKitStore[Any]], Awaitable[Any]]] = {
    "save_thread": lambda s: s.save_thread(_thread(), CONTEXT),
    "load_thread": lambda s: s.load_thread("t", CONTEXT),
    "load_threads": lambda s: s.load_threads(5, None, "desc", CONTEXT),
    "load_threads after": lambda s: s.load_threads(5, "t", "desc", CONTEXT),
    "add_thread_item": lambda s: s.add_thread_item("t", _item(0), CONTEXT),
    "add_thread_item until it is long": _add_many,
    "save_item": lambda s: s.save_item("t", _item(19), CONTEXT),
    "save_item of an old item": lambda s: s.save_item("t", _item(0), CONTEXT),
    "load_item": lambda s: s.load_item("t", "i19", CONTEXT),
    "load_item of an old item": lambda s: s.load_item("t", "i00", CONTEXT),
    "load_thread_items": lambda s: s.load_thread_items("t", None, 50, "asc", CONTEXT),
    "load_thread_items after": lambda s: s.load_thread_items("t", "i03", 5, "asc", CONTEXT),
    "add_feedback": lambda s: s.add_feedback("t", ["i19"], "positive", CONTEXT),
    "delete_thread_item": lambda s: s.delete_thread_item("t", "i19", CONTEXT),
    "save_attachment": lambda s: s.save_attachment(_attachment(), CONTEXT),
    "load_attachment": lambda s: s.load_attachment("a", CONTEXT),
    "delete_attachment": lambda s: s.delete_attachment("a", CONTEXT),
    "delete_thread": lambda s: s.delete_thread("t", CONTEXT),
}
