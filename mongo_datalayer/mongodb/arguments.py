"""What a front is given: checked in its constructor, before anything is connected or written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.config import Settings, check_database_name
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.mongodb.client import check_server_api, check_uri, check_write_concern

ACCEPTED = (
    "PyMongo's AsyncMongoClient, Motor's AsyncIOMotorClient or mongomock-motor's "
    "AsyncMongoMockClient"
)

MOST_MS = 1_000_000_000
"""Where the driver refuses a timeout."""

# mongomock-motor's classes carry the name of Motor's module.
_MOTOR = "motor.motor_asyncio"


class Environment(NamedTuple):
    """Where the environment says that MongoDB is.

    Attributes:
        uri: The URI.
        database: Name of the database; None for the one that the URI names.
        timeout_ms: How long one operation may take, in milliseconds.
        server_api: MongoDB's Stable API; None for all that it offers.
    """

    uri: str
    database: str | None
    timeout_ms: int
    server_api: str | None


def from_environment(
    front: str, database: str | None, timeout_ms: int | None, server_api: str | None
) -> Environment:
    """The environment, with what the caller of ``from_env`` says instead.

    Raises:
        ConfigurationError: ``MONGODB_URI`` is not set, or a variable cannot be used; the message
            names it.
    """
    settings = Settings.load()
    uri = settings.require_uri(front)
    # Here and not in the constructor alone: this message names the variable.
    check_uri(uri, "MONGODB_URI")
    return Environment(
        uri,
        settings.database_name() if database is None else database,
        settings.timeout_ms if timeout_ms is None else timeout_ms,
        settings.server_api if server_api is None else server_api,
    )


def check_arguments(
    front: str,
    uri: object,
    client: object,
    *,
    database: object,
    timeout_ms: object,
    server_api: object = None,
) -> None:
    """Check the arguments that all fronts have in common.

    Raises:
        ConfigurationError: one of them cannot be used; the message names it and what is accepted.
    """
    # With both it would be open which client close() may close.
    if (uri is None) == (client is None):
        raise ConfigurationError(f"{front} takes a MongoDB URI or client=…, exactly one of them.")
    if uri is not None and not isinstance(uri, str):
        hint = " Pass a client as client=…." if hasattr(type(uri), "get_database") else ""
        raise ConfigurationError(
            f"{front}(uri) takes the MongoDB URI as text, not {_kind(uri)}.{hint}"
        )
    if client is not None:
        _check_client(front, client)
    if database is not None:
        check_database_name(database, "database")
    check_server_api(server_api)
    if server_api is not None and client is not None:
        raise ConfigurationError(
            f"{front} takes server_api=… with a URI only. Give your client a ServerApi instead."
        )
    # Python's True is the number 1; nan compares as false with both bounds.
    is_number = isinstance(timeout_ms, (int, float)) and not isinstance(timeout_ms, bool)
    if not is_number or not 0 < timeout_ms < MOST_MS:  # type: ignore[operator]  # a number
        raise ConfigurationError(
            f"timeout_ms={timeout_ms!r} cannot be used: it takes a positive number of "
            "milliseconds, below a billion."
        )


def check_switches(**switches: object) -> None:
    """Raise ConfigurationError unless each is True or False: ``"false"`` would switch it on."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name}={value!r} cannot be used: it takes True or False.")


def check_methods(name: str, value: object, accepted: str, methods: Iterable[str]) -> None:
    """Raise ConfigurationError unless an object has these methods; a class is no object."""
    if isinstance(value, type) or not all(callable(getattr(value, m, None)) for m in methods):
        kind = f"the class {value.__qualname__}" if isinstance(value, type) else _kind(value)
        raise ConfigurationError(f"{name}=… takes {accepted}, not {kind}.")


def check_asynchronous_database(taker: str, database: object) -> None:
    """Raise ConfigurationError unless ``database`` is an asynchronous client's."""
    if not _is_asynchronous(database, "Database"):
        raise ConfigurationError(
            f"{taker} takes the database of an asynchronous client, as client['chainlit'] is one "
            f"of {ACCEPTED}; not {_kind(database)}."
        )


def _check_client(front: str, client: Any) -> None:
    if not _is_asynchronous(client, "Client"):
        hint = ""
        if type(client).__name__.endswith("Database"):
            hint = " Pass the database's client, and its name as database=…."
        elif type(client).__name__ == "MongoClient":
            hint = " A blocking client would stop the event loop: use AsyncMongoClient instead."
        raise ConfigurationError(f"{front}(client=…) takes {ACCEPTED}, not {_kind(client)}.{hint}")
    check_write_concern(client, "client=…")


def _is_asynchronous(value: object, kind: str) -> bool:
    """Whether it is a ``Client`` or ``Database`` of one of the accepted drivers."""
    if isinstance(value, AsyncMongoClient if kind == "Client" else AsyncDatabase):
        return True
    # By name, as Motor is an extra; with the bases, as apps make classes of their own.
    names = {(base.__module__, base.__name__) for base in type(value).__mro__}
    return (_MOTOR, f"AsyncIOMotor{kind}") in names


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
