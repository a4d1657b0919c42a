"""A stored conversation as the messages a model takes. Pure, but for LangChain's classes.

A user's or assistant's message becomes one message. A tool step becomes the model's call of the
tool and the tool's result. Everything else (runs, model calls, retrievals, and tools that another
tool called) happened inside of these and is left out, like error messages of the app, which no
model said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mongo_datalayer.errors import ConfigurationError

MessageFormat = Literal["openai", "anthropic", "langchain"]
"""Whose messages: OpenAI's Chat Completions, Anthropic's Messages, or LangChain's classes."""

_ROLES = {"user_message": "user", "assistant_message": "assistant", "system_message": "system"}
# What all three take as the id of a call and the name of a tool.
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_NAME_LENGTH = 64


@dataclass(frozen=True)
class Said:
    """One message.

    Attributes:
        id: Of the step.
        role: ``user``, ``assistant`` or ``system``.
        text: What was said.
        attachments: The elements that came with it, as Chainlit's dicts with a link.
    """

    id: str
    role: str
    text: str
    attachments: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool, with its result."""

    id: str
    name: str
    arguments: dict[str, Any]
    result: str
    failed: bool

    @property
    def function(self) -> str:
        """The name as the models' APIs take it."""
        return _NOT_IN_A_NAME.sub("_", self.name)[:_NAME_LENGTH]


def to_messages(thread: Mapping[str, Any], format: MessageFormat) -> list[Any]:
    """The messages of a thread, oldest first.

    Args:
        thread: As ``get_thread`` returns it.
        format: One of :data:`MessageFormat`.

    Raises:
        ConfigurationError: the format is unknown, or LangChain is not installed.
    """
    if format not in _WRITERS:
        known = ", ".join(repr(name) for name in get_args(MessageFormat))
        raise ConfigurationError(f"Messages have no format {format!r}. Choose one of {known}.")
    write = _WRITERS[format]
    return [message for entry in read_entries(thread) for message in write(entry)]


def read_entries(thread: Mapping[str, Any]) -> Iterator[Said | ToolCall]:
    """What was said and which tools were called, oldest first."""
    steps = {step["id"]: step for step in thread["steps"]}
    attachments = defaultdict(list)
    for element in thread.get("elements") or ():
        if element.get("url") and isinstance(element.get("forId"), str):
            attachments[element["forId"]].append(element)
    for step in steps.values():
        role = _ROLES.get(step["type"])
        if role is not None:
            said = Said(step["id"], role, str(step.get("output") or ""), attachments[step["id"]])
            if (said.text.strip() or said.attachments) and not step.get("isError"):
                yield said
        elif step["type"] == "tool" and not _is_inside_a_tool(step, steps):
            yield _tool_call(step)


def _is_inside_a_tool(step: Mapping[str, Any], steps: Mapping[str, Mapping[str, Any]]) -> bool:
    seen = {step["id"]}
    parent = steps.get(step.get("parentId") or "")
    while parent is not None and parent["id"] not in seen:
        if parent["type"] == "tool":
            return True
        seen.add(parent["id"])
        parent = steps.get(parent.get("parentId") or "")
    return False


def _tool_call(step: Mapping[str, Any]) -> ToolCall:
    call_id = str(step["id"])
    if not _CALL_ID.fullmatch(call_id):
        call_id = hashlib.sha256(call_id.encode()).hexdigest()[:40]
    name = str(step.get("name") or "tool")
    result = str(step.get("output") or "")
    return ToolCall(call_id, name, _arguments(step.get("input")), result, bool(step.get("isError")))


def _arguments(given: Any) -> dict[str, Any]:
    """A tool's input as an object; a text that is none becomes its only field."""
    try:
        parsed = json.loads(given)
    except (TypeError, ValueError):
        parsed = given
    if isinstance(parsed, dict):
        return parsed
    return {} if parsed in (None, "") else {"input": parsed}


def _is_image(element: Mapping[str, Any]) -> bool:
    return element.get("type") == "image" or str(element.get("mime") or "").startswith("image/")


def attachment_link(element: Mapping[str, Any]) -> str:
    """An attachment as a link in Markdown."""
    return f"[{element.get('name') or 'file'}]({element['url']})"


def _texts(said: Said, linked: Sequence[Mapping[str, Any]]) -> list[str]:
    """The text, then a link to each attachment that the format has no part for."""
    links = "\n".join(map(attachment_link, linked))
    return [text for text in (said.text, links) if text.strip()]


def _openai(entry: Said | ToolCall) -> list[dict[str, Any]]:
    if isinstance(entry, ToolCall):
        arguments = json.dumps(entry.arguments, ensure_ascii=False)
        function = {"name": entry.function, "arguments": arguments}
        call = {"id": entry.id, "type": "function", "function": function}
        return [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": entry.id, "content": entry.result},
        ]
    # Only a user's message takes pictures; in others a link stands for them.
    images = [e for e in entry.attachments if entry.role == "user" and _is_image(e)]
    texts = _texts(entry, [e for e in entry.attachments if e not in images])
    if not images:
        return [{"role": entry.role, "content": "\n\n".join(texts)}]
    parts: list[dict[str, Any]] = [{"type": "text", "text": text} for text in texts]
    parts += [{"type": "image_url", "image_url": {"url": e["url"]}} for e in images]
    return [{"role": entry.role, "content": parts}]


def _anthropic(entry: Said | ToolCall) -> list[dict[str, Any]]:
    if isinstance(entry, ToolCall):
        use = {"type": "tool_use", "id": entry.id, "name": entry.function, "input": entry.arguments}
        result = {
            "type": "tool_result",
            "tool_use_id": entry.id,
            "content": entry.result,
            "is_error": entry.failed,
        }
        return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    if entry.role == "system":
        return []  # Anthropic takes the system's text as an argument of its own.
    blocks, linked = [], []
    for element in entry.attachments:
        block = _anthropic_block(element) if entry.role == "user" else None
        if block is None:
            linked.append(element)
        else:
            blocks.append(block)
    blocks += [{"type": "text", "text": text} for text in _texts(entry, linked)]
    return [{"role": entry.role, "content": blocks}]


def _anthropic_block(element: Mapping[str, Any]) -> dict[str, Any] | None:
    source = {"type": "url", "url": element["url"]}
    if _is_image(element):
        return {"type": "image", "source": source}
    if element.get("type") == "pdf" or element.get("mime") == "application/pdf":
        return {"type": "document", "source": source, "title": element.get("name") or "file"}
    return None


def _langchain(entry: Said | ToolCall) -> list[Any]:
    try:
        from langchain_core import messages
    except ImportError as exc:
        raise ConfigurationError(
            "LangChain's messages need langchain-core: pip install langchain-core"
        ) from exc
    if isinstance(entry, ToolCall):
        call = messages.ToolCall(name=entry.function, args=entry.arguments, id=entry.id)
        status: Literal["error", "success"] = "error" if entry.failed else "success"
        return [
            messages.AIMessage(content="", tool_calls=[call]),
            messages.ToolMessage(
                content=entry.result, tool_call_id=entry.id, name=entry.function, status=status
            ),
        ]
    classes = {
        "user": messages.HumanMessage,
        "assistant": messages.AIMessage,
        "system": messages.SystemMessage,
    }
    (message,) = _openai(entry)
    return [classes[entry.role](content=message["content"], id=entry.id)]


_WRITERS: Mapping[str, Callable[[Said | ToolCall], list[Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "langchain": _langchain,
}
