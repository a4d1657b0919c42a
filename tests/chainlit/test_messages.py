"""A stored conversation as messages, held against the types of each format."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from anthropic.types import MessageParam
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.chainlit.messages import MessageFormat, to_messages
from tests.chainlit.order.turn import Turn

TYPES: dict[MessageFormat, TypeAdapter[Any]] = {
    "openai": TypeAdapter(list[ChatCompletionMessageParam]),
    "anthropic": TypeAdapter(list[MessageParam]),
    "langchain": TypeAdapter(list[BaseMessage]),
}


def step(step_id: str, kind: str, output: str = "", **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "type": kind, "name": kind, "input": "", "output": output, **fields}


THREAD = {
    "id": "t",
    "steps": [
        step("s", "system_message", "Be brief."),
        step("q", "user_message", "What is on these?"),
        step("r", "run"),
        step("look", "tool", "a cat", name="look at.it", input='{"page": 1}', parentId="r"),
        step("inner", "tool", "", parentId="look"),
        step("m", "llm", "thinking", parentId="r"),
        step("count", "tool", "no such page", name="count", input="2", isError=True, parentId="r"),
        step("a", "assistant_message", "A cat.", parentId="r"),
        step("oops", "assistant_message", "The app broke.", isError=True),
        step("blank", "assistant_message", " "),
    ],
    "elements": [
        {"id": "1", "forId": "q", "type": "image", "name": "cat", "url": "https://x.test/1"},
        {"id": "2", "forId": "q", "type": "pdf", "name": "paper", "url": "https://x.test/2"},
        {"id": "3", "forId": "q", "type": "file", "name": "data", "url": "https://x.test/3"},
        {"id": "4", "forId": "a", "type": "image", "name": "plot", "url": "https://x.test/4"},
        {"id": "5", "forId": "q", "type": "text", "name": "no link", "url": None},
    ],
}


def consumed(value: Any) -> Any:
    """The value with what Pydantic validates on reading alone."""
    if isinstance(value, Mapping):
        return {key: consumed(item) for key, item in value.items()}
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return value
    return [consumed(item) for item in value]


def test_openai() -> None:
    messages = to_messages(THREAD, "openai")

    TYPES["openai"].dump_python(TYPES["openai"].validate_python(messages))
    system, question, look, seen, count, failed, answer = messages
    assert system == {"role": "system", "content": "Be brief."}
    assert question["content"] == [
        {"type": "text", "text": "What is on these?"},
        {"type": "text", "text": "[paper](https://x.test/2)\n[data](https://x.test/3)"},
        {"type": "image_url", "image_url": {"url": "https://x.test/1"}},
    ]
    function = {"name": "look_at_it", "arguments": '{"page": 1}'}
    assert look["tool_calls"] == [{"id": "look", "type": "function", "function": function}]
    assert seen == {"role": "tool", "tool_call_id": "look", "content": "a cat"}
    assert count["tool_calls"][0]["function"]["arguments"] == '{"input": 2}'
    assert failed["content"] == "no such page"
    assert answer == {"role": "assistant", "content": "A cat.\n\n[plot](https://x.test/4)"}


def test_anthropic() -> None:
    messages = to_messages(THREAD, "anthropic")

    consumed(TYPES["anthropic"].validate_python(messages))
    assert [message["role"] for message in messages] == [
        "user",
        *["assistant", "user"] * 2,
        "assistant",
    ]
    image, document, text, links = messages[0]["content"]
    assert image["source"] == {"type": "url", "url": "https://x.test/1"}
    assert (document["type"], document["title"]) == ("document", "paper")
    assert text["text"] == "What is on these?"
    assert links["text"] == "[data](https://x.test/3)"
    (result,) = messages[4]["content"]
    assert (result["tool_use_id"], result["is_error"]) == ("count", True)


def test_langchain() -> None:
    system, question, look, seen, _, failed, answer = to_messages(THREAD, "langchain")

    assert system.content == "Be brief."
    assert isinstance(question, HumanMessage)
    assert question.id == "q"
    assert isinstance(look, AIMessage)
    assert (look.tool_calls[0]["name"], look.tool_calls[0]["args"]) == ("look_at_it", {"page": 1})
    assert isinstance(seen, ToolMessage)
    assert isinstance(failed, ToolMessage)
    assert (seen.status, failed.status) == ("success", "error")
    assert isinstance(answer, AIMessage)


def test_an_id_that_models_refuse_is_replaced_on_both_sides() -> None:
    thread = {"steps": [step("an id with spaces " * 9, "tool", "1", name="n" * 99)]}
    call, result = to_messages(thread, "openai")
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) == 40
    assert call["tool_calls"][0]["function"]["name"] == "n" * 64


def test_a_circle_of_parents_is_no_tool_in_a_tool() -> None:
    thread = {"steps": [step("a", "run", parentId="b"), step("b", "run", parentId="a")]}
    assert to_messages({"steps": [*thread["steps"], step("c", "tool", parentId="a")]}, "openai")


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no format 'yaml'.*'openai', 'anthropic'"):
        to_messages(THREAD, "yaml")  # type: ignore[arg-type]


@pytest.fixture
async def layer(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    yield layer
    await layer.close()


async def test_a_recorded_turn(layer: MongoDataLayer) -> None:
    turn = Turn("turn", "alice")
    for call in turn.calls:
        await call.run(layer)

    for format, types in TYPES.items():
        messages = await layer.messages("turn", format)
        consumed(types.validate_python(messages))
        assert messages is not None
        assert len(messages) == 4  # the question, the search and its result, the answer


async def test_a_thread_that_does_not_exist(layer: MongoDataLayer) -> None:
    assert await layer.messages("nowhere", "openai") is None
