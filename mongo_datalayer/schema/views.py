"""The views that show conversations of any length to people in the mongo shell.

``conversations`` shows a thread whole and in reading order, ``conversation_steps`` each step by
itself. The app does not use them. Their names and fields stay when conversations are stored in
another way, so that queries of them keep working.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pymongo.errors import OperationFailure

from mongo_datalayer.config import LEAST_SERVER_OF_VIEWS
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.model.documents import NOT_DELETED, OVERFLOW, THREADS, Document
from mongo_datalayer.model.stored_lists import array
from mongo_datalayer.mongodb.client import Database, aggregate, open_collection
from mongo_datalayer.mongodb.unsupported import is_unsupported
from mongo_datalayer.schema.plan import (
    MADE_BY,
    SchemaObject,
    State,
    apply_plan,
    compare,
    list_collections,
)

CONVERSATIONS = "conversations"
"""Name of the view with one document for each thread."""

STEPS = "conversation_steps"
"""Name of the view with one document for each step."""

# Matches nothing, and is refused where the operator is not known.
_PROBE: Document = {"$match": {"_id": None, "$expr": {"$sortArray": {"input": [], "sortBy": 1}}}}
HEADER = ("name", "userId", "userIdentifier", "tags", "metadata", "createdAt", "updatedAt")
"""Fields of a thread that ``conversations`` shows before the steps."""

INTERNAL = frozenset(
    {"deletedSteps", "pendingFeedback", "session", "deletedAt", "bytes", "overflow", "overflowIds"}
    | {"searchSegment", "deletedElements", "previousDeletedAt", "stepless"}
)
"""Fields of a thread that only the layer needs; no view shows them."""

WHOLE_BYTES = 15 * 1024 * 1024
"""A thread that is larger is not shown whole: MongoDB's documents end at 16 MB."""

_NOTE = (
    "This conversation is too long for one document. These are its newest steps; all of them are "
    f"in the view {STEPS}."
)


# One document for each thread -----------------------------------------------------------------


def conversations_pipeline() -> list[Document]:
    """What the view ``conversations`` does with ``threads``. Pure.

    A thread that would not fit into one document is shown without its overflow documents: joining
    them would end every query of the view.
    """
    whole = {"$lte": [_sum("$$ROOT", "$sizes.bytes"), WHOLE_BYTES]}
    sizes = {"bytes": {"$bsonSize": "$$ROOT"}, "steps": _length("$steps")}
    all_joined = {"$eq": [{"$size": "$found"}, {"$size": "$sizes"}]}
    return [
        _of_this_package(CONVERSATIONS),
        # The sizes alone first: joining too much would end the query, not shorten the result.
        _lookup("overflowIds", "sizes", sizes),
        {"$set": {"joined": {"$cond": [whole, array("$overflowIds"), []]}}},
        _lookup("joined", "found", {"steps": 1, "elements": 1}),
        {"$set": {"found": _oldest_first("$found")}},
        {
            "$project": {
                # Each as an expression: a plain 1 would keep the stored order of the fields.
                **{name: f"${name}" for name in HEADER},
                "incomplete": {"$cond": [all_joined, "$$REMOVE", _incomplete()]},
                "steps": _in_reading_order(_not_deleted(_joined("steps"), "$deletedSteps")),
                "elements": _in_order_of_calls(
                    _not_deleted(_joined("elements"), "$deletedElements")
                ),
            }
        },
    ]


def _lookup(local: str, into: str, fields: Document) -> Document:
    """Some fields of a thread's overflow documents."""
    return {
        "$lookup": {
            "from": OVERFLOW,
            "localField": local,
            "foreignField": "_id",
            "pipeline": [{"$project": fields}],
            "as": into,
        }
    }


def _sum(document: str, sizes: str) -> Document:
    return {"$add": [{"$bsonSize": document}, {"$sum": sizes}]}


def _oldest_first(found: str) -> Document:
    """Overflow documents in the thread's own order; ``$lookup`` returns them in any."""
    rank = {"$indexOfArray": [array("$overflowIds"), "$$item._id"]}
    return _sorted(found, "$$item", {"rank": rank})


def _sorted(items: Any, value: Any, keys: Document) -> Document:
    """An array of the ``value`` of each item, sorted by the ``keys`` computed from the item."""
    keyed = {"$map": {"input": items, "as": "item", "in": {**keys, "value": value}}}
    by_keys = {"$sortArray": {"input": keyed, "sortBy": dict.fromkeys(keys, 1)}}
    return {"$map": {"input": by_keys, "as": "sorted", "in": "$$sorted.value"}}


def _joined(name: str) -> Document:
    """A list of the thread: that of the overflow documents, then that of the main document."""
    return {
        "$reduce": {
            "input": {"$concatArrays": ["$found", [{name: f"${name}"}]]},
            "initialValue": [],
            "in": {"$concatArrays": ["$$value", array(f"$$this.{name}")]},
        }
    }


def _incomplete() -> Document:
    steps = {"$add": [_length("$steps"), {"$sum": "$sizes.steps"}]}
    return {"steps": steps, "bytes": _sum("$$ROOT", "$sizes.bytes"), "note": _NOTE}


def _not_deleted(items: Document, tombstones: str) -> Document:
    """Without items that an interrupted deletion left in an overflow document."""
    deleted = {"$in": ["$$item.id", array(f"{tombstones}.id")]}
    kept = {"$filter": {"input": items, "as": "item", "cond": {"$not": deleted}}}
    # Nearly no thread has tombstones, and then no item needs to be compared.
    return {"$cond": [{"$eq": [array(tombstones), []]}, items, kept]}


def _in_reading_order(steps: Document) -> Document:
    """The steps by their time, equal times in order of arrival, as the layer returns them.

    MongoDB's dates end at milliseconds; within one, the time's text decides.
    """
    time = {"$let": {"vars": {"step": {"$first": "$$item"}}, "in": _time("$$step")}}
    return _sorted_stably(steps, {"moment": _moment(time), "time": time})


def _in_order_of_calls(elements: Document) -> Document:
    first = {"element": {"$first": "$$item"}}
    sequence = {"$let": {"vars": first, "in": "$$element.sequence"}}
    return _sorted_stably(elements, {"sequence": sequence})


def _sorted_stably(items: Document, keys: Document) -> Document:
    """Items by keys that are computed from pairs of an item and its position."""
    # $sortArray leaves the order of equals open, so the position is the last key.
    pairs = {"$zip": {"inputs": ["$$items", {"$range": [0, {"$size": "$$items"}]}]}}
    keys = {**keys, "n": {"$last": "$$item"}}
    return {"$let": {"vars": {"items": items}, "in": _sorted(pairs, {"$first": "$$item"}, keys)}}


# One document for each step -------------------------------------------------------------------


def steps_pipeline() -> list[Document]:
    """What the view ``conversation_steps`` does with ``threads``. Pure.

    A thread is joined with one overflow document at a time, so that no result outgrows a document.
    """
    is_main = {"$eq": ["$overflowId", None]}
    deleted = {"$in": ["$step.id", array("$deletedSteps.id")]}
    return [
        _of_this_package(STEPS),
        {"$set": {"overflowId": {"$concatArrays": [array("$overflowIds"), [None]]}}},
        {"$unwind": {"path": "$overflowId", "includeArrayIndex": "rank"}},
        _lookup("overflowId", "found", {"steps": 1}),
        # The row of the main document joins nothing, and must not be dropped.
        {"$unwind": {"path": "$found", "preserveNullAndEmptyArrays": True}},
        {"$set": {"step": array({"$cond": [is_main, "$steps", "$found.steps"]})}},
        {"$unwind": {"path": "$step", "includeArrayIndex": "n"}},
        {"$match": {"$expr": {"$not": deleted}}},
        {
            "$project": {
                "_id": 0,
                "thread": "$_id",
                "threadName": "$name",
                "userId": "$userId",
                "userIdentifier": "$userIdentifier",
                "at": _moment(_time("$step")),
                # No document has a million steps: of its 16 MB, each would have 16 bytes.
                "arrival": {"$add": [{"$multiply": ["$rank", 1_000_000]}, "$n"]},
                "step": "$step",
            }
        },
    ]


def _of_this_package(view: str) -> Document:
    """The first stage; its comment says that this package made the view."""
    # MongoDB has no place for the maker of a view, and keeps a $comment in its pipeline.
    return {"$match": {**NOT_DELETED, "$comment": f"{MADE_BY}{view}"}}


def _time(step: str) -> Document:
    """A step's time as it is stored: a text, or the date of its arrival."""
    return {"$ifNull": [f"{step}.{name}" for name in ("createdAt", "start", "end", "receivedAt")]}


def _moment(time: Document) -> Document:
    """The time as a date; null, which sorts first, where it is none."""
    return {"$convert": {"input": time, "to": "date", "onError": None, "onNull": None}}


def _length(field: str) -> Document:
    return {"$size": array(field)}


VIEWS: Mapping[str, Callable[[], list[Document]]] = {
    CONVERSATIONS: conversations_pipeline,
    STEPS: steps_pipeline,
}
"""The views by name, each with what makes its pipeline; all are of the collection of threads."""


# In a database --------------------------------------------------------------------------------


@dataclass(frozen=True)
class View(SchemaObject):
    """A view, named by ``collection``, and its state in one database."""

    collection: str
    state: State

    @classmethod
    async def require(cls, database: Database) -> None:
        """Raise MongoDataLayerError on a server that cannot sort a list, as before 5.2."""
        # Asked, and not told by the version: neither the Stable API nor every server names one.
        try:
            await aggregate(open_collection(database, THREADS), [_PROBE])
        except OperationFailure as exc:
            if not is_unsupported(exc):
                raise
            least = ".".join(map(str, LEAST_SERVER_OF_VIEWS))
            raise MongoDataLayerError(
                f"The view {CONVERSATIONS} needs MongoDB {least} or newer, which can sort the "
                "steps; this server cannot. Nothing else depends on the views."
            ) from exc

    @classmethod
    async def apply(cls, database: Database, objects: Sequence[View]) -> list[View]:
        """Make the views, or change them to this version's."""
        for view in objects:
            # Not dropped and made again: the app's role may not drop, and queries would miss it.
            command = "create" if view.state == "missing" else "collMod"
            pipeline = VIEWS[view.collection]()
            await database.command(
                {command: view.collection, "viewOn": THREADS, "pipeline": pipeline}
            )
        return [replace(view, state="set") for view in objects]


async def check_views(database: Database) -> list[View]:
    """Compare the declared views with those of ``database``; changes nothing. One command."""
    listed = await list_collections(database, VIEWS)
    return [View(name, _compared(name, listed.get(name))) for name in VIEWS]


async def apply_views(
    database: Database, *, replace: bool = False, dry_run: bool = False
) -> list[View]:
    """Make the views, or change them to this version's, as :func:`apply_plan` does.

    A collection with a view's name holds data and is never touched.
    """
    views = await check_views(database)
    return await apply_plan(database, views, replace=replace, dry_run=dry_run)


def _compared(name: str, listed: Mapping[str, Any] | None) -> State:
    if listed is None:
        return "missing"
    if listed["type"] != "view":
        return "collection"
    options = {option: listed["options"][option] for option in ("viewOn", "pipeline")}
    match = options["pipeline"][0].get("$match", {}) if options["pipeline"] else {}
    declared = {"viewOn": THREADS, "pipeline": VIEWS[name]()}
    return compare(declared, options, str(match.get("$comment", "")))
