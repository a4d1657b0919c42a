"""The updates of stored threads. Pure: data in, a filter and update operators out.

User data stands only in values. Names in paths come from
:func:`~mongo_datalayer.chainlit.codec.encode_field`, and the operators are the classic ones, which
take values literally (a pipeline update would read ``"$100"`` as a field path).

Each update may be repeated, because its filter holds the guard. An upsert whose guard fails for an
existing document raises DuplicateKeyError: the caller then looks for the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from mongo_datalayer.config import DELETED_ITEMS_KEPT, WAITING_FEEDBACK
from mongo_datalayer.model.documents import (
    LONG,
    NOT_DELETED,
    NOT_FULL,
    UNINDEXED,
    Document,
    ElementDocument,
    marks,
    size_of,
)
from mongo_datalayer.mongodb.update import Update

STEPLESS: Mapping[str, Any] = {"stepless": True}
"""Marks a thread without a step so far, whose times are those of its creation."""

_PLACEHOLDER: Document = {"deletedAt": {"$exists": True}, "pendingFeedback": {"$exists": True}}


# Threads --------------------------------------------------------------------------------------


def thread_update(
    thread_id: str,
    now: datetime,
    *,
    values: Mapping[str, Any],
    metadata: Mapping[str, Any],
    removed_metadata: tuple[str, ...] = (),
    owner: Mapping[str, Any] | None = None,
) -> Update:
    """Set a thread's fields and merge its metadata, by stored field name; an upsert.

    Args:
        thread_id: The thread.
        now: The times of a new thread.
        values: Fields of the thread.
        metadata: Top-level metadata to set.
        removed_metadata: Top-level metadata to remove.
        owner: Owner fields of a new thread.
    """
    changed = {
        **values,
        **{f"metadata.{name}": value for name, value in metadata.items()},
        **marks(metadata),
    }
    removed = {f"metadata.{name}": "" for name in removed_metadata}
    if {"name", "userId"} & {*values, *metadata, *removed_metadata}:
        removed |= UNINDEXED
    named = {*values, "metadata"} if metadata or removed_metadata else set(values)
    update = {"$set": changed, "$unset": removed, **_set_on_insert(owner or {}, now, named)}
    return Update(
        {"_id": thread_id, **NOT_DELETED},
        {operator: fields for operator, fields in update.items() if fields},
    )


def thread_restart(
    thread_id: str, moment: datetime, now: datetime, *, values: Mapping[str, Any]
) -> Update:
    """Put a new thread in place of a tombstone from before ``moment``.

    The new thread keeps the time of the deletion, and :func:`step_insert` refuses older steps.
    """
    tombstone = {"deletedAt": {"$lt": moment}, "pendingFeedback": {"$exists": False}}
    renamed = {"$rename": {"deletedAt": "previousDeletedAt"}}
    return Update({"_id": thread_id, **tombstone}, {**renamed, "$set": _new_thread(values, now)})


def activity_update(thread_id: str, activity: datetime) -> Update:
    """Extend a thread's times to those of a step in one of its overflow documents."""
    return Update({"_id": thread_id, **NOT_DELETED}, _active(activity))


def with_activity(update: Update, activity: datetime | None, *, stepless: bool) -> Update:
    """The same update of a thread's steps, which sets the thread's times too.

    A thread lasts from its first step's time to its last one's, whichever is written first. The
    times of a ``stepless`` thread are those of its creation, and its first step replaces them. The
    guard fails where ``stepless`` is wrong.

    Args:
        update: The update.
        activity: The time of the step; None leaves the thread's times as they are.
        stepless: Whether the thread is marked as one without a step.
    """
    if activity is None:
        return update
    operators = dict(update.update)
    if stepless:
        times = {"createdAt": activity, "updatedAt": activity}
        operators["$set"] = {**operators.get("$set", {}), **times}
        operators["$unset"] = {**operators.get("$unset", {}), **dict.fromkeys(STEPLESS, "")}
    else:
        operators |= _active(activity)
    if inserted := operators.get("$setOnInsert"):
        left_out = {"createdAt", "updatedAt", *STEPLESS}
        operators["$setOnInsert"] = {k: v for k, v in inserted.items() if k not in left_out}
    return Update({**update.filter, "stepless": {"$exists": stepless}}, operators)


def _set_on_insert(
    owner: Mapping[str, Any], now: datetime, set_elsewhere: Iterable[str]
) -> Document:
    """What a new thread gets. MongoDB lets only one operator of an update name a field."""
    fields = _new_thread(owner, now)
    return {"$setOnInsert": {name: fields[name] for name in fields if name not in set_elsewhere}}


def _new_thread(values: Mapping[str, Any], now: datetime) -> Document:
    times: Document = {"createdAt": now, "updatedAt": now}
    empty: Document = {"metadata": {}, "tags": [], "steps": [], "elements": [], "bytes": 0}
    return {**times, **STEPLESS, **empty, **values}


def _growth(fields: Document) -> Document:
    """How these fields change the size and the marks of their thread."""
    marked = marks(fields)
    growth: Document = {"$set": dict(marked)} if marked else {}
    return {**growth, "$inc": {"bytes": size_of(fields)}}


def _active(activity: datetime) -> Document:
    return {"$min": {"createdAt": activity}, "$max": {"updatedAt": activity}}


# Steps ----------------------------------------------------------------------------------------


def step_insert(
    thread_id: str,
    step: Document,
    moment: datetime,
    *,
    owner: Mapping[str, Any],
    room: Mapping[str, Any],
    feedback: Document | None = None,
) -> Update:
    """Append a step to its thread; an upsert.

    The guard needs ``room``, and fails where the step exists, was deleted, or has feedback waiting
    for it other than the ``feedback`` to take along. It fails in a deleted thread too: room is
    where bytes are counted, and a tombstone counts none. And it fails for a step that is older
    than the last deletion of a thread with this id.
    """
    step_id = step["id"]
    waiting: Document = {"pendingFeedback.forId": {"$ne": step_id}}
    taken_along: Document = {}
    if feedback is not None:
        step = {**step, "feedback": feedback}
        # All of it, as a newer vote may take its place meanwhile and must not be lost.
        waiting = {"pendingFeedback": {"$elemMatch": feedback}}
        taken_along = {"$pull": {"pendingFeedback": {"forId": step_id}}}
    return Update(
        {
            "_id": thread_id,
            "steps.id": {"$ne": step_id},
            "deletedSteps.id": {"$ne": step_id},
            "previousDeletedAt": {"$not": {"$gte": moment}},
            **waiting,
            **room,
        },
        {
            "$push": {"steps": step},
            **_set_on_insert(owner, moment, ("steps", "bytes")),
            **taken_along,
            "$unset": UNINDEXED,
            **_growth(step),
        },
    )


def step_overwrite(thread_id: str, step: Document) -> Update:
    """Set the given fields of an existing step."""
    return Update({"_id": thread_id, "steps.id": step["id"], **NOT_FULL}, _step_fields(step))


def step_fill(thread_id: str, step_id: str, missing: Document) -> Update:
    """Set fields that a step lacks; the guard fails when another write set one meanwhile."""
    lacking = {"$elemMatch": {"id": step_id, **dict.fromkeys(missing)}}
    return Update({"_id": thread_id, "steps": lacking, **NOT_FULL}, _step_fields(missing))


def _step_fields(fields: Document) -> Document:
    changed = {f"steps.$.{name}": value for name, value in fields.items()}
    return {
        "$set": {**changed, **marks(fields)},
        "$unset": UNINDEXED,
        # Whatever a field replaces counts as growth; the next move of old steps corrects the sum.
        "$inc": {"bytes": size_of(fields)},
    }


def in_overflow(update: Update, overflow_ids: Sequence[str]) -> Update:
    """The same update for the one of these overflow documents that holds the item.

    Without what concerns the thread itself: guards, marks and times.
    """
    left_out = {"_id", *NOT_FULL, *NOT_DELETED}
    guards = {name: guard for name, guard in update.filter.items() if name not in left_out}
    changed = {name: value for name, value in update.update["$set"].items() if name not in LONG}
    grown = {name: fields for name, fields in update.update.items() if name == "$inc"}
    removed = {name: "" for name in update.update.get("$unset", ()) if name not in UNINDEXED}
    unset = {"$unset": removed} if removed else {}
    listed = {"thread": update.filter["_id"], "_id": {"$in": list(overflow_ids)}}
    return Update({**listed, **guards}, {"$set": changed, **unset, **grown})


def steps_delete(thread_id: str, step_ids: list[str], now: datetime) -> Update:
    """Remove steps with their elements and feedback, and remember that they were deleted."""
    deleted = [{"id": step_id, "at": now} for step_id in step_ids]
    waiting = {"pendingFeedback": {"forId": {"$in": step_ids}}}
    return Update(
        {"_id": thread_id, **NOT_DELETED},
        {
            "$pull": {**_steps_and_elements(step_ids), **waiting},
            "$push": {"deletedSteps": {"$each": deleted, "$slice": -DELETED_ITEMS_KEPT}},
            "$unset": UNINDEXED,
        },
    )


def childless_step_delete(thread_id: str, step_id: str, now: datetime) -> Update:
    """Remove one step with its elements and feedback, unless it has steps below it."""
    delete = steps_delete(thread_id, [step_id], now)
    # In a long thread, they may be in overflow documents, where this filter cannot look.
    guard = {"steps.parentId": {"$ne": step_id}, "overflow": {"$exists": False}}
    return Update({**delete.filter, **guard}, delete.update)


def steps_delete_in_overflow(thread_id: str, step_ids: list[str]) -> Update:
    """Remove steps with their elements and feedback from a thread's overflow documents."""
    holds = [{"steps.id": {"$in": step_ids}}, {"elements.forId": {"$in": step_ids}}]
    pull = {"$pull": _steps_and_elements(step_ids)}
    return Update({"thread": thread_id, "$or": holds}, pull)


def _steps_and_elements(step_ids: list[str]) -> Document:
    return {"steps": {"id": {"$in": step_ids}}, "elements": {"forId": {"$in": step_ids}}}


# Feedback -------------------------------------------------------------------------------------


def feedback_put(thread_id: str, feedback: Document) -> Update:
    """Put feedback on its step, in place of earlier feedback."""
    return Update(
        {"_id": thread_id, "steps.id": feedback["forId"]},
        {
            "$inc": {"bytes": size_of(feedback)},
            "$set": {"steps.$.feedback": feedback, **marks(feedback)},
        },
    )


def feedback_wait(thread_id: str, feedback: Document, *, room: Mapping[str, Any]) -> Update:
    """Keep feedback in its thread until its step arrives, guarded like :func:`step_insert`."""
    step_id = feedback["forId"]
    return Update(
        {
            "_id": thread_id,
            "steps.id": {"$ne": step_id},
            "deletedSteps.id": {"$ne": step_id},
            **_may_wait(step_id),
            **room,
        },
        {"$push": {"pendingFeedback": feedback}, **_growth(feedback)},
    )


def feedback_wait_for_thread(thread_id: str, feedback: Document, now: datetime) -> Update:
    """Keep feedback until its thread is made, in a placeholder that expires; an upsert.

    To all readers a placeholder is a tombstone. It alone of these has ``pendingFeedback``.
    """
    kept = {"$push": {"pendingFeedback": feedback}, "$setOnInsert": {"deletedAt": now}}
    if marked := marks(feedback):
        kept["$set"] = dict(marked)
    return Update({"_id": thread_id, **_PLACEHOLDER, **_may_wait(feedback["forId"])}, kept)


def placeholder_fill(thread_id: str, now: datetime, *, owner: Mapping[str, Any]) -> Update:
    """Make a thread of a placeholder; the feedback goes on waiting."""
    filled = {"$unset": {"deletedAt": ""}, "$set": _new_thread(owner, now)}
    return Update({"_id": thread_id, **_PLACEHOLDER}, filled)


def _may_wait(step_id: str) -> Document:
    return {
        "pendingFeedback.forId": {"$ne": step_id},
        f"pendingFeedback.{WAITING_FEEDBACK - 1}": {"$exists": False},
    }


def waiting_feedback_delete(thread_id: str, feedback: Sequence[Document]) -> Update:
    """Remove feedback that waits, exactly as it was read: a newer vote stays."""
    return Update({"_id": thread_id}, {"$pullAll": {"pendingFeedback": list(feedback)}})


# Elements -------------------------------------------------------------------------------------


def element_insert(
    thread_id: str,
    element: Document,
    now: datetime,
    *,
    owner: Mapping[str, Any],
    room: Mapping[str, Any],
) -> Update:
    """Append an element to its thread; an upsert.

    The guard needs ``room``, and fails where the element exists, or it or its step was deleted.
    """
    name = {"$ne": element["id"]}
    guard: Document = {"elements.id": name, "deletedElements.id": name}
    if "forId" in element:
        guard["deletedSteps.id"] = {"$ne": element["forId"]}
    return Update(
        {"_id": thread_id, **guard, **room},
        {
            "$push": {"elements": element},
            **_set_on_insert(owner, now, ("elements", "bytes")),
            **_growth(element),
        },
    )


def element_replace(thread_id: str, element: Document) -> Update:
    """Put an element in place of the one with its id, which keeps its place in the order."""
    fields = {name: value for name, value in element.items() if name not in ("id", "sequence")}
    missing = ElementDocument.model_fields.keys() - {"id", "sequence", *fields}
    return Update(
        {"_id": thread_id, "elements.id": element["id"]},
        {
            "$inc": {"bytes": size_of(element)},
            "$set": {**{f"elements.$.{name}": fields[name] for name in fields}, **marks(element)},
            "$unset": {f"elements.$.{name}": "" for name in sorted(missing)},
        },
    )


def element_delete(thread_id: str, element_id: str, now: datetime) -> Update:
    """Remove an element, if it is there, and remember that it was deleted."""
    deleted = {"$each": [{"id": element_id, "at": now}], "$slice": -DELETED_ITEMS_KEPT}
    return Update(
        {"_id": thread_id, **NOT_DELETED},
        {"$pull": {"elements": {"id": element_id}}, "$push": {"deletedElements": deleted}},
    )
