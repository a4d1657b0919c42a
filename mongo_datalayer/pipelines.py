"""Aggregation pipelines, filters and update statements. Pure: data in, MongoDB's language out.

User data stands only in values, never in a path or an expression: names in paths come from
:func:`~mongo_datalayer.codec.field_name`, and the updates use the classic operators, whose values
MongoDB takes as they are (in a pipeline update ``"$100"`` would be a field path).

Each statement is written so that it can be repeated: the filter holds the guard. An upsert whose
guard fails for a document that is there raises DuplicateKeyError; that is the signal to look why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from mongo_datalayer.cursor import Cursor
from mongo_datalayer.documents import LONG, OVERFLOW, THREADS, Document, is_reference
from mongo_datalayer.search import search_pattern
from mongo_datalayer.values import size_of

DELETED_STEPS_KEPT = 1000
"""How many deleted steps a thread remembers."""

FULL_BYTES = 4 * 1024 * 1024
"""Steps of a head that has grown to this size, by updates, are not updated before it has room."""

_HEADER = (
    *("name", "userId", "userIdentifier", "tags", "metadata", "createdAt", "updatedAt"),
    "overflow",
)
UNINDEXED: Mapping[str, str] = {"searchMark": ""}
"""What a thread loses whose texts change: the segment that it was in does not know them."""

_NOT_DELETED: Document = {"deletedAt": {"$exists": False}}
_NOT_FULL: Document = {"bytes": {"$not": {"$gte": FULL_BYTES}}}


class Statement(NamedTuple):
    """A filter and what to do to the document it finds."""

    filter: Document
    update: Document


# Reading --------------------------------------------------------------------------------------


def thread_page_pipeline(
    user_id: str,
    *,
    limit: int,
    time_field: str,
    cursor: Cursor | None = None,
    search: str | None = None,
    feedback: int | None = None,
    overflow: bool = True,
    join: bool = True,
    among: Mapping[str, Any] | None = None,
) -> list[Document]:
    """One user's threads, newest ``time_field`` first, then by id; at most ``limit``, no steps.

    What is looked for inside of threads may stand in the overflow of a long one. The long ones are
    few, and looked at apart: so the others cost what they cost without them.

    Without ``join`` each long thread is taken for one that fits. So a page that has none is exact:
    every long thread as new as its last one, or every one if it is not full, would be on it.

    Args:
        user_id: Whose threads.
        limit: At most so many.
        time_field: What they are ordered by.
        cursor: Only what comes after it.
        search: Only threads that contain this text.
        feedback: Only threads with this feedback.
        overflow: Whether to look at long threads; not in mongomock, which cannot join.
        join: Whether to look into their overflow.
        among: A condition on threads that are not long.
    """
    conditions: Document = {"userId": user_id}
    of_short = {} if among is None else {"$and": [dict(among)]}
    inside = _inside(search, feedback)
    order = {time_field: -1, "_id": -1}
    sort: list[Document] = [{"$sort": order}]
    first: list[Document] = [{"$limit": limit}, {"$project": dict.fromkeys(_HEADER, 1)}]
    if not inside or not overflow:
        found = _after(cursor, time_field, _all_of({**conditions, **of_short}, inside))
        return [{"$match": found}, *sort, *first]
    if not join:
        # One that becomes long meanwhile is met as it was before, with all it had, or as long.
        either = {"$or": [dict(LONG), {**_all_of({}, inside), **of_short}]}
        return [{"$match": _after(cursor, time_field, {**conditions, **either})}, *sort, *first]
    # Each $match right behind its $lookup: fewer threads are looked up, and MongoDB 6.0 ends when
    # it is asked to explain one $match behind both.
    long: list[Document] = [
        {"$match": _after(cursor, time_field, {**conditions, **LONG})},
        *sort,
        *(stage for in_head, in_part in inside for stage in _containing(in_head, in_part)),
        *first,
    ]
    short = _all_of({**conditions, "overflow": None, **of_short}, inside)
    return [
        {"$match": _after(cursor, time_field, short)},
        *sort,
        *first,
        {"$unionWith": {"coll": THREADS, "pipeline": long}},
        *sort,
        {"$limit": limit},
    ]


def _inside(search: str | None, feedback: int | None) -> list[tuple[Document, Document]]:
    """What is looked for inside of threads: the condition on a head, and that on a part."""
    found: list[tuple[Document, Document]] = []
    if feedback is not None:
        value = {"steps.feedback.value": feedback}
        found.append((value, value))
    if search:
        text = {"$regex": search_pattern(search), "$options": "i"}
        messages = [{"steps.output": text}, {"steps.input": text}]
        named = [{"name": text}, {"name": {"$exists": False}, "metadata.name": text}]
        found.append(({"$or": [*named, *messages]}, {"$or": [*messages, {"text": text}]}))
    return found


def _all_of(conditions: Document, inside: list[tuple[Document, Document]]) -> Document:
    for condition, _ in inside:
        conditions = {**conditions, **condition}
    return conditions


def _containing(in_head: Document, in_part: Document) -> list[Document]:
    """The threads of which the head fits, or a part."""
    lookup = _lookup([{"$match": in_part}, {"$limit": 1}, {"$project": {"_id": 1}}], "found")
    return [lookup, {"$match": {"$or": [in_head, {"found": {"$ne": []}}]}}]


def _lookup(pipeline: list[Document], name: str) -> Document:
    """What the overflow of a thread has: its parts, not a copy that the thread does not list."""
    listed = {"$expr": {"$in": ["$_id", "$$parts"]}}
    return {
        "$lookup": {
            "from": OVERFLOW,
            "localField": "_id",
            "foreignField": "thread",
            "let": {"parts": {"$ifNull": ["$parts", []]}},
            "pipeline": [{"$match": {"$or": [{"value": {"$exists": True}}, listed]}}, *pipeline],
            "as": name,
        }
    }


def _after(cursor: Cursor | None, time_field: str, conditions: Document) -> Document:
    """The conditions, beyond the cursor.

    All of them stand in both branches: then the server walks the index once for each branch and
    merges, instead of reading everything from the first page on.
    """
    if cursor is None:
        return conditions
    return {
        "$or": [
            {**conditions, time_field: {"$lt": cursor.time}},
            {**conditions, time_field: cursor.time, "_id": {"$lt": cursor.id}},
        ]
    }


def favorites_pipeline(user_id: str, *, overflow: bool = True, join: bool = True) -> list[Document]:
    """One user's threads that have favourite steps, each with only those.

    A long thread comes once for its head and once for each of its parts that has some.

    Args:
        user_id: Whose threads.
        overflow: Whether to look at long threads; not in mongomock, which cannot join.
        join: Whether to look into their overflow; else one of them is told of, without steps.
    """
    favorites: Document = {
        "$filter": {
            "input": "$steps",
            "as": "step",
            "cond": {"$eq": ["$$step.metadata.favorite", True]},
        }
    }
    marked: Document = {"steps.metadata.favorite": True}
    in_heads: list[Document] = [
        {"$match": {"userId": user_id, **marked}},
        {"$project": {"steps": favorites}},
    ]
    if not overflow:
        return in_heads
    if not join:
        # After the heads: a favourite that is not there any more is in a thread that is marked.
        noticed = [
            {"$match": {"userId": user_id, **LONG}},
            {"$limit": 1},
            {"$project": {"overflow": 1}},
        ]
        return [*in_heads, {"$unionWith": {"coll": THREADS, "pipeline": noticed}}]
    in_parts: list[Document] = [
        {"$match": {"userId": user_id, **LONG}},
        {"$project": {"parts": 1, "deletedSteps.id": 1}},
        _lookup([{"$match": marked}, {"$project": {"steps": favorites}}], "found"),
        {"$unwind": "$found"},
        {"$project": {"steps": "$found.steps", "deletedSteps": 1}},
    ]
    return [*in_heads, {"$unionWith": {"coll": THREADS, "pipeline": in_parts}}]


# Threads --------------------------------------------------------------------------------------


def thread_update(
    thread_id: str,
    now: datetime,
    *,
    values: Mapping[str, Any],
    metadata: Mapping[str, Any],
    removed_metadata: tuple[str, ...] = (),
    on_insert: Mapping[str, Any] | None = None,
) -> Statement:
    """Set a thread's fields and merge its metadata, making the thread where there is none.

    Args:
        thread_id: The thread.
        now: What a new thread's times are.
        values: Fields of the thread.
        metadata: Top-level metadata, by stored field name.
        removed_metadata: Top-level metadata to remove, by stored field name.
        on_insert: Fields a new thread gets besides.
    """
    changed = {
        **values,
        **{f"metadata.{name}": value for name, value in metadata.items()},
        **marks(metadata),
    }
    removed = {f"metadata.{name}": "" for name in removed_metadata}
    if {"name", "userId"} & {*values, *metadata, *removed_metadata}:
        removed |= UNINDEXED
    touched = set(values) | ({"metadata"} if metadata or removed_metadata else set())
    made = {"createdAt": now, "updatedAt": now, "steps": [], "elements": [], "bytes": 0}
    update = {
        "$set": changed,
        "$unset": removed,
        "$setOnInsert": _without(_new_thread({**made, **(on_insert or {})}), touched),
    }
    return Statement(
        {"_id": thread_id, **_NOT_DELETED},
        {operator: fields for operator, fields in update.items() if fields},
    )


def _new_thread(values: Mapping[str, Any]) -> Document:
    return {"metadata": {}, "tags": [], **values}


def _without(values: Mapping[str, Any], names: set[str]) -> Document:
    return {name: value for name, value in values.items() if name not in names}


# Steps ----------------------------------------------------------------------------------------


def step_insert(
    thread_id: str,
    step: Mapping[str, Any],
    activity: datetime,
    *,
    owner: Mapping[str, Any],
    room: Mapping[str, Any],
    feedback: Mapping[str, Any] | None = None,
) -> Statement:
    """Append a step to its thread; an upsert.

    Guarded: not where there is no ``room``, or the step is there, was deleted, or feedback waits
    for it, unless that is the ``feedback`` to take along. Nor in a thread that was deleted: where
    there is room bytes are counted, but not in its tombstone.
    """
    step_id = step["id"]
    pushed = dict(step) if feedback is None else {**step, "feedback": feedback}
    update: Document = {
        "$push": {"steps": pushed},
        "$inc": {"bytes": size_of(pushed)},
        "$unset": UNINDEXED,
        **_active(activity),
        **_marked(pushed),
        "$setOnInsert": _new_thread({"elements": [], **owner}),
    }
    waiting: Document = {"pendingFeedback.forId": {"$ne": step_id}}
    if feedback is not None:
        update["$pull"] = {"pendingFeedback": {"forId": step_id}}
        # The whole of it: a newer verdict that took its place meanwhile must not be lost.
        waiting = {"pendingFeedback": {"$elemMatch": dict(feedback)}}
    return Statement(
        {
            "_id": thread_id,
            "steps.id": {"$ne": step_id},
            "deletedSteps.id": {"$ne": step_id},
            **waiting,
            **room,
        },
        update,
    )


def steps_insert(
    thread_id: str,
    steps: Sequence[Mapping[str, Any]],
    activities: Sequence[datetime],
    *,
    owner: Mapping[str, Any],
    room: Mapping[str, Any],
) -> Statement:
    """Append several steps to their thread, all or none: guarded like :func:`step_insert`."""
    none = {"$nin": [step["id"] for step in steps]}
    guard = {"steps.id": none, "deletedSteps.id": none, "pendingFeedback.forId": none}
    return Statement(
        {"_id": thread_id, **guard, **room},
        {
            "$push": {"steps": {"$each": [dict(step) for step in steps]}},
            "$inc": {"bytes": sum(size_of(step) for step in steps)},
            "$unset": UNINDEXED,
            "$min": {"createdAt": min(activities)},
            "$max": {"updatedAt": max(activities)},
            "$setOnInsert": _new_thread({"elements": [], **owner}),
        },
    )


def step_overwrite(
    thread_id: str, step: Mapping[str, Any], activity: datetime | None = None
) -> Statement:
    """Set the given fields of a step that is there; ``activity`` is its time, if it has one."""
    changed = {f"steps.$.{name}": value for name, value in step.items()}
    return Statement(
        {"_id": thread_id, "steps.id": step["id"], **_NOT_FULL},
        {
            "$set": {**changed, **marks(step)},
            "$inc": {"bytes": size_of(step)},
            "$unset": UNINDEXED,
            **_active(activity),
        },
    )


def step_fill(
    thread_id: str, step_id: str, missing: Mapping[str, Any], activity: datetime | None = None
) -> Statement:
    """Set fields of a step that does not have them; guarded against a write in between."""
    absent = dict.fromkeys(missing)
    changed = {f"steps.$.{name}": value for name, value in missing.items()}
    return Statement(
        {"_id": thread_id, "steps": {"$elemMatch": {"id": step_id, **absent}}, **_NOT_FULL},
        {
            "$set": {**changed, **marks(missing)},
            "$inc": {"bytes": size_of(dict(missing))},
            "$unset": UNINDEXED,
            **_active(activity),
        },
    )


def in_part(statement: Statement, parts: Sequence[str]) -> Statement:
    """The same for the one of these parts that holds the item.

    What concerns the thread itself is left out.
    """
    left_out = {"_id", *_NOT_FULL, *_NOT_DELETED}
    where = {name: of for name, of in statement.filter.items() if name not in left_out}
    kept = {"$set", "$inc"}
    update = {operator: of for operator, of in statement.update.items() if operator in kept}
    update["$set"] = {name: of for name, of in update["$set"].items() if name not in LONG}
    listed = {"thread": statement.filter["_id"], "_id": {"$in": list(parts)}}
    return Statement({**listed, **where}, update)


def activity_update(thread_id: str, activity: datetime) -> Statement:
    """Make a thread last as long as a step that was written to one of its parts."""
    return Statement({"_id": thread_id, **_NOT_DELETED}, _active(activity))


def marks(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a thread is marked with that gets these fields, when one of them is in GridFS."""
    maps = [value for value in fields.values() if type(value) is dict]
    return LONG if any(map(is_reference, maps)) else {}


def _marked(fields: Mapping[str, Any]) -> Document:
    marked = marks(fields)
    return {"$set": dict(marked)} if marked else {}


def _active(activity: datetime | None) -> Document:
    """A thread lasts from its first step's time to its last one's, whichever is written first."""
    if activity is None:
        return {}
    return {"$min": {"createdAt": activity}, "$max": {"updatedAt": activity}}


def step_state_projection(step_id: str) -> Document:
    """What decides why a step could not be inserted."""
    return {
        "deletedAt": 1,
        "parts": 1,
        "overflow": 1,
        "bytes": 1,
        "steps": {"$elemMatch": {"id": step_id}},
        "deletedSteps": {"$elemMatch": {"id": step_id}},
        "pendingFeedback": {"$elemMatch": {"forId": step_id}},
    }


def steps_delete(thread_id: str, step_ids: list[str], now: datetime) -> Statement:
    """Remove steps with their elements and feedback, and remember that they were deleted."""
    gone = {"$in": step_ids}
    return Statement(
        {"_id": thread_id, **_NOT_DELETED},
        {
            "$pull": {**_of_steps(step_ids), "pendingFeedback": {"forId": gone}},
            "$push": {
                "deletedSteps": {
                    "$each": [{"id": step_id, "at": now} for step_id in step_ids],
                    "$slice": -DELETED_STEPS_KEPT,
                }
            },
            "$unset": UNINDEXED,
        },
    )


def childless_step_delete(thread_id: str, step_id: str, now: datetime) -> Statement:
    """Remove one step with its elements and feedback; not where others are below it.

    Guarded: not in a thread that may have overflow, which would have to be looked through.
    """
    statement = steps_delete(thread_id, [step_id], now)
    alone = {"steps.parentId": {"$ne": step_id}, "overflow": {"$exists": False}}
    return Statement({**statement.filter, **alone}, statement.update)


def steps_delete_in_parts(thread_id: str, step_ids: list[str]) -> Statement:
    """Remove steps with their elements and feedback from a thread's parts."""
    gone = {"$in": step_ids}
    holds = [{"steps.id": gone}, {"elements.forId": gone}]
    return Statement({"thread": thread_id, "$or": holds}, {"$pull": _of_steps(step_ids)})


def _of_steps(step_ids: list[str]) -> Document:
    gone = {"$in": step_ids}
    return {"steps": {"id": gone}, "elements": {"forId": gone}}


# Feedback -------------------------------------------------------------------------------------


def feedback_put(thread_id: str | None, feedback: Mapping[str, Any]) -> Statement:
    """Put feedback on its step, in place of what was there."""
    where: Document = {"steps.id": feedback["forId"]}
    if thread_id is not None:
        where = {"_id": thread_id, **where}
    return Statement(
        where,
        {
            "$set": {"steps.$.feedback": dict(feedback), **marks(feedback)},
            "$inc": {"bytes": size_of(dict(feedback))},
        },
    )


def feedback_forget(thread_id: str, step_id: str) -> Statement:
    """Remove feedback that waits for a step."""
    return Statement({"_id": thread_id}, {"$pull": {"pendingFeedback": {"forId": step_id}}})


def feedback_wait(
    thread_id: str,
    feedback: Mapping[str, Any],
    now: datetime,
    *,
    owner: Mapping[str, Any],
    room: Mapping[str, Any],
) -> Statement:
    """Keep feedback until its step comes; an upsert, guarded like :func:`step_insert`."""
    step_id = feedback["forId"]
    made = {"createdAt": now, "updatedAt": now, "steps": [], "elements": [], "bytes": 0, **owner}
    return Statement(
        {
            "_id": thread_id,
            "steps.id": {"$ne": step_id},
            "deletedSteps.id": {"$ne": step_id},
            "pendingFeedback.forId": {"$ne": step_id},
            **room,
        },
        {
            "$push": {"pendingFeedback": dict(feedback)},
            "$setOnInsert": _new_thread(made),
            **_marked(feedback),
        },
    )


# Elements -------------------------------------------------------------------------------------


def element_insert(
    thread_id: str,
    element: Mapping[str, Any],
    now: datetime,
    *,
    owner: Mapping[str, Any],
    room: Mapping[str, Any],
) -> Statement:
    """Append an element to its thread; an upsert.

    Guarded: not where there is no ``room``, the element is there, or its step was deleted.
    """
    guard: Document = {"elements.id": {"$ne": element["id"]}}
    if "forId" in element:
        guard["deletedSteps.id"] = {"$ne": element["forId"]}
    made = {"createdAt": now, "updatedAt": now, "steps": [], **owner}
    return Statement(
        {"_id": thread_id, **guard, **room},
        {
            "$push": {"elements": dict(element)},
            "$inc": {"bytes": size_of(dict(element))},
            "$setOnInsert": _new_thread(made),
            **_marked(element),
        },
    )


def element_replace(thread_id: str, element: Mapping[str, Any]) -> Statement:
    """Put an element in the place of the one with its id."""
    return Statement(
        {"_id": thread_id, "elements.id": element["id"]},
        {
            "$set": {"elements.$": dict(element), **marks(element)},
            "$inc": {"bytes": size_of(dict(element))},
        },
    )


# Administration -------------------------------------------------------------------------------


def owned_by(user_id: str | None, identifier: str) -> Document:
    """The threads of a person, also those of an earlier user with the same identifier."""
    by_identifier: Document = {"userIdentifier": identifier}
    return by_identifier if user_id is None else {"$or": [{"userId": user_id}, by_identifier]}


def untouched_since(moment: datetime, *, keep_pinned: bool, keep_shared: bool) -> Document:
    """The threads without a new step since ``moment``; those to keep are left out."""
    kept = {"metadata.pinned": keep_pinned, "metadata.is_shared": keep_shared}
    exempt = {name: {"$ne": True} for name, keep in kept.items() if keep}
    return {"updatedAt": {"$lt": moment}, **exempt}
