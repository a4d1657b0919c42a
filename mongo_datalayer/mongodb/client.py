"""The driver seam: PyMongo's async client, Motor's and mongomock-motor's, used alike.

All three offer the same methods with one difference: what PyMongo's client returns as a coroutine
(:meth:`aggregate`, :meth:`list_indexes`, :meth:`close`) the others return at once. The functions
here hide it. Nothing else in the package asks which driver it is talking to.
"""

from __future__ import annotations

import inspect
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

import pymongo
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.driver_info import DriverInfo
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import ExecutionTimeout, InvalidURI, NetworkTimeout
from pymongo.server_api import ServerApi
from pymongo.uri_parser import parse_uri

from mongo_datalayer.config import (
    DEFAULT_DATABASE,
    DEFAULT_TIMEOUT_MS,
    SEARCH_SECONDS,
    check_database_name,
)
from mongo_datalayer.errors import ConfigurationError, SearchTimeoutError
from mongo_datalayer.model.documents import Document

# Motor and mongomock-motor ship no types: their objects are used through PyMongo's.
Client: TypeAlias = AsyncMongoClient[Document]
Database: TypeAlias = AsyncDatabase[Document]
Collection: TypeAlias = AsyncCollection[Document]


SRV = "mongodb+srv://"

STABLE_APIS = ("1", "1-strict")

SYSTEM_DATABASES = frozenset({"admin", "config", "local"})
"""MongoDB's own. A URI names ``admin`` to log in there, not to keep conversations in it."""


def connect(
    uri: str,
    *,
    timeout_ms: int = DEFAULT_TIMEOUT_MS,
    server_api: str | None = None,
    source: str = "The MongoDB URI",
) -> Client:
    """A PyMongo async client for ``uri``. It connects on first use.

    Options in the URI win over the defaults made here: write concern ``majority``, and
    ``timeoutMS``, which bounds every operation, retries included.

    Args:
        uri: The URI.
        timeout_ms: How long one operation may take, in milliseconds.
        server_api: MongoDB's Stable API: ``1``, ``1-strict``, or None for all that it offers.
        source: Where the URI is from, for messages.

    Raises:
        ConfigurationError: the URI cannot be used; its password is not in the message.
    """
    check_uri(uri, source)
    check_server_api(server_api)
    stable = None if server_api is None else ServerApi("1", strict=server_api == "1-strict")
    try:
        client: Client = AsyncMongoClient(
            uri,
            driver=DriverInfo("mongo_datalayer"),
            server_api=stable,
            **_defaults(uri, timeout_ms),
        )
    except (InvalidURI, DriverConfigurationError, ValueError, TypeError, OSError) as exc:
        # from None: a traceback would show the driver's own message, which may hold the password.
        raise _unusable(uri, source, exc) from None
    check_write_concern(client, source)
    return client


def check_uri(uri: str, source: str) -> None:
    """Raise ConfigurationError for a ``uri`` with wrong syntax or TLS files that do not serve."""
    # Before an SRV address returns: reading files needs no DNS.
    _check_tls_files(uri, source)
    if uri.startswith(SRV):  # parsing that one asks the DNS
        return
    try:
        parse_uri(uri, warn=False)  # the client itself would pass over a wrong option
    except (InvalidURI, DriverConfigurationError, ValueError, TypeError, OSError) as exc:
        raise _unusable(uri, source, exc) from None


def check_server_api(server_api: object) -> None:
    """Raise ConfigurationError unless ``server_api`` is None or names a Stable API."""
    if server_api not in (None, *STABLE_APIS):
        raise ConfigurationError(
            f"server_api={server_api!r} cannot be used: it takes '1', or '1-strict' to refuse all "
            "that is not in MongoDB's Stable API."
        )


def check_write_concern(client: Client, source: str) -> None:
    """Raise ConfigurationError where the client does not ask for acknowledged writes."""
    concern = client.write_concern
    # mongomock's clients have none: what they return is a database of that name.
    if isinstance(concern, WriteConcern) and not concern.acknowledged:
        raise ConfigurationError(
            f"{source} asks for w=0, with which nobody learns of a failed write. Leave it out, or "
            "set w=majority."
        )


def open_database(client: Client, name: str | None) -> Database:
    """The database ``name``; None for the one that the client's URI names, else ``chainlit``.

    Raises:
        ConfigurationError: MongoDB does not accept the name.
    """
    if name is None:
        # All drivers have the method, and none asks the server.
        name = _for_conversations(client.get_default_database(DEFAULT_DATABASE).name)
    check_database_name(name, "database")
    return client.get_database(name)


def default_database(uri: str) -> str:
    """The name of the database that :func:`open_database` opens for None. It connects to nothing.

    Raises:
        ConfigurationError: the URI cannot be used.
    """
    check_uri(uri, "The MongoDB URI")
    # Not as an SRV record: parsing that one asks the DNS.
    parsed = parse_uri(uri.replace(SRV, "mongodb://", 1), validate=False)
    return _for_conversations(parsed["database"])


def _for_conversations(name: str | None) -> str:
    return DEFAULT_DATABASE if name is None or name in SYSTEM_DATABASES else name


def open_collection(database: Database, name: str) -> Collection:
    """The collection ``name`` of ``database``, with aware dates, read from the primary.

    Whatever the client was set to: a write whose guard says no reads the document to learn why, and
    a member that lags behind would tell it of another one.

    The options are set on each collection: mongomock's databases take none.
    """
    return database.get_collection(
        name, codec_options=_CODEC_OPTIONS, read_preference=ReadPreference.PRIMARY
    )


BATCH_SIZE = 1000
"""How many documents one answer of an aggregation holds, unless they are too large."""


async def aggregate(
    collection: Collection, pipeline: Sequence[Mapping[str, Any]], **options: Any
) -> list[Document]:
    """All documents of one aggregation; ``options`` are those of the command."""
    # A page of a list has more than the 101 documents of a first batch: one round trip, not two.
    cursor = await _settled(collection.aggregate(list(pipeline), batchSize=BATCH_SIZE, **options))
    documents: list[Document] = await cursor.to_list(None)
    return documents


_ALL_OF_IT = 0.9  # the driver subtracts a round trip from what the server may take


@contextmanager
def bounded_search(advice: str) -> Iterator[None]:
    """End a search after :data:`SEARCH_SECONDS`, on the server too.

    Args:
        advice: A sentence on what is quicker.

    Raises:
        SearchTimeoutError: that time is over. An operation that has less time ends with the
            driver's own error.
    """
    began = time.monotonic()
    try:
        with pymongo.timeout(SEARCH_SECONDS):
            yield
    # One text is compared without a break, so the driver may give up before the server does.
    except (ExecutionTimeout, NetworkTimeout) as exc:
        if time.monotonic() - began < SEARCH_SECONDS * _ALL_OF_IT:
            raise
        raise SearchTimeoutError(
            f"The search took longer than {SEARCH_SECONDS:g} s and was stopped. {advice}"
        ) from exc


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


async def close(client: Client) -> None:
    """Close the client's connections."""
    await _settled(client.close())


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


# By itself the driver returns dates without a zone, which Python compares with no aware one.
_CODEC_OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=True)


def _unusable(uri: str, source: str, exc: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{source} cannot be used: {_reason(uri, exc)}. "
        "It should look like mongodb://user:password@host:27017/ or mongodb+srv://…"
    )


def _reason(uri: str, exc: Exception) -> str:
    """What the driver says, unless it may quote a part of the password.

    It does where a character that was not escaped makes it take one for a part of the address.
    """
    credentials = uri.partition("://")[2].rpartition("@")[0]
    if not set(credentials).isdisjoint("/?#[]@"):
        return "special characters in its user name and password must be percent-encoded"
    reason = str(exc).rstrip(".")
    if not _is_unknown(reason):
        return reason
    # The driver does not name it, for the same reason.
    return f"{_unknown_option(uri)!r} is not an option that MongoDB's drivers know"


def _unknown_option(uri: str) -> str:
    """The first option of a URI that the driver does not know."""
    for pair in uri.partition("?")[2].replace(";", "&").split("&"):
        try:
            parse_uri(f"mongodb://localhost/?{pair}", warn=False)
        except (InvalidURI, DriverConfigurationError, ValueError, TypeError) as exc:
            if _is_unknown(str(exc)):
                return pair.partition("=")[0]
    return ""


def _is_unknown(reason: str) -> bool:
    return reason.startswith("Unknown option")


def _check_tls_files(uri: str, source: str) -> None:
    """Load the files of TLS options: the driver's own errors do not name the file."""
    options = _options(uri)
    password = options.get("tlscertificatekeyfilepassword", "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("tlsCAFile", "tlsCRLFile", "tlsCertificateKeyFile"):
        path = options.get(name.lower())
        try:
            if path is not None and name == "tlsCertificateKeyFile":
                context.load_cert_chain(path, password=password)
            elif path is not None:
                context.load_verify_locations(path)
        except OSError as exc:  # SSLError is one
            reason = exc.strerror or exc
            if isinstance(exc, ssl.SSLError):
                reason = f"it holds nothing that can be used ({exc.reason or reason})"
            raise ConfigurationError(f"{source} cannot be used: {name}={path}: {reason}.") from None


def _options(uri: str) -> dict[str, str]:
    """The options in a URI by their names in lower case."""
    # MongoDB's URIs separate options with & or with ;, and their names have no case.
    pairs = uri.partition("?")[2].replace(";", "&").split("&")
    named = (pair.partition("=") for pair in pairs)
    return {name.lower(): unquote_plus(value) for name, _, value in named}


def _defaults(uri: str, timeout_ms: int) -> dict[str, Any]:
    """Options the URI does not speak of; a keyword argument would overrule the URI's own."""
    # majority: a write that the primary alone has confirmed can be lost with it.
    defaults = {"w": "majority", "timeoutMS": timeout_ms}
    named = _options(uri)
    return {name: value for name, value in defaults.items() if name.lower() not in named}
