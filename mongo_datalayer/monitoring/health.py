"""Two routes: ``/healthz`` says that the process lives, ``/readyz`` that it can serve people."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pymongo
from pymongo.errors import OperationFailure, PyMongoError
from starlette.responses import JSONResponse
from starlette.routing import Route

from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.files.mount import add_routes
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.schema.indexes import IndexReport

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

logger = get_logger(__name__)

LIVE_PATH = "/healthz"
READY_PATH = "/readyz"

ANSWER_SECONDS = 2.0
"""How long MongoDB may take to answer before the app counts as not ready."""

_NOT_CACHED = {"cache-control": "no-store"}


@runtime_checkable
class MonitoredFront(Protocol):
    """What the routes ask: a ``MongoDataLayer`` or a ``MongoChatKitStore``."""

    async def check_indexes(self) -> IndexReport:
        """Compare the declared indexes with those of the database."""


def mount_health(front: MonitoredFront | None = None, app: Starlette | None = None) -> None:
    """Serve ``/healthz`` and ``/readyz`` from an app, before it runs or while it does.

    ``/healthz`` answers 200 as long as the process does, whatever becomes of MongoDB. ``/readyz``
    answers 200 when MongoDB answers within :data:`ANSWER_SECONDS` and no index is missing, else
    503. Both answer with a line of JSON, and need no login.

    On Chainlit's app the routes take precedence over the page that answers every other path, and
    stand below its root path. Where Chainlit's server runs with a ``MongoDataLayer`` they are
    mounted at its start.

    Args:
        front: The ``MongoDataLayer`` or ``MongoChatKitStore``; None for the data layer that
            Chainlit has when it is asked.
        app: A Starlette or FastAPI app; None for Chainlit's own.
    """
    add_routes(lambda prefix: health_routes(front, prefix), app)


def health_routes(front: MonitoredFront | None = None, prefix: str = "") -> list[Route]:
    """The two routes, for any Starlette or FastAPI app.

    Args:
        front: As of :func:`mount_health`.
        prefix: Path before ``/healthz``, as this app sees it.
    """

    async def live(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=_NOT_CACHED)

    async def ready(_request: Request) -> JSONResponse:
        problem = await _problem(front or _chainlits_front())
        if problem is None:
            return JSONResponse({"status": "ok"}, headers=_NOT_CACHED)
        return JSONResponse({"status": "unavailable", **problem}, 503, _NOT_CACHED)

    return [
        Route(
            f"{prefix.rstrip('/')}{path}",
            endpoint,
            methods=["GET"],
            name=f"mongo_datalayer_{name}",
            include_in_schema=False,
        )
        for name, path, endpoint in (("live", LIVE_PATH, live), ("ready", READY_PATH, ready))
    ]


async def _problem(front: object) -> dict[str, Any] | None:
    """Why the app is not ready; None when it is. Names no server: anybody may ask."""
    if not isinstance(front, MonitoredFront):
        return {"reason": "the app has no MongoDB data layer"}
    try:
        with pymongo.timeout(ANSWER_SECONDS):
            # The driver's bound does not end a wait for the event loop of another thread.
            report = await asyncio.wait_for(front.check_indexes(), ANSWER_SECONDS + 1)
    except OperationFailure as exc:
        logger.warning("The app is not ready: %s", exc)
        return {"reason": "MongoDB refuses the app", "code": exc.code}
    except (PyMongoError, MongoDataLayerError, asyncio.TimeoutError):
        return {"reason": "MongoDB does not answer"}
    if report.missing:
        return {"reason": "indexes are missing", "indexes": [str(i) for i in report.missing]}
    return None


def _chainlits_front() -> object:
    # Where Chainlit does not run there is nothing to ask it for.
    if "chainlit.data" not in sys.modules:
        return None
    from chainlit.data import get_data_layer

    return get_data_layer()  # type: ignore[no-untyped-call]  # Chainlit left it without types
