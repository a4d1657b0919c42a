"""A thread that others change during an answer: the last save wins, unless it is loaded again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatkit.types import (
    ProgressUpdateEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.testing.chatkit_contract import ScriptedServer, thread, user_input
from tests.docs.pages import DOCS, code_blocks

Store = MongoChatKitStore[Any]


@pytest.mark.parametrize("refreshed", [False, True], ids=["as it was loaded", "refreshed"])
async def test_what_others_change_during_an_answer(
    stores: list[Store], ada: Any, refreshed: bool
) -> None:
    (recipe,) = (c for c in code_blocks(DOCS / "chatkit.md", "python") if "def refresh" in c)
    names: dict[str, Any] = {}
    exec(compile(recipe, "recipe", "exec"), names)  # noqa: S102 - our own documentation
    store, other, _ = stores

    async def respond(
        answered: ThreadMetadata, said: UserMessageItem | None
    ) -> AsyncIterator[ThreadStreamEvent]:
        yield ProgressUpdateEvent(text="Reading")
        await server.ask("threads.update", ada, thread_id="t", title="Renamed")
        renamed = await other.load_thread("t", ada)
        await other.save_thread(renamed.model_copy(update={"metadata": {"other": 1}}), ada)
        if refreshed:
            await names["refresh"](store, answered, ada)
        answered.metadata["own"] = 2
        yield ProgressUpdateEvent(text="Noted")

    server = ScriptedServer(store, respond)
    await store.save_thread(thread(title="First"), ada)
    await server.ask("threads.add_user_message", ada, thread_id="t", input=user_input())

    stored = await other.load_thread("t", ada)
    if refreshed:
        assert (stored.title, stored.metadata) == ("Renamed", {"other": 1, "own": 2})
    else:
        assert (stored.title, stored.metadata) == ("First", {"own": 2})
    assert stored.created_at == thread().created_at
