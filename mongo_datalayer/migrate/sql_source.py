"""A source in a SQL database: its tables' streams, joined thread by thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy.exc import SQLAlchemyError

from mongo_datalayer.errors import ConfigurationError, SourceError
from mongo_datalayer.migrate.chainlit_rows import (
    Reading,
    Row,
    ThreadRows,
    thread_record,
    user_record,
)
from mongo_datalayer.migrate.records import Leftover, MatchedTable, ThreadRecord, UserRecord
from mongo_datalayer.migrate.reflection import (
    NameMapping,
    TableMatch,
    is_praisonai,
    is_prisma,
    match_tables,
    table_form,
)
from mongo_datalayer.migrate.sql_snapshot import SqlSnapshot, reason
from mongo_datalayer.migrate.sql_streams import SqlStreams

MOST_LEFTOVERS = 1_000
"""How many rows without a thread are in memory."""

_STREAMS = ("threads", "steps", "elements", "feedbacks")
_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mysql": "MySQL or MariaDB"}


class SqlSource:
    """The conversations in a SQL database.

    Args:
        snapshot: The database; closed with the source.
        identity: Where it is.
        mapping: Names that cannot be guessed.
        reading: How rows are to be understood.

    Raises:
        ConfigurationError: the database cannot be read, or holds no conversations.
    """

    def __init__(
        self, snapshot: SqlSnapshot, identity: str, mapping: NameMapping, reading: Reading
    ) -> None:
        self._reading = reading
        self._snapshot = snapshot
        try:
            found = list(self._snapshot.tables())
            matches = match_tables(found, mapping, self._snapshot.default_schema)
            self._matches = matches.chosen
            if not self._matches.keys() >= {"threads", "steps"}:
                raise ConfigurationError(_nothing_found(self._matches))
            self._prisma = is_prisma(self._matches)
            self._streams = SqlStreams(self._snapshot, self._matches, prisma=self._prisma)
            self.tables = [self._described(match) for match in self._matches.values()]
        except SQLAlchemyError as exc:
            self.close()
            raise ConfigurationError(f"The source cannot be read: {reason(exc)}") from exc
        except BaseException:
            self.close()
            raise
        dialect = self._snapshot.dialect
        self.kind = f"{table_form(self._matches)} on {_NAMES.get(dialect, dialect)}"
        self.identity = identity
        self.warnings = _warnings(self._matches, dialect, prisma=self._prisma)
        if any(table.name.lower() == "settings" for table in found):
            self.warnings.append("The table settings is left out: it may hold the keys of an app.")
        if matches.others:
            names = ", ".join(sorted(map(str, matches.others)))
            self.warnings.append(
                f"These tables look like conversations, too, and are not read: {names}. To move "
                "them instead, name them with --mapping."
            )

    def close(self) -> None:
        """End the snapshot."""
        self._snapshot.close()

    def users(self) -> Iterator[UserRecord | Leftover]:
        """Every user, in the order of rows."""
        if "users" in self._matches:
            for row in self._streams.users():
                yield user_record(row, self._reading)

    def threads(self) -> Iterator[ThreadRecord | Leftover]:
        """Every thread, in the order of ids, and the rows that belong to none."""
        streams = {
            name: _Grouped(self._streams.by_thread(name))
            for name in _STREAMS
            if name in self._matches
        }
        # The smallest key of all streams: what has no thread's row comes first, and is an orphan.
        while keys := [stream.key for stream in streams.values() if stream.key is not None]:
            key = min(keys)
            # Rows without a thread may be any number, and each is listed by itself.
            most = None if key else MOST_LEFTOVERS
            rows = {name: stream.take(key, most) for name, stream in streams.items()}
            if self._prisma:
                rows["steps"] = _in_prismas_order(rows["steps"])
            home = next(row["home"] for found in rows.values() for row in found)
            yield thread_record(ThreadRows(str(home), **rows), self._reading)

    def _described(self, match: TableMatch) -> MatchedTable:
        used = {ours: column.name for ours, column in match.columns.items()}
        extra = tuple(column.name for column in match.extra)
        rows = self._streams.count(match.table)
        return MatchedTable(match.table, str(match.found), used, extra, match.missing, rows)


class _Grouped:
    """A stream that is sorted by ``home``, read one home at a time."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    @property
    def key(self) -> str | None:
        """What the next row is sorted by; None at the end."""
        return None if self._next is None else str(self._next["homeKey"])

    def take(self, key: str, most: int | None) -> list[Row]:
        """The rows of one home, if it is the next one; at most so many.

        Raises:
            SourceError: the database does not sort as Python does, so threads would be torn.
        """
        found: list[Row] = []
        while self._next is not None and self.key == key and len(found) != most:
            found.append(self._next)
            self._next = next(self._rows, None)
        if found and self.key is not None and self.key < key:
            raise SourceError(
                f"The database sorts the id {self.key!r} after {key!r}, so threads cannot be put "
                "together. Move a copy of it whose encoding is UTF-8."
            )
        return found


def _in_prismas_order(steps: list[Row]) -> list[Row]:
    """As the official layer reads steps: by start, then by the row's time, then by id."""
    steps = [{**step, "createdAt": step["start"]} if "start" in step else step for step in steps]
    return sorted(steps, key=lambda step: (str(step.get("rowCreatedAt")), str(step.get("id"))))


def _nothing_found(matches: Mapping[str, TableMatch]) -> str:
    found = ", ".join(str(match.found) for match in matches.values()) or "none"
    return (
        f"No conversations were found: tables for threads and steps are needed, matched: {found}. "
        "Name tables and columns with --mapping if they have other names."
    )


def _warnings(matches: Mapping[str, TableMatch], dialect: str, *, prisma: bool) -> list[str]:
    if prisma:
        return [
            "Chainlit's official layer never stored tags, generation, language and autoCollapse "
            "of steps."
        ]
    if is_praisonai(matches):
        return ["PraisonAI's class never stored custom elements, audio and video."]
    found = []
    if "autoCollapse" in matches["steps"].missing:
        found.append(
            "The table of steps has no column autoCollapse: Chainlit 2.10 and later could not "
            "store runs, tools and llm steps in it. Their messages are there, without these "
            "parents, and feedback on such a run has lost its step."
        )
    if dialect == "sqlite":
        found.append(
            "Chainlit's SQLAlchemy layer cannot write tags on SQLite: the first name and owner of "
            "a tagged thread, and steps with tags, were never stored. See --recover-owners."
        )
    return found
