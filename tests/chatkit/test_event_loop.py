"""An item or a thread with 100,000 values does not stop the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from chatkit.types import ClientToolCallItem

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.testing.chatkit_contract import at, thread
from tests.chainlit.test_event_loop import MANY, MOST_CALLS, Call, most_calls


@pytest.mark.parametrize("kind", MANY)
async def test_values_of_many_parts_do_not_hold_the_loop(
    store: MongoChatKitStore[Any], ada: dict[str, str], kind: str
) -> None:
    calls = many_parts(store, "t1", {"values": MANY[kind]}, ada)

    counts = {name: await most_calls(call) for name, call in calls.items()}

    print(f"\n{kind}: {counts}")  # noqa: T201 - the numbers
    assert {name: count for name, count in counts.items() if count > MOST_CALLS} == {}


def many_parts(
    store: MongoChatKitStore[Any], thread_id: str, value: dict[str, Any], ada: dict[str, str]
) -> dict[str, Call]:
    """The calls that carry the value."""
    described = thread(thread_id)
    described.metadata = value
    item = ClientToolCallItem(
        id=f"{thread_id} item",
        thread_id=thread_id,
        created_at=at() + timedelta(seconds=1),
        call_id="call",
        name="tool",
        arguments=value,
    )

    async def load_item() -> None:
        loaded: Any = await store.load_item(thread_id, item.id, ada)
        assert loaded.arguments == value

    async def load_thread() -> None:
        assert (await store.load_thread(thread_id, ada)).metadata == value

    return {
        "save_thread": lambda: store.save_thread(described, ada),
        "add_thread_item": lambda: store.add_thread_item(thread_id, item, ada),
        "save_item": lambda: store.save_item(thread_id, item, ada),
        "load_thread": load_thread,
        "load_item": load_item,
        "load_thread_items": lambda: store.load_thread_items(thread_id, None, 10, "asc", ada),
    }
