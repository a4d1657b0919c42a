"""Converts between Chainlit's dicts and the stored shapes. Pure.

On the way in, every value passes :func:`~mongo_datalayer.model.bson_values.to_bson`, fields that
are None are left out, and field names are encoded for the paths of updates. On the way out, every
field that Chainlit and its frontend read is set, and unknown fields are kept.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from operator import itemgetter
from typing import Any
from urllib.parse import unquote

from mongo_datalayer.model.bson_values import to_bson, to_id, to_text
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import Document, ElementDocument, StepDocument
from mongo_datalayer.model.times import EPOCH, iso, parse_time, sort_as_text

INCOMPLETE = "Older messages of this conversation are missing in the database."
"""What a person reads in place of steps that were lost with an overflow document."""

NAME_LENGTH = 255
"""Longest thread name, in characters. A longer one is cut and ends in ``…``."""

ROUTE_KEYS = ("is_shared", "shared_at", "pinned")
"""Thread metadata that Chainlit's HTTP routes set, and no session."""

# Characters with a meaning in an update's path. The percent sign first, as codes begin with it.
_ENCODED = {"%": "%25", ".": "%2E", "$": "%24", "\0": "%00"}
_FEEDBACK_IDS = uuid.UUID("6f1ed3a2-64a5-4e1f-9a3c-0f2d0a0b5c11")
_HIDDEN = ("", "false", "False")
_SCALARS = frozenset({str, int, bool, type(None)})  # a float may be NaN
_NO_FIELDS: Mapping[str, Any] = {}
_STR = frozenset({str})
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)

# Fields that the thread or another method owns; never written from a caller's dict.
_STEP_NOT_STORED = frozenset({"threadId", "feedback", "streaming", "receivedAt"})
_ELEMENT_NOT_STORED = frozenset({"id", "threadId", "path", "content", "sequence"})
_STEP_TEXTS = frozenset({"id", "type", "name", "parentId", "input", "output"})
_STEP_DEFAULTS: Document = dict.fromkeys(
    name for name in StepDocument.model_fields if name != "receivedAt"
) | {"type": "undefined", "name": "", "input": "", "output": "", "streaming": False}
_ELEMENT_DEFAULTS: Document = dict.fromkeys(
    name for name in ElementDocument.model_fields if name != "sequence"
) | {
    "type": "file",
    "name": "",
    "display": "inline",
}


# Names ----------------------------------------------------------------------------------------


def encode_field(key: str) -> str:
    """``key`` as the name of a top-level field that may stand in an update's path.

    Dots, dollars, percent signs and NUL are percent-encoded; the empty key is ``%``.
    """
    if key == "":
        return "%"
    for character, code in _ENCODED.items():
        if character in key:
            key = key.replace(character, code)
    return key


def decode_field(name: str) -> str:
    """The inverse of :func:`encode_field`."""
    if "%" not in name:
        return name
    return "" if name == "%" else unquote(name)


def stored_fields(values: Mapping[str, Any], without: Iterable[str] = ()) -> Document:
    """A caller's map as stored fields: without None, values converted, names encoded."""
    left_out = frozenset(without)
    # A copy, as converting a value may run code that changes the map.
    return {
        _stored_name(key): value if type(value) is str and value.isascii() else to_bson(value)
        for key, value in tuple(values.items())
        if value is not None and key not in left_out
    }


def _stored_name(key: Any) -> str:
    # Only short ones are remembered: browsers name some of the fields.
    short = type(key) is str and len(key) <= 64
    return _name_of(key) if short else encode_field(to_text(key))


@lru_cache(1024)  # steps, elements and metadata have the same few field names
def _name_of(key: str) -> str:
    return encode_field(key if key.isascii() else to_text(key))


def read_fields(stored: Mapping[str, Any], defaults: Mapping[str, Any] = _NO_FIELDS) -> Document:
    """Stored fields over ``defaults``, with original keys and values that JSON carries."""
    fields = {**defaults, **stored}
    for name, value in stored.items():
        if type(value) not in _SCALARS and not _is_flat(value):
            fields[name] = to_bson(value)
    if "%" in "".join(stored):
        return {decode_field(name): value for name, value in fields.items()}
    return fields


def _is_flat(value: Any) -> bool:
    """Whether a value is a map or list of JSON scalars, as most are, and needs no conversion."""
    if type(value) is dict:
        return _SCALARS.issuperset(map(type, value.values()))
    return type(value) is list and _SCALARS.issuperset(map(type, value))


# Steps ----------------------------------------------------------------------------------------


def stored_step(step: Mapping[str, Any]) -> Document:
    """Chainlit's ``StepDict`` as stored."""
    fields = stored_fields(step, without=_STEP_NOT_STORED)
    for name in _STEP_TEXTS & fields.keys():
        if not isinstance(fields[name], str):
            fields[name] = to_text(fields[name])
    if not isinstance(fields.get("metadata", {}), dict):
        fields["metadata"] = {"value": fields["metadata"]}
    return fields


def read_step(stored: Document, thread_id: str) -> Document:
    """A stored step as Chainlit's ``StepDict``; ``createdAt`` is always set."""
    step = read_fields(stored, _STEP_DEFAULTS)
    step["threadId"] = thread_id
    received = step.pop("receivedAt", None)
    if type(step["createdAt"]) is not str:
        times = (step["createdAt"], step["start"], step["end"], received, iso(EPOCH))
        step["createdAt"] = to_text(next(time for time in times if time))
    if not _STR.issuperset(map(type, (step["output"], step["input"], step["type"], step["name"]))):
        for name in ("output", "input", "type", "name"):  # edited by hand: the frontend needs text
            step[name] = step[name] if isinstance(step[name], str) else to_text(step[name])
    if not isinstance(step["parentId"], (str, type(None))):
        step["parentId"] = None
    if not isinstance(step["metadata"], dict):
        step["metadata"] = {}
    show_input = stored.get("showInput")  # None is not a wish to hide it
    if show_input is False or show_input in _HIDDEN:
        step["input"] = ""
    if step["feedback"] is not None:
        step["feedback"] = read_feedback(step["feedback"])
    return step


def read_steps(stored: Iterable[Document], thread_id: str) -> list[Document]:
    """A thread's steps by ``createdAt``, then in order of arrival, but parents before children.

    ``parentId`` becomes None where the parent is missing, or in a loop of parents.
    """
    # Chainlit's frontend drops a step that comes before its parent, or whose parent is missing.
    steps = _sorted_by_time([read_step(step, thread_id) for step in stored])
    by_id = {step["id"]: step for step in steps}
    ordered: list[Document] = []
    placed: set[str] = set()
    for step in steps:
        if step["parentId"] in placed and step["id"] not in placed:  # nearly every step
            placed.add(step["id"])
            ordered.append(step)
            continue
        lineage: list[Document] = []
        waiting: set[str] = set()
        current: Document | None = step
        while current is not None and current["id"] not in placed:
            lineage.append(current)
            waiting.add(current["id"])
            parent_id = current["parentId"]
            parent = by_id.get(parent_id) if isinstance(parent_id, str) else None
            if parent is None or parent["id"] in waiting:
                current["parentId"] = None
            current = None if current["parentId"] is None else parent
        for member in reversed(lineage):
            placed.add(member["id"])
            ordered.append(member)
    return ordered


def _sorted_by_time(steps: list[Document]) -> list[Document]:
    if sort_as_text([step["createdAt"] for step in steps]):  # parsing each takes four times as long
        return sorted(steps, key=itemgetter("createdAt"))
    return sorted(steps, key=_moment)


def read_favorites(stored: Iterable[tuple[str, Document]]) -> list[Document]:
    """Stored steps, each with its thread's id, by ``createdAt`` and id, newest first."""
    return newest_first([read_step(step, thread_id) for thread_id, step in stored])


def newest_first(steps: list[Document]) -> list[Document]:
    """Read steps by ``createdAt`` and id, newest first."""
    return sorted(steps, key=lambda step: (_moment(step), step["id"]), reverse=True)


def _moment(step: Document) -> datetime:
    return parse_time(step["createdAt"]) or _EARLIEST


def missing_fields(stored: Mapping[str, Any], fields: Mapping[str, Any]) -> Document:
    """Those of ``fields`` that ``stored`` lacks: a late create fills them in."""
    return {name: value for name, value in fields.items() if stored.get(name) is None}


def descendants(steps: Iterable[Mapping[str, Any]], step_id: str) -> set[str]:
    """Ids of the step and of all steps below it."""
    children: dict[str, list[str]] = {}
    for step in steps:
        if isinstance(parent_id := step.get("parentId"), str):
            children.setdefault(parent_id, []).append(step["id"])
    found = {step_id}
    waiting = [step_id]
    while waiting:
        new = [child for child in children.get(waiting.pop(), ()) if child not in found]
        found.update(new)
        waiting.extend(new)
    return found


# Feedback -------------------------------------------------------------------------------------


def read_feedback(stored: Any) -> Document | None:
    """Stored feedback as Chainlit's ``FeedbackDict``; None where it is no verdict."""
    if not isinstance(stored, dict):
        return None
    value, comment = stored.get("value", 0), stored.get("comment")
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return {
        "id": stored.get("id"),
        "forId": stored.get("forId"),
        "value": int(value),
        "comment": None if comment is None else to_text(comment),
    }


def stored_feedback(*, id: str | None, step_id: str, value: int, comment: Any) -> Document:  # noqa: A002
    """Feedback as stored; without an id see :func:`identified_feedback`.

    Raises:
        ValueError: the value is not 0 or 1.
    """
    if value not in (0, 1):
        raise ValueError(f"Feedback is 0 (down) or 1 (up), not {value!r}.")
    fields: Document = {"id": to_id(id)} if id else {}
    fields |= {"forId": step_id, "value": int(value)}
    if comment is not None:
        fields["comment"] = to_text(comment)
    return {**fields, "updatedAt": datetime.now(timezone.utc)}


def identified_feedback(stored: Document, thread_id: str) -> Document:
    """Feedback with an id: its own, or the one that feedback for this step always has."""
    seed = json.dumps([thread_id, stored["forId"]])
    return {"id": str(uuid.uuid5(_FEEDBACK_IDS, seed)), **stored}


# Elements -------------------------------------------------------------------------------------


def stored_element(element: Mapping[str, Any]) -> Document:
    """Chainlit's ``ElementDict`` as stored; an empty ``forId`` counts as None."""
    fields = stored_fields(element, without=_ELEMENT_NOT_STORED)
    if fields.get("forId") == "":
        del fields["forId"]
    return {"id": to_id(element["id"]), **fields}


def read_element(stored: Mapping[str, Any], thread_id: str) -> Document:
    """A stored element as Chainlit's ``ElementDict``; a custom element always has ``props``."""
    element = {**read_fields(stored, _ELEMENT_DEFAULTS), "threadId": thread_id}
    element.pop("sequence", None)
    if element["type"] == "custom" and not isinstance(element["props"], dict):
        element["props"] = {}
    return element


def _sequence(stored: Mapping[str, Any]) -> int:
    sequence = stored.get("sequence")
    return sequence if isinstance(sequence, int) else 0


# Threads --------------------------------------------------------------------------------------


def stored_name(name: Any) -> str:
    """A thread's name, cut to :data:`NAME_LENGTH` characters."""
    text = to_text(name)
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"


def read_name(stored: Mapping[str, Any]) -> str | None:
    """The thread's name; without one ``metadata.name``, if that is a string."""
    name = stored.get("name")
    if isinstance(name, str):
        return name
    metadata = stored.get("metadata")
    suggested = metadata.get("name") if isinstance(metadata, dict) else None
    return stored_name(suggested) if isinstance(suggested, str) else None


def read_thread(stored: Mapping[str, Any]) -> Document:
    """A stored whole thread as Chainlit's ``ThreadDict``."""
    thread_id = stored["_id"]
    thread = _read_header(stored, "createdAt")
    thread["steps"] = read_steps(stored.get("steps") or (), thread_id)
    # In the order of the calls: they are stored when their uploads end.
    elements = sorted(stored.get("elements") or (), key=_sequence)
    thread["elements"] = [read_element(element, thread_id) for element in elements]
    if stored.get("incomplete"):
        thread["steps"].insert(0, _notice(thread))
    return thread


def _notice(thread: Document) -> Document:
    """What tells people that the older part of a thread is missing; it is not stored."""
    step: Document = {"id": f"{thread['id']}/incomplete", "type": "system_message"}
    step |= {"name": "mongo_datalayer", "output": INCOMPLETE, "createdAt": thread["createdAt"]}
    return read_step(step, thread["id"])


def read_list_entry(stored: Mapping[str, Any], time_field: str) -> Document:
    """A stored thread as an entry of a list that is sorted by ``time_field``."""
    # As createdAt: Chainlit's frontend groups the list by it, and needs a time.
    entry = _read_header(stored, time_field)
    entry["createdAt"] = entry["createdAt"] or iso(EPOCH)
    return entry


def read_page(
    stored: list[Document], limit: int, time_field: str
) -> tuple[list[Document], Document]:
    """A page of a list, and the fields of its ``PageInfo``.

    Args:
        stored: The threads of the page, and one more if there is a next page.
        limit: How many threads a page has.
        time_field: The field the list is sorted by.
    """
    page = stored[:limit]
    entries = [read_list_entry(thread, time_field) for thread in page]
    # A time that was edited by hand and is no date sorts behind all dates: no page goes on there.
    dated = [thread for thread in stored if isinstance(thread.get(time_field), datetime)]
    info: Document = {"hasNextPage": len(dated) > limit, "startCursor": None, "endCursor": None}
    if dated:
        ends = (dated[0], dated[: len(page)][-1])
        start, end = (Cursor(thread[time_field], thread["_id"]) for thread in ends)
        info["endCursor"] = end.encode()
        info["startCursor"] = info["endCursor"] if start == end else start.encode()
    return entries, info


def _read_header(stored: Mapping[str, Any], time_field: str) -> Document:
    metadata, tags = stored.get("metadata"), stored.get("tags")
    return {
        "id": stored["_id"],
        "name": read_name(stored),
        "userId": stored.get("userId"),
        "userIdentifier": stored.get("userIdentifier"),
        "tags": (tags if _is_flat(tags) else to_bson(tags)) if isinstance(tags, list) else [],
        "metadata": read_fields(metadata) if metadata and isinstance(metadata, dict) else {},
        "createdAt": read_time(stored.get(time_field)),
        "steps": [],
        "elements": [],
    }


def read_time(moment: Any) -> str | None:
    """A stored time as Chainlit's ISO 8601 text."""
    if moment is None:
        return None
    return iso(moment) if isinstance(moment, datetime) else to_text(moment)
