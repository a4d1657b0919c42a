"""The SQLite store of ChatKit's samples: threads, items and files as their models dumped them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import sqlalchemy as sa

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate.chatkit_records import (
    Row,
    attachment_record,
    orphan,
    thread_records,
)
from mongo_datalayer.migrate.records import (
    DocumentRecord,
    Leftover,
    MatchedTable,
    UserRecord,
)
from mongo_datalayer.migrate.sql_snapshot import SqlSnapshot

_THREADS = frozenset({"id", "user_id", "data"})
_ITEMS = frozenset({"id", "thread_id", "data"})


def is_chatkit(snapshot: SqlSnapshot) -> bool:
    """Whether a database has the tables of the samples' store."""
    tables = {table.name: {column.name for column in table.columns} for table in snapshot.tables()}
    return tables.get("threads", set()) >= _THREADS and tables.get("items", set()) >= _ITEMS


class ChatKitSource:
    """Threads, items and attachments of ChatKit.

    Args:
        snapshot: The database; closed with the source.
        identity: Where it is.
    """

    kind = "ChatKit's sample store on SQLite"

    def __init__(self, snapshot: SqlSnapshot, identity: str) -> None:
        if snapshot.dialect != "sqlite":
            snapshot.close()
            raise ConfigurationError("Of ChatKit's stores only the samples' on SQLite is read.")
        self.identity = identity
        self.warnings: list[str] = []
        self._snapshot = snapshot
        names = {table.name: table for table in snapshot.tables()}
        self._has_files = "files" in names
        self.tables = [
            MatchedTable(name, name, {}, (), (), self._count(name))
            for name in ("threads", "items", "files")
            if name in names
        ]

    def close(self) -> None:
        """End the snapshot."""
        self._snapshot.close()

    def users(self) -> Iterator[UserRecord | Leftover]:
        """None: ChatKit's store knows the ids of owners alone."""
        return iter(())

    def threads(self) -> Iterator[DocumentRecord | Leftover]:
        """Every attachment, then every thread with its items."""
        for row in self._select("files", "user_id, data", "id") if self._has_files else ():
            yield attachment_record(row)
        threads = groupby(self._select("threads", "user_id, created_at, data", "id"), _key)
        columns = "id, user_id, created_at, data"
        items = groupby(self._select("items", columns, "thread_id", _ITEM_ORDER), _key)
        item_key, item_rows = next(items, _END)
        for key, thread_rows in threads:
            while item_key is not None and item_key < key:
                yield from map(orphan, item_rows)
                item_key, item_rows = next(items, _END)
            found = list(item_rows) if item_key == key else []
            if item_key == key:
                item_key, item_rows = next(items, _END)
            yield from thread_records(list(thread_rows), found)
        while item_key is not None:
            yield from map(orphan, item_rows)
            item_key, item_rows = next(items, _END)

    def _select(self, table: str, columns: str, key: str, order: str = "rowid") -> Iterator[Row]:
        """The rows of a table by one of its ids, in an order that Python has, too."""
        # The samples' ids are texts, but SQLite takes any value, and NULL.
        text = f"coalesce(CAST({key} AS TEXT), '')"
        sorting = f"hex(CAST({text} AS BLOB))"
        statement = sa.text(f"SELECT {text}, {sorting}, {columns} FROM {table} ORDER BY 2, {order}")  # noqa: S608 - ours
        return self._snapshot.rows(statement, [key, "key", *columns.split(", ")])

    def _count(self, table: str) -> int:
        statement = sa.text(f"SELECT count(*) FROM {table}")  # noqa: S608 - ours
        count: int = self._snapshot.connection.execute(statement).scalar_one()
        return count


# As the sample store reads them: its times may be equal, and rowid tells which came first.
_ITEM_ORDER = "created_at, rowid"
_END: tuple[None, Iterator[Row]] = (None, iter(()))


def _key(row: Row) -> str:
    return str(row["key"])
