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
from typing import Any

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


# What the streams of a source add to a row.
_STREAM_NAMES = ("home", "homeKey", "ownerName", "rowCreatedAt")

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
    def extra_names(self) -> list[str]:
        """The names under which the extra columns are kept."""
        # A mapping, or a second column that looks alike, leaves a column whose name has another
        # meaning here.
        taken = {*_COLUMNS[self.table], *_STREAM_NAMES}
        return [
            f"source_{column.name}" if column.name in taken else column.name
            for column in self.extra
        ]

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
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"The mapping {path} cannot be read: {exc}") from exc
        return cls.of(content)

    @classmethod
    def of(cls, content: Any) -> NameMapping:
        """A mapping as a file has it.

        Raises:
            ConfigurationError: it is something else, or names a table or column of ours that is
                none.
        """
        tables, columns = _parts_of_mapping(content)
        _require_known("tables", {*tables, *columns}, TABLES)
        for table, names in columns.items():
            _require_known(f"columns of {table}", names, _COLUMNS[table])
        return cls(tables, columns)


def _parts_of_mapping(content: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    parts = content if isinstance(content, Mapping) else {"": content}
    tables, columns = parts.get("tables", {}), parts.get("columns", {})
    is_map = isinstance(columns, Mapping) and parts.keys() <= {"tables", "columns"}
    if is_map and all(map(_are_names, (tables, *columns.values()))):
        return dict(tables), {table: dict(names) for table, names in columns.items()}
    raise ConfigurationError(
        'The mapping is not like {"tables": {"threads": "chats"}, "columns": {"threads": '
        '{"name": "title"}}}.'
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value.values())


def _require_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"The mapping names {name!r}; {what} are {', '.join(known)}. The name in your "
                "database stands on the right."
            )


@dataclass(frozen=True)
class Matches:
    """The tables that hold conversations.

    Attributes:
        chosen: A table by our name.
        others: Tables that look like these as well, and are not read.
    """

    chosen: dict[str, TableMatch]
    others: tuple[FoundTable, ...] = ()


def match_tables(
    found: Iterable[FoundTable], mapping: NameMapping, default_schema: str | None = None
) -> Matches:
    """Find the tables that hold conversations.

    Two old layers, or a copy in another schema, may be in one database. So tables are taken in
    sets: those of one schema whose names are all plural, or all singular.

    Args:
        found: All tables.
        mapping: Names that cannot be guessed.
        default_schema: Where the app finds tables that it names without a schema.

    Raises:
        ConfigurationError: the mapping names a table or column that is not there.
    """
    tables = list(found)
    mapped = {name: _mapped(name, tables, mapping) for name in mapping.tables}
    matches = [
        match
        for table in tables
        for name in TABLES
        if name not in mapped and (match := _match(name, table, mapping)) is not None
    ]
    # Of two tables in one set, most likely the app's own is the one with fewer of the columns.
    matches.sort(key=lambda match: (not match.found.is_view, len(match.columns)))
    sets: dict[tuple[str | None, bool], dict[str, TableMatch]] = {}
    for match in matches:
        plural = _plain(match.found.name) == TABLES[match.table][0]
        sets.setdefault((match.found.schema, plural), {})[match.table] = match
    schemas = {match.found.schema for match in mapped.values()} or {default_schema}
    best = max(sets, key=lambda each: _worth(sets[each], each[0] in schemas), default=None)
    chosen = dict(mapped)
    if best is not None:
        other = sets.get((best[0], not best[1]), {})
        # Names may be mixed, but a set that is a store by itself belongs to another layer.
        chosen = {**({} if _is_store(other) else other), **sets[best], **mapped}
    _require_columns(chosen, mapping)
    taken = {match.found for match in chosen.values()}
    others = {match.found: None for match in matches if match.found not in taken}
    return Matches(chosen, tuple(others))


def _is_store(matches: Mapping[str, TableMatch]) -> bool:
    return matches.keys() >= {"threads", "steps"}


def _worth(matches: Mapping[str, TableMatch], is_default: bool) -> tuple[bool, bool, int, int]:
    columns = sum(len(match.columns) for match in matches.values())
    return _is_store(matches), is_default, len(matches), columns


def _mapped(name: str, tables: list[FoundTable], mapping: NameMapping) -> TableMatch:
    chosen = mapping.tables[name]
    named = [table for table in tables if chosen in (str(table), table.name)]
    found = [match for table in named if (match := _match(name, table, mapping)) is not None]
    if not found:
        needed = ", ".join(sorted(_REQUIRED[name]))
        raise ConfigurationError(
            f"The mapping names the table {chosen!r} for {name}, and the source has no table of "
            f"that name with columns for {needed}."
        )
    return max(found, key=lambda match: len(match.columns))


def _require_columns(chosen: Mapping[str, TableMatch], mapping: NameMapping) -> None:
    for table, names in mapping.columns.items():
        for ours, theirs in names.items():
            column = chosen[table].columns.get(ours) if table in chosen else None
            if column is None or column.name != theirs:
                raise ConfigurationError(
                    f"The mapping names the column {theirs!r} for {ours} of {table}, and the "
                    "source has no such column."
                )


def _match(name: str, table: FoundTable, mapping: NameMapping) -> TableMatch | None:
    if name not in mapping.tables and _plain(table.name) not in TABLES[name]:
        return None
    columns = _columns(name, table, mapping.columns.get(name, {}))
    if not _REQUIRED[name] <= columns.keys():
        return None
    return TableMatch(name, table, columns)


def _columns(name: str, table: FoundTable, mapped: Mapping[str, str]) -> dict[str, Column]:
    known = {_plain(column): column for column in _COLUMNS[name]}
    chosen = {theirs: ours for ours, theirs in mapped.items()}
    columns: dict[str, Column] = {}
    # What a person chose, then the name itself, then another name of the same.
    for ours_of in (
        lambda column: chosen.get(column.name),
        lambda column: column.name if column.name in _COLUMNS[name] else None,
        lambda column: known.get(_plain(column.name)),
        lambda column: _alias(name, _plain(column.name)),
    ):
        for column in table.columns:
            ours = ours_of(column)
            # Of two columns that look alike the first is read; the other is an extra field.
            if ours is not None and ours not in columns and column not in columns.values():
                columns[ours] = column
    return columns


def _alias(table: str, plain: str) -> str | None:
    ours = _ALIASES.get(plain)
    return ours if ours in _COLUMNS[table] else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def is_prisma(matches: Mapping[str, TableMatch]) -> bool:
    """Whether these are the tables of Chainlit's asyncpg layer.

    Its steps have a ``startTime``, as PraisonAI's have, and feedback names a ``stepId``. No other
    layer hides deleted threads.
    """
    if not _is_named(matches, "steps", "start", "starttime"):
        return False
    if "feedbacks" in matches:
        return _is_named(matches, "feedbacks", "forId", "stepid")
    return "threads" in matches and "deletedAt" in matches["threads"].columns


def is_praisonai(matches: Mapping[str, TableMatch]) -> bool:
    """Whether these are the tables of PraisonAI's class since 1.0.5: metadata is in ``meta``."""
    return any(_is_named(matches, table, "metadata", "meta") for table in matches)


def _is_named(matches: Mapping[str, TableMatch], table: str, ours: str, plain: str) -> bool:
    column = matches[table].columns.get(ours) if table in matches else None
    return column is not None and _plain(column.name) == plain


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
