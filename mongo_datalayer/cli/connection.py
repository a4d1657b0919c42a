"""The options that say which MongoDB a command works on, and the connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click
import pymongo
from pymongo.uri_parser import parse_uri

from mongo_datalayer.cli.failure import Failure, failures_explained
from mongo_datalayer.config import Settings
from mongo_datalayer.driver import Database, close, connect, open_database

ANSWER_SECONDS = 5.0
NO_TIMEOUT = 0
SRV = "mongodb+srv://"

Command = TypeVar("Command", bound=Callable[..., Any])


def connection_options(command: Command) -> Command:
    """Give ``command`` the options ``--uri`` and ``--database``."""
    uri = click.option(
        "--uri",
        metavar="URI",
        help="Where MongoDB is, for example mongodb://localhost:27017. [default: $MONGODB_URI]",
    )
    database = click.option(
        "--database",
        metavar="NAME",
        help="Name of the database. [default: $MONGODB_DATABASE, else chainlit]",
    )
    return uri(database(command))


def bucket_option(command: Command) -> Command:
    """Give ``command`` the option ``--bucket``."""
    bucket = click.option(
        "--bucket",
        metavar="NAME",
        default="fs",
        show_default=True,
        help="The GridFS bucket that holds the files.",
    )
    return bucket(command)


@asynccontextmanager
async def opened_database(uri: str | None, name: str | None) -> AsyncIterator[Database]:
    """The database the options name, on a server that answered; closed at the end.

    Args:
        uri: The URI; None takes ``MONGODB_URI``.
        name: The database; None takes ``MONGODB_DATABASE``, else ``chainlit``.

    Raises:
        Failure: the settings are wrong or the server does not answer, refuses the login or
            reports an error.
    """
    with failures_explained():
        settings = Settings.load()
        address = settings.uri if uri is None else uri
        if not address:
            raise Failure(
                "Which MongoDB? Name it with --uri, for example --uri mongodb://localhost:27017, "
                "or set MONGODB_URI."
            )
        # An index on a large collection takes the time it takes; only the first answer is bounded.
        client = connect(address, timeout_ms=NO_TIMEOUT)
        hosts = _hosts(address)
        try:
            database = open_database(client, settings.database if name is None else name)
            with failures_explained(hosts):
                # The driver leaves out the URI's own bound where there is one on the whole.
                with pymongo.timeout(min(ANSWER_SECONDS, client.options.server_selection_timeout)):
                    await client.admin.command("ping")
                yield database
        finally:
            await close(client)


def _hosts(uri: str) -> str:
    """The hosts in a ``uri`` that :func:`connect` took, without its password."""
    if uri.startswith(SRV):
        # Parsing would ask the DNS; what follows the password names the host.
        return uri.rpartition("@")[2].removeprefix(SRV).partition("/")[0]
    nodes = parse_uri(uri)["nodelist"]
    return ", ".join(host if port is None else f"{host}:{port}" for host, port in nodes)
