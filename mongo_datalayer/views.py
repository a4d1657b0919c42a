"""The view that shows conversations whole and in reading order, for people in the mongo shell.

The app does not use it. Its name and its fields stay what they are when conversations are stored in
another way: queries of it go on to work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from mongo_datalayer.documents import THREADS, Document
from mongo_datalayer.driver import Database
from mongo_datalayer.errors import MongoDataLayerError

CONVERSATIONS = "conversations"
"""Name of the view."""

LEAST_SERVER = (5, 2)
"""The first MongoDB that knows ``$sortArray``."""

HEADER = ("name", "userId", "userIdentifier", "tags", "metadata", "createdAt", "updatedAt")
"""Fields of a thread that the view shows before the steps."""

INTERNAL = frozenset({"deletedSteps", "pendingFeedback", "session", "deletedAt"})
"""Fields of a thread that only the layer needs; the view does not show them."""

State: TypeAlias = Literal["present", "missing", "outdated", "foreign", "collection", "set"]
"""What there is under the view's name.

``present``, the view as declared; ``missing``, nothing; ``outdated``, the view of another version
of this package; ``foreign``, a view that somebody else made; ``collection``, no view at all;
``set``, the view as declared, since just now.
"""

_MADE_BY = "mongo_datalayer: "


# The view -------------------------------------------------------------------------------------


def conversations_pipeline() -> list[Document]:
    """What the view does with ``threads``. Pure.

    The comment in the first stage says that this package made it.
    """
    return [
        {"$match": {"deletedAt": {"$exists": False}, "$comment": f"{_MADE_BY}{CONVERSATIONS}"}},
        {
            "$project": {
                # Each as an expression: only then they stand in this order.
                **{name: f"${name}" for name in HEADER},
                "steps": _in_reading_order("$steps"),
                "elements": _array("$elements"),
            }
        },
    ]


def _in_reading_order(steps: str) -> Document:
    """The steps by their time, equal times in order of arrival, as the layer gives them.

    The server's dates end at milliseconds: within one, the text decides.
    """
    arrivals = {"$zip": {"inputs": [_array(steps), {"$range": [0, {"$size": _array(steps)}]}]}}
    step = {"$first": "$$arrival"}
    time = {"$let": {"vars": {"step": step}, "in": _time("$$step")}}
    sortable = {"step": step, "moment": _moment(time), "time": time, "n": {"$last": "$$arrival"}}
    return {
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


def _time(step: str) -> Document:
    """A step's time as it is stored: a text, or the date when it came."""
    return {"$ifNull": [f"{step}.{name}" for name in ("createdAt", "start", "end", "receivedAt")]}


def _moment(time: Document) -> Document:
    """The time as a date; null, which comes first, when it is none."""
    return {"$convert": {"input": time, "to": "date", "onError": None, "onNull": None}}


def _array(field: str) -> Document:
    """The array, or an empty one where a document has none."""
    return {"$cond": [{"$isArray": field}, field, []]}


# In a database --------------------------------------------------------------------------------


async def check_view(database: Database) -> State:
    """Compare what is in ``database`` with the declared view; changes nothing. One command."""
    cursor = await database.list_collections(filter={"name": CONVERSATIONS})
    return _compared(await cursor.to_list(None))


async def apply_view(database: Database, *, replace_foreign: bool = False) -> State:
    """Make the view, or make it as declared; safe to repeat.

    A view that somebody else made is left alone unless ``replace_foreign`` is set. A collection of
    that name holds data, and is never touched.

    Raises:
        MongoDataLayerError: the server is older than :data:`LEAST_SERVER`.
    """
    state = await check_view(database)
    if stays(state, replace_foreign=replace_foreign):
        return state
    await require_server(database)
    verb = "create" if state == "missing" else "collMod"
    await database.command(
        {verb: CONVERSATIONS, "viewOn": THREADS, "pipeline": conversations_pipeline()}
    )
    return "set"


def stays(state: State, *, replace_foreign: bool) -> bool:
    """Whether :func:`apply_view` leaves it as it is."""
    if state == "foreign":
        return not replace_foreign
    return state not in ("missing", "outdated")


async def require_server(database: Database) -> None:
    """Make sure that the server can have the view.

    Raises:
        MongoDataLayerError: it is older than :data:`LEAST_SERVER`.
    """
    build = await database.client.admin.command("buildInfo")
    if tuple(build["versionArray"][:2]) < LEAST_SERVER:
        least = ".".join(map(str, LEAST_SERVER))
        raise MongoDataLayerError(
            f"The view {CONVERSATIONS} needs MongoDB {least} or newer, which can sort the steps; "
            f"this server is MongoDB {build['version']}. Nothing else depends on the view."
        )


def _compared(listed: Sequence[Mapping[str, Any]]) -> State:
    if not listed:
        return "missing"
    if listed[0]["type"] != "view":
        return "collection"
    options = listed[0]["options"]
    if (options["viewOn"], options["pipeline"]) == (THREADS, conversations_pipeline()):
        return "present"
    return "outdated" if _is_ours(options["pipeline"]) else "foreign"


def _is_ours(pipeline: Sequence[Mapping[str, Any]]) -> bool:
    match = pipeline[0].get("$match", {}) if pipeline else {}
    return str(match.get("$comment", "")).startswith(_MADE_BY)
