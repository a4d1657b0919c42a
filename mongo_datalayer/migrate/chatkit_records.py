"""Rows of ChatKit's sample store as they are stored. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from mongo_datalayer.chatkit.payloads import date_of, sort_key, stored_payload
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.migrate.records import DocumentRecord, Leftover, Outcome, Rows
from mongo_datalayer.migrate.values import TOO_LONG, is_too_long
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


def thread_records(threads: list[Row], items: list[Row]) -> Iterator[DocumentRecord | Leftover]:
    """The threads of one id, one for each owner, with the rows of their items in order."""
    owners = {to_text(row.get("user_id")): row for row in threads}
    for owner, row in owners.items():
        # The samples' ids are unique; where they are not, an item tells whose it is.
        found = [item for item in items if len(owners) == 1 or _owner(item) == owner]
        others = sum(to_text(other.get("user_id")) == owner for other in threads) - 1
        yield _thread_record(row, found, others)
    if len(owners) > 1:
        yield from (orphan(item) for item in items if _owner(item) not in owners)


def _owner(row: Row) -> str:
    return to_text(row.get("user_id"))


def _thread_record(row: Row, found: list[Row], others: int) -> DocumentRecord | Leftover:
    """A thread's row and the rows of its items, in their order, as one document."""
    rows = Rows(Counter(threads=1 + others, items=len(found)))
    thread_id, owner = to_text(row["id"]), _owner(row)
    for _ in range(others):
        rows.tell(Outcome.MERGED, "thread with the same id", "threads", thread_id)
    thread = _decoded("thread", row)
    # Stored keys name the owner, so nobody could open a thread without one.
    if reason := _why_left_out(thread_id, owner, thread):
        rows.tell(Outcome.LEFT_OUT, reason, "threads", thread_id)
        for item in found:
            reason = "its thread is missing"
            rows.tell(Outcome.LEFT_OUT, reason, "items", item.get("id", ""), thread_id)
        return Leftover(rows)
    # Items have rows of their own: a page of them in the dump would be a second copy.
    own = {name: value for name, value in (thread or {}).items() if name != "items"}
    created = _created(own, row)
    items = _items(found, rows)
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


def _items(found: list[Row], rows: Rows) -> list[Document]:
    items: dict[str, Document] = {}
    # The number stands for the arrival: the app's later items have microseconds since 1970 there.
    for number, item in enumerate(found, 1):
        item_id, payload = to_text(item.get("id")), _decoded("item", item)
        if payload is None or not item_id or is_too_long(item_id):
            reason = "its data is not JSON" if payload is None else "item without a usable id"
            rows.tell(Outcome.LEFT_OUT, reason, "items", item_id)
            continue
        if item_id in items:
            rows.tell(Outcome.MERGED, "item with the same id", "items", item_id)
        created = _created(payload, item)
        times = {"createdAt": date_of(created), "sortKey": sort_key(created, number)}
        names = {"id": item_id, "type": to_text(payload.get("type"))}
        items[item_id] = {**names, **times, **stored_payload("item", payload)}
    return list(items.values())


def _why_left_out(id: str, owner: str, payload: Document | None) -> str | None:  # noqa: A002
    if not id:
        return "it has no id"
    if is_too_long(id) or is_too_long(owner):
        return TOO_LONG
    if payload is None:
        return "its data is not JSON"
    return None if owner else "it has no owner"


def attachment_record(row: Row) -> DocumentRecord | Leftover:
    """A row of ``files`` as it is stored."""
    rows = Rows()
    rows.read["attachments"] += 1
    attachment, owner = _decoded("attachment", row), _owner(row)
    if reason := _why_left_out(to_text(row["id"]), owner, attachment):
        rows.tell(Outcome.LEFT_OUT, reason, "attachments", row["id"])
        return Leftover(rows)
    attachment = attachment or {}
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
    rows.tell(Outcome.LEFT_OUT, reason, "items", item.get("id", ""), thread_id)
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
