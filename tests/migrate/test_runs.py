"""A run may be killed, repeated, and met by an app that writes: nothing is lost or brought back."""

from __future__ import annotations

import asyncio
import functools
import json
import sqlite3
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from chainlit.types import Pagination, ThreadFilter
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer, migrate
from mongo_datalayer.errors import ConfigurationError, MigrationConflictError, SourceError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.migrate import Options, Report, reader, sql_source
from mongo_datalayer.migrate.choosing import RECOVERABLE
from mongo_datalayer.migrate.source_urls import read_source
from mongo_datalayer.migrate.sql_snapshot import SqlSnapshot
from mongo_datalayer.mongodb.retries import Retries
from tests.migrate.sources import NOON, TABLES, SqliteSource

Documents = AsyncDatabase[dict[str, Any]]


class KilledError(BaseException):
    """Nothing that the code catches."""


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BATCH_THREADS", 2)


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bool], None]]:
    """Kill the process before, or after, its n-th command."""
    run = Retries.run

    def kill(number: int, after: bool) -> None:
        waiting = number

        async def counted(self: Retries, operation: Callable[[], Awaitable[Any]]) -> Any:
            nonlocal waiting
            waiting -= 1
            if waiting == 0 and not after:
                raise KilledError
            result = await run(self, operation)
            if waiting == 0:
                raise KilledError
            return result

        monkeypatch.setattr(Retries, "run", counted)

    yield kill
    monkeypatch.setattr(Retries, "run", run)


def filled(source: SqliteSource, folder: Path) -> Options:
    """Four threads with files, an orphan, and one thread that needs overflow and GridFS."""
    user = source.add("users", identifier="ada")
    for number in range(4):
        thread = source.thread(
            "hello", "again", id=f"t{number}", userId=user, name=f"Chat {number}"
        )
        key = f"{user}/e{number}/a.txt"
        source.add("elements", id=f"e{number}", threadId=thread, objectKey=key, mime="text/plain")
        (folder / key).parent.mkdir(parents=True)
        (folder / key).write_text(f"content {number}")
    source.thread("x" * 300_000, *("y" * 40_000 for _ in range(6)), id="t9", userId=user)
    source.add("steps", id="lost", threadId="nowhere", output="whose?")
    return Options(files=folder)


async def state(database: Documents) -> dict[str, Any]:
    """Everything that a run leaves, as it is read."""
    layer = MongoDataLayer(client=database.client, database=database.name)
    ids = [each["_id"] async for each in database.threads.find({}, {"_id": 1}).sort("_id", 1)]
    threads = {each: await layer.get_thread(each) for each in ids}
    users = [user async for user in database.users.find({})]
    files = {
        file.object_key: file.sha256
        async for file in FileBucket(database).list_files()
        if file.element_id
    }
    recorded = await database.migrations.count_documents({"hash": {"$exists": True}})
    await layer.close()
    return {"threads": threads, "users": users, "files": files, "recorded": recorded}


async def moved(source: SqliteSource, database: Documents, **options: Any) -> Report:
    report = await migrate.run(str(source.path), database, Options(**options))
    report.close()
    assert report.balanced, report.counts
    return report


def reasons(report: Report) -> set[tuple[str, str]]:
    return {(outcome, reason) for outcome, _, reason in report.reasons}


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("after", [False, True])
async def test_a_killed_run_is_ended_by_the_next_one(
    source: SqliteSource,
    tmp_path: Path,
    database: Documents,
    killed_at: Callable[[int, bool], None],
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    options = filled(source, tmp_path / "files")
    whole = database.client[f"{database.name}_whole"]
    with await migrate.run(str(source.path), whole, options):
        wanted = await state(whole)
    await database.client.drop_database(whole.name)
    run = Retries.run
    kills = 0

    while True:
        killed_at(kills + 1, after)
        try:
            with await migrate.run(str(source.path), database, options):
                break
        except KilledError:
            kills += 1
        finally:
            monkeypatch.setattr(Retries, "run", run)
        if kills % 3 == 0:  # also from the beginning, not only from where the last one was killed
            await database.client.drop_database(database.name)

    assert kills > 10
    assert await state(database) == wanted


@pytest.mark.usefixtures("small_batches")
async def test_so_is_one_that_is_killed_while_it_reads(
    source: SqliteSource, tmp_path: Path, database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = filled(source, tmp_path / "files")
    whole = database.client[f"{database.name}_whole"]
    with await migrate.run(str(source.path), whole, options):
        wanted = await state(whole)
    await database.client.drop_database(whole.name)
    batch = reader.Reader._batch
    kills = 0

    while True:
        waiting = kills + 1

        def counted(self: reader.Reader, records: Iterator[Any]) -> list[Any]:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                raise KilledError
            return batch(self, records)

        monkeypatch.setattr(reader.Reader, "_batch", counted)
        try:
            with await migrate.run(str(source.path), database, options):
                break
        except KilledError:
            kills += 1

    assert kills > 3
    assert await state(database) == wanted


async def test_so_is_a_process_that_is_killed(
    source: SqliteSource, tmp_path: Path, mongo_uri: str, database: Documents
) -> None:
    options = filled(source, tmp_path / "files")
    for number in range(200):
        source.thread("hello", id=f"u{number:03}")
    command = [sys.executable, "-m", "mongo_datalayer.cli", "migrate", "run", str(source.path)]
    command += ["--files", str(options.files), "--uri", mongo_uri, "--database", database.name]
    # So slow that it cannot be done before it is killed.
    killed = await asyncio.create_subprocess_exec(*command, "--rate", "1", stdout=DEVNULL)
    while not await database.threads.count_documents({}):
        assert killed.returncode is None
        await asyncio.sleep(0.05)
    killed.kill()
    await killed.wait()

    with await migrate.run(str(source.path), database, options) as report:
        assert report.counts["threads"]["read"] == 205
    whole = await state(database)
    await database.client.drop_database(database.name)
    with await migrate.run(str(source.path), database, options):
        pass

    assert await state(database) == whole


async def test_a_run_that_is_repeated_changes_nothing(
    source: SqliteSource, tmp_path: Path, database: Documents
) -> None:
    options = filled(source, tmp_path / "files")
    with await migrate.run(str(source.path), database, options) as report:
        assert report.counts["threads"]["stored"] == 5
    before = await state(database)
    stored = [thread async for thread in database.threads.find({})]

    with await migrate.run(str(source.path), database, options) as report:
        assert report.counts["threads"]["already there"] == 5
        assert report.counts["files"]["already there"] == 4
        assert not any(count["stored"] for count in report.counts.values())

    assert await state(database) == before
    assert [thread async for thread in database.threads.find({})] == stored


async def test_a_second_run_brings_what_came_since(
    source: SqliteSource, database: Documents
) -> None:
    first, second = source.thread("one"), source.thread("two")
    await moved(source, database)
    source.add("steps", threadId=first, output="since", createdAt=NOON.format(5))
    third = source.thread("three")

    report = await moved(source, database)

    counts = report.counts["threads"]
    assert (counts["read"], counts["stored"], counts["already there"]) == (3, 2, 1)
    threads = (await state(database))["threads"]
    assert [step["output"] for step in threads[first]["steps"]] == ["one", "since"]
    assert threads.keys() == {first, second, third}


async def test_a_source_that_is_written_to_is_read_as_it_was(
    source: SqliteSource, database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.connection.execute("PRAGMA journal_mode = wal")
    await _written_to(source, database, monkeypatch)


async def test_so_is_one_without_a_write_ahead_log_and_its_app_never_waits(
    source: SqliteSource, database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.connection.execute("PRAGMA busy_timeout = 0")
    await _written_to(source, database, monkeypatch)


async def _written_to(
    source: SqliteSource, database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [source.thread("hello", id=f"t{number}") for number in range(6)]
    monkeypatch.setattr(reader, "BATCH_THREADS", 1)
    written = False

    def write(phase: str, _rows: int) -> None:
        nonlocal written
        if phase == "moving" and not written:
            written = True
            source.add("steps", threadId=ids[5], output="meanwhile")
            source.thread("new", id="t9")

    with await migrate.run(str(source.path), database, progress=write) as report:
        assert report.complete
    threads = (await state(database))["threads"]
    assert [len(thread["steps"]) for thread in threads.values()] == [1] * 6

    report = await moved(source, database)

    assert report.complete
    threads = (await state(database))["threads"]
    assert [len(thread["steps"]) for thread in threads.values()] == [1, 1, 1, 1, 1, 2, 1]


async def test_what_was_deleted_since_stays_deleted(
    source: SqliteSource, database: Documents
) -> None:
    user = source.add("users", identifier="ada")
    for number in range(3):
        source.thread("hello", id=f"t{number}", userId=user)
    await moved(source, database)
    layer = MongoDataLayer(client=database.client, database=database.name)
    await layer.delete_thread("t0")
    await layer.delete_thread("t1")
    await layer.close()
    await database.threads.delete_one({"_id": "t1"})  # its tombstone has expired

    for on_conflict in ("skip", "replace"):
        report = await moved(source, database, on_conflict=on_conflict)
        assert ("skipped", "deleted in the target") in reasons(report)
        assert report.counts["threads"]["skipped"] == 2
        assert report.complete
    assert (await state(database))["threads"]["t0"] is None
    assert await database.threads.count_documents({"_id": "t1"}) == 0


async def test_the_threads_of_an_erased_user_do_not_come_back(
    source: SqliteSource, database: Documents
) -> None:
    user = source.add("users", identifier="ada")
    source.thread("hello", id="t0", userId=user)
    await moved(source, database)
    await database.users.delete_one({"_id": user})
    await database.threads.delete_one({"_id": "t0"})
    source.thread("later", id="t1", userId=user)

    report = await moved(source, database)

    assert report.counts["users"]["skipped"] == 1
    assert ("skipped", "its user was deleted in the target") in reasons(report)
    assert await database.threads.count_documents({}) == 0


@pytest.mark.parametrize("changed", ["renamed in the target", "deleted in the source"])
async def test_a_user_who_was_moved_still_gets_threads(
    source: SqliteSource, database: Documents, changed: str
) -> None:
    """Neither means that the user was erased: a new thread must not be skipped without a word."""
    user = source.add("users", identifier="ada")
    source.thread("hello", id="t0", userId=user)
    await moved(source, database)
    if changed == "renamed in the target":
        await database.users.update_one({"_id": user}, {"$set": {"identifier": "lovelace"}})
    else:
        source.connection.execute("DELETE FROM users")
    source.thread("later", id="t1", userId=user)

    report = await moved(source, database)

    assert report.counts["threads"]["skipped"] == report.counts["threads"]["left out"] == 0
    name = "lovelace" if "renamed" in changed else "ada"
    owners = {
        (each["_id"], each["userId"], each["userIdentifier"])
        async for each in database.threads.find({})
    }
    assert owners == {("t0", user, name), ("t1", user, name)}


async def test_what_the_app_changed_since_stays(source: SqliteSource, database: Documents) -> None:
    thread = source.thread("hello", id="t0", name="Before")
    await moved(source, database)
    layer = MongoDataLayer(client=database.client, database=database.name)
    await layer.update_thread(thread, name="Renamed in the new app")
    source.add("steps", threadId=thread, output="since")

    report = await moved(source, database)

    assert ("left out", "the target has another one") in reasons(report)
    assert not report.complete
    assert (await state(database))["threads"]["t0"]["name"] == "Renamed in the new app"
    with pytest.raises(MigrationConflictError, match="t0"):
        await moved(source, database, on_conflict="fail")
    report = await moved(source, database, on_conflict="replace")
    assert report.complete
    assert (await state(database))["threads"]["t0"]["name"] == "Before"
    await layer.close()


async def test_a_user_who_is_there_under_another_id_gets_the_threads(
    source: SqliteSource, database: Documents
) -> None:
    await database.users.insert_one({"_id": "ours", "identifier": "ada", "metadata": {"a": 1}})
    user = source.add("users", id="theirs", identifier="ada")
    source.thread("hello", id="t0", userId=user)

    report = await moved(source, database)

    assert ("merged", "user with the same identifier") in reasons(report)
    assert (await state(database))["threads"]["t0"]["userId"] == "ours"
    assert [user["_id"] for user in (await state(database))["users"]] == ["ours"]


async def test_nobody_gets_the_threads_of_another_user_with_the_same_id(
    source: SqliteSource, tmp_path: Path, database: Documents
) -> None:
    """Two apps may both have numbered their users, and a list asks for the id of its user."""
    source.thread("ada's", id="t0", userId=source.add("users", id="1", identifier="ada"))
    await moved(source, database)
    other = SqliteSource(tmp_path / "other.db")
    other.add("users", id="1", identifier="bob")
    other.add("users", id="2", identifier="carl")
    for thread, user in (("t1", "1"), ("t2", "2")):
        other.thread("hello", id=thread, userId=user)
    other.thread("hello", id="t3", userId="1", userIdentifier="gone")

    for options in ({"dry_run": True}, {}, {"on_conflict": "replace"}):
        report = await moved(other, database, **options)
        assert not report.complete
        assert ("left out", "its user's id is another user's in the target") in reasons(report)
        assert report.counts["threads"]["left out"] == 2

    assert [each["_id"] async for each in database.users.find({"identifier": "ada"})] == ["1"]
    assert {each["_id"] async for each in database.threads.find({"userId": "1"})} == {"t0"}
    assert {each["_id"] async for each in database.threads.find({})} == {"t0", "t2"}


async def test_users_with_one_id_are_not_written_over_each_other(
    tmp_path: Path, database: Documents
) -> None:
    source = SqliteSource(tmp_path / "loose.db", users='"id" TEXT, "identifier" TEXT, "x" INT')
    source.connection.executemany(
        "INSERT INTO users VALUES (?, ?, ?)", [("u", "ada", 1), ("u", "bob", 2), ("u", "ada", 3)]
    )

    for _ in range(2):
        report = await moved(source, database)
        assert report.counts["users"]["left out"] == report.counts["users"]["merged"] == 1
        assert reasons(report) >= {
            ("left out", "another user has the same id"),
            ("merged", "user with the same identifier"),
        }
    assert [(user["identifier"], user["x"]) async for user in database.users.find({})] == [
        ("ada", 1)
    ]


async def test_what_is_too_large_for_mongodb_keeps_nothing_else_out(
    tmp_path: Path, database: Documents
) -> None:
    threads = f'{TABLES["threads"]}, "notes" TEXT'
    source = SqliteSource(tmp_path / "large.db", threads=threads)
    large = "x" * 17_000_000
    source.add("users", id="u1", identifier="ada", metadata=json.dumps({"avatar": large}))
    source.add("users", id="u2", identifier="bob")
    source.thread("hello", id="t1", userId="u2", notes=large)
    source.thread("hello", id="t2", userId="u2", tags=json.dumps([large]))
    source.thread("hello", id="t3", userId="u2")

    report = await moved(source, database)

    assert report.counts["users"]["left out"] == 1
    assert report.counts["threads"]["left out"] == 2
    assert [user["_id"] async for user in database.users.find({})] == ["u2"]
    assert [thread["_id"] async for thread in database.threads.find({})] == ["t3"]


@pytest.mark.parametrize("recover", [False, True])
async def test_an_inspection_and_a_dry_run_say_of_owners_what_a_run_says(
    source: SqliteSource, database: Documents, recover: bool
) -> None:
    source.add("users", identifier="ada")
    source.thread("hello")  # ada speaks
    source.thread("hello", userIdentifier="ada")
    source.thread("hello", userIdentifier="bob")
    thread = source.add("threads")
    source.add("steps", threadId=thread, name="zoe")  # no user

    options = Options(recover_owners=recover)
    with await migrate.inspect(str(source.path), options) as report:
        inspected = reasons(report)
    dry = await moved(source, database, recover_owners=recover, dry_run=True)
    done = await moved(source, database, recover_owners=recover)

    assert inspected == reasons(dry) == reasons(done)
    found = "owner found by who speaks"
    assert ("changed", found if recover else RECOVERABLE) in inspected
    assert done.reasons["changed", "threads", "thread has no owner"] == 1
    assert done.reasons["changed", "threads", "owner found by name"] == 1


async def test_a_thread_without_a_time_is_in_the_list(
    source: SqliteSource, database: Documents
) -> None:
    user = source.add("users", identifier="ada")
    source.add("threads", id="never", userId=user, createdAt=None)
    source.add("threads", id="odd", userId=user, createdAt="yesterday")
    source.thread("hello", id="dated", userId=user)

    report = await moved(source, database)

    assert report.reasons["changed", "threads", "thread's time is 1970"] == 2
    layer = MongoDataLayer(client=database.client, database=database.name)
    page = await layer.list_threads(Pagination(first=10), ThreadFilter(userId=user))
    await layer.close()
    assert [thread["id"] for thread in page.data] == ["dated", "odd", "never"]


async def test_rows_without_a_thread_are_read_a_few_at_a_time(
    source: SqliteSource, database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_source, "MOST_LEFTOVERS", 2)
    for number in range(5):
        source.add("steps", threadId="", output=f"{number}")
        source.add("elements", threadId=None)
    source.thread("hello")

    report = await moved(source, database)

    assert report.counts["steps"]["left out"] == report.counts["elements"]["left out"] == 5
    assert report.counts["threads"]["stored"] == 1


async def test_a_dry_run_and_an_inspection_write_nothing(
    source: SqliteSource, tmp_path: Path, database: Documents
) -> None:
    options = filled(source, tmp_path / "files")
    before = source.path.read_bytes()
    dry = Options(files=options.files, dry_run=True)

    with await migrate.run(str(source.path), database, dry) as report:
        assert report.counts["threads"]["stored"] == 5
        assert report.counts["files"]["stored"] == 4
    with await migrate.inspect(str(source.path)) as report:
        assert report.counts["threads"]["stored"] == 5
        assert ("left out", "its thread is missing") in reasons(report)

    assert await database.list_collection_names() == []
    assert source.path.read_bytes() == before


async def test_a_verification_finds_what_differs(
    source: SqliteSource, tmp_path: Path, database: Documents
) -> None:
    options = filled(source, tmp_path / "files")
    with await migrate.run(str(source.path), database, options):
        pass
    await database.threads.update_one({"_id": "t0"}, {"$set": {"steps.0.output": "other"}})
    await database.threads.update_one({"_id": "t1"}, {"$set": {"name": "other"}})
    await database.threads.delete_one({"_id": "t2"})
    await database.migrations.delete_one({"_id.id": "t2"})
    await FileBucket(database).delete(["t3/e3"])

    with await migrate.verify(str(source.path), database, options) as report:
        assert not report.complete
        assert report.counts["threads"]["differs"] == 2
        assert report.counts["files"]["differs"] == 1
        listed = {each["id"]: each for each in report.findings()}

    step = next(iter((await state(database))["threads"]["t0"]["steps"]))
    assert listed["t0"]["detail"] == f"steps.{step['id']}.output"
    assert listed["t1"]["detail"] == "name"
    assert listed["t2"]["reason"] == "not in the target"
    assert listed["e3"]["outcome"] == "differs"


async def test_orphans_are_listed_or_get_a_thread(
    source: SqliteSource, database: Documents
) -> None:
    step = source.add("steps", threadId="nowhere", output="whose?")
    source.add("feedbacks", id="vote", forId=step, threadId="nowhere")
    element = source.add("elements", threadId="nowhere", forId=step)

    with await migrate.run(str(source.path), database) as report:
        assert not report.complete
        assert {each["id"] for each in report.findings()} == {step, "vote", element}
    assert await database.threads.count_documents({}) == 0

    report = await moved(source, database, orphans="import")

    assert report.complete
    thread = (await state(database))["threads"]["nowhere"]
    assert (thread["userId"], thread["steps"][0]["feedback"]["value"]) == (None, 1)
    assert thread["elements"][0]["id"] == element


async def test_owners_are_recovered_only_if_asked_for(
    source: SqliteSource, database: Documents
) -> None:
    user = source.add("users", identifier="ada")
    source.thread("hello", id="t0")
    await moved(source, database)
    assert (await state(database))["threads"]["t0"]["userId"] is None

    report = await moved(source, database, recover_owners=True)

    assert ("changed", "owner found by who speaks") in reasons(report)
    thread = (await state(database))["threads"]["t0"]
    assert (thread["userId"], thread["userIdentifier"]) == (user, "ada")


async def test_local_times_are_read_in_their_zone(
    source: SqliteSource, database: Documents
) -> None:
    source.add("users", identifier="ada", createdAt="2026-01-09T12:00:00.000000Z")
    source.thread(id="t0", createdAt="2026-09-09T12:00:00.000000Z")
    source.thread("hello", id="t1", createdAt="2026-09-09T12:00:00+04:00")

    await moved(source, database, source_timezone="Europe/Berlin")

    found = await state(database)
    assert found["users"][0]["createdAt"].isoformat() == "2026-01-09T11:00:00+00:00"
    assert found["threads"]["t0"]["createdAt"] == "2026-09-09T10:00:00Z"
    assert found["threads"]["t1"]["createdAt"] == "2026-09-09T08:00:00Z"
    assert found["threads"]["t1"]["steps"][0]["createdAt"] == "2026-09-09T12:00:00.000000Z"
    with pytest.raises(ConfigurationError, match="Europe/Nowhere"):
        await moved(source, database, source_timezone="Europe/Nowhere")


async def test_only_a_part_is_moved(source: SqliteSource, database: Documents) -> None:
    ada = source.add("users", identifier="ada")
    bob = source.add("users", identifier="bob")
    for number, user in enumerate([ada, ada, bob]):
        source.thread("hello", id=f"t{number}", userId=user)
    source.add("steps", threadId="t2", createdAt="2026-10-01T00:00:00.000000Z")

    async def ids(**options: Any) -> set[str]:
        await database.client.drop_database(database.name)
        await moved(source, database, **options)
        return {thread["_id"] async for thread in database.threads.find({})}

    assert await ids(user="ada") == {"t0", "t1"}
    assert await database.users.distinct("identifier") == ["ada"]
    assert await ids(thread="t1") == {"t1"}
    assert await ids(since=datetime(2026, 9, 30, tzinfo=timezone.utc)) == {"t2"}
    assert await ids(limit=2) == {"t0", "t1"}


@pytest.mark.parametrize(
    "part", [{"user": "adda"}, {"thread": "t9"}, {"user": "ada", "thread": "t9"}]
)
async def test_a_part_that_is_not_there_is_no_success(
    source: SqliteSource, database: Documents, part: dict[str, str]
) -> None:
    source.thread("hello", id="t0", userId=source.add("users", identifier="ada"))

    options = Options(user=part.get("user"), thread=part.get("thread"))
    with pytest.raises(ConfigurationError, match="no such"):
        await migrate.inspect(str(source.path), options)
    with pytest.raises(ConfigurationError, match="no such"):
        await migrate.run(str(source.path), database, options)


async def test_what_mongodb_refuses_is_listed_and_the_rest_is_moved(
    source: SqliteSource, database: Documents
) -> None:
    validator: dict[str, Any] = {"name": {"$ne": "refused"}, "identifier": {"$ne": "refused"}}
    for name in ("threads", "users"):
        await database.create_collection(name, validator=validator)
    source.add("users", id="u0", identifier="refused")
    source.add("users", identifier="ada")
    for number in range(3):
        source.thread("hello", id=f"t{number}", name="refused" if number == 1 else "Chat")
    source.thread("x" * 300_000, id="t3", name="refused")

    with await migrate.run(str(source.path), database) as report:
        assert report.balanced
        refused = {each["id"] for each in report.findings() if "MongoDB refused" in each["reason"]}

    assert refused == {"u0", "t1", "t3"}
    assert (await state(database))["threads"].keys() == {"t0", "t2"}


async def test_a_run_without_the_files_of_the_last_one_is_refused(
    source: SqliteSource, tmp_path: Path, database: Documents
) -> None:
    options = filled(source, tmp_path / "files")
    with await migrate.run(str(source.path), database, options):
        pass

    for work in (migrate.run, migrate.verify):
        with pytest.raises(ConfigurationError, match="--files"):
            await work(str(source.path), database)


def test_no_copy_of_the_source_is_left_by_a_killed_run(
    source: SqliteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.thread("hello")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    snapshot = SqlSnapshot(read_source(str(source.path)))

    assert [*folder.iterdir()] == []
    assert snapshot.exists(sa.select(sa.text("id")).select_from(sa.text("steps")))
    snapshot.close()


async def test_a_rate_is_kept(source: SqliteSource, database: Documents) -> None:
    for _ in range(3):
        source.thread("a", "b", "c", "d")

    report = await moved(source, database, rate=20)

    assert report.seconds > 0.5


async def test_a_database_that_somebody_has_locked_is_not_read(
    source: SqliteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer without a journal on the disk leaves no other sign."""
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, timeout=0.1))
    source.thread("hello")
    source.connection.execute("PRAGMA journal_mode = memory")
    source.connection.execute("BEGIN EXCLUSIVE")

    with pytest.raises(ConfigurationError, match="locked"):
        await migrate.inspect(str(source.path))


async def test_a_damaged_database_is_explained(source: SqliteSource, database: Documents) -> None:
    for number in range(200):
        source.thread("x" * 500, id=f"t{number}")
    source.connection.close()
    content = bytearray(source.path.read_bytes())
    half = len(content) // 2
    content[half : half + 20_000] = b"\xff" * 20_000
    source.path.write_bytes(content)

    with pytest.raises((SourceError, ConfigurationError), match="malformed"):
        await migrate.run(str(source.path), database)


async def test_a_database_in_the_middle_of_a_write_is_refused(
    source: SqliteSource, database: Documents
) -> None:
    source.connection.execute("BEGIN IMMEDIATE")
    source.thread("x" * 100)
    source.connection.execute("PRAGMA cache_spill = 1")
    source.path.with_name("chainlit.db-journal").write_bytes(b"hot")

    with pytest.raises(ConfigurationError, match="in the middle of a write"):
        await moved(source, database)


async def test_what_is_no_source_is_explained(tmp_path: Path, database: Documents) -> None:
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("CREATE TABLE threads (id INTEGER, subject TEXT)")
    connection.close()

    with pytest.raises(ConfigurationError, match="No conversations were found"):
        await migrate.run(str(tmp_path / "app.db"), database)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await migrate.run("postgresql://nobody:secret@127.0.0.1:1/nothing", database)
