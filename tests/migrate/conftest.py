"""Servers that sources live on, and a source that Chainlit's own layer filled."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.migrate.sources import SqliteSource, mariadb_server
from tests.programs import left_out

if TYPE_CHECKING:
    from benchmarks.postgres import LocalPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server that lives as long as the tests."""
    from benchmarks.postgres import LocalPostgres, PostgresError

    try:
        server = LocalPostgres()
        server.__enter__()
    except PostgresError as exc:
        left_out(f"the tests with PostgreSQL: {exc}")
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def postgres_url(postgres: LocalPostgres) -> str:
    """The address of an empty database."""
    import psycopg

    name = f"source_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Callable[[str], str]]:
    """A MariaDB server; makes empty databases and gives their addresses."""
    with mariadb_server(left_out) as new_database:
        yield new_database


@pytest.fixture
def source(tmp_path: Path) -> SqliteSource:
    """A SQLite database with the documented tables, empty."""
    return SqliteSource(tmp_path / "chainlit.db")
