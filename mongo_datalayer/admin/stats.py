"""Counts what is stored: totals, growth by week, the longest threads. It only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeAlias

from pymongo.errors import OperationFailure

from mongo_datalayer.chatkit.object_keys import item_files
from mongo_datalayer.config import BUCKET
from mongo_datalayer.files.stored_file import ours
from mongo_datalayer.model.documents import (
    CHATKIT_ATTACHMENTS,
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    LONG,
    NOT_DELETED,
    OVERFLOW,
    OWN_KEY,
    OWN_THREAD,
    OWN_USER,
    THREADS,
    TOMBSTONE,
    USERS,
    Document,
)
from mongo_datalayer.model.stored_lists import array
from mongo_datalayer.model.times import midnight
from mongo_datalayer.mongodb.client import Database, aggregate, open_collection
from mongo_datalayer.mongodb.unsupported import is_unsupported
from mongo_datalayer.schema.roles import collections_with
from mongo_datalayer.storage.large_values import value_files

_VALUES: Document = {"$or": [value_files(), item_files()]}
_FILES: Document = {**ours(), "$nor": [value_files(), item_files()]}


Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Statistics:
    """All that is counted, in rows as ``stats --json`` prints them. Sizes are in bytes.

    Attributes:
        totals: The totals, by the names in :func:`count_totals`.
        collections: The package's collections: ``bytes`` is the uncompressed size of the documents,
            ``stored_bytes`` and ``index_bytes`` are on disk. None where the server does not tell.
        weeks: What was new in each week and is still there, oldest first. ``begins`` is the Monday,
            in UTC; the other names are those of the totals.
        longest: The threads with the most steps, longest first: ``bytes`` is the size of all its
            documents. Large values come on top, they are in files.
    """

    totals: dict[str, int]
    collections: list[Row]
    weeks: list[Row]
    longest: list[Row]


async def count_everything(
    database: Database, *, weeks: int, longest: int, now: datetime, bucket: str = BUCKET
) -> Statistics:
    """Read the statistics. Every thread is read twice, and other clients may write meanwhile.

    Args:
        database: The database.
        weeks: How many weeks of growth, the running one included.
        longest: How many of the longest threads.
        now: The time, for the running week.
        bucket: The GridFS bucket of the files.
    """
    return Statistics(
        totals=await count_totals(database, f"{bucket}.files"),
        collections=await collection_sizes(database, bucket),
        weeks=await _growth(database, week_starts(now, weeks), f"{bucket}.files"),
        longest=await _longest(database, longest) if longest else [],
    )


def week_starts(now: datetime, count: int) -> list[date]:
    """The Mondays of the last ``count`` weeks in UTC, oldest first, the running week's last."""
    today = now.astimezone(timezone.utc).date()
    monday = today - timedelta(days=today.weekday())
    return [monday - timedelta(weeks=back) for back in reversed(range(count))]


async def count_totals(database: Database, file_collection: str) -> dict[str, int]:
    """The totals, by the names that ``stats --json`` prints.

    ``threads`` and ``chatkit_threads`` are those that were not deleted, ``deleted_threads`` and
    ``chatkit_deleted_threads`` tombstones. ``long_threads`` and ``chatkit_long_threads`` have
    overflow documents. ``thumbs_up`` and ``thumbs_down``, ``chatkit_positive`` and
    ``chatkit_negative`` are feedback. ``files`` are this package's without the ``large_values``;
    ``chatkit_attachment_bytes`` are those of attachments whose file has come, which are among them.
    Sizes are in bytes.
    """
    own = {"$or": [OWN_THREAD, TOMBSTONE]}
    chainlit = await _thread_totals(database, THREADS, OVERFLOW, own, _CHAINLIT_COUNTS)
    chatkit = await _thread_totals(
        database, CHATKIT_THREADS, CHATKIT_OVERFLOW, dict(OWN_KEY), _CHATKIT_COUNTS
    )
    size = {"$cond": [{"$eq": [{"$type": "$upload.at"}, "missing"]}, 0, "$upload.size"]}
    attachments_pipeline = _sizes_pipeline({**OWN_KEY, **NOT_DELETED}, size)
    attachments = await _only_row(database, CHATKIT_ATTACHMENTS, attachments_pipeline)
    files = await _only_row(database, file_collection, _sizes_pipeline(_FILES))
    values = await _only_row(database, f"{BUCKET}.files", _sizes_pipeline(_VALUES))
    return {
        "users": await open_collection(database, USERS).count_documents(OWN_USER),
        "threads": chainlit["threads"],
        "deleted_threads": chainlit["deleted"],
        "steps": chainlit["steps"],
        "elements": chainlit["elements"],
        "thumbs_up": chainlit["up"],
        "thumbs_down": chainlit["down"],
        "files": files["count"],
        "file_bytes": files["bytes"],
        "long_threads": chainlit["long"],
        "large_values": values["count"],
        "large_value_bytes": values["bytes"],
        "chatkit_threads": chatkit["threads"],
        "chatkit_deleted_threads": chatkit["deleted"],
        "chatkit_items": chatkit["items"],
        "chatkit_positive": chatkit["up"],
        "chatkit_negative": chatkit["down"],
        "chatkit_long_threads": chatkit["long"],
        "chatkit_attachments": attachments["count"],
        "chatkit_attachment_bytes": attachments["bytes"],
    }


async def _thread_totals(
    database: Database, threads: str, overflow: str, own: Document, counts: Document
) -> Counter[str]:
    """Sums over main documents and the overflow documents that they list."""
    total = await _only_row(database, threads, _main_totals_pipeline(own, counts))
    total.update(await _only_row(database, threads, _overflow_totals_pipeline(overflow, counts)))
    return total


async def _only_row(database: Database, collection: str, pipeline: list[Document]) -> Counter[str]:
    rows = await aggregate(open_collection(database, collection), pipeline)
    return Counter({name: int(n) for row in rows for name, n in row.items() if name != "_id"})


def _main_totals_pipeline(own: Document, counts: Document) -> list[Document]:
    deleted = {"$ne": [{"$type": "$deletedAt"}, "missing"]}
    totals = {
        "threads": {"$cond": [deleted, 0, 1]},
        "deleted": {"$cond": [deleted, 1, 0]},
        "long": {"$cond": [{"$gt": [_length("$overflowIds"), 0]}, 1, 0]},
        **counts,
    }
    return [{"$match": own}, _sums(totals)]


def _overflow_totals_pipeline(overflow: str, counts: Document) -> list[Document]:
    # Joined from the threads: a copy that a killed move left is not listed and must not count.
    return [
        {"$match": dict(LONG)},
        {"$project": {"overflowIds": 1}},
        _lookup_listed(overflow, counts),
        {"$unwind": "$listed"},
        _sums({name: f"$listed.{name}" for name in counts}),
    ]


def _lookup_listed(overflow: str, projection: Document) -> Document:
    return {
        "$lookup": {
            "from": overflow,
            "localField": "overflowIds",
            "foreignField": "_id",
            "pipeline": [{"$project": projection}],
            "as": "listed",
        }
    }


def _sizes_pipeline(filter: Document, size: Any = "$length") -> list[Document]:
    return [{"$match": filter}, _sums({"count": 1, "bytes": size})]


def _sums(values: Mapping[str, Any]) -> Document:
    return {"$group": {"_id": None, **{name: {"$sum": value} for name, value in values.items()}}}


def _length(path: str) -> Document:
    return {"$size": array(path)}


def _votes(path: str, field: str, value: Any) -> Document:
    given = {"$eq": [f"$$voted.feedback.{field}", value]}
    return {"$size": {"$filter": {"input": array(path), "as": "voted", "cond": given}}}


_CHAINLIT_COUNTS: Document = {
    "steps": _length("$steps"),
    "elements": _length("$elements"),
    "up": _votes("$steps", "value", 1),
    "down": _votes("$steps", "value", 0),
}
_CHATKIT_COUNTS: Document = {
    "items": _length("$items"),
    "up": _votes("$items", "kind", "positive"),
    "down": _votes("$items", "kind", "negative"),
}


async def collection_sizes(database: Database, bucket: str) -> list[Row]:
    """The sizes of this package's collections, as :attr:`Statistics.collections` has them."""
    # Of the package's own collections: the login may have no right to others.
    present = await database.list_collection_names(filter={"type": "collection"})
    names = [name for name in collections_with(bucket) if name in present]
    try:
        return [await _size(database, name) for name in names]
    except OperationFailure as exc:
        if not is_unsupported(exc):
            raise
    # The Stable API has no $collStats, and neither has every server.
    unknown = dict.fromkeys(("bytes", "stored_bytes", "index_bytes"))
    return [{"name": name, "documents": await _count(database, name), **unknown} for name in names]


async def _count(database: Database, name: str) -> int:
    return await open_collection(database, name).count_documents({})


async def _size(database: Database, name: str) -> Row:
    # On a sharded cluster each shard answers for its own part.
    shards = await aggregate(
        open_collection(database, name), [{"$collStats": {"storageStats": {}}}]
    )

    def total(field: str) -> int:
        return sum(shard["storageStats"][field] for shard in shards)

    return {
        "name": name,
        "documents": total("count"),
        "bytes": total("size"),
        "stored_bytes": total("storageSize"),
        "index_bytes": total("totalIndexSize"),
    }


async def _growth(database: Database, mondays: list[date], file_collection: str) -> list[Row]:
    weeks: list[Row] = [{"begins": monday} for monday in mondays]
    if not weeks:
        return []
    days = (*mondays, mondays[-1] + timedelta(weeks=1))
    boundaries = [midnight(day) for day in days]
    output = {"count": {"$sum": 1}, "bytes": {"$sum": "$length"}}

    async def add(
        collection: str, field: str, filter: Document, count: str, size: str | None = None
    ) -> None:
        # $bucket without a default fails on a value outside of its boundaries.
        in_weeks = {**filter, field: {"$gte": boundaries[0], "$lt": boundaries[-1]}}
        bucket = {"groupBy": f"${field}", "boundaries": boundaries, "output": output}
        pipeline = [{"$match": in_weeks}, {"$bucket": bucket}]
        rows = await aggregate(open_collection(database, collection), pipeline)
        by_monday = {row["_id"].date(): row for row in rows}
        for week in weeks:
            row = by_monday.get(week["begins"], {"count": 0, "bytes": 0})
            week[count] = row["count"]
            if size is not None:
                week[size] = row["bytes"]

    # Large values stay in this bucket, wherever the app keeps its files.
    values = f"{BUCKET}.files"
    await add(USERS, "createdAt", dict(OWN_USER), "users")
    await add(THREADS, "createdAt", dict(OWN_THREAD), "threads")
    await add(CHATKIT_THREADS, "createdAt", dict(OWN_KEY), "chatkit_threads")
    await add(file_collection, "uploadDate", _FILES, "files", "file_bytes")
    await add(values, "uploadDate", _VALUES, "large_values", "large_value_bytes")
    return weeks


async def _longest(database: Database, count: int) -> list[Row]:
    rows = await aggregate(open_collection(database, THREADS), _longest_pipeline(count))
    values = await _value_bytes(database, [row["_id"] for row in rows])
    return [
        {
            "id": str(row["_id"]),
            "name": row.get("name"),
            "user": row.get("userIdentifier"),
            "steps": row["steps"],
            "bytes": row["bytes"],
            "large_value_bytes": values.get(row["_id"], 0),
        }
        for row in rows
    ]


def _longest_pipeline(count: int) -> list[Document]:
    size = {"steps": _length("$steps"), "bytes": {"$bsonSize": "$$ROOT"}}
    header = {"name": 1, "userIdentifier": 1}
    whole = {name: {"$add": [f"${name}", {"$sum": f"$listed.{name}"}]} for name in size}
    longest_first: list[Document] = [{"$sort": {"steps": -1, "_id": 1}}, {"$limit": count}]
    long: list[Document] = [
        {"$match": dict(LONG)},
        {"$project": {**header, **size, "overflowIds": 1}},
        _lookup_listed(OVERFLOW, size),
        {"$project": {**header, **whole}},
        *longest_first,
    ]
    return [
        # Apart from the long threads, so that nearly all are counted without a join.
        {"$match": {**OWN_THREAD, "steps.0": {"$exists": True}, "overflow": None}},
        {"$project": {**header, **size}},
        *longest_first,
        {"$unionWith": {"coll": THREADS, "pipeline": long}},
        *longest_first,
    ]


async def _value_bytes(database: Database, thread_ids: list[str]) -> dict[str, int]:
    """The bytes of the large values of threads."""
    of_threads = {"$and": [value_files(), {"metadata.threadId": {"$in": thread_ids}}]}
    pipeline: list[Document] = [
        {"$match": of_threads},
        {"$group": {"_id": "$metadata.threadId", "bytes": {"$sum": "$length"}}},
    ]
    rows = await aggregate(open_collection(database, f"{BUCKET}.files"), pipeline)
    return {row["_id"]: row["bytes"] for row in rows}
