"""What all commands share: connection options, the open database, failures, exit codes, JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timezone
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click
import pymongo
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from mongo_datalayer.cli.terminal import print_line
from mongo_datalayer.config import BUCKET, Settings, check_database_name
from mongo_datalayer.errors import MongoDataLayerError, ServerError
from mongo_datalayer.model.printable import printable
from mongo_datalayer.mongodb.client import SRV, Database, check_uri, close, connect, open_database
from mongo_datalayer.mongodb.error_reason import (
    error_reason,
    is_login_refused,
    is_unauthorized,
    unreachable_reason,
)
from mongo_datalayer.schema.plan import SchemaObject

NEEDS_A_PERSON = 1
"""The exit code of a command that worked and found something a person has to decide."""

# Windows has no SIGHUP.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

ANSWER_SECONDS = 5.0
NO_TIMEOUT = 0

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A failure that is not a bug: no traceback, one line on stderr, exit code 2."""

    # As of click's own usage errors; 1 is for findings that need a person.
    exit_code = 2

    def format_message(self) -> str:
        """The message for the terminal; a message may have several lines."""
        return "\n".join(map(printable, self.message.split("\n")))


# Options --------------------------------------------------------------------------------------


class Moment(click.DateTime):
    """A day in UTC, or with ``has_time`` also a time. click's messages name Python's formats."""

    def __init__(self, *, has_time: bool = False) -> None:
        super().__init__(["%Y-%m-%d", *(["%Y-%m-%dT%H:%M:%S"] if has_time else [])])

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The beginning of the day, or the time."""
        try:
            found: datetime = super().convert(value, param, ctx)
        except click.BadParameter:
            example = datetime(2026, 1, 31, 9, 30)  # noqa: DTZ001 - shows how to write one
            forms = " or ".join(f"{example:{form}}" for form in self.formats)
            self.fail(f"{value!r} is not like {forms}.", param, ctx)
        return found.replace(tzinfo=timezone.utc)


uri_option = click.option(
    "--uri",
    metavar="URI",
    help="Where MongoDB is, for example mongodb://localhost:27017. [default: $MONGODB_URI]",
)
database_option = click.option(
    "--database",
    metavar="NAME",
    help="Name of the database. [default: $MONGODB_DATABASE, else the one that the URI names, else "
    "chainlit]",
)
bucket_option = click.option(
    "--bucket",
    metavar="NAME",
    default=BUCKET,
    show_default=True,
    help="The GridFS bucket that holds the files.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def replacing(*, replace: bool, dry_run: bool, **_others: object) -> str | None:
    """What commands with ``--replace`` ask."""
    if not replace or dry_run:
        return None
    return "Replace what differs or was made by someone else?"


def planned(item: SchemaObject, *, replace: bool) -> str:
    """What a dry run says beside the state of an object; nothing if that would stay as it is."""
    if not item.changes(replace=replace):
        return ""
    return "would be created" if item.state == "missing" else "would be replaced"


def connection_options(*, bucket: bool = False) -> Callable[[Function], Function]:
    """Give a command ``--uri`` and ``--database``, and ``--bucket`` where it is asked for."""

    def decorate(function: Function) -> Function:
        return uri_option(database_option(bucket_option(function) if bucket else function))

    return decorate


def database_command(
    *,
    bucket: bool = False,
    creates: bool = False,
    question: Callable[..., str | None] | None = None,
) -> Callable[[Callable[..., Coroutine[Any, Any, int | None]]], Callable[..., None]]:
    """Make a coroutine function the body of a command, which also gets the connection options.

    The function takes the open database and all other options, and returns the exit code.

    Args:
        bucket: Whether the command has ``--bucket``.
        creates: Whether it makes the database. Any other says when there is no such database.
        question: Says for the other options what to ask before something is destroyed; None where
            nothing is. The command then has ``--yes``.
    """

    def decorate(work: Callable[..., Coroutine[Any, Any, int | None]]) -> Callable[..., None]:
        @wraps(work)
        def command(uri: str | None, database: str | None, **options: Any) -> None:
            if question is not None:
                sure = options.pop("yes")
                asked = question(**options)
                if asked is not None and not sure:
                    confirm(asked, uri, database)

            async def opened(found: Database) -> int | None:
                if not creates:
                    await tell_missing(found)
                return await work(found, **options)

            if code := on_database(uri, database, opened):
                raise SystemExit(code)

        named = connection_options(bucket=bucket)
        return named(command if question is None else yes_option(command))

    return decorate


def confirm(question: str, uri: str | None, name: str | None) -> None:
    """Ask a person before something in a database is destroyed; name it and its server.

    Raises:
        Abort: the answer is no.
        Failure: nobody can answer, or the server cannot be used.
    """

    async def name_of(database: Database) -> str:
        return database.name

    # Connects before it asks, and again afterwards: waiting for a person's answer would block the
    # event loop of an open client.
    database = on_database(uri, name, name_of)
    # On stderr, like the question: stdout may be read as JSON.
    print_line(f"Database {database!r} at {_target(uri, name).server}.", err=True)
    try:
        agreed = click.confirm(printable(question), err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise Failure("There is no terminal to ask at. Pass --yes to do it without.") from None
    if not agreed:
        raise click.Abort


async def tell_missing(database: Database) -> None:
    """Say on stderr that there is no such database: a wrong name looks like an empty one."""
    try:
        # MongoDB has no empty databases, and every login of the app may ask this.
        missing = not await database.list_collection_names()
    except OperationFailure:
        return
    if missing:
        print_line(
            f"Note: There is no database {database.name!r} yet: nothing is stored in it. Is the "
            "name right?",
            err=True,
        )


def print_json(value: object, *, err: bool = False) -> None:
    """Print what ``--json`` prints; dates and ids become text."""
    # json escapes all that is not ASCII, and so all control characters but one.
    click.echo(json.dumps(value, indent=2, default=str).replace("\x7f", "\\u007f"), err=err)


def heeded_signals() -> list[signal.Signals]:
    """The signals to stop at: Ctrl-C, `kill`, and the end of the terminal."""
    # Under nohup the end of the terminal is ignored, and stays so. Ctrl-C is not: a shell that
    # puts a command in the background ignores it, too.
    return [
        number
        for number in STOP_SIGNALS
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]


def load_settings() -> Settings:
    """The environment, and the file with variables that Chainlit reads in the current folder."""
    return Settings.load(os.environ.get("CHAINLIT_ENV_FILE") or ".env")


# The database ---------------------------------------------------------------------------------


def on_database(
    uri: str | None, name: str | None, work: Callable[[Database], Awaitable[Result]]
) -> Result:
    """Open the database that the options or the environment name, do ``work``, and close it.

    Raises:
        Failure: the settings are wrong, or the server does not answer, refuses the login or reports
            an error.
    """

    async def opened() -> Result:
        async with _opened_database(uri, name) as database:
            return await work(database)

    # Client and loop end together: the driver's sockets belong to one loop.
    return asyncio.run(opened())


class _Target(NamedTuple):
    """Which database a command works on; no name stands for the one that the URI names."""

    uri: str
    source: str
    name: str | None
    server: str
    server_api: str | None


def _target(uri: str | None, name: str | None) -> _Target:
    with failures_explained():
        settings = load_settings()
        source = "The MongoDB URI"
        if uri is None and settings.uri is not None:
            uri, source = settings.require_uri(), "MONGODB_URI"
        if not uri:
            raise Failure(
                "Which MongoDB? Name it with --uri, for example --uri mongodb://localhost:27017, "
                "or set MONGODB_URI."
            )
        if name is None:
            name = settings.database_name()
        else:
            check_database_name(name, "--database")
        check_uri(uri, source)
        return _Target(uri, source, name, _hosts(uri), settings.server_api)


@asynccontextmanager
async def _opened_database(uri: str | None, name: str | None) -> AsyncIterator[Database]:
    target = _target(uri, name)
    with failures_explained():
        # An index on a large collection takes the time it takes; only the first answer is bounded.
        client = connect(
            target.uri,
            timeout_ms=NO_TIMEOUT,
            server_api=target.server_api,
            source=target.source,
        )
        try:
            database = open_database(client, target.name)
            with failures_explained(target.server):
                # The driver leaves out the URI's own bound where there is one on the whole.
                with pymongo.timeout(min(ANSWER_SECONDS, client.options.server_selection_timeout)):
                    await client.admin.command("ping")
                yield database
        finally:
            # Sessions are ended at the server, which may be gone meanwhile.
            with pymongo.timeout(ANSWER_SECONDS):
                await close(client)


def _hosts(uri: str) -> str:
    """The hosts in a ``uri`` that :func:`check_uri` passed, without its password."""
    if uri.startswith(SRV):
        # Parsing would ask the DNS; what follows the password names the host.
        return uri.rpartition("@")[2].removeprefix(SRV).partition("/")[0]
    nodes = parse_uri(uri)["nodelist"]
    return ", ".join(host if port is None else f"{host}:{port}" for host, port in nodes)


# Failures -------------------------------------------------------------------------------------


@contextmanager
def failures_explained(server: str = "MongoDB") -> Iterator[None]:
    """Raise errors of the database and of this package as :class:`Failure`.

    Args:
        server: What to call the server in the message; must not hold a password.
    """
    try:
        yield
    except ServerError as exc:  # with the end of a log, in lines
        raise Failure(str(exc)) from exc
    except MongoDataLayerError as exc:
        raise Failure(printable(exc)) from exc
    except PyMongoError as exc:
        raise Failure(_explain(exc, server)) from exc


def _explain(exc: PyMongoError, server: str) -> str:
    """One line that says what went wrong at ``server`` and what to do about it."""
    reason = error_reason(exc).rstrip(".")
    if isinstance(exc, ConfigurationError):  # InvalidURI is one
        return f"The MongoDB URI cannot be used: {reason}"
    if isinstance(exc, ConnectionFailure):
        reason = unreachable_reason(exc, server)
        question = "" if reason.endswith("?") else ". Is it running?"
        return f"No MongoDB answered at {server}: {reason}{question}"
    if isinstance(exc, OperationFailure):
        if is_login_refused(exc):
            return f"{server} refused the login: {reason}. Check the user and password in the URI."
        if is_unauthorized(exc):
            return (
                f"{server} does not allow this: {reason}. `mongo-datalayer role` prints what a "
                "login needs."
            )
        return f"{server} reported an error: {reason}"
    return f"{server}: {reason}"
