"""The driver seam: PyMongo's async client, Motor's and mongomock-motor's, used alike.

All three offer the same methods with one difference: what PyMongo's client returns as a coroutine
(:meth:`aggregate`, :meth:`list_indexes`, :meth:`close`) the others return at once. The functions
here hide it. Nothing else in the package asks which driver it is talking to.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.driver_info import DriverInfo
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import (
    InvalidURI,
    NetworkTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.topology_description import TopologyDescription
from pymongo.uri_parser import parse_uri

from mongo_datalayer.config import DEFAULT_TIMEOUT_MS
from mongo_datalayer.documents import Document
from mongo_datalayer.errors import ConfigurationError

# Motor and mongomock-motor ship no types: their objects are used through PyMongo's.
Client: TypeAlias = AsyncMongoClient[Document]
Database: TypeAlias = AsyncDatabase[Document]
Collection: TypeAlias = AsyncCollection[Document]
Item = TypeVar("Item")


def connect(uri: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> Client:
    """A PyMongo async client for ``uri``. It connects on first use.

    Options in the URI win over the defaults made here: write concern ``majority``, and
    ``timeoutMS``, which bounds every operation, retries included.

    Raises:
        ConfigurationError: the URI cannot be used; its password is not in the message.
    """
    try:
        if not uri.startswith("mongodb+srv://"):  # parsing that one asks the DNS
            parse_uri(uri, warn=False)  # the client itself would pass over a wrong option
        return AsyncMongoClient(
            uri, driver=DriverInfo("mongo_datalayer"), **_defaults(uri, timeout_ms)
        )
    except (InvalidURI, DriverConfigurationError, ValueError, TypeError) as exc:
        raise ConfigurationError(
            f"The MongoDB URI cannot be used: {_reason(uri, exc)}. "
            "It should look like mongodb://user:password@host:27017/ or mongodb+srv://…"
        ) from None


def open_database(client: Client, name: str) -> Database:
    """The database ``name``; dates come back aware, in UTC, whatever the client was set to.

    Raises:
        ConfigurationError: MongoDB does not accept the name.
    """
    try:
        database = client.get_database(name)
    except (pymongo.errors.InvalidName, TypeError) as exc:
        raise ConfigurationError(f"{name!r} cannot be the name of a database: {exc}") from exc
    return database


def open_collection(database: Database, name: str) -> Collection:
    """The collection ``name`` of ``database``, with aware dates, read from the primary.

    Whatever the client was set to: a write whose guard says no reads the document to learn why, and
    a member that lags behind would tell it of another one.

    The options are set on each collection: mongomock's databases take none.
    """
    return database.get_collection(
        name, codec_options=_CODEC_OPTIONS, read_preference=ReadPreference.PRIMARY
    )


async def find_one(
    collection: Collection,
    condition: Mapping[str, Any],
    projection: Mapping[str, Any] | None = None,
) -> Document | None:
    """The document that fits, or None. Not for where the driver's own retries are needed."""
    if not isinstance(collection, AsyncCollection):
        found: Document | None = await collection.find_one(dict(condition), projection)
        return found
    shown = {} if projection is None else {"projection": projection}
    cursor = await _cursor_of(
        collection, "find", {"filter": condition, **shown, "limit": 1, "singleBatch": True}
    )
    return next(iter(cursor["firstBatch"]), None)


async def aggregate(
    collection: Collection, pipeline: Sequence[Mapping[str, Any]], **options: Any
) -> list[Document]:
    """All documents of one aggregation; ``options`` are those of the command."""
    if isinstance(collection, AsyncCollection):
        one_batch = {"pipeline": pipeline, "cursor": {"batchSize": _BATCH_SIZE}}
        read = await _cursor_of(collection, "aggregate", {**one_batch, **options})
        if not read["id"]:
            whole: list[Document] = read["firstBatch"]
            return whole
    cursor = await _settled(collection.aggregate(list(pipeline), **options))
    documents: list[Document] = await cursor.to_list(None)
    return documents


async def _cursor_of(collection: Collection, name: str, command: Mapping[str, Any]) -> Document:
    """The cursor in a command's answer, as it is: the driver's object costs a tenth of a read."""
    concern = collection.read_concern.document
    reply: Document = await collection.database.command(
        {name: collection.name, **command, **({"readConcern": concern} if concern else {})},
        codec_options=collection.codec_options,
        read_preference=collection.read_preference,
    )
    cursor: Document = reply["cursor"]
    return cursor


async def batches(found: AsyncIterator[Item], size: int) -> AsyncIterator[list[Item]]:
    """What a cursor finds, ``size`` at a time; fewer in the last one."""
    batch: list[Item] = []
    async for each in found:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def index_information(collection: Collection) -> list[Document]:
    """The indexes of a collection that is there, as the server lists them."""
    cursor = await _settled(collection.list_indexes())
    return [dict(index) for index in await cursor.to_list(None)]


def is_mongomock(database: Database) -> bool:
    """Whether the database is mongomock's, which keeps documents of any size and cannot join."""
    # mongomock-motor's classes call themselves Motor's, but for what they inherit from.
    return any(kind.__module__.startswith("mongomock") for kind in type(database).__mro__)


def timeout(client: Client) -> float | None:
    """The client's own bound on an operation, in seconds; None when it has none."""
    return client.options.timeout


def is_cancellable(client: Client) -> bool:
    """Whether cancelling the task that waits for an operation ends it: Motor's are in threads."""
    return isinstance(client, AsyncMongoClient)


def no_answer(client: Client, seconds: float) -> PyMongoError:
    """The error of an operation that got no answer in this time; it says what is known of why."""
    description = client.topology_description
    if isinstance(description, TopologyDescription) and not description.has_writable_server():
        errors = {
            f"{host}:{port}: {server.error or server.server_type_name}"
            for (host, port), server in description.server_descriptions().items()
        }
        return ServerSelectionTimeoutError(
            f"No server that takes writes was found within {seconds:g} s: "
            f"{', '.join(sorted(errors))}"
        )
    return NetworkTimeout(f"MongoDB did not answer within {seconds:g} s.")


def primary(client: Client) -> str | None:
    """Where the replica set's primary is, as far as the client knows now."""
    description = client.topology_description
    if not isinstance(description, TopologyDescription):
        return None  # mongomock's
    for (host, port), server in description.server_descriptions().items():
        if server.server_type_name == "RSPrimary":
            return f"{host}:{port}"
    return None


async def close(client: Client) -> None:
    """Close the client's connections."""
    await _settled(client.close())


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


# So many that what ends the first batch of an aggregation is its size, 16 MB.
_BATCH_SIZE = 1_000_000

_CODEC_OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=True)


def _reason(uri: str, exc: Exception) -> str:
    """What the driver says, unless it may quote a part of the password.

    It does where a character that was not escaped makes it take one for a part of the address.
    """
    credentials = uri.partition("://")[2].rpartition("@")[0]
    if set(credentials).isdisjoint("/?#[]@"):
        return str(exc)
    return "special characters in its user name and password must be percent-encoded"


def _defaults(uri: str, timeout_ms: int) -> dict[str, Any]:
    """Options the URI does not speak of; a keyword argument would overrule the URI's own."""
    named = {
        part.partition("=")[0].lower()
        for part in uri.partition("?")[2].replace(";", "&").split("&")
    }
    defaults = {"w": "majority", "timeoutMS": timeout_ms}
    return {name: value for name, value in defaults.items() if name.lower() not in named}
