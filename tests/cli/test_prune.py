from __future__ import annotations

import asyncio
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.chainlit_data import ChainlitData
from mongo_datalayer.admin.front_data import Rule
from mongo_datalayer.admin.retention import prune
from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails
from mongo_datalayer.model.printable import counted
from mongo_datalayer.server import LocalServer
from tests.cli.commands import NOBODY, kill_when, run, slowed
from tests.cli.people import LARGE, Documents, put_long_thread, snapshot
from tests.docs.pages import DOCS, code_blocks
from tests.programs import require_mongosh

OLD, YOUNG = 100, 1
NOT_LONG = ", 0 large values, 0 bytes of large values, 0 overflow documents"


def days_ago(days: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=days)


async def put_thread(
    database: Documents, thread_id: str, days: float, *, file: bool = True, **metadata: Any
) -> None:
    element = {"id": "e", "objectKey": f"{thread_id}/e"}
    await database.threads.insert_one(
        {
            "_id": thread_id,
            "updatedAt": days_ago(days),
            "metadata": metadata,
            "steps": [{"id": f"{thread_id}/s", "output": "text"}],
            "elements": [element] if file else [],
        }
    )
    if file:
        details = FileDetails(thread_id=thread_id, element_id="e")
        await FileBucket(database).write(f"{thread_id}/e", b"12345", details)


async def left(database: Documents) -> tuple[set[str], set[str]]:
    """The threads that are there, and the files; checks that no content is there besides."""
    stored = await snapshot(database)
    files = {file["_id"]: file["filename"] for file in stored.get("fs.files", [])}
    assert {chunk["files_id"] for chunk in stored.get("fs.chunks", [])} == set(files)
    threads = {thread["_id"] for thread in stored["threads"] if "deletedAt" not in thread}
    for tombstone in (thread for thread in stored["threads"] if thread["_id"] not in threads):
        assert set(tombstone) == {"_id", "deletedAt"}
    return threads, set(files.values())


async def test_what_was_not_touched_goes_with_its_files(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_thread(database, "old", OLD)
    await put_thread(database, "just old enough", 30.001)
    await put_thread(database, "not old enough", 29.9)
    await put_thread(database, "young", YOUNG)
    before = await snapshot(database)

    dry = await run("prune", "--days", "30", "--dry-run", *where)
    unchanged = await snapshot(database)
    done = await run("prune", "--days", "30", "--yes", *where)

    counts = f"2 threads, 2 files, 10 bytes of files{NOT_LONG}"
    assert dry.out == f"Would be removed: {counts}. Nothing was changed.\n"
    assert (dry.code, dry.err, done.code, done.err) == (0, "", 0, "")
    assert unchanged == before
    assert done.out == f"Removed: {counts}.\n"
    kept = {"not old enough", "young"}
    assert await left(database) == (kept, {f"{thread}/e" for thread in kept})


async def test_nothing_to_do(where: tuple[str, ...], database: Documents) -> None:
    await put_thread(database, "young", YOUNG)

    done = await run("prune", "--days", "30", "--yes", *where)

    assert (done.code, done.err) == (0, "")
    assert done.out == f"Removed: 0 threads, 0 files, 0 bytes of files{NOT_LONG}.\n"
    assert await left(database) == ({"young"}, {"young/e"})


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), set()),
        (("--keep-pinned",), {"pinned"}),
        (("--keep-shared",), {"shared"}),
        (("--keep-pinned", "--keep-shared"), {"pinned", "shared"}),
    ],
)
async def test_pinned_and_shared_threads_can_be_exempt(
    where: tuple[str, ...], database: Documents, flags: tuple[str, ...], kept: set[str]
) -> None:
    await put_thread(database, "pinned", OLD, pinned=True)
    await put_thread(database, "shared", OLD, is_shared=True)
    await put_thread(database, "neither", OLD, pinned=False, is_shared=False)

    dry = await run("prune", "--days", "30", "--dry-run", *flags, *where)
    done = await run("prune", "--days", "30", "--yes", *flags, *where)

    assert dry.out.startswith(f"Would be removed: {counted(3 - len(kept), 'thread')}")
    assert done.code == 0, done
    assert await left(database) == (kept, {f"{thread}/e" for thread in kept})


async def test_what_the_layer_pinned_is_spared(
    where: tuple[str, ...], database: Documents, mongo_uri: str
) -> None:
    for name in ("pinned", "unpinned"):
        await put_thread(database, name, OLD)
    layer = MongoDataLayer(mongo_uri, database=database.name)
    await layer.update_pinned_state("pinned", True)
    await layer.update_pinned_state("unpinned", True)
    await layer.update_pinned_state("unpinned", False)
    await layer.update_pinned_state("never made", True)
    await layer.close()

    await run("prune", "--days", "30", "--yes", "--keep-pinned", *where)

    assert await left(database) == ({"pinned"}, {"pinned/e"})


async def test_a_thread_that_is_touched_meanwhile_stays(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_thread(database, "quiet", OLD)
    await put_thread(database, "woken", OLD)

    chainlit = ChainlitData(database, FileBucket(database))
    expire = chainlit.threads.expire

    async def woken(thread: dict[str, Any], filter: Any) -> Any:
        if thread["_id"] == "woken":
            touch = {"$set": {"updatedAt": days_ago(0)}}
            await database.threads.update_one({"_id": "woken"}, touch)
        return await expire(thread, filter)

    monkeypatch.setattr(chainlit.threads, "expire", woken)
    told: list[int] = []
    pruned = await prune([chainlit], Rule(days_ago(30)), told.append)

    assert (pruned["threads"], pruned["files"]) == (1, 1)
    assert told == [1]
    assert await left(database) == ({"woken"}, {"woken/e"})


@pytest.mark.parametrize("command", ["findAndModify", "delete"], ids=["threads", "files"])
async def test_a_killed_run_is_completed_by_the_next(
    mongo_uri: str, where: tuple[str, ...], database: Documents, command: str
) -> None:
    for number in range(230):  # several pages, the first with files
        await put_thread(database, f"{number:03}", OLD, file=number < 30)
    await put_thread(database, "young", YOUNG)

    async def in_the_middle() -> bool:
        gone = await database.threads.count_documents({"deletedAt": {"$exists": True}})
        # With slow deletions of files: between a batch of threads and its files.
        return gone >= (50 if command == "findAndModify" else 100)

    milliseconds = 20 if command == "findAndModify" else 200
    async with slowed(database, command, milliseconds=milliseconds) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        assert (
            await kill_when(in_the_middle, "prune", "--days", "30", "--yes", *slow)
            == -signal.SIGKILL
        )
    alive = await database.threads.count_documents({"updatedAt": {"$lt": days_ago(30)}})
    assert 0 < alive < 230
    assert await database["fs.files"].count_documents({}) == 31

    done = await run("prune", "--days", "30", "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert done.out.startswith(f"Removed: {alive} threads, 30 files")
    assert await left(database) == ({"young"}, {"young/e"})


@pytest.mark.parametrize("bucket", ["fs", "docs"])
async def test_all_of_a_long_thread_goes(
    where: tuple[str, ...], database: Documents, bucket: str
) -> None:
    await put_long_thread(database, "long")
    await put_long_thread(database, "young")
    await database.threads.update_one({"_id": "long"}, {"$set": {"updatedAt": days_ago(OLD)}})
    await database.threads.update_one({"_id": "young"}, {"$set": {"updatedAt": days_ago(YOUNG)}})
    kept = await Threads(database).documents.get("young")
    overflow = await database.thread_overflow.count_documents({"thread": "long"})
    named = ("--bucket", bucket, *where)

    dry = await run("prune", "--days", "30", "--dry-run", *named)
    still = await database.thread_overflow.count_documents({"thread": "long"})
    done = await run("prune", "--days", "30", "--yes", *named)

    files = "1 file, 16 bytes" if bucket == "fs" else "0 files, 0 bytes"
    counts = (
        f"1 thread, {files} of files, "
        f"1 large value, {len(LARGE):,} bytes of large values, "
        f"{overflow} overflow documents"
    )
    assert dry.out == f"Would be removed: {counts}. Nothing was changed.\n"
    assert still == overflow > 3
    assert done.out == f"Removed: {counts}.\n"
    assert await database.thread_overflow.count_documents({"thread": "long"}) == 0
    ids = await database["fs.files"].distinct("_id", {"metadata.threadId": "long"})
    assert len(ids) == (0 if bucket == "fs" else 1)  # the element's file is in the other bucket
    assert set(await database["fs.chunks"].distinct("files_id")) == set(
        await database["fs.files"].distinct("_id")
    )
    assert await Threads(database).documents.get("young") == kept


async def test_a_long_thread_that_a_killed_run_left_is_completed_by_the_next(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_long_thread(database, "long")
    # As when it was killed right behind the head.
    await database.threads.replace_one({"_id": "long"}, {"deletedAt": days_ago(0)})
    overflow = await database.thread_overflow.count_documents({})

    done = await run("prune", "--days", "30", "--yes", *where)

    assert done.out.startswith("Removed: 0 threads, 1 file, 16 bytes of files, 1 large value")
    assert f", {overflow} overflow documents" in done.out
    assert await left(database) == (set(), set())
    assert await database.thread_overflow.count_documents({}) == 0


async def test_a_thread_whose_parts_are_missing_can_be_removed(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_long_thread(database, "damaged")
    await database.threads.update_one({}, {"$set": {"updatedAt": days_ago(OLD)}})
    await database.thread_overflow.delete_one({"value": None})

    done = await run("prune", "--days", "30", "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert await left(database) == (set(), set())
    assert await database.thread_overflow.count_documents({}) == 0


async def test_the_ttl_index_of_the_page_spares_the_pinned_and_the_shared() -> None:
    mongosh = require_mongosh()
    (recipe,) = code_blocks(DOCS / "moving-and-deleting.md", "js")
    expiring = ["--setParameter", "ttlMonitorSleepSecs=1"]
    with LocalServer(arguments=expiring) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri, tz_aware=True) as client:
            database = client["chainlit"]
            await put_thread(database, "pinned", 400, pinned=True)
            await put_thread(database, "shared", 400, is_shared=True)
            await put_thread(database, "unpinned", 400, pinned=False, is_shared=False)
            await put_thread(database, "old", 400)
            await put_thread(database, "young", 300)

            await _shell(mongosh, f"{server.uri}/chainlit", recipe)
            for _ in range(200):
                if await database.threads.count_documents({}) == 3:
                    break
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.5)  # one more round of the server
            where = ("--uri", server.uri)
            collected = await run("files", "gc", "--delete", "--yes", "--grace-hours", "0", *where)

            assert collected.code == 0, collected
            kept = {"pinned", "shared", "young"}
            assert await left(database) == (kept, {f"{thread}/e" for thread in kept})


async def _shell(mongosh: Path, uri: str, code: str) -> None:
    process = await asyncio.create_subprocess_exec(
        mongosh, "--quiet", uri, "--eval", code, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output


async def test_a_server_that_does_not_answer() -> None:
    done = await run("prune", "--days", "30", "--yes", "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()


@pytest.mark.parametrize("days", [(), ("--days", "0"), ("--days", "-1"), ("--days", "x")])
async def test_days_must_be_given_and_make_sense(mongo_uri: str, days: tuple[str, ...]) -> None:
    done = await run("prune", *days, "--uri", mongo_uri)

    assert done.code == 2
    assert "--days" in done.err


async def test_help_has_an_example() -> None:
    done = await run("prune", "--help")

    assert done.code == 0
    assert "Example: mongo-datalayer prune " in done.out
