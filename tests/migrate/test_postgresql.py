"""What PostgreSQL stores and Python has no value for, and encodings other than UTF-8."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import migrate
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate import Options

Documents = AsyncDatabase[dict[str, Any]]

NOON = "2026-09-09T12:00:00+00:00"
TABLES = """
    CREATE TABLE users (id TEXT, identifier TEXT, "createdAt" TIMESTAMPTZ);
    CREATE TABLE threads (id CHAR(8), name TEXT, "userId" CHAR(8), "createdAt" TIMESTAMPTZ);
    CREATE TABLE steps (id CHAR(8), "threadId" TEXT, "parentId" CHAR(8), output TEXT,
      "createdAt" TIMESTAMP, day DATE);
"""


async def test_times_that_python_has_none_for_do_not_end_a_run(
    postgres_url: str, database: Documents
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(TABLES)
        connection.execute("""
            INSERT INTO threads VALUES ('t', 'x', NULL, 'infinity');
            INSERT INTO steps VALUES ('s1', 't', NULL, 'one', '2026-09-09 12:00', 'infinity'),
              ('s2', 't', 's1', 'two', '0044-03-15 12:00 BC', '2026-09-09');
        """)

    with await migrate.run(postgres_url, database) as report:
        assert report.complete
        reasons = {(each["id"], each["reason"]) for each in report.findings()}

    assert {("t", "createdAt is not a time"), ("s2", "createdAt is not a time")} <= reasons
    stored = await database.threads.find_one({})
    assert stored is not None
    # CHAR fills an id up with spaces, which are no part of it.
    assert {step["id"]: step.get("parentId") for step in stored["steps"]} == {
        "s1": None,
        "s2": "s1",
    }
    assert {step["day"] for step in stored["steps"]} == {"infinity", "2026-09-09"}


async def test_a_database_without_an_encoding(postgres_url: str, database: Documents) -> None:
    """That is what initdb makes in a container without a locale."""
    name = f"{postgres_url.rpartition('/')[2]}_ascii"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        options = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(f"CREATE DATABASE {name} {options}")
    url = f"{postgres_url.rpartition('/')[0]}/{name}"
    with psycopg.connect(url) as connection:
        connection.execute(TABLES.encode())
        rows = (
            "INSERT INTO threads VALUES ('t', 'Größe'); INSERT INTO steps VALUES ('s', 't', NULL,"
        )
        connection.execute(rows.encode() + rb" E'a\377b')")

    with await migrate.run(url, database) as report:
        assert ("changed", "steps", "output is not UTF-8") in report.reasons

    stored = await database.threads.find_one({})
    assert stored is not None
    assert (stored["_id"], stored["name"]) == ("t", "Größe")
    assert stored["steps"][0]["output"] == "a\ufffdb"


async def test_rows_that_a_policy_hides_are_no_empty_source(postgres_url: str) -> None:
    role = f"reader_{postgres_url.rpartition('_')[2]}"
    with psycopg.connect(postgres_url) as connection:
        connection.execute(TABLES)
        connection.execute("INSERT INTO threads VALUES ('t', 'x')")
        connection.execute("ALTER TABLE threads ENABLE ROW LEVEL SECURITY")
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    address = postgres_url.rpartition("@")[2]

    with pytest.raises(ConfigurationError, match="row-level security"):
        await migrate.inspect(f"postgresql://{role}:secret@{address}")


async def test_local_times_that_the_database_took_for_utc(
    postgres_url: str, database: Documents
) -> None:
    """The old layer wrote 14:00Z at noon UTC in Berlin, whatever type the column has."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute(TABLES)
        connection.execute("""
            INSERT INTO users VALUES ('u', 'ada', '2026-09-09T14:00:00Z');
            INSERT INTO threads VALUES ('t', 'x', 'u', '2026-09-09T14:00:00Z');
            INSERT INTO steps VALUES ('s', 't', NULL, 'one', '2026-09-09T12:00:00Z');
        """)

    with await migrate.run(postgres_url, database, Options(source_timezone="Europe/Berlin")):
        pass

    thread, user = await database.threads.find_one({}), await database.users.find_one({})
    assert thread is not None
    assert user is not None
    assert {each["createdAt"].isoformat() for each in (thread, user)} == {NOON}
    assert thread["steps"][0]["createdAt"] == "2026-09-09T12:00:00Z"
