"""Counts what is stored: totals, growth by week, the longest threads. It only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from mongo_datalayer.chatkit.keys import item_files
from mongo_datalayer.documents import (
    CHATKIT_ATTACHMENTS,
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    LONG,
    OVERFLOW,
    THREADS,
    USERS,
    Document,
)
from mongo_datalayer.driver import Database, aggregate, open_collection
from mongo_datalayer.files.documents import ours
from mongo_datalayer.indexes import BUCKET
from mongo_datalayer.large_values import value_files
from mongo_datalayer.roles import collections_with


@dataclass(frozen=True)
class Totals:
    """How much is stored.

    Attributes:
        users: Users.
        threads: Threads; those that were deleted are not among them.
        deleted_threads: Deleted threads that MongoDB has not yet removed.
        steps: Steps of all threads.
        elements: Elements of all threads.
        thumbs_up: Feedback of value 1.
        thumbs_down: Feedback of value 0.
        files: Files of this package that hold no large value.
        file_bytes: Their size in bytes.
        long_threads: Threads whose older steps are in documents of their own.
        large_values: Texts, items and other values too large for a document, in files.
        large_value_bytes: Their size in bytes.
        chatkit_threads: ChatKit's threads, deleted ones not among them.
        chatkit_deleted_threads: Deleted ones that MongoDB has not yet removed.
        chatkit_items: Items of ChatKit's threads.
        chatkit_positive: Items with positive feedback.
        chatkit_negative: Items with negative feedback.
        chatkit_long_threads: ChatKit's threads whose older items are in documents of their own.
        chatkit_attachments: ChatKit's attachments.
        chatkit_attachment_bytes: Bytes of those whose file has come; they are among the files.
    """

    users: int
    threads: int
    deleted_threads: int
    steps: int
    elements: int
    thumbs_up: int
    thumbs_down: int
    files: int
    file_bytes: int
    long_threads: int
    large_values: int
    large_value_bytes: int
    chatkit_threads: int
    chatkit_deleted_threads: int
    chatkit_items: int
    chatkit_positive: int
    chatkit_negative: int
    chatkit_long_threads: int
    chatkit_attachments: int
    chatkit_attachment_bytes: int


@dataclass(frozen=True)
class CollectionSize:
    """What the server says about a collection.

    Attributes:
        name: Its name.
        documents: How many documents it has.
        bytes: Size of the documents, uncompressed.
        stored_bytes: What they take on disk.
        index_bytes: What the indexes take on disk.
    """

    name: str
    documents: int
    bytes: int
    stored_bytes: int
    index_bytes: int


@dataclass(frozen=True)
class Week:
    """What was new in one week.

    Attributes:
        begins: Its Monday; days are those of UTC.
        users: Users who logged in for the first time.
        threads: Threads that were begun and still are there.
        chatkit_threads: The same of ChatKit's.
        files: Files that were stored and still are there, those of large values not among them.
        file_bytes: Their size in bytes.
        large_values: Large values that were stored and still are there.
        large_value_bytes: Their size in bytes.
    """

    begins: date
    users: int = 0
    threads: int = 0
    chatkit_threads: int = 0
    files: int = 0
    file_bytes: int = 0
    large_values: int = 0
    large_value_bytes: int = 0


@dataclass(frozen=True)
class LongThread:
    """One of the threads with the most steps.

    Attributes:
        id: Its id.
        name: Its name.
        user: Its owner's identifier.
        steps: Its steps.
        bytes: Size of all its documents.
        large_value_bytes: Size of its large values, which are in files.
    """

    id: str
    name: str | None
    user: str | None
    steps: int
    bytes: int
    large_value_bytes: int


@dataclass(frozen=True)
class Statistics:
    """All that is counted; weeks oldest first, longest thread first."""

    totals: Totals
    collections: list[CollectionSize]
    weeks: list[Week]
    longest: list[LongThread]


async def count_everything(
    database: Database, *, weeks: int, longest: int, now: datetime, bucket: str = BUCKET
) -> Statistics:
    """Read the statistics. Every thread is read, twice; the numbers are those of no one moment.

    Args:
        database: The database.
        weeks: How many weeks of growth, the running one included.
        longest: How many of the longest threads.
        now: The time, for the running week.
        bucket: The GridFS bucket of the files.
    """
    mondays = week_starts(now, weeks)
    return Statistics(
        totals=await _totals(database, f"{bucket}.files"),
        collections=await _sizes(database, bucket),
        weeks=await _growth(database, mondays, f"{bucket}.files"),
        longest=await _longest(database, longest) if longest else [],
    )


def week_starts(now: datetime, count: int) -> list[date]:
    """The Mondays of the last ``count`` weeks in UTC, oldest first, the running week's last."""
    today = now.astimezone(timezone.utc).date()
    monday = today - timedelta(days=today.weekday())
    return [monday - timedelta(weeks=back) for back in reversed(range(count))]


# Totals ---------------------------------------------------------------------------------------


async def _totals(database: Database, file_collection: str) -> Totals:
    stored = await _in_heads_and_parts(database, THREADS, OVERFLOW, _counted())
    chatkit = await _in_heads_and_parts(
        database, CHATKIT_THREADS, CHATKIT_OVERFLOW, _counted_of_chatkit()
    )
    attachments = await _only_row(database, CHATKIT_ATTACHMENTS, _attachments_pipeline())
    files = await _only_row(database, file_collection, _files_pipeline(_NO_VALUES))
    values = await _only_row(database, f"{BUCKET}.files", _files_pipeline(_ALL_VALUES))

    return Totals(
        users=await open_collection(database, USERS).count_documents({}),
        threads=stored["threads"],
        deleted_threads=stored["deleted"],
        steps=stored["steps"],
        elements=stored["elements"],
        thumbs_up=stored["up"],
        thumbs_down=stored["down"],
        files=files.get("files", 0),
        file_bytes=files.get("bytes", 0),
        long_threads=stored["long"],
        large_values=values.get("files", 0),
        large_value_bytes=values.get("bytes", 0),
        chatkit_threads=chatkit["threads"],
        chatkit_deleted_threads=chatkit["deleted"],
        chatkit_items=chatkit["items"],
        chatkit_positive=chatkit["up"],
        chatkit_negative=chatkit["down"],
        chatkit_long_threads=chatkit["long"],
        chatkit_attachments=attachments.get("count", 0),
        chatkit_attachment_bytes=attachments.get("bytes", 0),
    )


async def _in_heads_and_parts(
    database: Database, heads: str, parts: str, counted: Document
) -> Counter[str]:
    """Sums of what is counted of each head and of each part, and how many heads there are."""
    in_heads = await _only_row(database, heads, _totals_pipeline(counted))
    in_parts = await _only_row(database, heads, _of_parts_pipeline(parts, counted))
    total: Counter[str] = Counter()
    for row in (in_heads, in_parts):
        total.update({name: int(value) for name, value in row.items() if name != "_id"})
    return total


async def _only_row(database: Database, collection: str, pipeline: list[Document]) -> Document:
    rows = await aggregate(open_collection(database, collection), pipeline)
    return rows[0] if rows else {}


def _totals_pipeline(counted: Document) -> list[Document]:
    deleted = {"$ne": [{"$type": "$deletedAt"}, "missing"]}
    return [
        {
            "$group": {
                "_id": None,
                "threads": {"$sum": {"$cond": [deleted, 0, 1]}},
                "deleted": {"$sum": {"$cond": [deleted, 1, 0]}},
                "long": {"$sum": {"$cond": [{"$gt": [_length("$parts"), 0]}, 1, 0]}},
                **{name: {"$sum": count} for name, count in counted.items()},
            }
        }
    ]


def _of_parts_pipeline(parts: str, counted: Document) -> list[Document]:
    """The same of the parts that threads list; copies that a killed move left do not count."""
    listed = {
        "from": parts,
        "localField": "parts",
        "foreignField": "_id",
        "pipeline": [{"$project": counted}],
        "as": "part",
    }
    return [
        {"$match": dict(LONG)},
        {"$project": {"parts": 1}},
        {"$lookup": listed},
        {"$unwind": "$part"},
        {"$group": {"_id": None, **{name: {"$sum": f"$part.{name}"} for name in counted}}},
    ]


def _counted() -> Document:
    """What is counted of a head as of a part."""
    return {
        "steps": _length("$steps"),
        "elements": _length("$elements"),
        "up": _votes("$steps", "value", 1),
        "down": _votes("$steps", "value", 0),
    }


def _counted_of_chatkit() -> Document:
    return {
        "items": _length("$items"),
        "up": _votes("$items", "kind", "positive"),
        "down": _votes("$items", "kind", "negative"),
    }


def _attachments_pipeline() -> list[Document]:
    is_there = {"$ne": [{"$type": "$upload.at"}, "missing"]}
    return [
        {"$match": {"deletedAt": {"$exists": False}}},
        {
            "$group": {
                "_id": None,
                "count": {"$sum": 1},
                "bytes": {"$sum": {"$cond": [is_there, "$upload.size", 0]}},
            }
        },
    ]


def _length(array: str) -> Document:
    return {"$size": _array(array)}


def _array(array: str) -> Document:
    """The array, or an empty one where a document has none: ``$size`` would fail."""
    return {"$cond": [{"$isArray": array}, array, []]}


def _votes(array: str, field: str, value: Any) -> Document:
    given = {"$eq": [f"$$voted.feedback.{field}", value]}
    return {"$size": {"$filter": {"input": _array(array), "as": "voted", "cond": given}}}


def _files_pipeline(condition: Document) -> list[Document]:
    return [
        {"$match": condition},
        {"$group": {"_id": None, "files": {"$sum": 1}, "bytes": {"$sum": "$length"}}},
    ]


async def _sizes(database: Database, bucket: str) -> list[CollectionSize]:
    """Of the package's own collections: a login may see no others."""
    there = await database.list_collection_names(filter={"type": "collection"})
    return [await _size(database, name) for name in collections_with(bucket) if name in there]


async def _size(database: Database, name: str) -> CollectionSize:
    shards = await aggregate(
        open_collection(database, name), [{"$collStats": {"storageStats": {}}}]
    )
    stats = [shard["storageStats"] for shard in shards]
    return CollectionSize(
        name,
        documents=sum(shard["count"] for shard in stats),
        bytes=sum(shard["size"] for shard in stats),
        stored_bytes=sum(shard["storageSize"] for shard in stats),
        index_bytes=sum(shard["totalIndexSize"] for shard in stats),
    )


# Growth ---------------------------------------------------------------------------------------


async def _growth(database: Database, mondays: list[date], file_collection: str) -> list[Week]:
    users = await _by_week(database, USERS, "createdAt", mondays, {})
    threads = await _by_week(database, THREADS, "createdAt", mondays, {})
    chatkits = await _by_week(database, CHATKIT_THREADS, "createdAt", mondays, {})
    files = await _by_week(database, file_collection, "uploadDate", mondays, _NO_VALUES)
    values = await _by_week(database, f"{BUCKET}.files", "uploadDate", mondays, _ALL_VALUES)
    return [
        Week(
            monday,
            users=users.get(monday, {}).get("count", 0),
            threads=threads.get(monday, {}).get("count", 0),
            chatkit_threads=chatkits.get(monday, {}).get("count", 0),
            files=files.get(monday, {}).get("count", 0),
            file_bytes=files.get(monday, {}).get("bytes", 0),
            large_values=values.get(monday, {}).get("count", 0),
            large_value_bytes=values.get(monday, {}).get("bytes", 0),
        )
        for monday in mondays
    ]


async def _by_week(
    database: Database,
    collection: str,
    field: str,
    mondays: list[date],
    condition: Mapping[str, Any],
) -> dict[date, Document]:
    if not mondays:
        return {}
    pipeline = _weekly_pipeline(field, mondays, condition)
    rows = await aggregate(open_collection(database, collection), pipeline)
    return {row["_id"].date(): row for row in rows}


def _weekly_pipeline(
    field: str, mondays: list[date], condition: Mapping[str, Any]
) -> list[Document]:
    boundaries = [_midnight(day) for day in (*mondays, mondays[-1] + timedelta(weeks=1))]
    return [
        {"$match": {**condition, field: {"$gte": boundaries[0], "$lt": boundaries[-1]}}},
        {
            "$bucket": {
                "groupBy": f"${field}",
                "boundaries": boundaries,
                "output": {"count": {"$sum": 1}, "bytes": {"$sum": "$length"}},
            }
        },
    ]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.utc)


# Threads --------------------------------------------------------------------------------------


async def _longest(database: Database, count: int) -> list[LongThread]:
    rows = await aggregate(open_collection(database, THREADS), _longest_pipeline(count))
    values = await _value_bytes(database, [row["_id"] for row in rows])
    return [
        LongThread(
            str(row["_id"]),
            row.get("name"),
            row.get("userIdentifier"),
            row["steps"],
            row["bytes"],
            values.get(row["_id"], 0),
        )
        for row in rows
    ]


def _longest_pipeline(count: int) -> list[Document]:
    size = {"steps": _length("$steps"), "bytes": {"$bsonSize": "$$ROOT"}}
    header = {"name": 1, "userIdentifier": 1}
    listed = {
        "from": OVERFLOW,
        "localField": "parts",
        "foreignField": "_id",
        "pipeline": [{"$project": size}],
        "as": "of_parts",
    }
    whole = {name: {"$add": [f"${name}", {"$sum": f"$of_parts.{name}"}]} for name in size}
    long: list[Document] = [
        {"$match": dict(LONG)},
        {"$project": {**header, **size, "parts": 1}},
        {"$lookup": listed},
        {"$project": {**header, **whole}},
    ]
    order: list[Document] = [{"$sort": {"steps": -1, "_id": 1}}, {"$limit": count}]
    return [
        {"$match": {"steps.0": {"$exists": True}, "overflow": None}},
        {"$project": {**header, **size}},
        *order,
        {"$unionWith": {"coll": THREADS, "pipeline": [*long, *order]}},
        *order,
    ]


async def _value_bytes(database: Database, thread_ids: list[str]) -> dict[str, int]:
    """The bytes of the large values of threads."""
    condition = {"$and": [value_files(), {"metadata.threadId": {"$in": thread_ids}}]}
    pipeline: list[Document] = [
        {"$match": condition},
        {"$group": {"_id": "$metadata.threadId", "bytes": {"$sum": "$length"}}},
    ]
    rows = await aggregate(open_collection(database, f"{BUCKET}.files"), pipeline)
    return {row["_id"]: row["bytes"] for row in rows}


_NO_VALUES: Document = {**ours(), "$nor": [value_files(), item_files()]}
_ALL_VALUES: Document = {"$or": [value_files(), item_files()]}
