"""Conversations that Chainlit's own layers wrote are moved as they read them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from chainlit.data.chainlit_data_layer import ChainlitDataLayer
from chainlit.data.sql_alchemy import SQLAlchemyDataLayer
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer, migrate
from mongo_datalayer.errors import SourceError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.migrate import Options, reader
from tests.migrate.sources import PRISMA, TABLES, FolderStorage, fill

Documents = AsyncDatabase[dict[str, Any]]
SAME = ("id", "name", "userId", "userIdentifier", "metadata")
OF_STEP = ("id", "type", "name", "parentId", "output", "createdAt", "metadata", "isError")


async def test_sqlalchemy_on_sqlite(database: Documents, tmp_path: Path) -> None:
    path = tmp_path / "chainlit.db"
    with sqlite3.connect(path) as connection:
        for name, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
    connection.close()
    url = f"sqlite+aiosqlite:///{path}"
    layer = SQLAlchemyDataLayer(url, storage_provider=FolderStorage(tmp_path / "files"))  # type: ignore[arg-type]

    await compared(layer, url, database, tmp_path / "files")

    await layer.engine.dispose()


async def test_sqlalchemy_on_postgresql(
    database: Documents, postgres_url: str, tmp_path: Path
) -> None:
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        for name, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
    url = postgres_url.replace("postgresql", "postgresql+asyncpg")
    layer = SQLAlchemyDataLayer(url, storage_provider=FolderStorage(tmp_path / "files"))  # type: ignore[arg-type]

    await compared(layer, url, database, tmp_path / "files")

    await layer.engine.dispose()


async def test_the_official_layer(database: Documents, postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        connection.execute(PRISMA)
    layer = ChainlitDataLayer(postgres_url, FolderStorage(tmp_path / "files"))  # type: ignore[arg-type]

    await compared(layer, postgres_url, database, tmp_path / "files")

    await layer.close()


async def compared(layer: Any, url: str, database: Documents, files: Path) -> None:
    """Fill, look, move, verify; what the old layer reads is what the new one reads."""
    thread_ids = await fill(layer)
    options = Options(files=files)

    found = await migrate.inspect(url, options)
    with found:
        assert found.complete
        assert found.counts["steps"]["read"] == 12

    for outcome in ("stored", "already there"):
        with await migrate.run(url, database, options) as report:
            assert report.complete, report.as_dict(findings=True)
            assert {table: count[outcome] for table, count in report.counts.items()} == {
                "users": 1,
                "threads": 3,
                "steps": 12,
                "elements": 3,
                "feedbacks": 3,
                "files": 3,
            }
    with await migrate.verify(url, database, options) as report:
        assert report.complete

    ours = MongoDataLayer(client=database.client, database=database.name)
    user = await ours.get_user("ada@example.com")
    before = await layer.get_user("ada@example.com")
    assert user is not None
    assert (user.id, user.metadata) == (before.id, {"role": "admin"})
    for number, thread_id in enumerate(thread_ids):
        old, new = await layer.get_thread(thread_id), await ours.get_thread(thread_id)
        assert new is not None
        assert {k: new.get(k) for k in SAME} == {k: old.get(k) for k in SAME} | {
            "metadata": {"a.b": {"$x": number}}
        }
        assert [step["output"].split("-")[0] for step in new["steps"]] == [
            "output of run",
            "output of question",
            "output of tool",
            "output of answer",
        ]
        assert [step["parentId"] for step in new["steps"][1:]] == [new["steps"][0]["id"]] * 3
        assert new["steps"][2]["input"] == '{"q": 1}'
        assert new["steps"][3]["metadata"] == {"favorite": True}
        feedback = new["steps"][3]["feedback"]
        assert feedback is not None
        assert (feedback["value"], feedback["comment"]) == (number % 2, "fine")
        assert new["elements"] is not None
        element = new["elements"][0]
        assert element["objectKey"] is not None
        assert (element["type"], element["forId"]) == ("text", new["steps"][1]["id"])
        content = await FileBucket(database).read(element["objectKey"])
        assert content == f"file {number}".encode()
    await ours.close()


async def test_a_source_that_is_lost_in_the_middle(
    database: Documents, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before is stored, and the next run goes on."""
    import psycopg

    monkeypatch.setattr(reader, "BATCH_THREADS", 1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
        threads = "INSERT INTO threads (id, name) SELECT gen_random_uuid(), 'x' FROM "
        connection.execute(f"{threads} generate_series(1, 1000)")

        def lose(phase: str, _rows: int) -> None:
            if phase == "moving":
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                connection.execute(
                    f"{others} datname = current_database() AND pid <> pg_backend_pid()"
                )

        with pytest.raises(SourceError, match="to its end"):
            await migrate.run(postgres_url, database, progress=lose)
        assert 0 < await database.threads.count_documents({}) < 1000

        with await migrate.run(postgres_url, database, Options(limit=10)) as report:
            assert report.complete
        with await migrate.run(postgres_url, database) as report:
            assert report.complete
    assert await database.threads.count_documents({}) == 1000


@pytest.mark.parametrize("form", ["1.0.2", "1.0.5"])
async def test_praisonais_tables(database: Documents, tmp_path: Path, form: str) -> None:
    """Both forms of its tables; the table that holds an API key is not looked into."""
    later = form == "1.0.5"
    metadata, start, end = (
        ("meta", "startTime", "endTime") if later else ("metadata", "start", "end")
    )
    with sqlite3.connect(tmp_path / "database.sqlite") as connection:
        tables = f"""
            CREATE TABLE users (id TEXT PRIMARY KEY, identifier TEXT UNIQUE NOT NULL,
              {metadata} TEXT NOT NULL DEFAULT '{{}}', createdAt TEXT);
            CREATE TABLE threads (id TEXT PRIMARY KEY, createdAt TEXT, name TEXT, userId TEXT,
              userIdentifier TEXT, tags TEXT DEFAULT '[]', {metadata} TEXT);
            CREATE TABLE steps (id TEXT PRIMARY KEY, name TEXT, type TEXT, threadId TEXT,
              parentId TEXT, disableFeedback BOOLEAN, streaming BOOLEAN, {metadata} TEXT,
              tags TEXT, input TEXT, output TEXT, createdAt TEXT, "{start}" TEXT, "{end}" TEXT);
            CREATE TABLE elements (id TEXT PRIMARY KEY, threadId TEXT, type TEXT, url TEXT,
              name TEXT, objectKey TEXT, forId TEXT, mime TEXT);
            CREATE TABLE feedbacks (id TEXT PRIMARY KEY, forId TEXT, value INT, threadId TEXT);
            CREATE TABLE settings (id INTEGER PRIMARY KEY, key TEXT, value TEXT);
            INSERT INTO settings VALUES (1, 'OPENAI_API_KEY', 'sk-secret');
            INSERT INTO users VALUES ('u', 'admin', '{{"role": "x"}}', '2026-01-01T00:00:00Z');
            INSERT INTO threads VALUES ('t', NULL, 'Hello', 'u', 'admin', '["a", "b"]',
              '{{"model_name": "m", "gone": null}}');
            INSERT INTO steps VALUES ('s', 'admin', 'user_message', 't', NULL, 1, 0, '{{}}', '[]',
              '', 'hi', '2026-01-02T00:00:00Z', '2026-01-02T00:00:00Z', NULL);
            INSERT INTO elements VALUES ('e', 't', 'file', 'file:///old/.files/u/e/a.txt', 'a.txt',
              'u/e/a.txt', 's', 'text/plain');
            INSERT INTO feedbacks VALUES ('f', 's', 1, 't');
        """  # noqa: S608 - the names are ours
        connection.executescript(tables)
    connection.close()
    folder = tmp_path / ".files" / "u" / "e"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("content")

    options = Options(files=tmp_path)
    with await migrate.run(str(tmp_path / "database.sqlite"), database, options) as report:
        assert report.complete, report.as_dict(findings=True)
        assert ("PraisonAI" in report.kind) == later
        assert any("settings" in warning for warning in report.warnings)
        # Its class writes a list of columns of its own, so nothing was lost to a missing one.
        assert any("autoCollapse" in warning for warning in report.warnings) != later
        assert "sk-secret" not in str(report.as_dict(findings=True))

    ours = MongoDataLayer(client=database.client, database=database.name)
    thread: Any = await ours.get_thread("t")
    await ours.close()
    assert (thread["userId"], thread["tags"]) == ("u", ["a", "b"])
    assert thread["metadata"] == {"model_name": "m"}
    assert thread["createdAt"] == "2026-01-02T00:00:00Z"
    step = thread["steps"][0]
    assert (step["start"], step["feedback"]["value"]) == ("2026-01-02T00:00:00Z", 1)
    assert thread["elements"][0]["objectKey"] == "t/e"
