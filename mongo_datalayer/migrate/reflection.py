"""Which of a database's tables and columns are which: by name, without case and underscores.

No two installations have the same tables: people write the documented schema down in their own
way, and each version of the old layers adds columns. So nothing is read by position, and a column
that nobody knows is kept under its own name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mongo_datalayer.errors import ConfigurationError

TABLES: Mapping[str, tuple[str, ...]] = {
    "users": ("users", "user"),
    "threads": ("threads", "thread"),
    "steps": ("steps", "step"),
    "elements": ("elements", "element"),
    "feedbacks": ("feedbacks", "feedback"),
}

# What makes it Chainlit's table, and not one of the app with the same name.
_REQUIRED: Mapping[str, frozenset[str]] = {
    "users": frozenset({"id", "identifier"}),
    "threads": frozenset({"id"}),
    "steps": frozenset({"id", "threadId"}),
    "elements": frozenset({"id", "name"}),
    "feedbacks": frozenset({"id", "forId", "value"}),
}

_NAMES = {
    "users": "id identifier metadata createdAt updatedAt displayName",
    "threads": "id name userId userIdentifier tags metadata createdAt updatedAt deletedAt",
    "steps": "id name type threadId parentId streaming waitForAnswer isError metadata tags input "
    "output createdAt updatedAt start end generation showInput language command defaultOpen "
    "autoCollapse modes icon",
    "elements": "id threadId type url chainlitKey name display objectKey size page language forId "
    "mime props autoPlay playerConfig metadata createdAt updatedAt",
    "feedbacks": "id forId threadId value comment name createdAt updatedAt",
}
_COLUMNS = {table: tuple(names.split()) for table, names in _NAMES.items()}

# Other names of the same: PraisonAI's since 1.0.5, and Prisma's.
_ALIASES = {"meta": "metadata", "starttime": "start", "endtime": "end", "stepid": "forId"}

_RECENT: Mapping[str, tuple[str, ...]] = {
    "steps": ("command", "defaultOpen", "autoCollapse", "modes"),
    "elements": ("props", "autoPlay", "playerConfig"),
}
"""Columns that newer versions of Chainlit write, and few databases have."""


# When Chainlit's documentation got a column, the newest first.
_SINCE = (
    ("steps", "modes", "2026-04"),
    ("steps", "defaultOpen", "2025-09"),
    ("steps", "command", "2025-03"),
    ("elements", "props", "2025-01"),
    ("feedbacks", "threadId", "2024-07"),
)


@dataclass(frozen=True)
class Column:
    """A column of the source; ``kind`` is its type's name in lower case."""

    name: str
    kind: str
    nullable: bool = True


@dataclass(frozen=True)
class FoundTable:
    """A table or view of the source."""

    schema: str | None
    name: str
    columns: tuple[Column, ...]
    is_view: bool = False

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class TableMatch:
    """A table, and what its columns are.

    Attributes:
        table: Our name.
        found: The table in the source.
        columns: The source's column by our name.
    """

    table: str
    found: FoundTable
    columns: Mapping[str, Column]

    @property
    def extra(self) -> tuple[Column, ...]:
        """The columns that nobody knows."""
        used = {column.name for column in self.columns.values()}
        return tuple(column for column in self.found.columns if column.name not in used)

    @property
    def missing(self) -> tuple[str, ...]:
        """Columns of newer versions that the table lacks."""
        return tuple(name for name in _RECENT.get(self.table, ()) if name not in self.columns)


@dataclass(frozen=True)
class NameMapping:
    """Names that cannot be guessed, as a person wrote them down.

    Attributes:
        tables: The source's name of a table, by ours.
        columns: The source's names of its columns, by ours.
    """

    tables: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> NameMapping:
        """Read ``{"tables": {"threads": "chats"}, "columns": {"threads": {"name": "title"}}}``.

        Raises:
            ConfigurationError: the file is something else.
        """
        try:
            content = json.loads(path.read_text())
            tables, columns = dict(content.get("tables", {})), dict(content.get("columns", {}))
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            raise ConfigurationError(f"The mapping {path} cannot be read: {exc}") from exc
        for name in {*tables, *columns} - TABLES.keys():
            known = ", ".join(TABLES)
            raise ConfigurationError(f"The mapping names {name!r}; tables are {known}.")
        return cls(tables, columns)


def match_tables(found: Iterable[FoundTable], mapping: NameMapping) -> dict[str, TableMatch]:
    """The tables that hold conversations, by our names.

    Of several schemas that have some, the one that has most of them.
    """
    matches = sorted(
        (
            match
            for table in found
            for name in TABLES
            if (match := _match(name, table, mapping)) is not None
        ),
        # Of an app's own table user and Chainlit's users the last one is taken.
        key=lambda match: len(match.columns),
    )
    schemas = sorted({match.found.schema for match in matches}, key=str)
    by_schema = {
        schema: {match.table: match for match in matches if match.found.schema == schema}
        for schema in schemas
    }
    # Tables of the app may have these names, too: most likely those with fewer of the columns.
    if any(match.table in mapping.tables for match in matches):  # a person chose
        return {match.table: match for match in matches}
    return max(by_schema.values(), key=_worth, default={})


def _worth(matches: Mapping[str, TableMatch]) -> tuple[int, int]:
    return len(matches), sum(len(match.columns) for match in matches.values())


def _match(name: str, table: FoundTable, mapping: NameMapping) -> TableMatch | None:
    if chosen := mapping.tables.get(name):
        if chosen not in (table.name, str(table)):
            return None
    elif _plain(table.name) not in TABLES[name]:
        return None
    columns = _columns(name, table, mapping.columns.get(name, {}))
    if not _REQUIRED[name] <= columns.keys():
        return None
    return TableMatch(name, table, columns)


def _columns(name: str, table: FoundTable, mapped: Mapping[str, str]) -> dict[str, Column]:
    known = {_plain(column): column for column in _COLUMNS[name]}
    chosen = {theirs: ours for ours, theirs in mapped.items()}
    columns: dict[str, Column] = {}
    for column in table.columns:
        plain = _plain(column.name)
        ours = chosen.get(column.name) or known.get(plain) or _alias(name, plain)
        # Of two columns that look alike the first is read; the other is kept as an extra field.
        if ours is not None and ours not in columns:
            columns[ours] = column
    return columns


def _alias(table: str, plain: str) -> str | None:
    ours = _ALIASES.get(plain)
    return ours if ours in _COLUMNS[table] else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def is_prisma(matches: Mapping[str, TableMatch]) -> bool:
    """Whether these are the tables of Chainlit's asyncpg layer: feedback names a ``stepId``."""
    feedback, threads = matches.get("feedbacks"), matches.get("threads")
    if feedback is not None:
        return _plain(feedback.columns["forId"].name) == "stepid"
    # No other layer hides deleted threads.
    return threads is not None and "deletedAt" in threads.columns


def is_praisonai(matches: Mapping[str, TableMatch]) -> bool:
    """Whether these are the tables of PraisonAI's class since 1.0.5: metadata is in ``meta``."""
    columns = (column for match in matches.values() for column in match.found.columns)
    return any(column.name == "meta" for column in columns)


def table_form(matches: Mapping[str, TableMatch]) -> str:
    """Which layer made the tables, for people."""
    if is_prisma(matches):
        return "Chainlit's official data layer (asyncpg, Prisma's tables)"
    if is_praisonai(matches):
        return "PraisonAI's SQLAlchemyDataLayer (1.0.5 and later)"
    return f"Chainlit's SQLAlchemyDataLayer, with the tables of {_since(matches)}"


def _since(matches: Mapping[str, TableMatch]) -> str:
    """The newest of the documented schemas that the tables have columns of."""
    for table, column, since in _SINCE:
        if table in matches and column in matches[table].columns:
            return since
    return "2024-04"
