"""A model that the Agents SDK reaches by Chat Completions: its items have one id in common."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    RunContextWrapper,
    Runner,
    StopAtTools,
    function_tool,
    set_tracing_disabled,
)
from chatkit.agents import (
    AgentContext,
    ClientToolCall,
    simple_to_agent_input,
    stream_agent_response,
)
from chatkit.server import ChatKitServer
from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem
from openai import AsyncOpenAI

from mongo_datalayer.chatkit import AlreadyExistsError, MongoChatKitStore
from mongo_datalayer.testing.chatkit_contract import ScriptedServer, answer, user_input
from tests.docs.pages import DOCS, code_blocks

Events = AsyncIterator[ThreadStreamEvent]
Wrapper = Callable[[AgentContext[Any], Events], Events]


def completions(request: httpx.Request) -> httpx.Response:
    """What a model says: it asks for the client tool when it is asked where."""
    said = json.loads(request.content)["messages"][-1]
    delta: dict[str, Any] = {"role": "assistant", "content": f"You said {said['content']}"}
    if "where" in str(said["content"]):
        call = {"name": "get_location", "arguments": "{}"}
        calls = [{"index": 0, "id": "call_1", "type": "function", "function": call}]
        delta = {"role": "assistant", "tool_calls": calls}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    lines = [f"data: {json.dumps(each)}\n\n" for each in chunks] + ["data: [DONE]\n\n"]
    headers = {"content-type": "text/event-stream"}
    return httpx.Response(200, text="".join(lines), headers=headers)


@function_tool
async def get_location(ctx: RunContextWrapper[AgentContext[Any]]) -> str:
    """Where the person is."""
    ctx.context.client_tool_call = ClientToolCall(name="get_location", arguments={})
    return ""


class Server(ScriptedServer):
    """Answers with the model, through ``wrap``."""

    def __init__(self, store: MongoChatKitStore[Any], wrap: Wrapper) -> None:
        ChatKitServer.__init__(self, store, store)
        self.wrap = wrap
        http: Any = httpx.AsyncClient(transport=httpx.MockTransport(completions))
        client = AsyncOpenAI(base_url="http://model", api_key="k", http_client=http)
        self.agent = Agent(
            name="a",
            model=OpenAIChatCompletionsModel("m", client),
            tools=[get_location],
            tool_use_behavior=StopAtTools(stop_at_tool_names=["get_location"]),
        )

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> Events:
        page = await self.store.load_thread_items(thread.id, None, 1, "desc", context)
        said = await simple_to_agent_input(page.data) if input_user_message else "here"
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        result = Runner.run_streamed(self.agent, said, context=agent_context)
        async for event in self.wrap(agent_context, stream_agent_response(agent_context, result)):
            yield event

    async def turn(self, context: Any, text: str, thread_id: str | None = None) -> Any:
        params = {"thread_id": thread_id} if thread_id else {}
        kind = "threads.add_user_message" if thread_id else "threads.create"
        return await self.ask(kind, context, input=user_input(text), **params)


@pytest.fixture(autouse=True)
def _no_tracing() -> None:
    set_tracing_disabled(disabled=True)


async def test_without_ids_of_their_own_the_error_names_cause_and_cure(
    store: MongoChatKitStore[Any], ada: Any
) -> None:
    server = Server(store, lambda context, events: events)
    events = await server.turn(ada, "one")
    thread_id = events[0]["thread"]["id"]
    events = await server.turn(ada, "two", thread_id)
    assert events[-1]["type"] == "error"

    said = answer("__fake_id__", text="two")
    with pytest.raises(AlreadyExistsError, match=r"Chat Completions\. .* docs/chatkit\.md"):
        await store.add_thread_item(thread_id, said, ada)


async def test_the_recipe_gives_each_item_its_own_id(
    store: MongoChatKitStore[Any], ada: Any
) -> None:
    (recipe,) = (code for code in code_blocks(DOCS / "chatkit.md", "python") if "FAKE_" in code)
    names: dict[str, Any] = {}
    exec(compile(recipe, "recipe", "exec"), names)  # noqa: S102 - our own documentation
    server = Server(store, names["with_own_ids"])

    events = await server.turn(ada, "one")
    thread_id = events[0]["thread"]["id"]
    for text in ("two", "where"):
        events = await server.turn(ada, text, thread_id)
        assert "error" not in [event["type"] for event in events]
    events = await server.ask(
        "threads.add_client_tool_output", ada, thread_id=thread_id, result={"city": "Rome"}
    )
    assert "error" not in [event["type"] for event in events]

    items = (await store.load_thread_items(thread_id, None, 99, "asc", ada)).data
    assert [item.type for item in items] == [
        *["user_message", "assistant_message"] * 2,
        *["user_message", "client_tool_call", "assistant_message"],
    ]
    assert "__fake_id__" not in json.dumps(events)
    assert len({item.id for item in items}) == len(items)
