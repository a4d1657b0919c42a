"""A thread as it is stored, and what must be read again of it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mongo_datalayer.chainlit.codec import encode_field
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.times import EPOCH, from_milliseconds, iso, milliseconds, parse_time

# With these in showInput, Chainlit's layers blank a step's input when they read it.
_HIDDEN = ("", "false", "False", False)
_STEP_NOT_READ = frozenset({"threadId", "streaming", "receivedAt", "updatedAt"})
_ELEMENT_DEFAULTS: Document = {"type": "file", "display": "inline"}
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_THREAD = ("id", "name", "userId", "userIdentifier", "tags")


def stored_thread(thread: Document) -> Document:
    """The document of a thread with Chainlit's fields: names are encoded where a path needs it."""
    document = {"_id": thread["id"]}
    document |= {encode_field(name): value for name, value in thread.items() if name != "id"}
    document["metadata"] = _encoded(thread.get("metadata", {}))
    document["tags"] = thread.get("tags", [])
    document["steps"] = [_encoded(step) for step in thread["steps"]]
    document["elements"] = [_encoded(element) for element in thread["elements"]]
    return document


def stored_user(user: Document) -> Document:
    """The document of a user."""
    document = {"_id": user["id"]}
    document |= {encode_field(name): value for name, value in user.items() if name != "id"}
    document["metadata"] = _encoded(user["metadata"])
    return document


def expected_thread(thread: Document) -> Document:
    """What ``get_thread`` has to say of a thread that a source yields.

    That is the thread with the normalisations that are documented: an input that the app hid is
    empty, a parent that is not there is None, and a step without a time is of 1970.
    """
    step_ids = {step["id"] for step in thread["steps"]}
    steps = [_expected_step(step, step_ids) for step in thread["steps"]]
    elements = [{**_ELEMENT_DEFAULTS, **element} for element in thread["elements"]]
    name = thread.get("name")
    suggested = thread.get("metadata", {}).get("name")
    if name is None and isinstance(suggested, str):
        name = suggested if len(suggested) <= 255 else suggested[:254] + "…"
    return canonical({**thread, "name": name, "steps": steps, "elements": elements})


def canonical(thread: Mapping[str, Any]) -> Document:
    """A thread as it is compared: empty fields left out, steps and elements by id."""
    found = {name: thread[name] for name in _THREAD if thread.get(name) not in _EMPTY}
    found["metadata"] = {k: v for k, v in (thread.get("metadata") or {}).items() if v is not None}
    found["createdAt"] = _milliseconds(thread.get("createdAt"))
    found["steps"] = {step["id"]: _filled(step) for step in thread["steps"]}
    found["elements"] = {element["id"]: _filled(element) for element in thread["elements"]}
    return found


def canonical_user(user: Mapping[str, Any]) -> Document:
    """A user as it is compared."""
    found = {name: value for name, value in user.items() if value not in _EMPTY}
    return {**found, "createdAt": _milliseconds(user.get("createdAt"))}


def digest(compared: Document) -> str:
    """A hash of what :func:`canonical` gave."""
    # Sorted, as MongoDB and PostgreSQL's JSONB keep the order of keys each in its own way.
    text = json.dumps(compared, sort_keys=True, ensure_ascii=False, default=_milliseconds)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def differences(wanted: Document, given: Document, path: str = "") -> list[str]:
    """The paths at which two documents differ, the longest common ones."""
    found: list[str] = []
    for name in sorted({*wanted, *given}, key=str):
        here = f"{path}.{name}" if path else str(name)
        one, other = wanted.get(name), given.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, here)
        elif digest({"": one}) != digest({"": other}):
            found.append(here)
    return found


def _expected_step(step: Document, step_ids: set[str]) -> Document:
    # get_thread gives every step a time: Chainlit's frontend sorts by it.
    expected = {"createdAt": iso(EPOCH), **step}
    if step.get("parentId") not in step_ids:
        expected.pop("parentId", None)
    if "showInput" in step and step["showInput"] in _HIDDEN:
        expected.pop("input", None)
    if "feedback" in step:
        feedback = step["feedback"].items()
        expected["feedback"] = {name: value for name, value in feedback if name != "updatedAt"}
    return expected


def _filled(item: Mapping[str, Any]) -> Document:
    filled = {
        name: value
        for name, value in item.items()
        if value is not None and value is not False and value not in _EMPTY
        if name not in _STEP_NOT_READ
    }
    if "feedback" in filled:
        feedback = filled["feedback"].items()
        filled["feedback"] = {name: value for name, value in feedback if value is not None}
    if filled.get("objectKey"):
        filled.pop("url", None)  # a link that is made anew each time it is read
    return filled


def _encoded(fields: Document) -> Document:
    return {encode_field(name): value for name, value in fields.items()}


def _milliseconds(value: Any) -> str | None:
    """A time as BSON keeps it, to the millisecond."""
    time = value if isinstance(value, datetime) else parse_time(value)
    return None if time is None else iso(from_milliseconds(milliseconds(time)))
