"""``mongo-datalayer migrate``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from tests.cli.commands import NOBODY, kill_when, run
from tests.migrate.sources import SqliteSource

Documents = AsyncDatabase[dict[str, Any]]


@pytest.fixture
def where(mongo_uri: str, database_name: str) -> tuple[str, ...]:
    return ("--uri", mongo_uri, "--database", database_name)


async def test_the_whole_way(
    source: SqliteSource, where: tuple[str, ...], database: Documents
) -> None:
    user = source.add("users", identifier="ada")
    source.thread("hello", userId=user)
    path = str(source.path)

    inspected = await run("migrate", "inspect", path)
    assert inspected.code == 0, inspected.err
    assert "threads: threads, 1 row" in inspected.out
    assert "Nothing was changed." in inspected.out
    dry = await run("migrate", "run", path, "--dry-run", *where)
    assert (dry.code, await database.list_collection_names()) == (0, [])
    # With the strict Stable API both do the same.
    strict = {"MONGO_DATALAYER_SERVER_API": "1-strict"}
    moved = await run("migrate", "run", path, *where, **strict)
    assert (moved.code, moved.err) == (0, "")
    assert "1 thread: 1 stored" in moved.out
    verified = await run("migrate", "verify", path, *where, **strict)
    assert verified.code == 0
    assert "1 thread: 1 already there" in verified.out

    await database.threads.update_one({}, {"$set": {"name": "other"}})
    verified = await run("migrate", "verify", path, *where)
    assert verified.code == 1
    assert "1 differs" in verified.out


async def test_what_is_left_out_is_listed(
    source: SqliteSource, where: tuple[str, ...], tmp_path: Path
) -> None:
    for _ in range(5):
        source.add("steps", threadId="nowhere")
    report = tmp_path / "report.json"

    done = await run("migrate", "run", str(source.path), "--report", str(report), *where)

    assert done.code == 1
    assert "left out, steps: its thread is missing: 5 (" in done.out
    content = json.loads(report.read_text())
    assert content["counts"]["steps"]["left_out"] == 5
    assert len(content["findings"]) == 5
    assert not content["complete"]


async def test_a_report_that_could_not_be_written_is_refused_before_the_run(
    source: SqliteSource, where: tuple[str, ...], tmp_path: Path, database: Documents
) -> None:
    source.thread("hello")
    missing = tmp_path / "nowhere" / "report.json"

    done = await run("migrate", "run", str(source.path), "--report", str(missing), *where)

    assert (done.code, done.out) == (2, "")
    assert "is no folder that you can write to" in done.err
    assert await database.list_collection_names() == []


async def test_a_source_without_rows(source: SqliteSource) -> None:
    done = await run("migrate", "inspect", str(source.path))

    assert done.code == 0
    assert "Would be moved: nothing, no rows were found." in done.out


async def test_a_long_id_is_shortened_on_the_terminal(source: SqliteSource) -> None:
    source.add("steps", id="s" * 500, threadId="nowhere")

    done = await run("migrate", "inspect", str(source.path))

    assert f"({'s' * 100}…)" in done.out


async def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    done = await run("migrate", "inspect", str(tmp_path))

    assert done.code == 2
    assert "holds no export from DynamoDB" in done.err


async def test_json(source: SqliteSource, where: tuple[str, ...]) -> None:
    source.thread("hello")

    done = await run("migrate", "run", str(source.path), "--json", *where)

    content = json.loads(done.out)
    assert content["complete"]
    assert content["counts"]["threads"]["stored"] == 1
    assert {table["table"] for table in content["tables"]} >= {"threads", "steps"}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("nowhere.db",), "There is no nowhere.db"),
        (("mongodb://localhost",), "--uri"),
        (("--source-timezone", "Nowhere"), "time zone"),
        (("--storage", "ftp://x"), "no storage"),
        (("--uri", NOBODY), "No MongoDB answered"),
    ],
)
async def test_what_cannot_be_done_ends_with_2(
    source: SqliteSource, where: tuple[str, ...], arguments: tuple[str, ...], hint: str
) -> None:
    given = arguments if arguments[0][0] != "-" else (str(source.path), *arguments)

    done = await run("migrate", "run", *where, *given)

    assert hint in done.failed_with_one_line()


@pytest.mark.parametrize("since", ["2026-02-30", "noon"])
async def test_what_is_no_time_is_told_with_an_example(source: SqliteSource, since: str) -> None:
    done = await run("migrate", "inspect", str(source.path), "--since", since)

    assert done.code == 2
    assert f"{since!r} is not like 2026-01-31 or 2026-01-31T09:30:00." in done.err


@pytest.mark.parametrize("since", ["2026-01-01", "2026-01-01T00:00:00"])
async def test_a_time_in_either_form(source: SqliteSource, since: str) -> None:
    source.thread("hello")

    done = await run("migrate", "inspect", str(source.path), "--since", since, "--json")

    assert done.code == 0
    assert json.loads(done.out)["counts"]["threads"]["stored"] == 1


async def test_a_command_that_is_killed_is_run_again(
    source: SqliteSource, where: tuple[str, ...], database: Documents
) -> None:
    for number in range(700):
        source.thread("hello", id=f"t{number:03}")

    async def some_are_there() -> bool:
        return await database.threads.estimated_document_count() >= 200

    code = await kill_when(
        some_are_there, "migrate", "run", str(source.path), "--rate", "100", *where
    )
    assert code == -9
    assert await database.threads.estimated_document_count() < 700

    done = await run("migrate", "run", str(source.path), *where)
    assert done.code == 0, done.out
    assert await database.threads.count_documents({}) == 700


async def test_what_replaces_asks_first(
    source: SqliteSource, where: tuple[str, ...], database: Documents
) -> None:
    source.thread("hello \x1b[2J", id="t\nERROR forged", name="\x1b]0;pwned\x07")
    command = ("migrate", "run", str(source.path), "--on-conflict", "replace", *where)

    no = await run(*command, stdin="n\n")
    nobody = await run(*command)
    dry = await run(*command, "--dry-run")
    before = await database.list_collection_names()
    yes = await run(*command, "--yes")

    assert (no.code, nobody.code, dry.code, yes.code) == (1, 2, 0, 0)
    assert f"Database {database.name!r} at 127.0.0.1:" in no.err
    assert "Pass --yes" in nobody.err
    assert before == []
    assert await database.threads.count_documents({}) == 1
    assert "\x1b" not in yes.out + dry.out


async def test_a_conflict_that_is_to_fail(
    source: SqliteSource, where: tuple[str, ...], database: Documents
) -> None:
    source.thread("hello", id="t")
    await database.threads.insert_one({"_id": "t", "steps": [], "elements": []})

    done = await run("migrate", "run", str(source.path), "--on-conflict", "fail", *where)

    assert "another thread 't'" in done.failed_with_one_line()


WITHOUT_THE_EXTRA = """
import sys
for name in ("sqlalchemy", "psycopg", "pymysql"):
    sys.modules[name] = None
from mongo_datalayer.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--help",), 0, "migrate"),
        (("migrate", "inspect", "SOURCE"), 2, "pip install 'mongo-datalayer[migrate]'"),
    ],
)
def test_without_the_extra(
    source: SqliteSource, arguments: tuple[str, ...], code: int, text: str
) -> None:
    given = [str(source.path) if argument == "SOURCE" else argument for argument in arguments]

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA, *given],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert text in done.stdout + done.stderr
