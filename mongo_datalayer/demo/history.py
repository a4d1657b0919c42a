"""The conversations that the demo opens with, as records of an export."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from mongo_datalayer.demo.handbook import Section, find_sections, read_handbook, telling_words
from mongo_datalayer.demo.sample_files import PDF, TABLE, picture

Record = dict[str, Any]

USER = {"identifier": "alice", "displayName": "Alice", "metadata": {}}
APP_NAME = "Handbook"
LONG_TURNS = 80
CHUNK_BYTES = 255 * 1024

HANDBOOK = read_handbook()


class Chat(NamedTuple):
    """One conversation: how many days ago it was, what was asked, and what the person thought."""

    days: float
    questions: tuple[str, ...]
    thumb: int | None = None
    comment: str | None = None
    favorite: bool = False
    files: bool = False


CHATS = (
    Chat(0.2, ("Where are my messages kept?", "And the tool steps?"), 1),
    Chat(0.9, ("Can I share a chat with Bob?",)),
    Chat(1.3, ("Show me a picture, a page and a table",), 1, "All in one place", files=True),
    Chat(2.1, ("How does the search work?", "Does it find accents?"), 0, "I asked about accents."),
    Chat(4.0, ("What happens when I give feedback?",), favorite=True),
    Chat(6.4, tuple(f"Once more, part {number + 1}" for number in range(LONG_TURNS)), 1),
    Chat(8.2, ("How do I look inside with the mongo shell?",), 1, "Nice query", favorite=True),
    Chat(11.5, ("What is a favourite?",)),
    Chat(14.3, ("What is left when I delete a chat?", "And its files?")),
    Chat(19.7, ("Are passwords stored?",), 1, "Good to know"),
    Chat(26.0, ("Can I go on with an old chat after a restart?",)),
    Chat(33.8, ("What is MongoDB?", "Why one document for each chat?"), 0, "Too short"),
)


def history_records(now: datetime) -> Iterator[Record]:
    """The user, the threads and the files, the newest a few hours before ``now``."""
    user = {"_id": _new_id(), **USER, "createdAt": now - timedelta(days=CHATS[-1].days + 1)}
    yield {"type": "user", "document": user}
    for chat in CHATS:
        thread, contents = _thread(chat, now - timedelta(days=chat.days), user)
        yield {"type": "thread", "document": thread}
        for element in thread["elements"]:
            yield from _file(thread["_id"], element, contents[element["id"]])


def _thread(chat: Chat, began: datetime, user: Record) -> tuple[Record, dict[str, bytes]]:
    thread_id = _new_id()
    steps: list[Record] = []
    for number, question in enumerate(chat.questions):
        # One of the handbook's sections each, where the question names none.
        sections = find_sections(telling_words(question), HANDBOOK)
        found = sections or (HANDBOOK[number % len(HANDBOOK)],)
        steps += _turn(question, found, began + timedelta(minutes=3 * number))
    first, run = steps[0], steps[-4]
    first["metadata"] = {"favorite": True} if chat.favorite else {}
    if chat.thumb is not None:
        run["feedback"] = _feedback(chat, run["id"], began)
    elements, contents = _elements(thread_id, steps[-1]["id"]) if chat.files else ([], {})
    document = {
        "_id": thread_id,
        "name": "The whole handbook" if len(steps) > 100 else chat.questions[0],
        "userId": user["_id"],
        "userIdentifier": user["identifier"],
        "tags": [],
        "metadata": {},
        "createdAt": began,
        "updatedAt": datetime.fromisoformat(steps[-1]["createdAt"][:-1] + "+00:00"),
        "steps": steps,
        "elements": elements,
    }
    return document, contents


def _turn(question: str, sections: tuple[Section, ...], asked: datetime) -> list[Record]:
    """Question, run, two tools and the answer."""
    titles = ", ".join(section.title for section in sections)
    text = "\n\n".join(f"**{section.title}.** {section.text}" for section in sections)
    words = ", ".join(telling_words(question)) or "None."
    message = _step("user_message", "alice", asked, output=question)
    run = _step("run", "on_message", asked, 1, parent=message, input=question)
    search = _step("tool", "Search the handbook", asked, 2, parent=run, input=question)
    search["output"] = titles
    pick = _step("tool", "Pick the telling words", asked, 3, parent=search, input=question)
    pick["output"] = words
    answer = _step("assistant_message", APP_NAME, asked, 5, parent=run, output=text)
    return [message, run, search, pick, answer]


def _step(
    kind: str,
    name: str,
    asked: datetime,
    seconds: int = 0,
    *,
    parent: Record | None = None,
    **fields: str,
) -> Record:
    at = _time(asked + timedelta(seconds=seconds))
    times = {"createdAt": at, "start": at, "end": _time(asked + timedelta(seconds=6))}
    return {
        "id": _new_id(),
        "type": kind,
        "name": name,
        **({} if parent is None else {"parentId": parent["id"]}),
        **({"createdAt": at} if kind.endswith("message") else times),
        "input": "",
        "output": "",
        **fields,
        **({"showInput": "text"} if kind == "tool" else {}),
        "isError": False,
        "metadata": {},
    }


def _time(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _feedback(chat: Chat, step_id: str, began: datetime) -> Record:
    comment = {} if chat.comment is None else {"comment": chat.comment}
    updated = began + timedelta(minutes=5)
    return {
        "id": _new_id(),
        "forId": step_id,
        "value": chat.thumb,
        **comment,
        "updatedAt": updated,
    }


def _elements(thread_id: str, step_id: str) -> tuple[list[Record], dict[str, bytes]]:
    files = (
        ("image", "picture.png", "image/png", picture()),
        ("pdf", "page.pdf", "application/pdf", PDF),
        # As Chainlit leaves it: its page parses the text itself, and not what is JSON already.
        ("dataframe", "table", "application/octet-stream", TABLE.encode()),
    )
    elements, contents = [], {}
    for number, (kind, name, mime, content) in enumerate(files):
        element_id = _new_id()
        contents[element_id] = content
        elements.append(
            {
                "id": element_id,
                "forId": step_id,
                "type": kind,
                "name": name,
                "mime": mime,
                "display": "inline",
                "objectKey": f"{thread_id}/{element_id}",
                "sequence": number,
            }
        )
    return elements, contents


def _file(thread_id: str, element: Record, content: bytes) -> Iterator[Record]:
    yield {
        "type": "file",
        "objectKey": element["objectKey"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "mime": element["mime"],
        "name": element["name"],
        "threadId": thread_id,
        "elementId": element["id"],
    }
    for start in range(0, len(content), CHUNK_BYTES):
        yield {"type": "chunk", "data": content[start : start + CHUNK_BYTES]}
    yield {"type": "file-end", "complete": True}


def _new_id() -> str:
    return str(uuid.uuid4())
