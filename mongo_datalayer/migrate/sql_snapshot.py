"""One snapshot of a SQL database, for reading only."""

from __future__ import annotations

import pickle
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.pool import NullPool

from mongo_datalayer.errors import ConfigurationError, SourceError
from mongo_datalayer.migrate.reflection import Column, FoundTable
from mongo_datalayer.migrate.source_urls import SourceAddress
from mongo_datalayer.migrate.values import text_of

FETCHED_ROWS = 250
"""How many rows one fetch brings: a text may have megabytes, and four streams are open."""

CONNECT_SECONDS = 10

_SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")


class SqlSnapshot:
    """A database as it is at one moment, however long it is read.

    Args:
        address: Where it is.

    Raises:
        ConfigurationError: it cannot be read.

    Attributes:
        connection: The connection that sees the snapshot.
        dialect: SQLAlchemy's name of the database.
    """

    def __init__(self, address: SourceAddress) -> None:
        self._stack = ExitStack()
        try:
            self.connection = self._open(address)
        except (SQLAlchemyError, sqlite3.Error) as exc:
            self.close()
            raise ConfigurationError(f"The source cannot be read: {reason(exc)}") from exc
        except (TypeError, AttributeError) as exc:  # the driver takes options as its arguments
            self.close()
            raise ConfigurationError(
                f"The source's URL has an option that cannot be used here: {exc}"
            ) from exc
        except BaseException:
            self.close()
            raise
        self.dialect = self.connection.dialect.name

    def close(self) -> None:
        """End the snapshot and delete what was copied or spooled."""
        self._stack.close()

    @property
    def default_schema(self) -> str | None:
        """The schema that an app means when it names none."""
        # The other databases show the tables of one schema, which then has no name.
        if not self._has_schemas:
            return None
        # Not the inspector's, which was asked before the search path was set.
        return self.connection.execute(sa.select(sa.func.current_schema())).scalar()

    @property
    def _has_schemas(self) -> bool:
        return self.dialect == "postgresql"

    def tables(self) -> list[FoundTable]:
        """Every table and view that a person made.

        Raises:
            ConfigurationError: the database does not tell.
        """
        try:
            inspector = sa.inspect(self.connection)
            schemas: list[str | None] = [None]
            if self._has_schemas:
                names = inspector.get_schema_names()
                schemas = [name for name in names if name not in _SYSTEM and name[:3] != "pg_"]
            return [table for schema in schemas for table in _tables(inspector, schema)]
        except SQLAlchemyError as exc:
            raise ConfigurationError(f"The source cannot be read: {reason(exc)}") from exc

    def rows(self, statement: Any, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """The rows of a statement under these names, NULL left out, a few at a time.

        Raises:
            SourceError: they could not be read to their end.
        """
        # MySQL gives one result at a time.
        if self.dialect == "mysql":
            return self._spooled(self._fetched(statement, names))
        return self._fetched(statement, names)

    def _fetched(self, statement: Any, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        # PostgreSQL's driver would fetch a whole table otherwise.
        options = {"stream_results": True, "yield_per": FETCHED_ROWS}
        try:
            found = self.connection.execution_options(**options).execute(statement)
            self._stack.callback(_close, found)  # a reader may stop before the end
            for page in found.partitions():
                for row in page:
                    pairs = zip(names, row, strict=True)
                    yield {name: value for name, value in pairs if value is not None}
        except SQLAlchemyError as exc:
            raise SourceError(f"The source could not be read to its end: {reason(exc)}") from exc

    def exists(self, statement: Any) -> bool:
        """Whether a statement finds a row.

        Raises:
            SourceError: it could not be asked.
        """
        try:
            return self.connection.execute(statement.limit(1)).first() is not None
        except SQLAlchemyError as exc:
            raise SourceError(f"The source could not be read: {reason(exc)}") from exc

    # Opening ----------------------------------------------------------------------------------

    def _open(self, address: SourceAddress) -> sa.Connection:
        if address.path is not None:
            engine = sa.create_engine("sqlite://", creator=self._sqlite(address.path))
        else:
            options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
            if address.url.startswith("mysql"):
                options["charset"] = "utf8mb4"  # an older one in the URL could not carry all texts
            engine = sa.create_engine(address.url, poolclass=NullPool, connect_args=options)
            if engine.dialect.name == "postgresql":
                # First, as SQLAlchemy begins by reading the version as a text.
                sa.event.listen(engine, "connect", _with_lenient_loaders, insert=True)
        self._stack.callback(engine.dispose)
        connection = self._stack.enter_context(engine.connect())
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            # The server may end statements and idle transactions long before a run is through.
            for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(sa.text(f"SET LOCAL {setting} = 0"))
            # Else a policy would hide rows, and they would be missing without a word.
            connection.execute(sa.text("SET LOCAL row_security = off"))
            if address.schema is not None:
                path = {"path": address.schema}
                connection.execute(sa.text("SELECT set_config('search_path', :path, true)"), path)
                if connection.execute(sa.select(sa.func.current_schema())).scalar() is None:
                    raise ConfigurationError(f"The source has no schema {address.schema!r}.")
        elif engine.dialect.name == "mysql":
            connection.execute(sa.text("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            connection.execute(sa.text("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"))
        return connection

    def _sqlite(self, path: Path) -> Callable[[], sqlite3.Connection]:
        """Opens a snapshot that never makes the app wait.

        Without a write-ahead log a reader keeps every writer out until it has finished, so the
        database is copied first.
        """

        def connect() -> sqlite3.Connection:
            connection = _open_sqlite(path)
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                connection = _copied(connection)
            # Else the module ends transactions by itself, and with it the snapshot.
            connection.isolation_level = None
            # SQLite checks no text: one with broken UTF-8 would end the run.
            connection.text_factory = text_of
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master")  # takes the snapshot
            return connection

        return connect

    def _spooled(self, rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        spool = self._stack.enter_context(tempfile.TemporaryFile(prefix="migrate-"))  # noqa: SIM115 - entered
        for row in rows:
            pickle.dump(row, spool)
        spool.seek(0)
        return _unspooled(spool)


def _tables(inspector: sa.Inspector, schema: str | None) -> Iterator[FoundTable]:
    views = inspector.get_view_names(schema)
    for name in (*inspector.get_table_names(schema), *views):
        try:
            with warnings.catch_warnings():
                # SQLAlchemy warns of types that it does not know; their values are read anyway.
                warnings.simplefilter("ignore", SAWarning)
                found = inspector.get_columns(name, schema)
        except SQLAlchemyError:
            # A view of a table that is gone, or a table of an extension that is not loaded here.
            found = []
        columns = tuple(
            Column(column["name"], _kind(column["type"]), nullable=column["nullable"])
            for column in found
        )
        yield FoundTable(schema, name, columns, is_view=name in views)


def _with_lenient_loaders(connection: Any, _record: Any) -> None:
    # psycopg is there now: it made the connection. It is part of an extra.
    from mongo_datalayer.migrate.psycopg_loaders import register

    register(connection)


def reason(exc: Exception) -> str:
    """The driver's words; SQLAlchemy's own may hold the statement and its values."""
    cause = str(getattr(exc, "orig", None) or exc).strip()
    return cause.splitlines()[0] if cause else type(exc).__name__


def _close(result: sa.CursorResult[Any]) -> None:
    with suppress(SQLAlchemyError):  # the connection may be lost
        result.close()


def _open_sqlite(path: Path) -> sqlite3.Connection:
    journal = path.with_name(f"{path.name}-journal")
    # A reader cannot roll it back, and would see half of a write.
    if journal.exists() and journal.stat().st_size:
        raise ConfigurationError(
            f"{path} was left in the middle of a write, or one is going on: {journal.name} is "
            "there. Let the app finish, or open and close the database once with sqlite3."
        )
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as exc:
        connection.close()
        # Somebody writes: without the lock half of it would be read.
        if "locked" in str(exc):
            raise
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        # The log's index cannot be made in a folder that nobody may write: nobody does.
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True, check_same_thread=False)
    return connection


def _copied(connection: sqlite3.Connection) -> sqlite3.Connection:
    # The file loses its name at once: a killed run must not leave a copy of all conversations.
    with tempfile.TemporaryDirectory(prefix="migrate-", ignore_cleanup_errors=True) as folder:
        copy = sqlite3.connect(Path(folder) / "source.sqlite", check_same_thread=False)
        connection.backup(copy)
    connection.close()
    return copy


def _unspooled(spool: Any) -> Iterator[Mapping[str, Any]]:
    while True:
        try:
            yield pickle.load(spool)  # noqa: S301 - written just before, to a file without a name
        except EOFError:
            return


def _kind(type_: Any) -> str:
    return str(getattr(type_, "__visit_name__", type_)).lower()
