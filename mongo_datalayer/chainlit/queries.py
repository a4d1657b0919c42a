"""Filters, projections and aggregation pipelines that read threads. Pure.

User data stands only in values of filters, which MongoDB takes literally; never in a path or an
expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import LONG, OVERFLOW, THREADS, Document
from mongo_datalayer.model.stored_lists import array

_HEADER = (
    *("name", "userId", "userIdentifier", "tags", "metadata", "createdAt", "updatedAt"),
    "overflow",
)

_HAS_FAVORITE: Mapping[str, Any] = {"steps.metadata.favorite": True}
_FAVORITES: Mapping[str, Any] = {
    "$filter": {
        "input": "$steps",
        "as": "step",
        "cond": {"$eq": ["$$step.metadata.favorite", True]},
    }
}


# Lists ----------------------------------------------------------------------------------------


def thread_page_pipeline(
    user_id: str,
    *,
    limit: int,
    time_field: str,
    cursor: Cursor | None = None,
    patterns: Sequence[str] = (),
    feedback: int | None = None,
    overflow: bool = True,
    join: bool = True,
    among: Mapping[str, Any] | None = None,
    found_in_overflow: Sequence[Sequence[str]] | None = None,
) -> list[Document]:
    """The first ``limit`` of a user's threads after ``cursor``, newest first, without steps.

    Args:
        user_id: The user.
        limit: How many threads at most.
        time_field: The field to sort by, before the id.
        cursor: Where the page before ended.
        patterns: Only threads with a text that matches one of these expressions.
        feedback: Only threads with this feedback.
        overflow: False never looks into overflow documents: mongomock cannot join collections.
        join: False takes every long thread for a match instead. A page without one is exact.
        among: A filter on threads that are not long.
        found_in_overflow: Long threads by :func:`overflow_filters`, instead of a join.
    """
    contents = content_filters(patterns, feedback)
    short = _short_filter(contents, among)
    match = partial(_match, user_id, time_field, cursor)
    sort: Document = {"$sort": {time_field: -1, "_id": -1}}
    header: list[Document] = [{"$limit": limit}, {"$project": dict.fromkeys(_HEADER, 1)}]
    if not (contents and overflow):
        return [match(short), sort, *header]
    if not join:
        return [match({"$or": [dict(LONG), short]}), sort, *header]
    if found_in_overflow is not None:
        long_matching = {**LONG, "$and": _found_either(contents, found_in_overflow)}
        return [match({"$or": [long_matching, {"overflow": None, **short}]}), sort, *header]
    # Apart, as long threads are few: only they pay for the lookups.
    joins = [stage for content in contents for stage in _lookup_contents(*content)]
    long = {"coll": THREADS, "pipeline": [match(LONG), sort, *joins, *header]}
    union: list[Document] = [{"$unionWith": long}, sort, {"$limit": limit}]
    return [match({"overflow": None, **short}), sort, *header, *union]


def overflow_filters(
    thread_ids: Sequence[str], patterns: Sequence[str], feedback: int | None
) -> list[Document]:
    """For each thing that a list asks of contents, a filter on these threads' overflow."""
    in_threads = {"thread": {"$in": list(thread_ids)}}
    return [{**in_threads, **overflow} for _, overflow in content_filters(patterns, feedback)]


def _short_filter(
    contents: Iterable[tuple[Document, Document]], among: Mapping[str, Any] | None
) -> Document:
    """The filter on threads that are not long."""
    short: Document = {} if among is None else {"$and": [dict(among)]}
    for main_filter, _ in contents:
        short = {**short, **main_filter}
    return short


def _found_either(
    contents: Sequence[tuple[Document, Document]], found_in_overflow: Sequence[Sequence[str]]
) -> list[Document]:
    """For each content, a filter on threads whose main document matches or whose overflow did."""
    return [
        {"$or": [main_filter, {"_id": {"$in": list(thread_ids)}}]}
        for (main_filter, _), thread_ids in zip(contents, found_in_overflow, strict=True)
    ]


def content_filters(
    patterns: Sequence[str], feedback: int | None
) -> list[tuple[Document, Document]]:
    """What a list asks of contents: filters on the main and on an overflow document.

    Args:
        patterns: A text of the thread matches one of these expressions.
        feedback: The thread has this feedback.
    """
    contents: list[tuple[Document, Document]] = []
    if feedback is not None:
        value = {"steps.feedback.value": feedback}
        contents.append((value, value))
    if patterns:
        texts: list[Document] = [{"$regex": pattern, "$options": "i"} for pattern in patterns]
        messages = [{field: text} for field in ("steps.output", "steps.input") for text in texts]
        names: list[Document] = [{"name": text} for text in texts]
        names += [{"name": {"$exists": False}, "metadata.name": text} for text in texts]
        pieces = [{"text": text} for text in texts]
        contents.append(({"$or": [*names, *messages]}, {"$or": [*messages, *pieces]}))
    return contents


def _lookup_contents(main_filter: Document, overflow_filter: Document) -> list[Document]:
    """The threads whose main document or overflow matches."""
    lookup = _lookup([{"$match": overflow_filter}, {"$limit": 1}, {"$project": {"_id": 1}}])
    # Right behind its lookup: fewer threads reach the next one. And MongoDB 6.0 crashes when it
    # explains one $match behind two lookups.
    return [lookup, {"$match": {"$or": [main_filter, {"found": {"$ne": []}}]}}]


def _lookup(pipeline: list[Document]) -> Document:
    """Join a thread's overflow as ``found``: listed documents, and pieces of large texts."""
    listed = {"$expr": {"$in": ["$_id", "$$overflowIds"]}}
    return {
        "$lookup": {
            "from": OVERFLOW,
            "localField": "_id",
            "foreignField": "thread",
            "let": {"overflowIds": array("$overflowIds")},
            "pipeline": [{"$match": {"$or": [{"value": {"$exists": True}}, listed]}}, *pipeline],
            "as": "found",
        }
    }


def _match(
    user_id: str, time_field: str, cursor: Cursor | None, query_filter: Mapping[str, Any]
) -> Document:
    return {"$match": after_cursor(cursor, time_field, {"userId": user_id, **query_filter})}


def after_cursor(cursor: Cursor | None, time_field: str, query_filter: Document) -> Document:
    """The filter, restricted to what comes after the cursor."""
    if cursor is None:
        return query_filter
    # The whole filter in both branches: then the server scans the index once for each and merges.
    # Otherwise it reads everything from the first page on.
    return {
        "$or": [
            {**query_filter, time_field: {"$lt": cursor.time}},
            {**query_filter, time_field: cursor.time, "_id": {"$lt": cursor.id}},
        ]
    }


def favorites_pipeline(user_id: str, *, overflow: bool = True, join: bool = True) -> list[Document]:
    """A user's threads with favourite steps, each with only those.

    A long thread comes once for its main document and once for each overflow document with some.

    Args:
        user_id: The user.
        overflow: False never looks into overflow documents: mongomock cannot join collections.
        join: False adds one long thread without steps instead, if the user has any.
    """
    long = {"$match": {"userId": user_id, **LONG}}
    in_main: list[Document] = [
        {"$match": {"userId": user_id, **_HAS_FAVORITE}},
        {"$project": {"steps": _FAVORITES}},
    ]
    if not overflow:
        return in_main
    # After the main documents: a favourite that has just left one is in a thread marked as long.
    in_overflow = [long, {"$limit": 1}, {"$project": {"overflow": 1}}]
    if join:
        in_overflow = [
            long,
            {"$project": {"overflowIds": 1, "deletedSteps.id": 1}},
            _lookup([{"$match": dict(_HAS_FAVORITE)}, {"$project": {"steps": _FAVORITES}}]),
            {"$unwind": "$found"},
            {"$project": {"steps": "$found.steps", "deletedSteps": 1}},
        ]
    return [*in_main, {"$unionWith": {"coll": THREADS, "pipeline": in_overflow}}]


def overflow_favorites_pipeline(thread_ids: Sequence[str]) -> list[Document]:
    """The overflow documents of these threads that have favourite steps, with only those."""
    return [
        {"$match": {"thread": {"$in": list(thread_ids)}, **_HAS_FAVORITE}},
        {"$project": {"thread": 1, "steps": _FAVORITES}},
    ]


# One thread -----------------------------------------------------------------------------------


def thread_state_projection(step_id: str, element_id: str | None = None) -> Document:
    """What tells why a write for this step, or this element of it, did not match."""
    element = {} if element_id is None else {"deletedElements": {"$elemMatch": {"id": element_id}}}
    return {
        **element,
        "deletedAt": 1,
        "previousDeletedAt": 1,
        "stepless": 1,
        "overflowIds": 1,
        "overflow": 1,
        "bytes": 1,
        "steps": {"$elemMatch": {"id": step_id}},
        "deletedSteps": {"$elemMatch": {"id": step_id}},
        "pendingFeedback": 1,
    }


def threads_with_pipeline(list_name: str, item_id: str, *, overflow: bool) -> list[Document]:
    """The ids of threads with an item, two at most.

    Args:
        list_name: The embedded list.
        item_id: The item; browsers choose ids, so several threads may have one with the same.
        overflow: False never looks into overflow documents.
    """
    has_item: Document = {"$match": {f"{list_name}.id": item_id}}
    in_overflow = [has_item, {"$project": {"_id": "$thread"}}]
    union = [{"$unionWith": {"coll": OVERFLOW, "pipeline": in_overflow}}] if overflow else []
    return [has_item, {"$project": {"_id": 1}}, *union, {"$group": {"_id": "$_id"}}, {"$limit": 2}]


# Administration -------------------------------------------------------------------------------


def owned_by(user_id: str | None, identifier: str) -> Document:
    """The threads of a person, also those of an earlier user with the same identifier."""
    by_identifier: Document = {"userIdentifier": identifier}
    return by_identifier if user_id is None else {"$or": [{"userId": user_id}, by_identifier]}


def untouched_since(moment: datetime, *, keep_pinned: bool, keep_shared: bool) -> Document:
    """The threads without a new step since ``moment``, except those to keep."""
    kept = {"metadata.pinned": keep_pinned, "metadata.is_shared": keep_shared}
    exempt = {name: {"$ne": True} for name, keep in kept.items() if keep}
    return {"updatedAt": {"$lt": moment}, **exempt}
