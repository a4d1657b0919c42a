"""The statements that read a source's tables, each sorted by the thread that a row belongs to.

No documented schema has an index on ``steps."threadId"``, so a read of each thread would be a scan
of the table. The database sorts each table once instead, by bytes or code points, as Python does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from mongo_datalayer.errors import SourceError
from mongo_datalayer.migrate.chainlit_rows import Row
from mongo_datalayer.migrate.reflection import Column, TableMatch
from mongo_datalayer.migrate.sql_snapshot import SqlSnapshot

Columns = sa.ColumnElement[Any]

# Types whose values each driver would make something else of; as text they are what was stored.
_AS_TEXT = frozenset({"json", "jsonb", "uuid", "enum", "null", "user_defined"})
# PostgreSQL fills up char(40) with spaces, which a cast takes off again.
_AS_TEXT |= {"char"}
_BINARY = frozenset({"binary", "varbinary", "blob", "bytea", "large_binary"})
_IDS = frozenset({"id", "threadId", "parentId", "forId", "userId"})


class SqlStreams:
    """The rows of the matched tables.

    Args:
        snapshot: The database.
        matches: The tables.
        prisma: Whether times of steps and elements named ``createdAt`` are the row's own.
    """

    def __init__(
        self, snapshot: SqlSnapshot, matches: Mapping[str, TableMatch], *, prisma: bool
    ) -> None:
        self._snapshot = snapshot
        self._dialect = snapshot.dialect
        self._matches = matches
        self._prisma = prisma
        # MySQL's CAST knows no TEXT; its CHAR has any length.
        self._text_type: Any = sa.CHAR if self._dialect == "mysql" else sa.Text

    def count(self, name: str) -> int:
        """How many rows a table has."""
        statement = sa.select(sa.func.count()).select_from(self._table(name))
        count: int = self._snapshot.connection.execute(statement).scalar_one()
        return count

    def users(self) -> Iterator[Row]:
        """Every user, in the order of rows."""
        table = self._table("users")
        statement = sa.select(*self._columns("users", table)).select_from(table)
        statement = statement.order_by(*self._row_order("users"))
        return self._snapshot.rows(statement, self._names("users"))

    def by_thread(self, name: str) -> Iterator[Row]:
        """The rows of a table by ``home``, the id of their thread; empty without one.

        They are sorted by ``homeKey``, which the streams of all tables have in one order.
        """
        table = self._table(name)
        own, joined = self._home(name, table)
        # PostgreSQL sorts NULL last and the others sort it first; the empty text is first in all.
        home = sa.func.coalesce(own, "")
        key = self._sort_key(home)
        statement = sa.select(*self._columns(name, table), home.label("home"), key.label("key"))
        names = [*self._names(name), "home", "homeKey"]
        if name == "threads" and {"users"} <= self._matches.keys():
            joined, owner = self._with_owner(joined, table)
            statement = statement.add_columns(owner)
            names.append("ownerName")
        statement = statement.select_from(joined)
        statement = statement.order_by(key, *self._row_order(name))
        return self._snapshot.rows(statement, names)

    # Columns ----------------------------------------------------------------------------------

    def _table(self, name: str) -> sa.TableClause:
        found = self._matches[name].found
        columns: list[Any] = [sa.column(column.name) for column in found.columns]
        return sa.table(found.name, *columns, schema=found.schema)

    def _names(self, name: str) -> list[str]:
        match = self._matches[name]
        names = [
            "rowCreatedAt" if self._prisma and ours == "createdAt" and name in _ROW_TIMES else ours
            for ours in match.columns
        ]
        return [*names, *match.extra_names]

    def _columns(self, name: str, table: sa.FromClause) -> list[Columns]:
        match = self._matches[name]
        found = [
            self._readable_id(column, table) if ours in _IDS else self._value(column, table)
            for ours, column in match.columns.items()
        ]
        return [*found, *(self._value(column, table) for column in match.extra)]

    def _value(self, column: Column, table: sa.FromClause) -> Columns:
        found: Columns = table.c[column.name]
        as_text = self._dialect == "postgresql" and column.kind in _AS_TEXT
        return self._as_text(found) if as_text else found

    def _readable_id(self, column: Column, table: sa.FromClause) -> Columns:
        """An id; 16 bytes are a UUID, as some mappers store it in MySQL and SQLite."""
        found: Columns = table.c[column.name]
        if self._dialect == "sqlite":  # any column may hold bytes
            is_uuid = sa.and_(sa.func.typeof(found) == "blob", sa.func.length(found) == 16)
        elif column.kind in _BINARY:
            is_uuid = sa.func.length(found) == 16
        else:
            return self._value(column, table)
        hex_text: Columns = sa.func.hex(found)
        if self._dialect == "postgresql":
            hex_text = sa.func.encode(found, "hex")
        digits = sa.func.lower(hex_text)
        uuid: Columns = sa.func.substr(digits, 1, 8)
        for begin, length in _UUID_PARTS:
            uuid = uuid.concat("-").concat(sa.func.substr(digits, begin, length))
        return sa.case((is_uuid, uuid), else_=self._value(column, table))

    def _as_text(self, column: Columns) -> Columns:
        return sa.cast(column, self._text_type)

    def _id(self, name: str, column: str, table: sa.FromClause) -> Columns | None:
        """A column of ids as text, the empty text as none; None where there is no such column."""
        found = self._matches[name].columns.get(column)
        if found is None:
            return None
        return sa.func.nullif(self._collated(self._as_text(self._readable_id(found, table))), "")

    def _collated(self, text: Columns) -> Columns:
        """Compared and sorted by code points, as Python does; a column may ignore case."""
        return sa.collate(text, _COLLATIONS[self._dialect])

    def _sort_key(self, text: Columns) -> Columns:
        """What the streams are sorted by, in an order that Python has, too."""
        if self._dialect == "postgresql":
            return self._collated(text)
        # A SQLite database may be in UTF-16, or have what is no text; MySQL ignores spaces at the
        # end. Bytes are compared in one way only.
        binary: Any = sa.BINARY() if self._dialect == "mysql" else sa.BLOB()
        return sa.func.hex(sa.cast(text, binary))

    def _row_order(self, name: str) -> list[Columns]:
        """The order in which rows came, as far as the database tells it."""
        match = self._matches[name]
        # ctid is where a row lies: the order of insertion, unless it was updated.
        number = {"postgresql": "ctid", "sqlite": "rowid"}.get(self._dialect)
        table = self._table(name)
        if number is not None and not match.found.is_view and self._has(table, number):
            quote = self._snapshot.connection.dialect.identifier_preparer.format_table
            return [sa.literal_column(f"{quote(table)}.{number}")]
        return [table.c[match.columns["id"].name]]

    def _has(self, table: sa.TableClause, number: str) -> bool:
        if self._dialect != "sqlite":
            return True
        try:
            self._snapshot.exists(sa.select(sa.literal_column(number)).select_from(table))
        except SourceError:  # a table WITHOUT ROWID
            return False
        return True

    # Homes ------------------------------------------------------------------------------------

    def _home(self, name: str, table: sa.FromClause) -> tuple[Columns, sa.FromClause]:
        """The id of the thread that a row belongs to, and what to select it from."""
        if name == "threads":
            return _required(self._id(name, "id", table)), table
        named = self._id(name, "threadId", table)
        if name == "steps":
            return self._steps_home(_required(named), table)
        step_id = self._id(name, "forId", table)
        # Feedback has had a thread's id only since 2024, and may name another one than its step.
        if step_id is None or (name == "elements" and self._all_have(named, table)):
            return _required(named), table
        homes = self._homes()
        joined = table.outerjoin(homes, homes.c.step_id == step_id)
        found = [homes.c.home] if named is None else [named, homes.c.home]
        return sa.func.coalesce(*(found if name == "elements" else found[::-1]), None), joined

    def _all_have(self, column: Columns | None, table: sa.FromClause) -> bool:
        if column is None:
            return False
        statement = sa.select(sa.literal(1)).select_from(table).where(column.is_(None))
        return not self._snapshot.exists(statement)

    def _steps_home(self, named: Columns, table: sa.FromClause) -> tuple[Columns, sa.FromClause]:
        """A parent that the official layer made without a thread is in that of its children."""
        children = self._table("steps").alias("children")
        parent = self._id("steps", "parentId", children)
        if parent is None or self._all_have(named, table):
            return named, table
        thread = _required(self._id("steps", "threadId", children))
        homes = sa.select(parent.label("parent_id"), sa.func.min(thread).label("home"))
        found = homes.where(parent.is_not(None), thread.is_not(None)).group_by(parent).subquery()
        step_id = self._id("steps", "id", table)
        joined = table.outerjoin(found, sa.and_(named.is_(None), found.c.parent_id == step_id))
        return sa.func.coalesce(named, found.c.home), joined

    def _homes(self) -> sa.Subquery:
        """The thread of each step, once even where ids are not unique."""
        steps = self._table("steps").alias("owners")
        home, joined = self._home("steps", steps)
        step_id = _required(self._id("steps", "id", steps))
        homes = sa.select(step_id.label("step_id"), sa.func.min(home).label("home"))
        return homes.select_from(joined).group_by(step_id).subquery("homes")

    def _with_owner(
        self, joined: sa.FromClause, threads: sa.FromClause
    ) -> tuple[sa.FromClause, Columns]:
        """The identifier of each thread's user: all users may not fit into memory."""
        own = self._id("threads", "userId", threads)
        if own is None:
            return joined, sa.null().label("owner")
        users = self._table("users").alias("people")
        user_id = _required(self._id("users", "id", users))
        name = sa.func.min(_required(self._id("users", "identifier", users)))
        named = sa.select(user_id.label("user_id"), name.label("identifier"))
        found = named.group_by(user_id).subquery("named")
        return joined.outerjoin(found, found.c.user_id == own), found.c.identifier


_COLLATIONS = {"postgresql": "C", "sqlite": "BINARY", "mysql": "utf8mb4_bin"}
_UUID_PARTS = ((9, 4), (13, 4), (17, 4), (21, 12))
"""Where the digits begin that follow the first eight, and how many there are."""

_ROW_TIMES = frozenset({"steps", "elements"})


def _required(column: Columns | None) -> Columns:
    return sa.null() if column is None else column
