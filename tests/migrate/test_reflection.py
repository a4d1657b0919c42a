"""Tables and columns are found by name, whatever people made of the documented schema."""

from __future__ import annotations

import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer, migrate
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate import Options
from mongo_datalayer.migrate.reflection import NameMapping
from tests.migrate.sources import NOON, PRISMA, TABLES, SqliteSource

Documents = AsyncDatabase[dict[str, Any]]


async def thread_of(database: Documents) -> Any:
    layer = MongoDataLayer(client=database.client, database=database.name)
    thread = await layer.get_thread("t")
    await layer.close()
    return thread


async def test_an_apps_own_table_user_is_not_taken_for_the_users(
    source: SqliteSource, database: Documents
) -> None:
    source.connection.execute('CREATE TABLE "user" (id TEXT, identifier TEXT, password TEXT)')
    source.thread("hello", id="t", userId=source.add("users", identifier="ada"))

    with await migrate.run(str(source.path), database) as report:
        assert report.complete, report.as_dict(findings=True)
        assert {table.name for table in report.tables if table.table == "users"} == {"users"}

    assert (await thread_of(database))["userIdentifier"] == "ada"


async def test_singular_lower_case_names_and_tables_of_the_app(
    tmp_path: Path, database: Documents
) -> None:
    tables = {**dict.fromkeys(TABLES, ""), "users": "id INTEGER, email TEXT"}
    source = SqliteSource(tmp_path / "app.db", **tables)
    source.connection.executescript("""
        CREATE TABLE "user" (id TEXT, identifier VARCHAR, metadata TEXT, created_at TIMESTAMP);
        CREATE TABLE thread (id TEXT, created_at TIMESTAMP, name TEXT, user_id TEXT,
          parent_thread_id TEXT, tags VARCHAR);
        CREATE TABLE step (id TEXT, type TEXT, THREADID TEXT, parentid TEXT, output TEXT,
          created_at TIMESTAMP, score REAL, show_input TEXT, name TEXT);
        INSERT INTO users VALUES (1, 'ada@example.com');
        INSERT INTO "user" VALUES ('u', 'ada', NULL, '2026-09-09 12:00:00');
        INSERT INTO thread VALUES ('t', '2026-09-09 12:00:00', 'Hi', 'u', 'p', 'red,green');
        INSERT INTO step VALUES ('s', 'tool', 't', NULL, 'out', '2026-09-09 12:00:01', 0.5,
          'false', 'search');
    """)

    with await migrate.run(str(source.path), database) as report:
        assert report.complete, report.as_dict(findings=True)
        matched = {table.table: table for table in report.tables}

    assert matched.keys() == {"users", "threads", "steps"}
    assert matched["threads"].extra == ("parent_thread_id",)
    assert matched["steps"].columns["threadId"] == "THREADID"
    assert "autoCollapse" in matched["steps"].missing
    thread = await thread_of(database)
    assert (thread["userIdentifier"], thread["tags"]) == ("ada", ["red", "green"])
    step = thread["steps"][0]
    assert (step["score"], step["showInput"]) == (0.5, False)
    stored = await database.threads.find_one({"_id": "t"})
    assert stored is not None
    assert stored["parent_thread_id"] == "p"


async def test_the_first_schema_that_was_documented(tmp_path: Path, database: Documents) -> None:
    """Feedback had no thread then, and elements no props."""
    source = SqliteSource(
        tmp_path / "old.db", feedbacks='"id" TEXT, "forId" TEXT, "value" INT, "comment" TEXT'
    )
    source.thread("hello", id="t")
    (step,) = source.connection.execute("SELECT id FROM steps").fetchone()
    source.add("feedbacks", forId=step, value=1)

    with await migrate.run(str(source.path), database) as report:
        assert report.complete

    assert (await thread_of(database))["steps"][0]["feedback"]["value"] == 1


async def test_without_unique_ids_and_users(tmp_path: Path, database: Documents) -> None:
    tables = {name: columns.replace(" PRIMARY KEY", "") for name, columns in TABLES.items()}
    tables["users"] = tables["users"].replace(" UNIQUE", "")
    source = SqliteSource(tmp_path / "loose.db", **tables)
    source.add("users", id="u1", identifier="ada")
    source.add("users", id="u2", identifier="ada")
    source.add("threads", id="t", name="first", userId="u1")
    source.add("threads", id="t", name="second", userId="u2")
    source.add("steps", id="s", threadId="t", output="first")
    source.add("steps", id="s", threadId="t", output="second")
    source.add("feedbacks", id="f", forId="s", threadId="t")

    with await migrate.run(str(source.path), database) as report:
        assert report.complete
        merged = {each["id"] for each in report.findings() if each["outcome"] == "merged"}

    assert merged == {"u2", "t", "s"}
    thread = await thread_of(database)
    assert (thread["name"], thread["userId"]) == ("second", "u1")
    assert thread["steps"][0]["feedback"]["id"] == "f"


async def test_numeric_ids_of_sqlite(source: SqliteSource, database: Documents) -> None:
    """A UUID column of SQLite makes numbers of ids that look like one."""
    source.add("users", id="007", identifier="bond")
    source.thread("hello", id="424242", userId="007")

    with await migrate.run(str(source.path), database) as report:
        assert report.complete

    stored = await database.threads.find_one({})
    assert stored is not None
    assert (stored["_id"], stored["userId"], len(stored["steps"])) == ("424242", "7", 1)


async def test_ids_that_a_database_takes_for_the_same(tmp_path: Path, database: Documents) -> None:
    """Columns may compare without regard to case; ids of ours never do."""
    steps = TABLES["steps"].replace('"threadId" UUID', '"threadId" TEXT COLLATE NOCASE')
    source = SqliteSource(tmp_path / "nocase.db", steps=steps)
    for thread in ("B", "a", "b"):
        source.thread(f"of {thread}", id=thread)
    source.add("steps", id="lost", threadId="A")

    with await migrate.run(str(source.path), database) as report:
        assert {each["id"] for each in report.findings() if each["table"] == "steps"} == {"lost"}

    found = {thread["_id"]: thread["steps"] async for thread in database.threads.find({})}
    assert {each: [step["output"] for step in steps] for each, steps in found.items()} == {
        each: [f"of {each}"] for each in ("B", "a", "b")
    }


async def test_another_schema_and_types_of_postgresql(
    postgres_url: str, database: Documents
) -> None:
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        connection.execute("""
            CREATE TABLE users (id SERIAL, email TEXT);
            CREATE SCHEMA chat;
            CREATE TABLE chat.users (id UUID, identifier TEXT, metadata JSON,
              "createdAt" TIMESTAMPTZ);
            CREATE TABLE chat.threads (id UUID, "createdAt" TIMESTAMPTZ, "userId" UUID,
              tags JSONB, metadata JSON);
            CREATE TABLE chat.steps (id UUID, "threadId" TEXT, type TEXT, output TEXT,
              "createdAt" TIMESTAMP, metadata TEXT, generation JSONB, size NUMERIC, raw BYTEA);
            CREATE TABLE chat.elements (id UUID, "threadId" UUID, "forId" TEXT, name TEXT);
            CREATE TABLE chat.feedbacks (id UUID, "forId" UUID, value DOUBLE PRECISION);
            INSERT INTO chat.users VALUES ('00000000-0000-0000-0000-00000000000a', 'ada',
              '{"n": 12345678901234567890123}', '2026-09-09 14:00:00+02');
            INSERT INTO chat.threads VALUES ('00000000-0000-0000-0000-00000000000b',
              '2026-09-09 14:00:00.123456+02', '00000000-0000-0000-0000-00000000000a',
              '["a"]', '"{\\"x\\": 1}"');
            INSERT INTO chat.steps VALUES ('00000000-0000-0000-0000-00000000000c',
              '00000000-0000-0000-0000-00000000000b', 'llm', 'out', '2026-09-09 12:00:00.5',
              '{"a": 1}', '{"model": "m"}', 1.5, '\\xff');
            INSERT INTO chat.elements VALUES ('00000000-0000-0000-0000-00000000000d', NULL,
              '00000000-0000-0000-0000-00000000000c', 'a.txt');
            INSERT INTO chat.feedbacks VALUES ('00000000-0000-0000-0000-00000000000e',
              '00000000-0000-0000-0000-00000000000c', 1);
        """)

    with await migrate.run(postgres_url, database) as report:
        assert report.complete, report.as_dict(findings=True)
        assert {table.name for table in report.tables} >= {"chat.users", "chat.threads"}

    layer = MongoDataLayer(client=database.client, database=database.name)
    thread: Any = await layer.get_thread("00000000-0000-0000-0000-00000000000b")
    await layer.close()
    assert (thread["createdAt"], thread["tags"]) == ("2026-09-09T12:00:00.123000Z", ["a"])
    assert (thread["userIdentifier"], thread["metadata"]) == ("ada", {"x": 1})
    step = thread["steps"][0]
    assert (step["createdAt"], step["generation"]) == (
        "2026-09-09T12:00:00.500000Z",
        {"model": "m"},
    )
    assert (step["size"], step["raw"], step["feedback"]["value"]) == (1.5, "/w==", 1)
    assert thread["elements"][0]["name"] == "a.txt"


async def test_names_that_cannot_be_guessed(tmp_path: Path, database: Documents) -> None:
    source = SqliteSource(tmp_path / "own.db", **dict.fromkeys(TABLES, ""))
    source.connection.executescript("""
        CREATE TABLE chats (id TEXT, title TEXT);
        CREATE TABLE chat_events (id TEXT, chat TEXT, type TEXT, body TEXT, "createdAt" TEXT);
        INSERT INTO chats VALUES ('t', 'Hello');
        INSERT INTO chat_events VALUES ('s', 't', 'user_message', 'hi', '2026-09-09T12:00:00Z');
    """)
    mapping = tmp_path / "mapping.json"
    names = {
        "tables": {"threads": "chats", "steps": "chat_events"},
        "columns": {"threads": {"name": "title"}, "steps": {"threadId": "chat", "output": "body"}},
    }
    mapping.write_text(json.dumps(names))

    with pytest.raises(ConfigurationError, match="--mapping"):
        await migrate.run(str(source.path), database)
    with await migrate.run(str(source.path), database, Options(mapping=mapping)) as report:
        assert report.complete

    thread = await thread_of(database)
    assert (thread["name"], thread["steps"][0]["output"]) == ("Hello", "hi")


@pytest.mark.parametrize(
    ("columns", "name"),
    [({"name": "title"}, "mine"), ({"name": "name"}, "theirs"), ({}, "theirs")],
)
async def test_a_mapping_goes_before_the_name_of_a_column(
    tmp_path: Path, database: Documents, columns: dict[str, str], name: str
) -> None:
    source = SqliteSource(tmp_path / "own.db", threads=f'{TABLES["threads"]}, "title" TEXT')
    source.thread("hello", id="t", name="theirs", title="mine")

    options = Options(mapping={"columns": {"threads": columns}})
    with await migrate.run(str(source.path), database, options) as report:
        assert report.complete

    assert (await thread_of(database))["name"] == name
    stored = await database.threads.find_one({})
    assert stored is not None
    kept = {"theirs": "title", "mine": "source_name"}[name]
    assert {stored["name"], stored[kept]} == {"theirs", "mine"}


@pytest.mark.parametrize(
    ("mapping", "wrong"),
    [
        ({"tables": {"threads": "chats"}}, "chats"),
        ({"tables": {"users": "elements"}}, "identifier"),
        ({"columns": {"threads": {"name": "title"}}}, "title"),
        ({"columns": {"threads": {"titel": "name"}}}, "titel"),
    ],
)
async def test_a_mapping_to_what_is_not_there(
    source: SqliteSource, mapping: dict[str, Any], wrong: str
) -> None:
    """Else it would be ignored, and nobody would know."""
    source.thread("hello")

    with pytest.raises(ConfigurationError, match=wrong):
        await migrate.inspect(str(source.path), Options(mapping=mapping))


@pytest.mark.parametrize(
    "content",
    [
        "[",
        '["threads"]',
        '{"table": {}}',
        '{"tables": {"chats": "x"}}',
        '{"tables": {"threads": 1}}',
        '{"columns": {"threads": ["name"]}}',
        '{"columns": {"threads": {"name": null}}}',
    ],
)
def test_a_mapping_that_cannot_be_used(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=r"mapping"):
        NameMapping.load(path)


async def test_the_tables_of_two_layers_are_not_mixed(
    postgres_url: str, database: Documents
) -> None:
    """Steps of the one are no orphans of the other; what is not read is named."""
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        connection.execute(PRISMA)
        for name, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
        connection.execute("""
            INSERT INTO "Thread" (id, metadata) VALUES ('prisma', '{}');
            INSERT INTO "Step" (id, "threadId", metadata, type, "startTime", "endTime")
              VALUES ('s', 'prisma', '{}', 'run', now(), now());
            INSERT INTO threads (id) VALUES ('00000000-0000-0000-0000-00000000000a');
            INSERT INTO steps (id, "threadId", name, type, streaming) VALUES (
              '00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-00000000000a',
              'run', 'run', false);
        """)

    with await migrate.inspect(postgres_url) as report:
        assert report.complete, report.as_dict(findings=True)
        assert {table.name for table in report.tables} == {f"public.{name}" for name in TABLES}
        (note,) = [each for each in report.warnings if "not read" in each]
        assert "public.Thread" in note
    names = {"users": "User", "threads": "Thread", "steps": "Step", "elements": "Element"}
    options = Options(mapping={"tables": {**names, "feedbacks": "Feedback"}})
    with await migrate.run(postgres_url, database, options) as report:
        assert report.complete, report.as_dict(findings=True)
        assert "official" in report.kind
    assert [each["_id"] async for each in database.threads.find({})] == ["prisma"]


@pytest.mark.parametrize(("query", "read"), [("", "public"), ("?schema=other", "other")])
async def test_of_two_schemas_the_one_that_the_app_reads(
    postgres_url: str, query: str, read: str
) -> None:
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE SCHEMA another; CREATE SCHEMA other")
        for schema in ("another.", "other.", ""):
            for name, columns in TABLES.items():
                connection.execute(f"CREATE TABLE {schema}{name} ({columns})")

    with pytest.raises(ConfigurationError, match="nowhere"):
        await migrate.inspect(f"{postgres_url}?schema=nowhere")
    with await migrate.inspect(postgres_url + query) as report:
        assert {table.name for table in report.tables} == {f"{read}.{name}" for name in TABLES}
        assert any("another.threads" in warning for warning in report.warnings)


async def test_feedback_of_a_step_id_alone_does_not_make_it_the_official_layers(
    tmp_path: Path, database: Documents
) -> None:
    """That layer's createdAt is the row's; here it is all that there is."""
    tables = {**dict.fromkeys(TABLES, ""), "thread": "id TEXT", "feedback": "id, step_id, value"}
    tables["step"] = "id TEXT, thread_id TEXT, output TEXT, created_at TEXT"
    source = SqliteSource(tmp_path / "own.db", **tables)
    source.connection.executescript("""
        INSERT INTO thread VALUES ('t');
        INSERT INTO step VALUES ('s1', 't', 'second', '2026-09-09T12:00:02Z');
        INSERT INTO step VALUES ('s0', 't', 'first', '2026-09-09T12:00:01Z');
        INSERT INTO feedback VALUES ('f', 's0', 1);
    """)

    with await migrate.run(str(source.path), database) as report:
        assert report.complete

    steps = (await thread_of(database))["steps"]
    assert [(step["output"], step["createdAt"]) for step in steps] == [
        ("first", "2026-09-09T12:00:01Z"),
        ("second", "2026-09-09T12:00:02Z"),
    ]
    assert steps[0]["feedback"]["value"] == 1


async def test_a_columns_own_name_goes_before_another_name_of_it(
    tmp_path: Path, database: Documents
) -> None:
    steps = f'"meta" TEXT, "startTime" TEXT, {TABLES["steps"]}'
    source = SqliteSource(tmp_path / "both.db", steps=steps)
    source.add("threads", id="t")
    own = {"metadata": '{"own": 1}', "start": NOON.format(1)}
    source.add("steps", threadId="t", meta="{}", startTime=NOON.format(9), **own)

    with await migrate.run(str(source.path), database) as report:
        assert "PraisonAI" not in report.kind

    (step,) = (await thread_of(database))["steps"]
    assert (step["metadata"], step["start"]) == ({"own": 1}, NOON.format(1))
    assert (step["meta"], step["startTime"]) == ("{}", NOON.format(9))


async def test_tables_that_cannot_be_looked_at_do_not_matter(
    source: SqliteSource, database: Documents
) -> None:
    """A view of a table that is gone, and a table of an extension that is not loaded."""
    source.thread("hello", id="t")
    source.connection.executescript("""
        CREATE TABLE gone (x); CREATE VIEW broken AS SELECT * FROM gone; DROP TABLE gone;
        PRAGMA writable_schema = on;
        INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)
          VALUES ('table', 'vec', 'vec', 0, 'CREATE VIRTUAL TABLE vec USING vec0(x float[4])');
    """)

    with await migrate.run(str(source.path), database) as report:
        assert report.complete

    assert (await thread_of(database))["steps"][0]["output"] == "hello"


async def test_uuids_as_bytes(tmp_path: Path, database: Documents) -> None:
    tables = {name: columns.replace("UUID", "BLOB") for name, columns in TABLES.items()}
    source = SqliteSource(tmp_path / "bytes.db", **tables)
    user, thread, step, other = (uuid.uuid5(uuid.NAMESPACE_URL, name) for name in "utso")
    source.add("users", id=user.bytes, identifier="ada")
    source.add("threads", id=thread.bytes, userId=user.bytes)
    source.add("steps", id=step.bytes, threadId=thread.bytes)
    source.add("steps", id=other.bytes, threadId=thread.bytes, parentId=step.bytes)
    source.add("feedbacks", id="f", forId=other.bytes, threadId=thread.bytes)
    source.add("elements", id="e", forId=step.bytes, threadId=None)

    with await migrate.run(str(source.path), database) as report:
        assert report.complete, report.as_dict(findings=True)

    stored = await database.threads.find_one({})
    assert stored is not None
    assert (stored["_id"], stored["userId"]) == (str(thread), str(user))
    assert [step["id"] for step in stored["steps"]] == [str(step), str(other)]
    assert stored["steps"][1]["parentId"] == stored["elements"][0]["forId"] == str(step)
    assert stored["steps"][1]["feedback"]["forId"] == str(other)


async def test_ids_of_any_encoding_find_their_rows(tmp_path: Path, database: Documents) -> None:
    """SQLite sorts a database in UTF-16, and texts that are none, in an order of its own."""
    path = tmp_path / "utf16.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("CREATE TABLE empty (x)")  # it is written with the first table
    connection.close()
    source = SqliteSource(path)
    for thread in ("a", "ā", "Ā", "\U0001f600", "\uffff", "é"):
        source.add("threads", id=thread)
        if thread != "\U0001f600":
            source.add("steps", threadId=thread, output=f"of {thread}")

    with await migrate.run(str(path), database) as report:
        assert report.complete

    found = {thread["_id"]: thread["steps"] async for thread in database.threads.find({})}
    assert found.pop("\U0001f600") == []
    assert [steps[0]["output"] for steps in found.values()] == [f"of {each}" for each in found]
