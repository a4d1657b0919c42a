"""Conversations as a dataset: which ones, and what is written of each.

Only one conversation is in memory. They come in the order of their ids, so a run that ended early
goes on after the last one that it wrote.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from mongo_datalayer.admin.selection import Selection, tools_called
from mongo_datalayer.chainlit.codec import read_thread
from mongo_datalayer.chainlit.messages import ToolCall, attachment_link, read_entries, to_messages
from mongo_datalayer.chainlit.queries import owned_by
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.errors import NotFoundError
from mongo_datalayer.model.documents import NOT_DELETED, Document
from mongo_datalayer.mongodb.client import Database

_VERDICTS = {0: "down", 1: "up"}
_SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Python's splitlines and Node's readline end a line at these, which JSON leaves in a text.
_LINE_ENDS = {ord(end): json.dumps(end)[1:-1] for end in "\x85\u2028\u2029"}


class Dataset:
    """The conversations of a selection.

    Args:
        database: The database.
        selection: Which ones.
        after: Only those whose id comes after this one.

    Attributes:
        damaged: Ids of threads that could not be read whole, and were left out.
    """

    def __init__(self, database: Database, selection: Selection, after: str | None = None) -> None:
        self._threads = ChainlitThreads(ThreadDocuments(database))
        self._users = Users(database)
        self._selection = selection
        self._after = after
        self.damaged: list[str] = []

    async def filter(self) -> Document:
        """The filter on main documents.

        Raises:
            NotFoundError: there is no such user.
        """
        conditions = [self._selection.main_filter()]
        if (identifier := self._selection.user) is not None:
            user = await self._users.by_identifier(identifier)
            owned = owned_by(None if user is None else user["_id"], identifier)
            if user is None and not await self._threads.exists({**owned, **NOT_DELETED}):
                raise NotFoundError(f"There is no user {identifier!r}.")
            conditions.append(owned)
        if self._after is not None:
            conditions.append({"_id": {"$gt": self._after}})
        return {"$and": conditions}

    async def threads(self, filter: Document) -> AsyncIterator[Document]:
        """The conversations as Chainlit's ``ThreadDict``, ordered by id, long ones whole.

        Args:
            filter: From :meth:`filter`.
        """
        async for stored in self._threads.scan_whole(filter, self.damaged.append):
            thread = read_thread(stored)
            if self._selection.matches(thread["steps"]):
                yield thread


# Turns ----------------------------------------------------------------------------------------


@dataclass
class Turn:
    """A user's message and what followed until the next one.

    Attributes:
        thread_id: Id of the conversation.
        thread_name: Its name.
        user: The identifier of its user.
        profile: Its chat profile.
        tags: Its tags.
        shared: Whether it is shared.
        turn: The number of the turn, from 1. 0 is what came before the first user's message.
        step_id: Id of the user's message; of the first step in turn 0.
        time: When it was sent, ISO 8601.
        question: The user's message.
        answer: The assistant's messages, with an empty line between two.
        tools: The names of the tools that were called, in their order.
        errors: How many steps failed.
        feedback: ``up`` or ``down``, the last of the turn.
        comment: The comment of that feedback.
    """

    thread_id: str
    thread_name: str | None
    user: str | None
    profile: str | None
    tags: list[str]
    shared: bool
    turn: int
    step_id: str
    time: str
    question: str
    answer: str
    tools: list[str]
    errors: int
    feedback: str | None
    comment: str | None


COLUMNS = tuple(field.name for field in fields(Turn))
"""The columns of the formats with one row a turn."""

_columns = attrgetter(*COLUMNS)


def turns(thread: Mapping[str, Any]) -> Iterator[Turn]:
    """The turns of a conversation, oldest first.

    Args:
        thread: As ``get_thread`` returns it.
    """
    steps: list[Mapping[str, Any]] = []
    number = 0
    for step in thread["steps"]:
        if step["type"] == "user_message":
            if steps:
                yield _turn(thread, steps, number)
            steps = []
            number += 1
        steps.append(step)
    if steps:
        yield _turn(thread, steps, number)


def _turn(thread: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], number: int) -> Turn:
    user, profile = thread["userIdentifier"], thread["metadata"].get("chat_profile")
    rated = [step["feedback"] for step in steps if step["feedback"]]
    feedback: Mapping[str, Any] = rated[-1] if rated else {}
    said = [step for step in steps if step["type"] == "assistant_message" and step["output"]]
    return Turn(
        thread_id=thread["id"],
        thread_name=thread["name"],
        user=None if user is None else str(user),
        profile=None if profile is None else str(profile),
        tags=[str(tag) for tag in thread["tags"]],
        shared=thread["metadata"].get("is_shared") is True,
        turn=number,
        step_id=steps[0]["id"],
        time=steps[0]["createdAt"],
        question=steps[0]["output"] if number else "",
        answer="\n\n".join(step["output"] for step in said),
        tools=tools_called(steps),
        errors=sum(bool(step["isError"]) for step in steps),
        feedback=_VERDICTS.get(feedback.get("value", -1)),
        comment=feedback.get("comment"),
    )


# Formats --------------------------------------------------------------------------------------


def openai_line(thread: Mapping[str, Any]) -> str:
    """A line of OpenAI's format for fine-tuning and evaluation; none without a message."""
    messages = to_messages(thread, "openai")
    return _line({"messages": messages}) if messages else ""


def sharegpt_line(thread: Mapping[str, Any]) -> str:
    """A line in the form of ShareGPT; none without a message."""
    conversations = [message for entry in read_entries(thread) for message in _sharegpt(entry)]
    return _line({"id": thread["id"], "conversations": conversations}) if conversations else ""


def _sharegpt(entry: Any) -> list[dict[str, str]]:
    if isinstance(entry, ToolCall):
        call = {"name": entry.name, "arguments": entry.arguments}
        return [
            {"from": "function_call", "value": json.dumps(call, ensure_ascii=False)},
            {"from": "observation", "value": entry.result},
        ]
    links = "\n".join(map(attachment_link, entry.attachments))
    value = "\n\n".join(filter(None, (entry.text, links)))
    return [{"from": _SHAREGPT[entry.role], "value": value}]


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def csv_lines(thread: Mapping[str, Any]) -> str:
    """The turns as rows of CSV."""
    return _csv(map(_columns, turns(thread)))


def csv_header() -> str:
    """The names of the columns as a row of CSV."""
    return _csv([COLUMNS])


def _csv(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    # A spreadsheet would run the text of a stranger as a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def markdown_text(thread: Mapping[str, Any]) -> str:
    """The conversation as a chapter of Markdown; none without a message.

    All that people, models and tools wrote is quoted, so only what is written here begins a line
    with ``#``: no text can look like another message, or hide the next one in a block of code.
    """
    name = _one_line(thread["name"] or thread["id"])
    parts = [f"# {name}", f"Conversation `{thread['id']}`, {thread['createdAt'] or 'no time'}"]
    count = len(parts)
    for entry in read_entries(thread):
        if isinstance(entry, ToolCall):
            arguments = json.dumps(entry.arguments, ensure_ascii=False, indent=2)
            parts.append(f"## tool {_one_line(entry.name)}")
            parts += [_quoted(_fenced(text)) for text in (arguments, entry.result)]
        else:
            texts = (entry.text, *map(attachment_link, entry.attachments))
            parts += [f"## {entry.role}", *map(_quoted, filter(None, texts))]
    return "" if len(parts) == count else "\n\n".join(parts) + "\n\n"


def _one_line(name: object) -> str:
    return " ".join(str(name).split())


def _quoted(text: str) -> str:
    """The text as a quotation, at each end of a line that any reader knows."""
    return "\n".join(f"> {line}" if line else ">" for line in text.splitlines())


def _fenced(text: str) -> str:
    """The text as a block of code, whatever fences are in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


FORMATS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "openai-jsonl": openai_line,
    "sharegpt": sharegpt_line,
    "csv": csv_lines,
    "markdown": markdown_text,
}
"""What each format of text writes of a conversation; an empty text where there is nothing."""
