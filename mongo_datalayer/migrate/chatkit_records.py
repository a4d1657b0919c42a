"""Rows of ChatKit's sample store as they are stored. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from mongo_datalayer.chatkit.payloads import date_of, sort_key, stored_payload
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.migrate.records import DocumentRecord, Leftover, Outcome, Rows
from mongo_datalayer.model.bson_values import to_text
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.times import EPOCH

Row = Mapping[str, Any]


def expected_thread(stored: Document) -> Document:
    """A thread as it is compared: its own fields, and its items in order."""
    items = sorted(stored.get("items") or (), key=lambda item: item["sortKey"])
    return {"thread": _payload("thread", stored), "items": [_payload("item", i) for i in items]}


def expected_attachment(stored: Document) -> Document:
    """An attachment as it is compared."""
    return {"attachment": _payload("attachment", stored)}


def _payload(name: str, stored: Document) -> Any:
    text = stored.get("rawJson")
    return stored.get(name) if text is None else json.loads(text)


def thread_record(row: Row, found: list[Row]) -> DocumentRecord | Leftover:
    """A thread's row and the rows of its items, in their order, as one document."""
    rows = Rows()
    rows.read["threads"] += 1
    rows.read["items"] += len(found)
    thread_id, owner = to_text(row["id"]), to_text(row.get("user_id"))
    thread = _decoded("thread", row)
    # Stored keys name the owner, so nobody could open a thread without one.
    if thread is None or not owner:
        reason = "thread has no owner" if thread is not None else "its data is not JSON"
        rows.tell(Outcome.LEFT_OUT, reason, "threads", thread_id)
        for item in found:
            rows.tell(Outcome.LEFT_OUT, "its thread is missing", "items", item["id"], thread_id)
        return Leftover(rows)
    items = []
    # The number stands for the arrival: the app's later items have microseconds since 1970 there.
    for number, item in enumerate(found, 1):
        if (payload := _decoded("item", item)) is None:
            rows.tell(Outcome.LEFT_OUT, "its data is not JSON", "items", item["id"])
            continue
        created = _created(payload, item)
        times = {"createdAt": date_of(created), "sortKey": sort_key(created, number)}
        names = {"id": to_text(item["id"]), "type": to_text(payload.get("type"))}
        items.append({**names, **times, **stored_payload("item", payload)})
    # Items have rows of their own: a page of them in the dump would be a second copy.
    own = {name: value for name, value in thread.items() if name != "items"}
    created = _created(thread, row)
    document: Document = {
        "_id": owned(owner, thread_id),
        "sortKey": f"{sort_key(created, 0)} {thread_id}",
        "createdAt": date_of(created),
        "updatedAt": max([date_of(created), *(item["createdAt"] for item in items)]),
        "sequence": len(found),
        **stored_payload("thread", own),
        "items": items,
    }
    return DocumentRecord("chatkit_threads", document, expected_thread(document), rows)


def attachment_record(row: Row) -> DocumentRecord | Leftover:
    """A row of ``files`` as it is stored."""
    rows = Rows()
    rows.read["attachments"] += 1
    attachment, owner = _decoded("attachment", row), to_text(row.get("user_id"))
    if attachment is None or not owner:
        rows.tell(Outcome.LEFT_OUT, "its data is not JSON, or no owner", "attachments", row["id"])
        return Leftover(rows)
    document: Document = {
        "_id": owned(owner, to_text(row["id"])),
        **stored_payload("attachment", attachment),
        "updatedAt": datetime.now(timezone.utc),
    }
    if thread_id := attachment.get("thread_id"):
        document["threadIds"] = [to_text(thread_id)]
    return DocumentRecord("chatkit_attachments", document, expected_attachment(document), rows)


def orphan(item: Row) -> Leftover:
    """An item whose thread is missing."""
    rows = Rows()
    rows.read["items"] += 1
    reason, thread_id = "its thread is missing", item["thread_id"]
    rows.tell(Outcome.LEFT_OUT, reason, "items", item["id"], thread_id)
    return Leftover(rows)


def _decoded(name: str, row: Row) -> Document | None:
    """What a model dumped, also where a model that holds it alone was dumped."""
    try:
        content = json.loads(row["data"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(content, dict) and content.keys() == {name}:
        content = content[name]
    return content if isinstance(content, dict) else None


def _created(payload: Document, row: Row) -> datetime:
    """ChatKit's times are local ones without a zone."""
    for value in (payload.get("created_at"), row.get("created_at")):
        try:
            return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            continue
    return EPOCH.replace(tzinfo=None)
