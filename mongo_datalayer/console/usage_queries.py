"""The aggregations that usage is counted with. Pure."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from mongo_datalayer.model.documents import (
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    LONG,
    NOT_DELETED,
    OVERFLOW,
    OWN_KEY,
    OWN_THREAD,
    TEXT,
    THREADS,
    Document,
)
from mongo_datalayer.model.times import midnight

_DAY = "%Y-%m-%d"
_DAY_CHARS = len("2026-01-31")
_MINUTE_CHARS = len("2026-01-31T12:34:")
_SECOND_CHARS = len("56.123456")
_END_OF_TIME = "9999"
_DAY_OF_STEP: Document = {"$substrBytes": ["$steps.createdAt", 0, _DAY_CHARS]}


def last_activity_by_day(since: datetime, most: int) -> list[Document]:
    """How many threads had their last activity on each day, newest first, of the ``most`` newest.

    The index on it is all that is read.
    """
    day = {"$dateToString": {"date": "$updatedAt", "format": _DAY}}
    return [
        {"$match": {"updatedAt": {"$gte": since}}},
        {"$sort": {"updatedAt": -1}},
        {"$limit": most},
        {"$project": {"_id": 0, "updatedAt": 1}},
        {"$group": {"_id": day, "count": {"$sum": 1}}},
        {"$sort": {"_id": -1}},
    ]


def activity_counts(window: Document, since: date) -> list[Document]:
    """What was said on each day, by Chainlit's threads of a window.

    Args:
        window: The filter on threads.
        since: The first day on which steps count.
    """
    fields = ("type", "createdAt", "feedback.value")
    rated = {"$in": ["$$step.feedback.value", [0, 1]]}
    wanted = {"$or": [{"$eq": ["$$step.type", "user_message"]}, rated]}
    group = {
        "_id": {
            "day": _DAY_OF_STEP,
            "message": {"$eq": ["$steps.type", "user_message"]},
            "value": "$steps.feedback.value",
        },
        "count": {"$sum": 1},
        "threads": {"$addToSet": "$_id"},
        "people": {"$addToSet": "$userId"},
    }
    return _of_steps(window, since, fields, wanted, {"$group": group})


def tool_counts(window: Document, since: date) -> list[Document]:
    """The calls of each tool, those that failed apart. The arguments are the same."""
    fields = ("type", "name", "createdAt", "start", "end", "isError")
    group = {
        "_id": {"name": "$steps.name", "failed": "$steps.isError"},
        "count": {"$sum": 1},
        "seconds": {"$sum": "$seconds"},
        "timed": {"$sum": {"$cond": [{"$eq": ["$seconds", None]}, 0, 1]}},
        "slowest": {"$max": "$seconds"},
    }
    return _of_steps(
        window,
        since,
        fields,
        {"$eq": ["$$step.type", "tool"]},
        {"$match": {"steps.name": dict(TEXT)}},
        {"$set": {"seconds": _seconds()}},
        {"$group": group},
    )


def model_counts(window: Document, since: date) -> list[Document]:
    """The generations of each model and day. The arguments are the same."""
    counts = ("inputTokenCount", "outputTokenCount", "tokenCount")
    fields = ("createdAt", "generation.model", *(f"generation.{name}" for name in counts))
    group = {
        "_id": {"name": "$steps.generation.model", "day": _DAY_OF_STEP},
        "count": {"$sum": 1},
        **{name: {"$sum": f"$steps.generation.{name}"} for name in counts},
    }
    wanted = {"$eq": [{"$type": "$$step.generation.model"}, "string"]}
    return _of_steps(window, since, fields, wanted, {"$group": group})


def chatkit_counts(window: Document, since: date) -> list[Document]:
    """What was said on each day by ChatKit's threads, as :func:`activity_counts` gives it."""
    counted = {f"items.{name}": 1 for name in ("type", "createdAt", "feedback.kind")}
    own = {"$and": [window, dict(OWN_KEY), dict(NOT_DELETED)]}
    long = [
        {"$match": {"$and": [own, dict(LONG)]}},
        *_overflow(CHATKIT_OVERFLOW, [{"$project": counted}]),
        {"$project": {"items": "$overflow.items"}},
    ]
    group = {
        "_id": {
            "day": {"$dateToString": {"date": "$items.createdAt", "format": _DAY}},
            "message": {"$eq": ["$items.type", "user_message"]},
            "value": "$items.feedback.kind",
        },
        "count": {"$sum": 1},
        "threads": {"$addToSet": "$_id"},
        "people": {"$addToSet": "$_id.owner"},
    }
    spoken = {"$or": [{"items.type": "user_message"}, {"items.feedback.kind": dict(TEXT)}]}
    return [
        {"$match": own},
        {"$project": counted},
        {"$unionWith": {"coll": CHATKIT_THREADS, "pipeline": long}},
        {"$unwind": "$items"},
        {"$match": {"items.createdAt": {"$gte": midnight(since)}, **spoken}},
        {"$group": group},
    ]


def _of_steps(
    window: Document, since: date, fields: tuple[str, ...], wanted: Document, *counts: Document
) -> list[Document]:
    """An aggregation of some steps of threads, with those of their overflow documents.

    Args:
        window: The filter on threads.
        since: The first day on which steps count.
        fields: The fields of a step that are needed.
        wanted: An expression on ``$$step``: which steps count.
        counts: What follows, with one document a step, as ``steps``.
    """
    counted = {f"steps.{name}": 1 for name in fields}
    # createdAt is ISO 8601 text, whose order is that of time. Between two texts are texts only.
    text = since.isoformat()
    recent = [
        {"$gte": ["$$step.createdAt", text]},
        {"$lt": ["$$step.createdAt", _END_OF_TIME]},
    ]
    kept = {"input": "$steps", "as": "step", "cond": {"$and": [wanted, *recent]}}
    # Filtered in the thread: most steps are not taken apart at all.
    filtered = {"$set": {"steps": {"$filter": kept}}}
    in_overflow = {"$match": {"steps.createdAt": {"$gte": text}}}
    long = [
        {"$match": {"$and": [window, dict(LONG), dict(OWN_THREAD)]}},
        {"$project": {"userId": 1, "overflowIds": 1}},
        *_overflow(OVERFLOW, [in_overflow, {"$project": counted}, filtered]),
        {"$project": {"userId": 1, "steps": "$overflow.steps"}},
    ]
    return [
        {"$match": {"$and": [window, dict(OWN_THREAD)]}},
        {"$project": {"userId": 1, **counted}},
        filtered,
        {"$unionWith": {"coll": THREADS, "pipeline": long}},
        {"$unwind": "$steps"},
        *counts,
    ]


def _overflow(collection: str, pipeline: list[Document]) -> list[Document]:
    """The listed overflow documents of threads, each as ``overflow``."""
    lookup = {
        "from": collection,
        "localField": "overflowIds",
        "foreignField": "_id",
        "pipeline": pipeline,
        "as": "overflow",
    }
    return [{"$lookup": lookup}, {"$unwind": "$overflow"}]


def _seconds() -> Document:
    """How long a step took; null when that is unknown.

    Reading times costs the server more than all the rest. So within a minute only the seconds are
    read, which are digits at a fixed place.
    """

    def second(name: str) -> Document:
        text = {"$substrBytes": [f"$steps.{name}", _MINUTE_CHARS, _SECOND_CHARS]}
        return {"$convert": {"input": text, "to": "double", "onError": None, "onNull": None}}

    def minute(name: str) -> Document:
        return {"$substrBytes": [f"$steps.{name}", 0, _MINUTE_CHARS]}

    def moment(name: str) -> Document:
        text = f"$steps.{name}"
        return {"$dateFromString": {"dateString": text, "onError": None, "onNull": None}}

    def difference(part: Any) -> Document:
        return {"$subtract": [part("end"), part("start")]}

    same_minute = {"$eq": [minute("start"), minute("end")]}
    quick = {"$cond": [same_minute, difference(second), None]}
    exact = {"$divide": [difference(moment), 1000]}
    # Maps, lists and others that have no text sort behind texts.
    texts = [{"$lt": [f"$steps.{name}", {"$literal": {}}]} for name in ("start", "end")]
    return {"$cond": [{"$and": texts}, {"$ifNull": [quick, exact]}, None]}
