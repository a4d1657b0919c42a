"""What people type for a source."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate.source_urls import read_source


@pytest.mark.parametrize(
    ("typed", "url", "identity"),
    [
        (
            "postgresql://ada:se%40cret@db:5433/chat",
            "postgresql+psycopg://ada:se%40cret@db:5433/chat",
            "postgresql://db:5433/chat",
        ),
        ("postgres://db/chat", "postgresql+psycopg://db/chat", "postgresql://db/chat"),
        (
            "postgresql+asyncpg://db/chat?ssl=require",
            "postgresql+psycopg://db/chat?sslmode=require",
            "postgresql://db/chat",
        ),
        (
            "postgresql://db/chat?schema=public&pgbouncer=true&pool_timeout=0",
            "postgresql+psycopg://db/chat",
            "postgresql://db/chat",
        ),
        (
            "postgresql+asyncpg://db/chat?ssl=false&prepared_statement_cache_size=0&options=-c%20x",
            "postgresql+psycopg://db/chat?sslmode=disable&options=-c%20x",
            "postgresql://db/chat",
        ),
        ("mysql+aiomysql://db/chat", "mysql+pymysql://db/chat", "mysql://db/chat"),
        ("mariadb://db/chat", "mysql+pymysql://db/chat", "mysql://db/chat"),
    ],
)
def test_servers(typed: str, url: str, identity: str) -> None:
    found = read_source(typed)

    assert (found.kind, found.url, found.identity) == ("sql", url, identity)


def test_the_schema_of_prismas_url_is_kept() -> None:
    assert read_source("postgresql://db/chat?schema=chat").schema == "chat"
    assert read_source("postgresql://db/chat").schema is None


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "chat room.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE threads (id)")
    connection.close()
    lines = tmp_path / "threads.jsonl"
    lines.write_text("{}")

    for typed in (str(path), f"sqlite:///{path}", f"sqlite+aiosqlite:///{path}"):
        found = read_source(typed)
        assert (found.kind, found.path, found.identity) == ("sqlite", path, str(path))
    assert read_source(f"sqlite:///{tmp_path}/chat%20room.db").path == path
    assert read_source(str(lines)).kind == "json"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("mongodb://localhost", "That is where to move to"),
        ("oracle://localhost", "is no source"),
        ("nowhere.db", "There is no nowhere.db"),
        ("postgresql://host:port/chat", "cannot be used"),
        ("", "has no name"),
        ("dynamodb://?region_name=x", "has no name"),
    ],
)
def test_what_is_no_source_is_explained(typed: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        read_source(typed)


def test_no_password_is_in_what_is_remembered() -> None:
    assert "secret" not in read_source("postgresql://ada:secret@db/chat").identity
