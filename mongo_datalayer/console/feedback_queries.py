"""The aggregations that find and count feedback. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mongo_datalayer.admin.selection import FEEDBACK
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import (
    CONSOLE_REVIEWS,
    OVERFLOW,
    OWN_THREAD,
    TEXT,
    THREADS,
    Document,
)
from mongo_datalayer.model.stored_lists import array

_GIVEN: Document = {"steps.feedback.id": dict(TEXT)}

# The thread of an overflow document. Copies that an interrupted move left behind are in no list.
_IN_THREAD: Document = {
    "$and": [
        {"$eq": ["$_id", "$$thread"]},
        {"$in": ["$$document", array("$overflowIds")]},
    ]
}
_LISTED: tuple[Document, ...] = (
    {
        "$lookup": {
            "from": THREADS,
            "let": {"thread": "$thread", "document": "$_id"},
            "pipeline": [
                {"$match": {"$expr": _IN_THREAD}},
                {"$project": {"metadata.chat_profile": 1}},
            ],
            "as": "main",
        }
    },
    {"$match": {"main": {"$ne": []}}},
)
_NOT_LOOKED_AT: tuple[Document, ...] = (
    {
        "$lookup": {
            "from": CONSOLE_REVIEWS,
            "localField": "feedback.id",
            "foreignField": "_id",
            "as": "review",
        }
    },
    {"$match": {"review": []}},
)


def queue_pipeline(
    filters: Filters, *, limit: int, open_only: bool, cursor: Cursor | None
) -> list[Document]:
    """Feedback, newest first, after a cursor; ``open_only`` is what nobody has looked at."""
    after: Document = {}
    if cursor is not None:
        earlier = {"feedback.updatedAt": {"$lt": cursor.time}}
        tied = {"feedback.updatedAt": cursor.time, "feedback.id": {"$lt": cursor.id}}
        after = {"$or": [earlier, tied]}
    return [
        *_all_rated(filters, after),
        {"$sort": {"feedback.updatedAt": -1, "feedback.id": -1}},
        *(_NOT_LOOKED_AT if open_only else ()),
        {"$limit": limit},
    ]


def feedback_counts(filters: Filters) -> list[Document]:
    """How much feedback there is, by value, profile, tools and week."""
    week = {"date": "$feedback.updatedAt", "unit": "week", "startOfWeek": "monday"}
    kind = {"value": "$feedback.value", "profile": "$profile", "tools": "$tools"}
    group = {"_id": {**kind, "week": {"$dateTrunc": week}}, "count": {"$sum": 1}}
    return [*_all_rated(filters), {"$group": group}]


def _all_rated(filters: Filters, after: Mapping[str, Any] = MappingProxyType({})) -> list[Document]:
    """The feedback that is asked for, of all threads, in no order."""
    selection = filters.selection
    wanted: Document = {
        "feedback.id": dict(TEXT),
        "feedback.updatedAt": {"$type": "date", **selection.times.get("updatedAt", {})},
        "feedback.value": {"$in": sorted(FEEDBACK[filters.feedback or "any"])},
        **({} if selection.tool is None else {"tools": selection.tool}),
        **({} if selection.profile is None else {"profile": selection.profile}),
        **after,
    }
    profile = {"$first": "$main.metadata.chat_profile"}
    overflow = [{"$match": _GIVEN}, *_LISTED, *_rated("$thread", profile, wanted)]
    return [
        {"$match": {"$and": [_GIVEN, dict(OWN_THREAD)]}},
        *_rated("$_id", "$metadata.chat_profile", wanted),
        {"$unionWith": {"coll": OVERFLOW, "pipeline": overflow}},
    ]


def _rated(thread: str, profile: Any, wanted: Document) -> list[Document]:
    """The feedback of documents that is wanted, each with its step, its thread and its tools."""
    shown = dict.fromkeys(("id", "type", "name", "createdAt", "feedback"), 1)
    return [
        {"$project": {"thread": thread, "profile": profile, "steps": shown}},
        {
            "$set": {
                "asked": _steps_that({"$eq": ["$$step.type", "user_message"]}),
                "called": _steps_that({"$eq": ["$$step.type", "tool"]}),
                "steps": _steps_that({"$in": ["$$step.feedback.value", [0, 1]]}),
            }
        },
        {"$unwind": "$steps"},
        {
            "$project": {
                **dict.fromkeys(("thread", "profile"), 1),
                "step": "$steps.id",
                "feedback": "$steps.feedback",
                "tools": _tools_of_turn(),
            }
        },
        {"$match": wanted},
    ]


def _steps_that(condition: Document) -> Document:
    return {"$filter": {"input": "$steps", "as": "step", "cond": condition}}


def _tools_of_turn() -> Document:
    """The names of the tools that were called between the question and the next one."""

    def asked(operator: str) -> Document:
        condition = {operator: ["$$at", "$steps.createdAt"]}
        return {"$filter": {"input": "$asked.createdAt", "as": "at", "cond": condition}}

    in_turn = {
        "$and": [
            {"$gte": ["$$tool.createdAt", "$$question"]},
            {"$or": [{"$eq": ["$$next", None]}, {"$lt": ["$$tool.createdAt", "$$next"]}]},
        ]
    }
    called = {"$filter": {"input": "$called", "as": "tool", "cond": in_turn}}
    names = {"$map": {"input": called, "as": "tool", "in": "$$tool.name"}}
    turn = {"question": {"$max": asked("$lte")}, "next": {"$min": asked("$gt")}}
    return {"$let": {"vars": turn, "in": {"$setUnion": [names]}}}
