"""The views that show conversations, whatever their length, to people in the mongo shell.

``conversations`` shows a thread whole and in reading order, ``conversation_steps`` each step by
itself. The app does not use them. Their names and their fields stay what they are when
conversations are stored in another way: queries of them go on to work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from mongo_datalayer.documents import OVERFLOW, THREADS, Document
from mongo_datalayer.driver import Database
from mongo_datalayer.errors import MongoDataLayerError

CONVERSATIONS = "conversations"
"""Name of the view with one document for each thread."""

STEPS = "conversation_steps"
"""Name of the view with one document for each step."""

LEAST_SERVER = (5, 2)
"""The first MongoDB that knows ``$sortArray``."""

HEADER = ("name", "userId", "userIdentifier", "tags", "metadata", "createdAt", "updatedAt")
"""Fields of a thread that ``conversations`` shows before the steps."""

INTERNAL = frozenset(
    {"deletedSteps", "pendingFeedback", "session", "deletedAt", "bytes", "overflow", "parts"}
    | {"searchMark"}
)
"""Fields of a thread that only the layer needs; no view shows them."""

WHOLE_BYTES = 15 * 1024 * 1024
"""A thread that is larger is not shown whole: MongoDB's documents end at 16 MB."""

State: TypeAlias = Literal["present", "missing", "outdated", "foreign", "collection", "set"]
"""What there is under a view's name.

``present``, the view as declared; ``missing``, nothing; ``outdated``, the view of another version
of this package; ``foreign``, a view that somebody else made; ``collection``, no view at all;
``set``, the view as declared, since just now.
"""

_MADE_BY = "mongo_datalayer: "
_NOTE = (
    "This conversation is too long for one document. These are its newest steps; all of them are "
    f"in the view {STEPS}."
)


# One document for each thread -----------------------------------------------------------------


def conversations_pipeline() -> list[Document]:
    """What the view ``conversations`` does with ``threads``. Pure.

    The comment in the first stage says that this package made it. A thread that would not fit into
    a document is shown as its head alone: joining it would end every query of the view.
    """
    whole = {"$lte": [_sum("$$ROOT", "$sizes.bytes"), WHOLE_BYTES]}
    return [
        _of_this_package(CONVERSATIONS),
        _lookup("parts", "sizes", {"bytes": {"$bsonSize": "$$ROOT"}, "steps": _length("$steps")}),
        {"$set": {"joined": {"$cond": [whole, "$parts", []]}}},
        _lookup("joined", "found", {"steps": 1, "elements": 1}),
        {"$set": {"found": _in_order_of_parts("$found")}},
        {
            "$project": {
                # Each as an expression: only then they stand in this order.
                **{name: f"${name}" for name in HEADER},
                "incomplete": {"$cond": [_all_joined(), "$$REMOVE", _incomplete()]},
                "steps": _in_reading_order(_not_deleted(_joined("steps"))),
                "elements": _joined("elements"),
            }
        },
    ]


def _lookup(local: str, into: str, fields: Document) -> Document:
    """Some fields of the parts that a thread lists."""
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


def _in_order_of_parts(found: str) -> Document:
    """The parts as the thread lists them, oldest first; MongoDB gives them in any order."""
    part = {"place": {"$indexOfArray": [_array("$parts"), "$$part._id"]}, "of": "$$part"}
    return {
        "$map": {
            "input": {
                "$sortArray": {
                    "input": {"$map": {"input": found, "as": "part", "in": part}},
                    "sortBy": {"place": 1},
                }
            },
            "as": "sorted",
            "in": "$$sorted.of",
        }
    }


def _joined(name: str) -> Document:
    """A list of the thread: what the parts have of it, then what the head has."""
    return {
        "$reduce": {
            "input": {"$concatArrays": ["$found", [{name: f"${name}"}]]},
            "initialValue": [],
            "in": {"$concatArrays": ["$$value", _array(f"$$this.{name}")]},
        }
    }


def _all_joined() -> Document:
    return {"$eq": [{"$size": "$found"}, {"$size": "$sizes"}]}


def _incomplete() -> Document:
    steps = {"$add": [_length("$steps"), {"$sum": "$sizes.steps"}]}
    return {"steps": steps, "bytes": _sum("$$ROOT", "$sizes.bytes"), "note": _NOTE}


def _not_deleted(steps: Document) -> Document:
    """Without the steps that a deletion which was interrupted left in a part."""
    gone = {"$in": ["$$step.id", _array("$deletedSteps.id")]}
    kept = {"$filter": {"input": steps, "as": "step", "cond": {"$not": gone}}}
    return {"$cond": [{"$eq": [_array("$deletedSteps"), []]}, steps, kept]}


def _in_reading_order(steps: Document) -> Document:
    """The steps by their time, equal times in order of arrival, as the layer gives them.

    The server's dates end at milliseconds: within one, the text decides.
    """
    arrivals = {"$zip": {"inputs": ["$$steps", {"$range": [0, {"$size": "$$steps"}]}]}}
    step = {"$first": "$$arrival"}
    time = {"$let": {"vars": {"step": step}, "in": _time("$$step")}}
    sortable = {"step": step, "moment": _moment(time), "time": time, "n": {"$last": "$$arrival"}}
    ordered = {
        "$map": {
            "input": {
                "$sortArray": {
                    "input": {"$map": {"input": arrivals, "as": "arrival", "in": sortable}},
                    "sortBy": {"moment": 1, "time": 1, "n": 1},
                }
            },
            "as": "sorted",
            "in": "$$sorted.step",
        }
    }
    return {"$let": {"vars": {"steps": steps}, "in": ordered}}


# One document for each step -------------------------------------------------------------------


def steps_pipeline() -> list[Document]:
    """What the view ``conversation_steps`` does with ``threads``. Pure.

    A thread is read with its parts one after the other: none of its documents holds more than one.
    """
    head = {"$eq": ["$part", None]}
    gone = {"$in": ["$step.id", _array("$deletedSteps.id")]}
    return [
        _of_this_package(STEPS),
        {"$set": {"part": {"$concatArrays": [_array("$parts"), [None]]}}},
        {"$unwind": {"path": "$part", "includeArrayIndex": "place"}},
        _lookup("part", "found", {"steps": 1}),
        {"$unwind": {"path": "$found", "preserveNullAndEmptyArrays": True}},
        {"$set": {"step": _array({"$cond": [head, "$steps", "$found.steps"]})}},
        {"$unwind": {"path": "$step", "includeArrayIndex": "n"}},
        {"$match": {"$expr": {"$not": gone}}},
        {
            "$project": {
                "_id": 0,
                "thread": "$_id",
                "threadName": "$name",
                "userId": "$userId",
                "userIdentifier": "$userIdentifier",
                "at": _moment(_time("$step")),
                "arrival": {"$add": [{"$multiply": ["$place", 1_000_000]}, "$n"]},
                "step": "$step",
            }
        },
    ]


# Of both --------------------------------------------------------------------------------------


def _of_this_package(view: str) -> Document:
    return {"$match": {"deletedAt": {"$exists": False}, "$comment": f"{_MADE_BY}{view}"}}


def _time(step: str) -> Document:
    """A step's time as it is stored: a text, or the date when it came."""
    return {"$ifNull": [f"{step}.{name}" for name in ("createdAt", "start", "end", "receivedAt")]}


def _moment(time: Document) -> Document:
    """The time as a date; null, which comes first, when it is none."""
    return {"$convert": {"input": time, "to": "date", "onError": None, "onNull": None}}


def _array(field: Any) -> Document:
    """The array, or an empty one where a document has none."""
    return {"$cond": [{"$isArray": [field]}, field, []]}


def _length(field: str) -> Document:
    return {"$size": _array(field)}


VIEWS: Mapping[str, Callable[[], list[Document]]] = {
    CONVERSATIONS: conversations_pipeline,
    STEPS: steps_pipeline,
}
"""The views by name, each with what makes its pipeline; all are of the collection of threads."""


# In a database --------------------------------------------------------------------------------


async def check_views(database: Database) -> dict[str, State]:
    """Compare what is in ``database`` with the declared views; changes nothing. One command."""
    cursor = await database.list_collections(filter={"name": {"$in": list(VIEWS)}})
    listed = {found["name"]: found for found in await cursor.to_list(None)}
    return {name: _compared(name, listed.get(name)) for name in VIEWS}


async def apply_views(database: Database, *, replace_foreign: bool = False) -> dict[str, State]:
    """Make the views, or make them as declared; safe to repeat.

    A view that somebody else made is left alone unless ``replace_foreign`` is set. A collection of
    that name holds data, and is never touched.

    Raises:
        MongoDataLayerError: the server is older than :data:`LEAST_SERVER`.
    """
    states = await check_views(database)
    to_set = [n for n, state in states.items() if not stays(state, replace_foreign=replace_foreign)]
    if to_set:
        await require_server(database)
    for name in to_set:
        verb = "create" if states[name] == "missing" else "collMod"
        await database.command({verb: name, "viewOn": THREADS, "pipeline": VIEWS[name]()})
        states[name] = "set"
    return states


def stays(state: State, *, replace_foreign: bool) -> bool:
    """Whether :func:`apply_views` leaves it as it is."""
    if state == "foreign":
        return not replace_foreign
    return state not in ("missing", "outdated")


async def require_server(database: Database) -> None:
    """Make sure that the server can have the views.

    Raises:
        MongoDataLayerError: it is older than :data:`LEAST_SERVER`.
    """
    build = await database.client.admin.command("buildInfo")
    if tuple(build["versionArray"][:2]) < LEAST_SERVER:
        least = ".".join(map(str, LEAST_SERVER))
        raise MongoDataLayerError(
            f"The view {CONVERSATIONS} needs MongoDB {least} or newer, which can sort the steps; "
            f"this server is MongoDB {build['version']}. Nothing else depends on the views."
        )


def _compared(name: str, listed: Mapping[str, Any] | None) -> State:
    if listed is None:
        return "missing"
    if listed["type"] != "view":
        return "collection"
    options = listed["options"]
    if (options["viewOn"], options["pipeline"]) == (THREADS, VIEWS[name]()):
        return "present"
    return "outdated" if _is_ours(options["pipeline"]) else "foreign"


def _is_ours(pipeline: Sequence[Mapping[str, Any]]) -> bool:
    match = pipeline[0].get("$match", {}) if pipeline else {}
    return str(match.get("$comment", "")).startswith(_MADE_BY)
