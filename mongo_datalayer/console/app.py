"""The console as a Starlette app."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from pymongo.errors import PyMongoError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Lifespan

from mongo_datalayer.config import BUCKET
from mongo_datalayer.console.access import (
    SESSION_SECONDS,
    Access,
    Guard,
    NamedBy,
)
from mongo_datalayer.console.pages import Console
from mongo_datalayer.errors import StorageError
from mongo_datalayer.mongodb.client import Client, Database, close, connect, open_database
from mongo_datalayer.mongodb.error_reason import error_reason, is_unauthorized
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)

COOKIE = "mongo_datalayer_console"


def console_app(
    database: Any,
    *,
    name: str | None = None,
    bucket: str = BUCKET,
    token: str | None = None,
    token_name: str = "console",  # noqa: S107 - a person's name
    password: str | None = None,
    user: NamedBy | None = None,
    secret: str | None = None,
    secure_cookie: bool = False,
) -> Starlette:
    """The console, to run by itself or to mount in an app of yours.

    Args:
        database: A database of PyMongo's async client, or a URI.
        name: Name of the database, with a URI; None for the one that the URI names.
        bucket: The GridFS bucket that holds the files.
        token: Opens the console once, through ``/login?token=…``.
        token_name: Who that is, for the audit log.
        password: Or: the password that all of the team use.
        user: Or: a function of the request that returns the name of the person who is logged in to
            your app and may read all conversations, and None for everybody else. It may be async.
        secret: Signs sessions and links to files; several processes need the same. None makes one.
        secure_cookie: Whether browsers send the session's cookie over HTTPS only.

    Raises:
        ConfigurationError: not exactly one of ``token``, ``password`` and ``user`` is given, or an
            argument cannot be used.
    """
    access = Access(token=token, name=token_name, password=password, user=user)
    client = connect(database) if isinstance(database, str) else None
    opened = cast("Database", database) if client is None else open_database(client, name)
    secret = secret or secrets.token_urlsafe()
    console = Console(opened, access, bucket, secret)

    return Starlette(
        routes=console.routes(),
        middleware=[_sessions(secret, secure=secure_cookie), Middleware(Guard, access=access)],
        lifespan=_closing(client),
        # Of the route of files, which is no page.
        exception_handlers={PyMongoError: _unreadable, StorageError: _unreadable},
    )


def _sessions(secret: str, *, secure: bool) -> Middleware:
    return Middleware(
        SessionMiddleware,
        secret_key=secret,
        session_cookie=COOKIE,
        max_age=SESSION_SECONDS,
        same_site="lax",
        https_only=secure,
    )


def _closing(client: Client | None) -> Lifespan[Starlette]:
    """Closes the console's own client at the end."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if client is not None:
            await close(client)

    return lifespan


async def _unreadable(request: Request, exc: Exception) -> Response:
    """The answer when a file cannot be read."""
    reason = error_reason(exc) if isinstance(exc, PyMongoError) else exc
    logger.warning("A file cannot be shown: %s", reason)
    refused = is_unauthorized(exc)
    text = "The database login may not read files." if refused else "The file cannot be read."
    return PlainTextResponse(text, status_code=403 if refused else 503)
