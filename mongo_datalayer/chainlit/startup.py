"""What happens once when the app starts: the log says what is in use, and what is missing.

Chainlit asks for its data layer at the first login. A wrong setting should show up earlier, so the
start of Chainlit's server asks for it too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import pymongo
from chainlit.config import config
from chainlit.data import get_data_layer
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from mongo_datalayer.config import BUCKET, DEFAULT_DATABASE
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files import GridFSStorageClient
from mongo_datalayer.files.mount import is_mounted, mount_files
from mongo_datalayer.mongodb.client import Client, Database, is_mongomock
from mongo_datalayer.mongodb.error_reason import (
    is_login_refused,
    is_unauthorized,
    unreachable_reason,
)
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.monitoring.health import LIVE_PATH, READY_PATH, mount_health
from mongo_datalayer.schema.indexes import IndexReport, apply_indexes, check_indexes

if TYPE_CHECKING:
    from starlette.applications import Starlette

logger = get_logger(__name__)

IndexSetup: TypeAlias = Literal["check", "create"]
"""What the start of an app does about indexes."""

ANSWER_SECONDS = 5.0
"""How long the start waits for MongoDB, which may come up after the app."""


class Beginning(Protocol):
    """A data layer that has something to do when its app starts."""

    async def begin(self) -> None:
        """Do it, once."""


# Chainlit's server ----------------------------------------------------------------------------


def is_served() -> bool:
    """Whether Chainlit's server runs an app in this process, or has begun to load one."""
    return "chainlit.server" in sys.modules and config.run.module_name is not None


def serve_files(storage: object) -> None:
    """Mount the route of the files on Chainlit's app, unless an app has mounted one already."""
    if is_served() and isinstance(storage, GridFSStorageClient) and not is_mounted():
        mount_files(storage)


def serve_health() -> None:
    """Mount the routes for probes on Chainlit's app, unless the app answers at one of the paths."""
    from chainlit.server import app

    paths = [getattr(route, "path", "") for route in app.router.routes]
    if not any(path.endswith((LIVE_PATH, READY_PATH)) for path in paths):
        mount_health()


def check_at_start(kind: type[Beginning]) -> None:
    """Have Chainlit's server make and check the data layer before it says that it is ready.

    Args:
        kind: The class of data layers to begin. An app may have another one, and use this package
            for something else.
    """
    if is_served():
        from chainlit.server import app

        add_startup_check(app, kind)


def add_startup_check(app: Starlette, kind: type[Beginning]) -> None:
    """Begin the data layer behind the app's own ``on_app_startup``, on which it may depend."""
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def checked_lifespan(running: Any) -> AsyncIterator[Any]:
        on_app_startup = config.code.on_app_startup

        async def start() -> None:
            if on_app_startup is not None:
                await on_app_startup()
            await _begin_data_layer(kind)

        config.code.on_app_startup = start
        async with lifespan(running) as state:
            yield state

    app.router.lifespan_context = checked_lifespan


async def _begin_data_layer(kind: type[Beginning]) -> None:
    if config.code.data_layer is None:
        return
    try:
        layer = get_data_layer()  # type: ignore[no-untyped-call]  # Chainlit left it without types
        if isinstance(layer, kind):
            serve_health()
            await layer.begin()
    except ConfigurationError as exc:
        logger.critical("The app cannot start. %s", exc)
        logging.shutdown()
        # As Chainlit ends itself: what is raised here, the server would print with its traceback
        # and then exit with 0.
        os._exit(1)


def log_failure(beginning: asyncio.Future[None]) -> None:
    """Log how a beginning failed that nobody awaits."""

    def log(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("%s", error)

    beginning.add_done_callback(log)


# What the log says ----------------------------------------------------------------------------


async def check_database(
    database: Database, storage: object, *, indexes: IndexSetup | None, search: bool
) -> None:
    """Say in the log what is in use and what is missing, and make the indexes where asked to.

    Args:
        database: The database.
        storage: The storage client.
        indexes: Whether the indexes are checked or created; None for neither.
        search: Whether the search index is used.

    Raises:
        ConfigurationError: MongoDB refuses the login.
    """
    if is_served():
        _check_files(storage)
    if is_mongomock(database):
        logger.info("Conversations are kept in memory, by mongomock.")
        return
    try:
        with pymongo.timeout(ANSWER_SECONDS):
            await database.client.admin.command("ping")
            version = await _version(database.client)
            report = await _checked(database, storage, search) if indexes == "check" else None
        logger.info("%s at %s, database %s.", version, _hosts(database.client), database.name)
        if indexes == "create":
            report = await _created(database, storage, search)
    except PyMongoError as exc:
        _explain(exc, database)
    else:
        _report_indexes(report, database)


def _check_files(storage: object) -> None:
    if not isinstance(storage, GridFSStorageClient):
        return
    try:
        storage.links.require_secret()
    except ConfigurationError as exc:
        logger.warning("%s", exc)
    # A link with a host may lead to another server.
    if not is_mounted() and "://" not in storage.links.prefix:
        logger.warning(
            "Links to files lead nowhere: serve_files=False, and no mount_files was called."
        )


async def _version(client: Client) -> str:
    """``MongoDB 8.0.4``; without the number where the Stable API hides it."""
    try:
        return f"MongoDB {(await client.admin.command('buildInfo'))['version']}"
    except OperationFailure:
        return "MongoDB"


async def _checked(database: Database, storage: object, search: bool) -> IndexReport | None:
    try:
        return await check_indexes(database, bucket=bucket_name(storage), search=search)
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        logger.info("Indexes are not checked: this login may not list them.")
        return None


async def _created(database: Database, storage: object, search: bool) -> IndexReport:
    # An index on many documents takes longer than an operation may.
    with pymongo.timeout(None):
        return await apply_indexes(database, bucket=bucket_name(storage), search=search)


def _report_indexes(report: IndexReport | None, database: Database) -> None:
    if report is None:
        return
    option = "" if database.name == DEFAULT_DATABASE else f" --database {database.name}"
    if report.created:
        logger.info("Indexes created: %d.", len(report.created))
    if report.missing:
        logger.warning(
            "Indexes missing: %d. Run `mongo-datalayer setup apply%s`.",
            len(report.missing),
            option,
        )
    if report.different:
        names = ", ".join(map(str, report.different))
        logger.warning(
            "Other indexes are in the place of %s. Run `mongo-datalayer setup check%s`.",
            names,
            option,
        )


def _explain(exc: PyMongoError, database: Database) -> None:
    hosts = _hosts(database.client)
    if is_login_refused(exc):
        raise ConfigurationError(
            f"MongoDB at {hosts} refused the login. Check user, password and authSource in "
            "MONGODB_URI."
        ) from exc
    reason = unreachable_reason(exc, hosts) if isinstance(exc, ConnectionFailure) else exc
    logger.error("MongoDB at %s cannot be used yet: %s", hosts, reason)


def bucket_name(storage: object) -> str:
    """The GridFS bucket whose indexes belong to a data layer with this storage client."""
    return storage.bucket.name if isinstance(storage, GridFSStorageClient) else BUCKET


def _hosts(client: Client) -> str:
    """The servers that answered, else those of the URI."""
    configured = client.topology_description.server_descriptions()
    nodes = client.nodes or cast("Any", configured)
    return ", ".join(f"{host}:{port}" for host, port in sorted(nodes))
