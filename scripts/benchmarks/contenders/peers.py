"""Chainlit's own data layers, on PostgreSQL and on SQLite."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg  # type: ignore[import-untyped]  # it ships no type information
from chainlit.data.chainlit_data_layer import ChainlitDataLayer
from chainlit.data.sql_alchemy import SQLAlchemyDataLayer

from benchmarks import tables
from benchmarks.contenders.contender import Contender, ForgetfulStorage, outside_of_a_chat
from benchmarks.conversations import START, Dataset, Dict, Thread, made_id, stamp
from benchmarks.postgres import LocalPostgres

Rows = Iterator[tuple[Any, ...]]

_ASYNCPG_LAYER = outside_of_a_chat(ChainlitDataLayer)
_SQLALCHEMY_LAYER = outside_of_a_chat(SQLAlchemyDataLayer)

_STEP_COLUMNS = (
    *("id", "name", "type", "threadId", "parentId", "streaming", "waitForAnswer", "isError"),
    *("metadata", "input", "output", "createdAt", "start", "end", "generation", "showInput"),
    *("defaultOpen", "autoCollapse"),
)
_ASYNCPG_STEP_COLUMNS = (
    *("id", "threadId", "parentId", "input", "metadata", "name", "output", "type"),
    *("startTime", "endTime", "showInput", "isError"),
)


class Tables(Contender):
    """A data layer on SQL tables, which are seeded in bulk."""

    async def seed(self, dataset: Dataset) -> None:
        """Insert the rows in bulk, and let the database look at them."""
        self.users |= {identifier: made_id("user", identifier) for identifier in dataset.users}
        for table, columns, rows in self._rows(dataset):
            await self._insert(table, columns, rows)
        await self._analyze()

    @abstractmethod
    def _rows(self, dataset: Dataset) -> Iterator[tuple[str, Sequence[str], Rows]]: ...

    @abstractmethod
    async def _insert(self, table: str, columns: Sequence[str], rows: Rows) -> None: ...

    @abstractmethod
    async def _analyze(self) -> None: ...


class _Postgres(Tables):
    """Tables on PostgreSQL."""

    def __init__(self, name: str, server: LocalPostgres) -> None:
        super().__init__(name)
        self._server = server
        self._database = f"chainlit_{name}"
        self._connection: Any = None

    @property
    @abstractmethod
    def _tables(self) -> Sequence[str]: ...

    async def _make(self, statements: str) -> None:
        admin = await asyncpg.connect(self._server.url("postgres"))
        await admin.execute(f"create database {self._database}")
        await admin.close()
        self._connection = await asyncpg.connect(self._server.url(self._database))
        await self._connection.execute(statements)

    async def clear(self) -> None:
        """Empty the tables."""
        names = ", ".join(f'"{table}"' for table in self._tables)
        await self._connection.execute(f"truncate {names} cascade")
        self.users = {}

    async def close(self) -> None:
        """Disconnect."""
        await super().close()
        if self._connection is not None:
            await self._connection.close()

    async def _insert(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        await self._connection.copy_records_to_table(table, records=rows, columns=columns)

    async def _analyze(self) -> None:
        await self._connection.execute("vacuum analyze")


class Asyncpg(_Postgres):
    """Chainlit's ``ChainlitDataLayer`` on PostgreSQL."""

    _tables = tables.ASYNCPG_TABLES

    async def open(self) -> None:
        """Make the tables."""
        await self._make(tables.ASYNCPG)
        storage = ForgetfulStorage()
        self.layer = _ASYNCPG_LAYER(self._server.url(self._database), storage_client=storage)

    def _rows(self, dataset: Dataset) -> Iterator[tuple[str, Sequence[str], Rows]]:
        users = ((self.users[name], name, "{}") for name in dataset.users)
        yield "User", ("id", "identifier", "metadata"), users
        threads = (
            (t.id, t.name, self.users[t.user], "{}", _naive(t.begin), _naive(t.end))
            for t in dataset.threads
        )
        yield "Thread", ("id", "name", "userId", "metadata", "createdAt", "updatedAt"), threads
        yield (
            "Step",
            _ASYNCPG_STEP_COLUMNS,
            (_asyncpg_step(s) for t in dataset.threads for s in t.steps()),
        )
        votes = (
            (vote.id, vote.step_id, "user_feedback", float(vote.value))
            for thread in dataset.threads
            for vote in thread.votes()
        )
        yield "Feedback", ("id", "stepId", "name", "value"), votes


class SQLAlchemyOnPostgres(_Postgres):
    """Chainlit's ``SQLAlchemyDataLayer`` on PostgreSQL."""

    _tables = tables.SQLALCHEMY_TABLES

    async def open(self) -> None:
        """Make the tables."""
        await self._make(tables.SQLALCHEMY)
        url = self._server.url(self._database, "postgresql+asyncpg")
        self.layer = _SQLALCHEMY_LAYER(url, storage_provider=ForgetfulStorage())

    def _rows(self, dataset: Dataset) -> Iterator[tuple[str, Sequence[str], Rows]]:
        return _sqlalchemy_rows(dataset, self.users)


class SQLAlchemyOnSQLite(Tables):
    """Chainlit's ``SQLAlchemyDataLayer`` on SQLite."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self._path = folder / "chainlit.sqlite"

    async def open(self) -> None:
        """Make the tables."""
        async with aiosqlite.connect(self._path) as connection:
            await connection.executescript(tables.SQLITE)
        url = f"sqlite+aiosqlite:///{self._path}"
        self.layer = _SQLALCHEMY_LAYER(url, storage_provider=ForgetfulStorage())

    async def clear(self) -> None:
        """Make a new file."""
        await self.layer.close()
        self._path.unlink()
        self.users = {}
        await self.open()

    def _rows(self, dataset: Dataset) -> Iterator[tuple[str, Sequence[str], Rows]]:
        return _sqlalchemy_rows(dataset, self.users)

    async def _insert(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        names = ", ".join(f'"{column}"' for column in columns)
        places = ", ".join("?" * len(columns))
        statement = f"insert into {table} ({names}) values ({places})"  # noqa: S608 - our own names
        async with aiosqlite.connect(self._path) as connection:
            await connection.executemany(statement, rows)
            await connection.commit()

    async def _analyze(self) -> None:
        async with aiosqlite.connect(self._path) as connection:
            await connection.execute("analyze")


def _sqlalchemy_rows(
    dataset: Dataset, owners: dict[str, str]
) -> Iterator[tuple[str, Sequence[str], Rows]]:
    made = stamp(START)
    users = ((owners[name], name, "{}", made) for name in dataset.users)
    yield "users", ("id", "identifier", "metadata", "createdAt"), users
    columns = ("id", "createdAt", "name", "userId", "userIdentifier", "metadata")
    threads = (
        (t.id, stamp(t.begin), t.name, owners[t.user], t.user, "{}") for t in dataset.threads
    )
    yield "threads", columns, threads
    yield "steps", _STEP_COLUMNS, _sqlalchemy_steps(dataset.threads)
    votes = (
        (vote.id, vote.step_id, thread.id, vote.value)
        for thread in dataset.threads
        for vote in thread.votes()
    )
    yield "feedbacks", ("id", "forId", "threadId", "value"), votes


def _sqlalchemy_steps(threads: Sequence[Thread]) -> Rows:
    for thread in threads:
        for step in thread.steps():
            stored = {**step, "metadata": json.dumps(step["metadata"]), "generation": "null"}
            yield tuple(stored.get(column) for column in _STEP_COLUMNS)


def _asyncpg_step(step: Dict) -> tuple[Any, ...]:
    moment = datetime.fromisoformat(step["createdAt"].removesuffix("Z"))
    return (
        *(step["id"], step["threadId"], step["parentId"], step.get("input")),
        *(json.dumps(step["metadata"]), step["name"], step["output"], step["type"]),
        *(moment, moment, str(step.get("showInput", "json")), step["isError"]),
    )


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
