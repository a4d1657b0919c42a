"""OpenAI's client with Chainlit's instrumentation: every generation is stored as a step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import chainlit as cl
import httpx
import openai
import pytest
from chainlit.openai import instrument_openai
from openai.resources.chat.completions import AsyncCompletions, Completions

from tests.end_to_end.instrumented.conftest import Chat

MODEL = "gpt-test"
ANSWER: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
QUESTION: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")  # it is instrumented once for each process
def _instrumented() -> Iterator[None]:
    originals = {owner: owner.create for owner in (Completions, AsyncCompletions)}
    instrument_openai()  # type: ignore[no-untyped-call]  # Chainlit's
    yield
    for owner, original in originals.items():
        owner.create = original  # type: ignore[method-assign]


def answer(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=ANSWER)


async def awaited() -> None:
    http_client: Any = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with openai.AsyncOpenAI(api_key="none", http_client=http_client) as client:
        await asyncio.gather(*(client.chat.completions.create(**QUESTION) for _ in range(5)))


async def synchronous() -> None:
    http_client: Any = httpx.Client(transport=httpx.MockTransport(answer))
    with openai.OpenAI(api_key="none", http_client=http_client) as client:
        for _ in range(5):
            client.chat.completions.create(**QUESTION)


@pytest.mark.usefixtures("_instrumented")
@pytest.mark.parametrize("way", [awaited, synchronous])
async def test_every_generation_is_stored(chat: Chat, way: Any) -> None:
    async with cl.Step(name="on_message", type="run", parent_id=chat.message):
        await way()
    # Chainlit stores each step in a task that nobody awaits.
    for _ in range(100):
        if len(await chat.names()) >= 7:
            break
        await asyncio.sleep(0.1)

    names = await chat.names()

    assert names.count(("llm", MODEL)) == 5
    thread: Any = await chat.layer.get_thread(chat.thread_id)
    generations = [step["generation"] for step in thread["steps"] if step["type"] == "llm"]
    assert [each["tokenCount"] for each in generations] == [4] * 5
