"""Filters, updates and pipelines of ChatKit's collections. Pure.

The rules are those of :mod:`mongo_datalayer.pipelines`: user data stands only in values, updates
use the classic operators, and a filter holds the guard that lets its statement be repeated. In an
aggregation user data is wrapped in ``$literal``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mongo_datalayer.documents import CHATKIT_THREADS, LONG, Document, is_reference
from mongo_datalayer.pipelines import FULL_BYTES, Statement
from mongo_datalayer.values import size_of

DELETED_ITEMS_KEPT = 1000
"""How many deleted items a thread remembers the place of."""

_NOT_DELETED: Document = {"deletedAt": {"$exists": False}}
_THREAD: Document = {"thread": 1, "exact": 1}
_NOT_FULL: Document = {"bytes": {"$not": {"$gte": FULL_BYTES}}}
_OPTIONAL = ("exact", "dynamic")


def owned(owner: str, id: str) -> Document:  # noqa: A002 - what it is called
    """The ``_id`` of what an owner has; MongoDB compares it with the order of its fields."""
    return {"owner": owner, "id": id}


def there(key: Document) -> Document:
    """The document, unless it was deleted."""
    return {"_id": key, **_NOT_DELETED}


# Threads --------------------------------------------------------------------------------------


def thread_put(
    key: Document, thread: Mapping[str, Any], *, order: str, created_at: datetime, now: datetime
) -> Statement:
    """Set a thread's own fields, or make it; an upsert. Its place in lists never changes."""
    made = {"order": order, "createdAt": created_at, "sequence": 0, "items": [], "bytes": 0}
    return Statement(
        there(key),
        {
            "$set": {**thread, "updatedAt": now},
            **_unset(thread, ("exact",)),
            "$setOnInsert": made,
        },
    )


def threads_page_pipeline(
    owner: str, *, after: str | None, limit: int, descending: bool
) -> list[Document]:
    """An owner's threads by their place, at most ``limit``, without items.

    With ``after``, that thread or its tombstone says where to begin. Then each document has the
    thread in ``page``; one without it says that nothing comes after, and none at all that there is
    no such thread.
    """
    direction = -1 if descending else 1
    mine = {"_id.owner": owner, **_NOT_DELETED}
    page: list[Document] = [
        {"$sort": {"order": direction}},
        {"$limit": limit},
        {"$project": _THREAD},
    ]
    if after is None:
        return [{"$match": mine}, *page]
    beyond = {"$lt" if descending else "$gt": ["$order", "$$place"]}
    return [
        {"$match": {"_id": owned(owner, after)}},
        {
            "$lookup": {
                "from": CHATKIT_THREADS,
                "let": {"place": "$order"},
                "pipeline": [{"$match": {**mine, "$expr": beyond}}, *page],
                "as": "page",
            }
        },
        {"$unwind": {"path": "$page", "preserveNullAndEmptyArrays": True}},
        {"$project": {"page": 1}},
    ]


# Items ----------------------------------------------------------------------------------------


def items_page_pipeline(
    key: Document,
    *,
    limit: int,
    descending: bool,
    after: str | None = None,
    place: str | None = None,
) -> list[Document]:
    """One document: the head's ``items`` of a page in order, and what else the page depends on.

    ``cursor`` is the place of the item ``after``, whether that is there or was deleted; it is null
    or missing when the head knows neither. With ``place`` the page begins there.
    """
    direction = -1 if descending else 1
    stages: list[Document] = [
        {"$match": there(key)},
        {"$project": {"items": 1, "deletedItems": 1, "parts": 1}},
    ]
    if after is not None:
        beyond = {"$lt" if descending else "$gt": ["$$this.order", "$cursor"]}
        stages += [
            {"$set": {"cursor": _place_of(after) if place is None else {"$literal": place}}},
            {"$set": {"items": {"$filter": {"input": "$items", "cond": beyond}}}},
        ]
    return [
        *stages,
        {"$unwind": {"path": "$items", "preserveNullAndEmptyArrays": True}},
        {"$sort": {"items.order": direction}},
        {"$limit": limit},
        {
            "$group": {
                "_id": "$_id",
                "items": {"$push": "$items"},
                **{name: {"$first": f"${name}"} for name in ("cursor", "parts", "deletedItems")},
            }
        },
    ]


def ranges_condition(key: Document, place: str | None, *, descending: bool) -> Document:
    """The parts of a thread that may hold what comes after a place."""
    if place is None:
        return {"thread": key}
    return {
        "thread": key,
        **({"first": {"$lt": place}} if descending else {"last": {"$gt": place}}),
    }


def range_of(lists: Mapping[str, Sequence[Mapping[str, Any]]]) -> Document:
    """What a part says of its items: the first and the last place."""
    places = [item["order"] for item in lists["items"]]
    return {"first": min(places), "last": max(places)}


def _place_of(item_id: str) -> Document:
    """The item's own place; if it is not there, the last one it had."""
    named = {"$eq": ["$$this.id", {"$literal": item_id}]}
    places = {
        name: {
            "$map": {
                "input": {"$filter": {"input": {"$ifNull": [f"${name}", []]}, "cond": named}},
                "in": "$$this.order",
            }
        }
        for name in ("items", "deletedItems")
    }
    return {"$ifNull": [{"$max": places["items"]}, {"$max": places["deletedItems"]}]}


def item_insert(
    key: Document,
    item: Mapping[str, Any],
    *,
    arrival: int,
    now: datetime,
    room: Document,
    anew: bool,
) -> Statement:
    """Append an item. Guarded: not without ``room``, where it is there, or after a later arrival.

    Nor where it was deleted, unless it may be added ``anew``.

    So the arrivals of one thread's items are all different, and their order is the true one,
    whatever the clocks of several processes show.
    """
    return Statement(
        {
            **there(key),
            "items.id": {"$ne": item["id"]},
            "sequence": {"$lt": arrival},
            **({} if anew else {"deletedItems.id": {"$ne": item["id"]}}),
            **room,
        },
        {
            "$push": {"items": dict(item)},
            "$pull": {"deletedItems": {"id": item["id"]}},  # of an earlier life
            "$set": {"sequence": arrival, "updatedAt": now, **_marks(item)},
            "$inc": {"bytes": size_of(dict(item))},
        },
    )


def item_replace(key: Document, item_id: str, item: Mapping[str, Any], now: datetime) -> Statement:
    """Put an item in the place of the one with its id: place and feedback stay."""
    replaced = _replaced(item)
    return Statement(
        {**there(key), **_NOT_FULL, "items.id": item_id},
        {
            **replaced,
            "$set": {**replaced["$set"], "updatedAt": now, **_marks(item)},
            "$inc": {"bytes": size_of(dict(item))},
        },
    )


def item_replace_in_part(key: Document, item_id: str, item: Mapping[str, Any]) -> Statement:
    """The same where a part holds the item."""
    return Statement({"thread": key, "items.id": item_id}, _replaced(item))


def _replaced(item: Mapping[str, Any]) -> Document:
    fields = {f"items.$.{name}": value for name, value in item.items()}
    return {"$set": fields, **_unset(fields, tuple(f"items.$.{name}" for name in _OPTIONAL))}


def _marks(item: Mapping[str, Any]) -> Document:
    return dict(LONG) if is_reference(item["item"]) else {}


def item_delete(key: Document, item_id: str, order: str, now: datetime) -> Statement:
    """Remove an item, and remember where it was."""
    remembered = item_forget(key, item_id, order, now)
    return Statement(
        {**remembered.filter, "items": {"$elemMatch": {"id": item_id, "order": order}}},
        {**remembered.update, "$pull": {"items": {"id": item_id}}},
    )


def item_forget(key: Document, item_id: str, order: str, now: datetime) -> Statement:
    """Remember where an item of a part was: it is not there any more for who reads the head."""
    gone = {"id": item_id, "order": order, "at": now}
    return Statement(
        there(key),
        {"$push": {"deletedItems": {"$each": [gone], "$slice": -DELETED_ITEMS_KEPT}}},
    )


def item_delete_in_part(key: Document, item_id: str, order: str) -> Statement:
    """Remove an item from the parts."""
    item = {"id": item_id, "order": order}
    return Statement({"thread": key, "items": {"$elemMatch": item}}, {"$pull": {"items": item}})


def deleted_items_expire(key: Document, before: datetime) -> Statement:
    """Forget deleted items that no page can end with any more."""
    return Statement({"_id": key}, {"$pull": {"deletedItems": {"at": {"$lt": before}}}})


def feedback_put(key: Document, item_id: str, kind: str, now: datetime) -> Statement:
    """Put feedback on an item, in place of what was there."""
    return Statement({**there(key), "items.id": item_id}, _feedback(kind, now))


def feedback_put_in_part(key: Document, item_id: str, kind: str, now: datetime) -> Statement:
    """The same where a part holds the item."""
    return Statement({"thread": key, "items.id": item_id}, _feedback(kind, now))


def _feedback(kind: str, now: datetime) -> Document:
    return {"$set": {"items.$.feedback": {"kind": kind, "at": now}}}


def item_state_projection(item_id: str) -> Document:
    """What decides why a write to an item did not match."""
    return {
        "deletedAt": 1,
        "sequence": 1,
        "bytes": 1,
        "parts": 1,
        "items": {"$elemMatch": {"id": item_id}},
        "deletedItems": {"$elemMatch": {"id": item_id}},
    }


# Attachments ----------------------------------------------------------------------------------


def attachment_announce(
    key: Document, attachment: Mapping[str, Any], upload: Mapping[str, Any], now: datetime
) -> Statement:
    """Make an attachment whose file will come; an upsert, guarded against another one's id."""
    return Statement(
        {**there(key), "upload.ticket": upload["ticket"]},
        {"$setOnInsert": {**attachment, "upload": dict(upload), "updatedAt": now}},
    )


def attachment_put(
    key: Document, attachment: Mapping[str, Any], thread_id: str | None, now: datetime
) -> Statement:
    """Set an attachment's fields, or make it; an upsert. What is known of its file stays."""
    belongs = {} if thread_id is None else {"threadId": thread_id}
    fields = {**attachment, **belongs, "updatedAt": now}
    return Statement(there(key), {"$set": fields, **_unset(fields, ("exact", "threadId"))})


def upload_complete(key: Document, ticket: str, now: datetime) -> Statement:
    """Remember that the announced file is there."""
    return Statement({**there(key), "upload.ticket": ticket}, {"$set": {"upload.at": now}})


def _unset(fields: Mapping[str, Any], optional: tuple[str, ...]) -> Document:
    gone = {name: "" for name in optional if name not in fields}
    return {"$unset": gone} if gone else {}
