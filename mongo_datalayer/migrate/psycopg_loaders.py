"""What psycopg cannot make a Python value of comes as text: one such value would end the run."""

from __future__ import annotations

from typing import Any

from psycopg import DataError
from psycopg.adapt import Loader
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from psycopg.types.string import TextLoader

from mongo_datalayer.migrate.values import text_of


class _LenientText(TextLoader):
    """Text; a database whose encoding is SQL_ASCII has any bytes in it."""

    def load(self, data: Any) -> str:
        found = super().load(data)
        return found if isinstance(found, str) else text_of(bytes(found))


class _OrText(Loader):
    """Infinity, and what is before year 1 or after 9999, stays text."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)  # type: ignore[safe-super]  # the next class has one
        except DataError:
            return bytes(data).decode()


class _LenientDate(_OrText, DateLoader):
    """A date."""


class _LenientTimestamp(_OrText, TimestampLoader):
    """A time."""


class _LenientTimestamptz(_OrText, TimestamptzLoader):
    """A time with a zone."""


def register(connection: Any) -> None:
    """Read a connection's values with these."""
    for name in ("text", "varchar", "bpchar", "name"):
        connection.adapters.register_loader(name, _LenientText)
    connection.adapters.register_loader("date", _LenientDate)
    connection.adapters.register_loader("timestamp", _LenientTimestamp)
    connection.adapters.register_loader("timestamptz", _LenientTimestamptz)
