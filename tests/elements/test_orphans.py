"""A process killed between a file and its element leaves only what ``files gc`` removes."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from gridfs import AsyncGridFSBucket
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import GridFSStorageClient
from mongo_datalayer.files import FileLinks
from mongo_datalayer.files.orphans import find_orphans
from mongo_datalayer.threads import Threads

ROOT = Path(__file__).parents[2]


async def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a Python process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def ids(database: AsyncDatabase[dict[str, Any]]) -> set[Any]:
    files = {file["_id"] async for file in database["fs.files"].find()}
    return files | {chunk["files_id"] async for chunk in database["fs.chunks"].find()}


@pytest.mark.parametrize("where", ["before the element", "before the file"])
async def test_what_a_killed_process_leaves_is_collected_and_nothing_else(
    mongo_uri: str, database_name: str, database: AsyncDatabase[dict[str, Any]], where: str
) -> None:
    others = AsyncGridFSBucket(database)
    foreign = await others.upload_from_stream("t/kept", b"of another application")
    own = GridFSStorageClient(database, links=FileLinks("secret " * 8))
    await own.upload_file("reports/1", b"an app's own file, of no element")
    before = await ids(database)

    crash = ("tests.elements.crashing_upload", mongo_uri, database_name, where)
    assert (await run(*crash))[0] == -signal.SIGKILL
    left = await ids(database)
    assert len(left - before) == 2  # one of the element that is there, one of nobody

    server = ("--uri", mongo_uri, "--database", database_name)
    command = ("mongo_datalayer.cli", "files", "gc", *server)
    code, output = await run(*command)
    assert (code, output) == (0, "0 found.\n")  # younger than the grace period
    await asyncio.sleep(1.1)  # ids of uploads tell their time to the second
    code, output = await run(*command, "--grace-hours", "0")
    assert code == 0
    assert "1 found; nothing was changed" in output
    assert await ids(database) == left

    code, output = await run(*command, "--grace-hours", "0", "--delete")
    assert (code, output.splitlines()[-1]) == (0, "1 deleted.")
    kept = await ids(database)
    assert before < kept
    assert len(kept - before) == 1
    assert await own.download_file("t/kept") == b"text"
    assert await own.download_file("reports/1") == b"an app's own file, of no element"
    assert await (await others.open_download_stream(foreign)).read() == b"of another application"
    assert await run(*command, "--grace-hours", "0", "--delete") == (0, "0 deleted.\n")


async def test_only_the_named_bucket_is_collected(
    mongo_uri: str, database_name: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    links = FileLinks("secret " * 8)
    buckets = [GridFSStorageClient(database, bucket=name, links=links) for name in ("fs", "docs")]
    for storage in buckets:
        await storage.upload_file("t/lost", b"nobody's", thread_id="t", element_id="lost")
    server = ("--uri", mongo_uri, "--database", database_name)
    command = ("mongo_datalayer.cli", "files", "gc", "--delete", "--grace-hours", "0", *server)

    code, output = await run(*command, "--bucket", "docs")

    assert (code, output.splitlines()[-1]) == (0, "1 deleted.")
    assert await database["docs.files"].count_documents({}) == 0
    assert await database["docs.chunks"].count_documents({}) == 0
    assert await buckets[0].download_file("t/lost") == b"nobody's"


async def test_a_revision_that_a_killed_process_did_not_remove_is_collected(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = GridFSStorageClient(database, links=FileLinks("secret " * 8))
    bucket = storage.bucket
    element: dict[str, Any] = {"thread_id": "t", "element_id": "e"}
    await storage.upload_file("t/e", b"old", **element)
    old = await ids(database)
    monkeypatch.setattr(bucket, "_clean_up", nothing)  # as if killed before the clean-up
    await storage.upload_file("t/e", b"new", **element)
    await database["threads"].insert_one({"_id": "t", "elements": [{"objectKey": "t/e"}]})

    later = datetime.now(timezone.utc) + timedelta(seconds=1)
    found = [orphan async for orphan in find_orphans(bucket, Threads(database), later)]

    assert {orphan.file_id for orphan in found} == old
    assert await storage.download_file("t/e") == b"new"


async def nothing(file_ids: list[str]) -> None:
    """Leaves everything behind."""


async def test_orphans_are_found_among_more_files_than_one_batch(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.files.orphans.BATCH", 2)
    storage = GridFSStorageClient(database, links=FileLinks("secret " * 8))
    for number in range(7):
        await storage.upload_file(
            f"t/e{number}", b"content", thread_id="t", element_id=f"e{number}"
        )
    kept = [{"objectKey": f"t/e{number}"} for number in (0, 1, 2, 4, 6)]
    await database["threads"].insert_one({"_id": "t", "elements": kept})

    later = datetime.now(timezone.utc) + timedelta(seconds=1)
    found = [orphan async for orphan in find_orphans(storage.bucket, Threads(database), later)]

    assert [orphan.object_key for orphan in found] == ["t/e3", "t/e5"]
