"""The SQLite store of ChatKit's samples: threads, items and files as their models dumped them."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate.chatkit_records import (
    Row,
    attachment_record,
    orphan,
    thread_record,
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
        for row in self._select("files", "id, user_id, data", "id") if self._has_files else ():
            yield attachment_record(row)
        threads = self._select("threads", "id, user_id, created_at, data", "id")
        items = self._select("items", "id, thread_id, created_at, data", _ITEM_ORDER)
        item = next(items, None)
        # None stands for the end: items that are left then belong to no thread.
        for thread in (*threads, None):
            key = None if thread is None else str(thread["id"])
            found: list[Row] = []
            while item is not None and (key is None or str(item["thread_id"]) <= key):
                if key is None or str(item["thread_id"]) < key:
                    yield orphan(item)
                else:
                    found.append(item)
                item = next(items, None)
            if thread is not None:
                yield thread_record(thread, found)

    def _select(self, table: str, columns: str, order: str) -> Iterator[Row]:
        statement = sa.text(f"SELECT {columns} FROM {table} ORDER BY {order}")  # noqa: S608 - ours
        return self._snapshot.rows(statement, columns.split(", "))

    def _count(self, table: str) -> int:
        statement = sa.text(f"SELECT count(*) FROM {table}")  # noqa: S608 - ours
        count: int = self._snapshot.connection.execute(statement).scalar_one()
        return count


# As the sample store reads them: its times may be equal, and rowid tells which came first.
_ITEM_ORDER = "thread_id, created_at, rowid"
