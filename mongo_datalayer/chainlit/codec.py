"""Between Chainlit's dicts and the stored shapes. Pure.

Going in, every value passes :func:`~mongo_datalayer.values.plain`, a field that is None is left
out, and a field's name is made safe to stand in an update's path. Coming out, every field that
Chainlit and its frontend read is there, fields nobody knows included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from operator import itemgetter
from typing import Any
from urllib.parse import unquote

from mongo_datalayer.documents import Document, ElementDocument, StepDocument
from mongo_datalayer.values import EPOCH, iso, plain, plain_text

NAME_LENGTH = 255
"""Longest thread name, in characters. A longer one is cut and ends in ``…``."""

SHARING_KEYS = ("is_shared", "shared_at")
"""Thread metadata that belongs to sharing, not to a session."""

# What means something in an update's path, the percent sign first: it begins the codes.
_ENCODED = {"%": "%25", ".": "%2E", "$": "%24", "\0": "%00"}
_TIME = r"[0-9]{4}-(?:0[1-9]|1[0-2])-[0-3][0-9]T[0-2][0-9](?::[0-5][0-9]){2}\.[0-9]{6}Z"
_CHAINLIT_TIME = re.compile(_TIME).fullmatch
_CHAINLIT_TIMES = re.compile(f"(?:{_TIME}\n)*").fullmatch
_FRACTION = re.compile(r"[.,](\d+)")
_HIDDEN = ("", "false", "False")
_SCALARS = frozenset({str, int, bool, type(None)})  # a float may be NaN
_NO_FIELDS: Mapping[str, Any] = {}
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)

# Fields that the thread or another method owns; never written from a caller's dict.
_STEP_NOT_STORED = frozenset({"id", "threadId", "feedback", "streaming", "receivedAt"})
_ELEMENT_NOT_STORED = frozenset({"id", "threadId", "path", "content"})
_STEP_TEXTS = frozenset({"type", "name", "parentId", "input", "output"})
_STEP_DEFAULTS: Document = dict.fromkeys(
    name for name in StepDocument.model_fields if name != "receivedAt"
) | {"type": "undefined", "name": "", "input": "", "output": "", "streaming": False}
_ELEMENT_DEFAULTS: Document = dict.fromkeys(ElementDocument.model_fields) | {
    "type": "file",
    "name": "",
    "display": "inline",
}


# Names ----------------------------------------------------------------------------------------


def field_name(key: str) -> str:
    """``key`` as the name of a top-level field: it may stand in an update's path.

    Dots, dollars, percent signs and NUL are percent-encoded, the empty key is ``%``; all other
    keys stay as they are. :func:`field_key` is the inverse.
    """
    if key == "":
        return "%"
    for character, code in _ENCODED.items():
        if character in key:
            key = key.replace(character, code)
    return key


def field_key(name: str) -> str:
    """The key that :func:`field_name` made ``name`` of."""
    if "%" not in name:
        return name
    return "" if name == "%" else unquote(name)


def identifier(value: Any) -> str:
    """An id as it is stored; ids are chosen by clients and may be any string."""
    return plain_text(value)


def stored_fields(values: Mapping[str, Any], without: Iterable[str] = ()) -> Document:
    """A caller's map as stored fields: None left out, values plain, names safe."""
    left_out = frozenset(without)
    # A copy: converting a value may run code that changes the map.
    return {
        _stored_name(key): value if type(value) is str and value.isascii() else plain(value)
        for key, value in tuple(values.items())
        if value is not None and key not in left_out
    }


def _stored_name(key: Any) -> str:
    return _name_of(key) if type(key) is str else field_name(plain_text(key))


@lru_cache(1024)  # the fields of steps, elements and metadata, again and again
def _name_of(key: str) -> str:
    return field_name(plain_text(key))


def read_fields(stored: Mapping[str, Any], defaults: Mapping[str, Any] = _NO_FIELDS) -> Document:
    """Stored fields as a caller's map: original keys, values that JSON carries.

    Args:
        stored: The fields, as the driver read them.
        defaults: What the map has besides.
    """
    fields = {**defaults, **stored}
    others = [name for name, value in stored.items() if type(value) not in _SCALARS]
    for name in others:
        if not _is_flat(value := stored[name]):
            fields[name] = plain(value)
    if "%" in "".join(stored):
        return {field_key(name): value for name, value in fields.items()}
    return fields


def _is_flat(value: Any) -> bool:
    """Whether it is a map or list of what JSON carries, as most are that people make."""
    if type(value) is dict:
        return _SCALARS.issuperset(map(type, value.values()))
    return type(value) is list and _SCALARS.issuperset(map(type, value))


# Times ----------------------------------------------------------------------------------------


def parse_time(value: Any) -> datetime | None:
    """A step's time string as an aware datetime; None when it is no ISO 8601 time.

    A time without a zone counts as UTC, as Chainlit means it.
    """
    if not isinstance(value, str):
        return None
    if _CHAINLIT_TIME(value):
        try:
            return datetime.fromisoformat(value[:-1] + "+00:00")
        except ValueError:  # a day that there is not
            return None
    text = value.strip()
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    try:
        # Python 3.10 reads three or six digits of a second's fraction, and no others.
        moment = datetime.fromisoformat(_FRACTION.sub(_microseconds, text, count=1))
    except ValueError:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:  # a zone that leads out of the calendar
        return None


def _microseconds(fraction: re.Match[str]) -> str:
    return "." + fraction[1][:6].ljust(6, "0")


# Steps ----------------------------------------------------------------------------------------


def stored_step(step: Mapping[str, Any]) -> Document:
    """The fields of Chainlit's ``StepDict`` as stored, without the id. Texts are strings."""
    fields = stored_fields(step, without=_STEP_NOT_STORED)
    for name in _STEP_TEXTS & fields.keys():
        if not isinstance(fields[name], str):
            fields[name] = plain_text(fields[name])
    if not isinstance(fields.get("metadata", {}), dict):
        fields["metadata"] = {"value": fields["metadata"]}
    return fields


def read_step(stored: Document, thread_id: str) -> Document:
    """A stored step as Chainlit's ``StepDict``; ``createdAt`` is always there."""
    step = read_fields(stored, _STEP_DEFAULTS)
    step["threadId"] = thread_id
    received = step.pop("receivedAt", None)
    if step["createdAt"] is None:
        step["createdAt"] = step["start"] or step["end"] or received or iso(EPOCH)
    if not isinstance(step["metadata"], dict):
        step["metadata"] = {}
    if _hides_input(stored):
        step["input"] = ""
    if step["feedback"] is not None:
        step["feedback"] = read_feedback(step["feedback"])
    return step


def _hides_input(stored: Document) -> bool:
    """Whether the app asked that the input is not shown; unset is not a wish."""
    show_input = stored.get("showInput")
    return show_input is False or show_input in _HIDDEN


def read_steps(stored: Iterable[Document], thread_id: str) -> list[Document]:
    """A thread's steps in reading order.

    By ``createdAt``, equal times in order of arrival, but a parent always before its children;
    a parent that is not there, or a loop of parents, becomes None: Chainlit's frontend drops a
    child that comes before its parent or has none.
    """
    steps = _sorted_by_time([read_step(step, thread_id) for step in stored])
    by_id = {step["id"]: step for step in steps}
    ordered: list[Document] = []
    placed: set[str] = set()
    for step in steps:
        if step["parentId"] in placed and step["id"] not in placed:  # the ordinary child
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
    """The steps by ``createdAt``, equal times as they are."""
    # Chainlit writes all times alike: then their texts are in the order of the times.
    if _CHAINLIT_TIMES("".join([f"{step['createdAt']}\n" for step in steps])):
        return sorted(steps, key=itemgetter("createdAt"))
    return sorted(steps, key=_moment)


def newest_first(steps: list[Document]) -> list[Document]:
    """Steps that were read, by ``createdAt``, newest first, then by id."""
    return sorted(steps, key=lambda step: (_moment(step), step["id"]), reverse=True)


def _moment(step: Document) -> datetime:
    return parse_time(step["createdAt"]) or _EARLIEST


def missing_fields(stored: Mapping[str, Any], fields: Mapping[str, Any]) -> Document:
    """Those of ``fields`` that ``stored`` does not have: what a late create fills in."""
    return {name: value for name, value in fields.items() if stored.get(name) is None}


def descendants(steps: Iterable[Mapping[str, Any]], step_id: str) -> set[str]:
    """Ids of the step and of all steps below it."""
    children: dict[Any, list[str]] = {}
    for step in steps:
        children.setdefault(step.get("parentId"), []).append(step["id"])
    found = {step_id}
    waiting = [step_id]
    while waiting:
        new = [child for child in children.get(waiting.pop(), ()) if child not in found]
        found.update(new)
        waiting.extend(new)
    return found


# Feedback -------------------------------------------------------------------------------------


def read_feedback(stored: Mapping[str, Any]) -> Document:
    """Stored feedback as Chainlit's ``FeedbackDict``."""
    return {
        "id": stored.get("id"),
        "forId": stored.get("forId"),
        "value": int(stored.get("value", 0)),
        "comment": stored.get("comment"),
    }


def stored_feedback(*, id: str, step_id: str, value: int, comment: Any) -> Document:  # noqa: A002
    """Feedback as stored; it replaces the step's earlier feedback whole."""
    fields: Document = {"id": identifier(id), "forId": step_id, "value": int(value)}
    if comment is not None:
        fields["comment"] = plain_text(comment)
    return {**fields, "updatedAt": datetime.now(timezone.utc)}


# Elements -------------------------------------------------------------------------------------


def stored_element(element: Mapping[str, Any]) -> Document:
    """Chainlit's ``ElementDict`` as stored; an empty ``forId`` is none."""
    fields = stored_fields(element, without=_ELEMENT_NOT_STORED)
    if fields.get("forId") == "":
        del fields["forId"]
    return {"id": identifier(element["id"]), **fields}


def read_element(stored: Mapping[str, Any], thread_id: str) -> Document:
    """A stored element as Chainlit's ``ElementDict``; custom elements always have ``props``."""
    element = {**read_fields(stored, _ELEMENT_DEFAULTS), "threadId": thread_id}
    if element["type"] == "custom" and not isinstance(element["props"], dict):
        element["props"] = {}
    return element


# Threads --------------------------------------------------------------------------------------


def stored_name(name: Any) -> str:
    """A thread's name, cut to :data:`NAME_LENGTH` characters."""
    text = plain_text(name)
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"


def read_name(stored: Mapping[str, Any]) -> str | None:
    """The thread's name; one that was never named takes ``metadata.name``, if that is a text."""
    name = stored.get("name")
    if isinstance(name, str):
        return name
    metadata = stored.get("metadata")
    suggested = metadata.get("name") if isinstance(metadata, dict) else None
    return stored_name(suggested) if isinstance(suggested, str) else None


def read_thread(stored: Mapping[str, Any]) -> Document:
    """A stored thread as Chainlit's ``ThreadDict``, fresh and whole."""
    thread_id = stored["_id"]
    thread = _read_header(stored, "createdAt")
    thread["steps"] = read_steps(stored.get("steps") or (), thread_id)
    elements = stored.get("elements") or ()
    thread["elements"] = [read_element(element, thread_id) for element in elements]
    return thread


def read_list_entry(stored: Mapping[str, Any], time_field: str) -> Document:
    """A stored thread as an entry of a list: ``createdAt`` is the time the list is ordered by.

    Chainlit's frontend groups the list by ``createdAt``.
    """
    return _read_header(stored, time_field)


def _read_header(stored: Mapping[str, Any], time_field: str) -> Document:
    metadata, tags = stored.get("metadata"), stored.get("tags")
    return {
        "id": stored["_id"],
        "name": read_name(stored),
        "userId": stored.get("userId"),
        "userIdentifier": stored.get("userIdentifier"),
        "tags": (tags if _is_flat(tags) else plain(tags)) if tags else [],
        "metadata": read_fields(metadata) if metadata and isinstance(metadata, dict) else {},
        "createdAt": read_time(stored.get(time_field)),
        "steps": [],
        "elements": [],
    }


def read_time(moment: Any) -> str | None:
    """A stored time as Chainlit's ISO 8601 text."""
    return iso(moment) if isinstance(moment, datetime) else plain(moment)
