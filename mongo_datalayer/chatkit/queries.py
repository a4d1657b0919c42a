"""Filters, updates and pipelines of ChatKit's collections. Pure.

User data stands only in values, updates use the classic operators, and each filter holds the guard
that makes its update safe to repeat. In an aggregation user data is wrapped in ``$literal``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from mongo_datalayer.config import DELETED_ITEMS_KEPT
from mongo_datalayer.model.documents import (
    CHATKIT_THREADS,
    NOT_DELETED,
    NOT_FULL,
    Document,
    marks,
    size_of,
)
from mongo_datalayer.model.stored_lists import array
from mongo_datalayer.mongodb.update import Update

THREAD_PROJECTION: Document = {"thread": 1, "rawJson": 1}
"""A thread's own fields, without items."""

ITEM_TEXTS = ("id", "sortKey")
"""What an item must have to be read: one without was edited by hand, and has no place."""

_OPTIONAL = ("rawJson", "dynamic")


class PageRequest(NamedTuple):
    """A page of threads or items: at most ``limit``, after the one with the id ``after``."""

    after: str | None
    limit: int
    descending: bool


def owned(owner: str, id: str) -> Document:  # noqa: A002 - what it is called
    """The ``_id`` of a document of an owner; MongoDB compares it with the order of its fields."""
    return {"owner": owner, "id": id}


def not_deleted(key: Document) -> Document:
    """The filter that finds a document, unless it is a tombstone."""
    return {"_id": key, **NOT_DELETED}


# Threads --------------------------------------------------------------------------------------


def thread_put(
    key: Document, thread: Mapping[str, Any], *, sort_key: str, created_at: datetime, now: datetime
) -> Update:
    """Set a thread's own fields, or make it; an upsert. Its sort key never changes."""
    new = {"sortKey": sort_key, "createdAt": created_at, "sequence": 0, "items": [], "bytes": 0}
    return Update(
        not_deleted(key),
        {
            "$set": {**thread, "updatedAt": now},
            **_unset(thread, ("rawJson",)),
            "$setOnInsert": new,
        },
    )


def threads_page_pipeline(owner: str, request: PageRequest) -> list[Document]:
    """A page of an owner's threads by their sort key, without items.

    With ``after``, that thread or its tombstone says where to begin, and each document has a thread
    of the page in ``page``. One document without ``page`` means that nothing comes after, and no
    document that the owner never had the thread ``after``.
    """
    owners = {"_id.owner": owner, **NOT_DELETED}
    page = _page_of_threads(request)
    if request.after is None:
        return [{"$match": owners}, *page]
    beyond = {"$lt" if request.descending else "$gt": ["$sortKey", "$$after"]}
    return [
        {"$match": {"_id": owned(owner, request.after)}},
        {
            "$lookup": {
                "from": CHATKIT_THREADS,
                "let": {"after": "$sortKey"},
                "pipeline": [{"$match": {**owners, "$expr": beyond}}, *page],
                "as": "page",
            }
        },
        {"$unwind": {"path": "$page", "preserveNullAndEmptyArrays": True}},
        {"$project": {"page": 1}},
    ]


def threads_page_after_pipeline(owner: str, request: PageRequest, sort_key: str) -> list[Document]:
    """A page of an owner's threads that begins after a sort key."""
    beyond = {"sortKey": {"$lt" if request.descending else "$gt": sort_key}}
    return [{"$match": {"_id.owner": owner, **beyond, **NOT_DELETED}}, *_page_of_threads(request)]


def _page_of_threads(request: PageRequest) -> list[Document]:
    return [
        # Sort keys are unique: they end in the thread's id.
        {"$sort": {"sortKey": -1 if request.descending else 1}},
        {"$limit": request.limit},
        {"$project": THREAD_PROJECTION},
    ]


# Pages of items -------------------------------------------------------------------------------


def items_page_pipeline(
    key: Document, request: PageRequest, sort_key: str | None = None
) -> list[Document]:
    """One document: the main document's ``items`` of a page, sorted, and what a page needs besides.

    ``cursor`` is the sort key of the item ``after``, deleted or not. It is null or missing when the
    main document has neither. With ``sort_key`` the page begins there. ``damaged`` says how many
    items of the main document were edited by hand so that they cannot be read.
    """
    stages: list[Document] = [
        {"$match": not_deleted(key)},
        {"$project": {"items": 1, "deletedItems": 1, "overflowIds": 1}},
        # Before the page is cut: what was edited by hand must not take the place of an item.
        {"$set": {"damaged": _count_of_damaged(), "items": _readable()}},
    ]
    if request.after is not None:
        beyond = {"$lt" if request.descending else "$gt": ["$$this.sortKey", "$cursor"]}
        cursor = _sort_key_of(request.after) if sort_key is None else {"$literal": sort_key}
        stages += [
            {"$set": {"cursor": cursor}},
            {"$set": {"items": {"$filter": {"input": "$items", "cond": beyond}}}},
        ]
    beside = ("cursor", "overflowIds", "deletedItems", "damaged")
    return [
        *stages,
        {"$unwind": {"path": "$items", "preserveNullAndEmptyArrays": True}},
        {"$sort": {"items.sortKey": -1 if request.descending else 1}},
        {"$limit": request.limit},
        {
            "$group": {
                "_id": "$_id",
                "items": {"$push": "$items"},
                **{name: {"$first": f"${name}"} for name in beside},
            }
        },
    ]


def overflow_filter(key: Document, sort_key: str | None, *, descending: bool) -> Document:
    """The overflow documents of a thread that may hold items after a sort key."""
    if sort_key is None:
        return {"thread": key}
    # An edit by hand may have made it anything: then the document may hold some.
    if descending:
        return {"thread": key, "first": {"$not": {"$gte": sort_key}}}
    return {"thread": key, "last": {"$not": {"$lte": sort_key}}}


def _readable() -> Document:
    """The items of the main document that have what an item must have."""
    texts = [{"$eq": [{"$type": f"$$this.{name}"}, "string"]} for name in ITEM_TEXTS]
    return {"$filter": {"input": array("$items"), "cond": {"$and": texts}}}


def _count_of_damaged() -> Document:
    is_list = {"$isArray": ["$items"]}
    lost = {"$subtract": [{"$size": array("$items")}, {"$size": _readable()}]}
    return {"$cond": [is_list, lost, 1]}


def sort_key_range(lists: Mapping[str, Sequence[Mapping[str, Any]]]) -> Document:
    """The lowest and the highest sort key of the items of an overflow document."""
    sort_keys = [item["sortKey"] for item in lists["items"]]
    return {"first": min(sort_keys), "last": max(sort_keys)}


def _sort_key_of(item_id: str) -> Document:
    """The item's own sort key; if it was deleted, the last one that it had."""
    named = {"$eq": ["$$this.id", {"$literal": item_id}]}
    highest = [
        {
            "$max": {
                "$map": {
                    "input": {"$filter": {"input": array(f"${name}"), "cond": named}},
                    "in": "$$this.sortKey",
                }
            }
        }
        for name in ("items", "deletedItems")
    ]
    return {"$ifNull": highest}


# Items ----------------------------------------------------------------------------------------


def item_insert(
    key: Document,
    item: Mapping[str, Any],
    *,
    arrival: int,
    now: datetime,
    room: Document,
    anew: bool,
) -> Update:
    """Append an item, if there is ``room``, no item has its id, and none arrived later.

    The arrivals of a thread's items are therefore strictly increasing, whatever the clocks of
    several processes show. Unless ``anew``, an item that was deleted is not appended either.
    """
    return Update(
        {
            **not_deleted(key),
            "items.id": {"$ne": item["id"]},
            "sequence": {"$not": {"$gte": arrival}},
            **({} if anew else {"deletedItems.id": {"$ne": item["id"]}}),
            **room,
        },
        {
            "$push": {"items": dict(item)},
            # Its tombstone would hide it from readers.
            "$pull": {"deletedItems": {"id": item["id"]}},
            "$set": {"sequence": arrival, "updatedAt": now, **marks(item)},
            "$inc": {"bytes": size_of(dict(item))},
        },
    )


def item_replace(key: Document, item: Mapping[str, Any], now: datetime) -> Update:
    """Replace the item with the same id; its sort key and feedback stay."""
    update = _replacement(item)
    return Update(
        {**in_main_document(key, item["id"]), **NOT_FULL},
        {
            **update,
            "$set": {**update["$set"], "updatedAt": now, **marks(item)},
            "$inc": {"bytes": size_of(dict(item))},
        },
    )


def item_replace_in_overflow(key: Document, item: Mapping[str, Any]) -> Update:
    """The same for an item of an overflow document."""
    return Update(in_overflow(key, item["id"]), _replacement(item))


def item_delete(key: Document, item: Mapping[str, Any], now: datetime) -> Update:
    """Remove an item of the main document, and leave its tombstone."""
    tombstone = item_tombstone(key, item, now)
    return Update(
        {**tombstone.filter, "items": {"$elemMatch": _placed(item)}},
        {**tombstone.update, "$pull": {"items": {"id": item["id"]}}},
    )


def item_tombstone(key: Document, item: Mapping[str, Any], now: datetime) -> Update:
    """Note that an item is deleted. Readers skip it from then on, wherever a copy remains."""
    deleted = {**_placed(item), "at": now}
    return Update(
        not_deleted(key),
        # Bounded: the document must not grow with every item that was ever deleted.
        {"$push": {"deletedItems": {"$each": [deleted], "$slice": -DELETED_ITEMS_KEPT}}},
    )


def item_delete_in_overflow(key: Document, item: Mapping[str, Any]) -> Update:
    """Remove an item from the overflow documents."""
    placed = _placed(item)
    return Update({"thread": key, "items": {"$elemMatch": placed}}, {"$pull": {"items": placed}})


def _placed(item: Mapping[str, Any]) -> Document:
    # An edit by hand may have taken the sort key away.
    return {"id": item["id"], "sortKey": item.get("sortKey")}


def item_tombstones_expire(key: Document, before: datetime) -> Update:
    """Remove the tombstones of items that were deleted before a time."""
    return Update({"_id": key}, {"$pull": {"deletedItems": {"at": {"$lt": before}}}})


def feedback_put(item_filter: Document, kind: str, now: datetime) -> Update:
    """Set the feedback on an item, in the main document or in an overflow document."""
    return Update(item_filter, {"$set": {"items.$.feedback": {"kind": kind, "at": now}}})


def in_main_document(key: Document, item_id: str) -> Document:
    """The filter that finds an item in the main document."""
    return {**not_deleted(key), "items.id": item_id}


def in_overflow(key: Document, item_id: str) -> Document:
    """The filter that finds an item in the overflow documents."""
    return {"thread": key, "items.id": item_id}


def item_projection(item_id: str) -> Document:
    """An item of the main document, or its tombstone, and where else the item may be."""
    return {
        "items": {"$elemMatch": {"id": item_id}},
        "deletedItems": {"$elemMatch": {"id": item_id}},
        "overflowIds": 1,
    }


def item_state_projection(item_id: str) -> Document:
    """Everything that explains why a write to an item did not match."""
    return {**item_projection(item_id), "deletedAt": 1, "sequence": 1, "bytes": 1}


def _replacement(item: Mapping[str, Any]) -> Document:
    fields = {f"items.$.{name}": value for name, value in item.items() if name != "id"}
    return {"$set": fields, **_unset(fields, tuple(f"items.$.{name}" for name in _OPTIONAL))}


# Attachments ----------------------------------------------------------------------------------


def attachment_announce(
    key: Document, attachment: Mapping[str, Any], upload: Mapping[str, Any], now: datetime
) -> Update:
    """Make an attachment whose file will come; an upsert that never replaces another one."""
    return Update(
        {**not_deleted(key), "upload.ticket": upload["ticket"]},
        {"$setOnInsert": {**attachment, "upload": dict(upload), "updatedAt": now}},
    )


def attachment_put(
    key: Document, attachment: Mapping[str, Any], thread_id: str | None, now: datetime
) -> Update:
    """Set an attachment's fields, or make it; an upsert. ``upload`` and other threads stay."""
    fields = {**attachment, "updatedAt": now}
    thread = {} if thread_id is None else {"$addToSet": {"threadIds": thread_id}}
    return Update(not_deleted(key), {"$set": fields, **thread, **_unset(fields, ("rawJson",))})


def attachment_leave(key: Document, thread_id: str) -> Update:
    """Take an attachment out of a thread."""
    filter = {**not_deleted(key), "threadIds": thread_id}
    return Update(filter, {"$pull": {"threadIds": thread_id}})


def upload_complete(key: Document, ticket: str, now: datetime) -> Update:
    """Note that the announced file is stored."""
    # Also the attachment's own time, by which files gc tells what is old.
    return Update(
        {**not_deleted(key), "upload.ticket": ticket},
        {"$set": {"upload.at": now, "updatedAt": now}},
    )


def _unset(fields: Mapping[str, Any], optional: tuple[str, ...]) -> Document:
    missing = {name: "" for name in optional if name not in fields}
    return {"$unset": missing} if missing else {}
