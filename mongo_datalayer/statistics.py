"""Counts what is stored: totals, growth by week, the longest threads. It only reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from mongo_datalayer.documents import THREADS, USERS, Document
from mongo_datalayer.driver import Database, aggregate, open_collection
from mongo_datalayer.files.documents import ours
from mongo_datalayer.roles import BUCKET, COLLECTIONS, in_bucket


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
        files: Files of this package.
        file_bytes: Their size in bytes.
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
        files: Files that were stored and still are there.
        file_bytes: Their size in bytes.
    """

    begins: date
    users: int = 0
    threads: int = 0
    files: int = 0
    file_bytes: int = 0


@dataclass(frozen=True)
class LongThread:
    """One of the threads with the most steps; ``bytes`` is the size of its document."""

    id: str
    name: str | None
    user: str | None
    steps: int
    bytes: int


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
    files = f"{bucket}.files"
    mondays = week_starts(now, weeks)
    return Statistics(
        totals=await _totals(database, files),
        collections=await _sizes(database, bucket),
        weeks=await _growth(database, mondays, files),
        longest=await _longest(database, longest) if longest else [],
    )


def week_starts(now: datetime, count: int) -> list[date]:
    """The Mondays of the last ``count`` weeks in UTC, oldest first, the running week's last."""
    today = now.astimezone(timezone.utc).date()
    monday = today - timedelta(days=today.weekday())
    return [monday - timedelta(weeks=back) for back in reversed(range(count))]


# Totals ---------------------------------------------------------------------------------------


async def _totals(database: Database, file_collection: str) -> Totals:
    threads = await _only_row(database, THREADS, _totals_pipeline())
    files = await _only_row(database, file_collection, _files_pipeline())
    return Totals(
        users=await open_collection(database, USERS).count_documents({}),
        threads=threads.get("threads", 0),
        deleted_threads=threads.get("deleted", 0),
        steps=threads.get("steps", 0),
        elements=threads.get("elements", 0),
        thumbs_up=threads.get("up", 0),
        thumbs_down=threads.get("down", 0),
        files=files.get("files", 0),
        file_bytes=files.get("bytes", 0),
    )


async def _only_row(database: Database, collection: str, pipeline: list[Document]) -> Document:
    rows = await aggregate(open_collection(database, collection), pipeline)
    return rows[0] if rows else {}


def _totals_pipeline() -> list[Document]:
    deleted = {"$ne": [{"$type": "$deletedAt"}, "missing"]}
    return [
        {
            "$group": {
                "_id": None,
                "threads": {"$sum": {"$cond": [deleted, 0, 1]}},
                "deleted": {"$sum": {"$cond": [deleted, 1, 0]}},
                "steps": {"$sum": _length("$steps")},
                "elements": {"$sum": _length("$elements")},
                "up": {"$sum": _votes(1)},
                "down": {"$sum": _votes(0)},
            }
        }
    ]


def _length(array: str) -> Document:
    return {"$size": _array(array)}


def _array(array: str) -> Document:
    """The array, or an empty one where a document has none: ``$size`` would fail."""
    return {"$cond": [{"$isArray": array}, array, []]}


def _votes(value: int) -> Document:
    given = {"$eq": ["$$step.feedback.value", value]}
    return {"$size": {"$filter": {"input": _array("$steps"), "as": "step", "cond": given}}}


def _files_pipeline() -> list[Document]:
    return [
        {"$match": ours()},
        {"$group": {"_id": None, "files": {"$sum": 1}, "bytes": {"$sum": "$length"}}},
    ]


async def _sizes(database: Database, bucket: str) -> list[CollectionSize]:
    """Of the package's own collections: a login may see no others."""
    there = await database.list_collection_names(filter={"type": "collection"})
    names = [in_bucket(name, bucket) for name in COLLECTIONS]
    return [await _size(database, name) for name in names if name in there]


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
    files = await _by_week(database, file_collection, "uploadDate", mondays, ours())
    return [
        Week(
            monday,
            users=users.get(monday, {}).get("count", 0),
            threads=threads.get(monday, {}).get("count", 0),
            files=files.get(monday, {}).get("count", 0),
            file_bytes=files.get(monday, {}).get("bytes", 0),
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
    pipeline: Iterable[Document] = [
        {"$match": {"steps.0": {"$exists": True}}},
        {
            "$project": {
                "name": 1,
                "userIdentifier": 1,
                "steps": _length("$steps"),
                "bytes": {"$bsonSize": "$$ROOT"},
            }
        },
        {"$sort": {"steps": -1, "_id": 1}},
        {"$limit": count},
    ]
    rows = await aggregate(open_collection(database, THREADS), list(pipeline))
    return [
        LongThread(
            str(row["_id"]), row.get("name"), row.get("userIdentifier"), row["steps"], row["bytes"]
        )
        for row in rows
    ]
