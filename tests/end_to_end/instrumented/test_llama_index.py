"""LlamaIndex with Chainlit's callback handler: each call of a model is stored as a step."""

from __future__ import annotations

import asyncio
from typing import Any

import chainlit as cl
import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, MockLLM

from tests.end_to_end.instrumented.conftest import Chat

HELLO = [ChatMessage(role="user", content="hi")]


async def awaited(model: MockLLM) -> None:
    await asyncio.gather(*(model.achat(HELLO) for _ in range(5)))


async def synchronous(model: MockLLM) -> None:
    for _ in range(5):
        model.chat(HELLO)


@pytest.mark.parametrize("way", [awaited, synchronous])
async def test_every_call_of_a_model_is_stored(chat: Chat, way: Any) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([cl.LlamaIndexCallbackHandler(), debug])
    async with cl.Step(name="on_message", type="run", parent_id=chat.message):
        await way(MockLLM(max_tokens=3, callback_manager=manager))
    # A call of a model may be several events, one inside of the other.
    expected = len(debug.get_event_pairs(CBEventType.LLM))
    assert expected >= 5

    # Chainlit stores each step in a task that nobody awaits.
    for _ in range(100):
        stored = [kind for kind, _ in await chat.names()].count("llm")
        if stored >= expected:
            break
        await asyncio.sleep(0.1)
    assert stored == expected
