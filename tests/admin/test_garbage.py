"""A process killed between a file and its element leaves only what ``files gc`` removes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from gridfs import AsyncGridFSBucket
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import GridFSStorageClient
from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from mongo_datalayer.admin.garbage import Garbage, Orphan
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.threads import ThreadChanges, Threads
from mongo_datalayer.files import FileLinks
from tests.cli.people import LARGE, put_long_thread, small_documents

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

    crash = ("tests.admin.crashing_upload", mongo_uri, database_name, where)
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

    code, output = await run(*command, "--grace-hours", "0", "--delete", "--yes")
    assert (code, output.splitlines()[-1]) == (0, "1 deleted.")
    kept = await ids(database)
    assert before < kept
    assert len(kept - before) == 1
    assert await own.download_file("t/kept") == b"text"
    assert await own.download_file("reports/1") == b"an app's own file, of no element"
    assert await (await others.open_download_stream(foreign)).read() == b"of another application"
    assert await run(*command, "--grace-hours", "0", "--delete", "--yes") == (0, "0 deleted.\n")


async def test_only_the_named_bucket_is_collected(
    mongo_uri: str, database_name: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    links = FileLinks("secret " * 8)
    buckets = [GridFSStorageClient(database, bucket=name, links=links) for name in ("fs", "docs")]
    for storage in buckets:
        await storage.upload_file("t/lost", b"nobody's", thread_id="t", element_id="lost")
    server = ("--uri", mongo_uri, "--database", database_name)
    command = (
        "mongo_datalayer.cli",
        "files",
        "gc",
        "--delete",
        "--yes",
        "--yes",
        "--grace-hours",
        "0",
        *server,
    )

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
    found = [orphan async for orphan in Garbage(database, "fs", later).files(bucket)]

    assert {orphan.id for orphan in found} == old
    assert await storage.download_file("t/e") == b"new"


async def nothing(file_ids: list[str]) -> None:
    """Leaves everything behind."""


async def test_orphans_are_found_among_more_files_than_one_batch(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.admin.garbage.BATCH", 2)
    storage = GridFSStorageClient(database, links=FileLinks("secret " * 8))
    for number in range(7):
        await storage.upload_file(
            f"t/e{number}", b"content", thread_id="t", element_id=f"e{number}"
        )
    kept = [{"objectKey": f"t/e{number}"} for number in (0, 1, 2, 4, 6)]
    await database["threads"].insert_one({"_id": "t", "elements": kept})

    later = datetime.now(timezone.utc) + timedelta(seconds=1)
    found = [orphan async for orphan in Garbage(database, "fs", later).files(storage.bucket)]

    assert [orphan.key for orphan in found] == ["t/e3", "t/e5"]


# Overflow -------------------------------------------------------------------------------------

Documents = AsyncDatabase[dict[str, Any]]


def collect(database: Documents, uri: str, *options: str) -> tuple[str, ...]:
    where = ("--uri", uri, "--database", database.name)
    return ("mongo_datalayer.cli", "files", "gc", *where, "--grace-hours", "0", *options)


async def overflow_of(database: Documents, *thread_ids: str) -> set[str]:
    found = database.thread_overflow.find({"thread": {"$in": thread_ids}}, {"_id": 1})
    return {stored["_id"] async for stored in found}


async def grow_old(database: Documents, thread_id: str) -> dict[str, str]:
    """Give every document of a thread's overflow an id of two hours ago; the new ids by the old."""
    new: dict[str, str] = {}
    async for stored in database.thread_overflow.find({"thread": thread_id}):
        old = ObjectId(stored["_id"]).generation_time - timedelta(hours=2)
        # A date and the rest of the id, so that no two become one.
        new[stored["_id"]] = str(ObjectId.from_datetime(old))[:8] + stored["_id"][8:]
        await database.thread_overflow.insert_one({**stored, "_id": new[stored["_id"]]})
        await database.thread_overflow.delete_one({"_id": stored["_id"]})
    main = await database.threads.find_one({"_id": thread_id}) or {}
    listed = [new[overflow_id] for overflow_id in main.get("overflowIds") or ()]
    if listed:
        await database.threads.update_one({"_id": thread_id}, {"$set": {"overflowIds": listed}})
    return new


async def test_an_overflow_document_that_a_killed_move_left_is_collected_when_it_is_old(
    mongo_uri: str, database_name: str, database: Documents
) -> None:
    crash = ("tests.admin.crashing_move", mongo_uri, database_name)
    assert (await run(*crash))[0] == -signal.SIGKILL
    listed = (await database.threads.find_one({"_id": "t"}) or {}).get("overflowIds") or []
    everything = await overflow_of(database, "t")
    (left,) = everything - set(listed)
    before = await whole(database, "t")

    young = await run(*collect(database, mongo_uri, "--delete", "--yes"))
    still_there = await overflow_of(database, "t")
    new = await grow_old(database, "t")
    found = await run(*collect(database, mongo_uri))
    deleted = await run(*collect(database, mongo_uri, "--delete", "--yes"))

    assert young == (0, "0 deleted.\n")
    assert still_there == everything
    assert found[1].startswith(
        f"{new[left]}  an overflow document that its thread t does not list\n"
    )
    assert deleted[1].splitlines()[-1] == "1 deleted."
    assert await overflow_of(database, "t") == {new[overflow_id] for overflow_id in listed}
    assert await whole(database, "t") == before
    assert [step["id"] for step in before["steps"]] == [f"{n:03}" for n in range(9)]


async def whole(database: Documents, thread_id: str) -> dict[str, Any]:
    thread = await Threads(database).documents.get(thread_id)
    assert thread is not None
    return {name: value for name, value in thread.items() if name != "overflowIds"}


async def test_what_the_servers_expiry_leaves_of_a_long_thread_is_collected(
    mongo_uri: str, database: Documents
) -> None:
    await put_long_thread(database, "gone")
    await put_long_thread(database, "kept")
    for thread_id in ("gone", "kept"):
        await grow_old(database, thread_id)
    await database.threads.delete_one({"_id": "gone"})  # as its expiry does: no mark stays
    kept = await whole(database, "kept")
    kept_overflow = await overflow_of(database, "kept")
    await asyncio.sleep(1.1)  # ids of uploads tell their time to the second

    code, output = await run(*collect(database, mongo_uri, "--delete", "--yes", "--json"))

    found = json.loads(output)
    kinds = {entry["kind"] for entry in found["found"]}
    assert (code, found["deleted"], kinds) == (
        0,
        True,
        {"file", "overflow document", "piece of a text"},
    )
    assert await overflow_of(database, "gone") == set()
    files = [file["metadata"]["threadId"] async for file in database["fs.files"].find()]
    assert set(files) == {"kept"}
    assert await overflow_of(database, "kept") == kept_overflow
    assert await whole(database, "kept") == kept
    assert kept["steps"][1]["output"] == LARGE
    assert await run(*collect(database, mongo_uri, "--delete", "--yes")) == (0, "0 deleted.\n")


async def test_a_value_that_is_not_read_any_more_goes_with_its_pieces(
    mongo_uri: str, database: Documents
) -> None:
    await put_long_thread(database, "t")
    await grow_old(database, "t")
    reference = {"steps": {"$elemMatch": {"output.gridfs": {"$exists": True}}}}
    short = {"$set": {"steps.$.output": "short"}}
    for name in ("threads", "thread_overflow"):
        await database[name].update_many(reference, short)
    pieces = {"value": {"$exists": True}}
    assert await database.thread_overflow.count_documents(pieces) == 1
    await asyncio.sleep(1.1)

    code, output = await run(*collect(database, mongo_uri, "--delete", "--yes"))

    assert (code, output.splitlines()[-1]) == (0, "2 deleted.")
    assert await database.thread_overflow.count_documents(pieces) == 0
    assert "values/" not in str(await database["fs.files"].find().to_list())


async def test_a_value_of_feedback_that_waits_for_its_step_stays(
    mongo_uri: str, database: Documents
) -> None:
    with small_documents():
        threads = Threads(database)
    comment = "why " * 100
    feedback = {"id": "f", "forId": "later", "value": 0, "comment": comment}
    await threads.update("t", ThreadChanges({"name": "n"}))
    await threads.feedback.put("t", {**feedback, "updatedAt": datetime.now(timezone.utc)})
    stored = await database.threads.find_one({"_id": "t"}) or {}
    assert stored["pendingFeedback"][0]["comment"]["gridfs"]
    await asyncio.sleep(1.1)

    assert await run(*collect(database, mongo_uri, "--delete", "--yes")) == (0, "0 deleted.\n")
    assert (await whole(database, "t"))["pendingFeedback"][0]["comment"] == comment


async def an_old_unlisted_part(database: Documents) -> Orphan:
    long_ago = str(ObjectId.from_datetime(datetime.now(timezone.utc) - timedelta(days=1)))
    copy = {"_id": long_ago, "thread": "t", "bytes": 5, "steps": [{"id": "s"}]}
    await database.thread_overflow.insert_one(copy)
    await database.threads.insert_one({"_id": "t", "steps": []})
    (orphan,) = [orphan async for orphan in garbage_of(database).unlisted_overflow("threads")]
    assert orphan == Orphan("overflow document", long_ago, size=5, thread="t")
    return orphan


def garbage_of(database: Documents) -> Garbage:
    return Garbage(database, "fs", datetime.now(timezone.utc))


async def test_a_part_that_its_thread_lists_by_now_is_not_deleted(database: Documents) -> None:
    orphan = await an_old_unlisted_part(database)
    await database.threads.update_one({"_id": "t"}, {"$set": {"overflowIds": [orphan.id]}})

    assert await garbage_of(database).delete_overflow("threads", [orphan]) == []

    assert await overflow_of(database, "t") == {orphan.id}


async def test_a_part_that_its_thread_lists_at_the_very_moment_is_put_back(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = await an_old_unlisted_part(database)
    garbage = garbage_of(database)
    look = garbage._unused

    async def move_behind_the_look(threads: str, documents: list[Orphan]) -> list[Orphan]:
        unused = await look(threads, documents)
        await database.threads.update_one({"_id": "t"}, {"$set": {"overflowIds": [orphan.id]}})
        return unused

    monkeypatch.setattr(garbage, "_unused", move_behind_the_look)

    assert await garbage.delete_overflow("threads", [orphan]) == []

    assert (await whole_steps(database)) == [{"id": "s"}]


async def whole_steps(database: Documents) -> list[dict[str, Any]]:
    stored = await database.thread_overflow.find_one({"thread": "t"})
    assert stored is not None
    steps: list[dict[str, Any]] = stored["steps"]
    return steps


async def test_values_are_collected_beside_another_bucket_of_files(
    mongo_uri: str, database: Documents
) -> None:
    await put_long_thread(database, "t")
    await grow_old(database, "t")
    await database.threads.delete_one({"_id": "t"})
    await asyncio.sleep(1.1)

    await run(*collect(database, mongo_uri, "--delete", "--yes", "--bucket", "docs"))

    # The file of the element is in the bucket that was not named.
    assert await database["fs.files"].distinct("filename") == ["t/t%2Ffile"]


async def test_pieces_are_still_searched_after_a_replacing_restore(database: Documents) -> None:
    user_id = await put_long_thread(database, "t")
    thread = await whole(database, "t")
    with small_documents():
        assert await ChainlitThreads(ThreadDocuments(database)).restore(thread, replace=True)

    found = await Threads(database).lists.page(
        user_id,
        limit=5,
        time_field="updatedAt",
        cursor=None,
        search=LARGE[2000:2250],
        feedback=None,
    )

    assert [entry["_id"] for entry in found] == ["t"]
    listed = (await database.threads.find_one({"_id": "t"}) or {})["overflowIds"]
    stored = await database.thread_overflow.find({"value": {"$exists": False}}).to_list()
    assert {document["_id"] for document in stored} == set(listed)
