"""LangChain and LangGraph with Chainlit's callback handler: every step of a chain is stored.

Called synchronously, LangChain runs the handler on a temporary loop in another thread while the
server's loop waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypedDict

import chainlit as cl
import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph

from tests.end_to_end.instrumented.conftest import Chat

MODEL = ("llm", "FakeListChatModel")


def a_chain() -> Any:
    return RunnableLambda(str, name="prepare") | FakeListChatModel(responses=["hello"])


class State(TypedDict):
    text: str


def a_graph() -> Any:
    model = FakeListChatModel(responses=["hello"])

    def ask(state: State, config: RunnableConfig) -> dict[str, str]:
        return {"text": str(model.invoke(state["text"], config=config).content)}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile()


def config() -> RunnableConfig:
    return {"callbacks": [cl.LangchainCallbackHandler()]}


async def invoked(runnable: Any, value: Any) -> None:
    runnable.invoke(value, config=config())


async def streamed(runnable: Any, value: Any) -> None:
    for _ in runnable.stream(value, config=config()):
        pass


async def awaited(runnable: Any, value: Any) -> None:
    await runnable.ainvoke(value, config=config())


async def in_a_thread(runnable: Any, value: Any) -> None:
    await cl.make_async(runnable.invoke)(value, config=config())


WAYS = [invoked, streamed, awaited, in_a_thread]


@pytest.mark.parametrize("way", WAYS)
async def test_every_step_of_a_chain_is_stored(chat: Chat, way: Callable[..., Any]) -> None:
    async with cl.Step(name="on_message", type="run", parent_id=chat.message):
        await asyncio.wait_for(way(a_chain(), "hi"), 30)
        await cl.Message(content="done").send()  # type: ignore[no-untyped-call]  # Chainlit's
    await asyncio.sleep(0.2)

    names = await chat.names()
    assert MODEL in names
    assert ("assistant_message", "Assistant") in names or any(
        kind == "assistant_message" for kind, _ in names
    )


@pytest.mark.parametrize("way", WAYS)
async def test_every_step_of_a_graph_is_stored(chat: Chat, way: Callable[..., Any]) -> None:
    async with cl.Step(name="on_message", type="run", parent_id=chat.message):
        await asyncio.wait_for(way(a_graph(), {"text": "hi"}), 30)
    await asyncio.sleep(0.2)

    names = await chat.names()
    assert MODEL in names
    assert any(name == "ask" for _, name in names)


async def test_messages_beside_chains_in_threads(chat: Chat) -> None:
    """40 messages of the app's own loop while 8 chains run in threads."""

    async def say() -> None:
        for number in range(40):
            await cl.Message(content=f"message {number}").send()  # type: ignore[no-untyped-call]  # Chainlit's

    async with cl.Step(name="on_message", type="run", parent_id=chat.message):
        await asyncio.gather(say(), *(in_a_thread(a_chain(), "hi") for _ in range(8)))
    await asyncio.sleep(0.2)

    names = await chat.names()
    assert sum(kind == "assistant_message" for kind, _ in names) == 40
    assert names.count(MODEL) == 8


async def test_writes_of_many_loops_arrive_and_the_servers_own_are_untouched(chat: Chat) -> None:
    def step(number: int, name: str) -> Any:
        return {
            "id": f"{name}-{number}",
            "threadId": chat.thread_id,
            "name": name,
            "type": "tool",
            "output": "x" * 2000,
            "createdAt": f"2026-01-01T00:00:00.{number:06}Z",
        }

    async def create(name: str) -> None:
        for number in range(30):
            await chat.layer.create_step(step(number, name))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(create(f"t{n}"))) for n in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(create("own1"), create("own2"))
    for thread in threads:
        await asyncio.to_thread(thread.join)

    names = [name for _, name in await chat.names()]
    for name in ("t0", "t1", "t2", "own1", "own2"):
        assert names.count(name) == 30
