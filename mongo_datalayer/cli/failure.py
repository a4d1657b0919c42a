"""Turns what can go wrong for reasons outside the program into one clear line and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError

from mongo_datalayer.errors import MongoDataLayerError

AUTHENTICATION_FAILED = 18
UNAUTHORIZED = 13


class Failure(click.ClickException):
    """A failure that is not a bug: no traceback, one line on stderr, exit code 2."""

    exit_code = 2


@contextmanager
def failures_explained(server: str = "MongoDB") -> Iterator[None]:
    """Raise errors of the database and of this package as :class:`Failure`.

    Args:
        server: What to call the server in the message; must not hold a password.
    """
    try:
        yield
    except MongoDataLayerError as exc:
        raise Failure(str(exc)) from exc
    except PyMongoError as exc:
        raise Failure(explain(exc, server)) from exc


def explain(exc: PyMongoError, server: str) -> str:
    """One line that says what went wrong at ``server`` and what to do about it."""
    if isinstance(exc, ConfigurationError):  # InvalidURI is one
        return f"The MongoDB URI cannot be used: {_reason(exc)}"
    if isinstance(exc, ConnectionFailure):
        return f"No MongoDB answered at {server}: {_reason(exc)}. Is it running?"
    if isinstance(exc, OperationFailure):
        message = (exc.details or {}).get("errmsg", str(exc))
        if exc.code == AUTHENTICATION_FAILED:
            return f"{server} refused the login: {message} Check the user and password in the URI."
        if exc.code == UNAUTHORIZED:
            return f"{server} does not allow this: {message}."
        return f"{server} reported an error: {message}"
    return f"{server}: {_reason(exc)}"


def _reason(exc: PyMongoError) -> str:
    """The driver's message without the description of the topology that it appends."""
    return str(exc).split(" (configured timeouts", 1)[0].split(", Timeout:", 1)[0].splitlines()[0]
