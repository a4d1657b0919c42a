"""What a stored thread consists of: its maps, its large values, files and damage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.stored_lists import ids, is_item, items
from mongo_datalayer.storage.large_values import reference_keys


def maps(threads: Iterable[Document]) -> list[Document]:
    """The maps of threads whose values may be references to large values."""
    found: list[Document] = []
    for thread in threads:
        if isinstance(thread.get("metadata"), dict):
            found.append(thread["metadata"])
        steps = items(thread, "steps")
        found.extend(steps)
        # An edit by hand may have left a text, which says nothing and refers to nothing.
        given = (step.get("feedback") for step in steps)
        found.extend(feedback for feedback in given if isinstance(feedback, dict))
        found.extend(items(thread, "pendingFeedback", ()))
        found.extend(items(thread, "elements"))
    return found


def value_keys(threads: Iterable[Document]) -> set[str]:
    """The object keys of the large values that threads, or overflow documents, refer to."""
    return set(reference_keys(maps(threads)))


def object_keys(elements: Iterable[Mapping[str, Any]] | None) -> list[str]:
    """The keys of the elements' files; what is no element has none."""
    listed = elements if isinstance(elements, list) else ()
    keys = [element.get("objectKey") for element in listed if isinstance(element, dict)]
    return [key for key in keys if key and isinstance(key, str)]


def elements_of(elements: Iterable[Mapping[str, Any]], step_ids: set[str]) -> list[Document]:
    """Those of the elements that belong to one of these steps."""
    found = []
    for element in elements:
        step_id = element.get("forId")
        if isinstance(step_id, str) and step_id in step_ids:
            found.append(dict(element))
    return found


def drop_damaged(stored: Document) -> list[str]:
    """Take out of a thread what is no step and no element, and say what that was.

    Only edits by hand leave such items behind, and they must not hide the others.
    """
    damaged = []
    for name in ("steps", "elements"):
        listed, kept = stored.get(name), items(stored, name)
        if not isinstance(listed, list):
            damaged += [] if listed is None else [name]
        elif len(kept) < len(listed):
            damaged += [f"{name}.{n}" for n, item in enumerate(listed) if not is_item(item)]
        stored[name] = kept
    return damaged


def drop_deleted(whole: Document) -> None:
    """Take out of a thread the deleted items that an interrupted deletion left in overflow."""
    deleted, elements = ids(whole, "deletedSteps"), ids(whole, "deletedElements")
    if deleted:
        whole["steps"] = [s for s in whole.get("steps") or () if s["id"] not in deleted]
    if deleted or elements:
        listed = whole.get("elements") or ()
        elements |= {element["id"] for element in elements_of(listed, deleted)}
        whole["elements"] = [element for element in listed if element["id"] not in elements]
