"""``prune`` and ``files gc`` with ChatKit's threads and attachments."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId

from mongo_datalayer.admin.chatkit_data import ChatKitData
from mongo_datalayer.admin.front_data import Rule
from mongo_datalayer.admin.garbage import Garbage
from mongo_datalayer.admin.retention import prune
from mongo_datalayer.chatkit.object_keys import object_key, thread_items_folder, thread_name
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails
from mongo_datalayer.testing.chatkit_contract import message, thread
from tests.cli.chatkit_people import FILE, LARGE, put_attachment, put_chatkit_thread, store_of
from tests.cli.commands import kill_when, run, slowed
from tests.cli.people import Documents, put_person, snapshot

ADA = {"user_id": "ada"}
OLD = 100


def days_ago(days: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=days)


async def age(database: Documents, *thread_ids: str, days: float = OLD) -> None:
    await database.chatkit_threads.update_many(
        {"_id.id": {"$in": thread_ids}}, {"$set": {"updatedAt": days_ago(days)}}
    )


async def alive(database: Documents) -> dict[str, Any]:
    """Everything but tombstones."""
    stored = await snapshot(database)
    return {
        name: [document for document in documents if "deletedAt" not in document]
        for name, documents in stored.items()
    }


# prune ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["fs", "docs"])
async def test_an_old_thread_goes_with_all_that_belongs_to_it(
    where: tuple[str, ...], database: Documents, bucket: str
) -> None:
    store = await put_chatkit_thread(database, "ada", "young", bucket=bucket)
    await put_attachment(store, "ada", None)
    await put_chatkit_thread(database, "bob", "old name", bucket=bucket)
    before = await alive(database)
    await put_chatkit_thread(database, "ada", "old", bucket=bucket)
    await age(database, "old")
    items = await database["fs.files"].find({"metadata.threadId": "chatkit/ada/old"}).to_list()
    parts = await database.chatkit_overflow.count_documents({"thread.id": "old"})
    whole = await snapshot(database)
    named = ("--bucket", bucket, *where)

    dry = await run("prune", "--days", "30", "--dry-run", *named)
    unchanged = await snapshot(database)
    done = await run("prune", "--days", "30", "--yes", *named)

    size = sum(item["length"] for item in items)
    assert size > len(LARGE)
    counts = (
        f"0 threads, 1 ChatKit thread, 1 ChatKit attachment, 1 file, {len(FILE):,} bytes of files, "
        f"1 large value, {size:,} bytes of large values, {parts} overflow documents"
    )
    assert dry.out == f"Would be removed: {counts}. Nothing was changed.\n"
    assert unchanged == whole
    assert done.out == f"Removed: {counts}.\n"
    assert (dry.code, dry.err, done.code, done.err) == (0, "", 0, "")
    assert await alive(database) == before
    await store.save_thread(thread("old"), ADA)  # a late write
    assert await alive(database) == before


async def test_an_attachment_stays_as_long_as_a_thread_has_it(
    where: tuple[str, ...], database: Documents
) -> None:
    store = store_of(database)
    shared = await put_attachment(store, "ada", "old")
    loaded = await store.load_attachment(shared, ADA)
    for name in ("old", "older", "young"):
        await store.save_thread(thread(name), ADA)
        await store.save_attachment(loaded.model_copy(update={"thread_id": name}), ADA)
    await age(database, "old", "older")

    assert "2 ChatKit threads, 0 files" in (await run("prune", "--days", "30", "--yes", *where)).out
    assert (await run(*collect(where, "--delete", "--yes"))).out == "0 deleted.\n"
    assert await store.read_attachment(shared, ADA) == FILE

    await age(database, "young")
    assert (
        "1 ChatKit thread, 1 ChatKit attachment"
        in (await run("prune", "--days", "30", "--yes", *where)).out
    )
    assert await database["fs.files"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), set()),
        (("--keep-pinned",), {"pinned"}),
        (("--keep-shared",), {"shared"}),
        (("--only", "chatkit"), set()),
        (("--only", "chainlit"), {"pinned", "shared", "neither"}),
    ],
)
async def test_threads_can_be_exempt(
    where: tuple[str, ...], database: Documents, flags: tuple[str, ...], kept: set[str]
) -> None:
    store = store_of(database)
    await store.save_thread(thread("pinned", metadata={"pinned": True}), ADA)
    await store.save_thread(thread("shared", metadata={"is_shared": True}), ADA)
    await store.save_thread(thread("neither", metadata={"pinned": False}), ADA)
    await age(database, "pinned", "shared", "neither")
    await put_person(database, "eve", threads=1)
    await database.threads.update_many({}, {"$set": {"updatedAt": days_ago(OLD)}})

    done = await run("prune", "--days", "30", "--yes", *flags, *where)

    assert done.code == 0, done
    assert {head["_id"]["id"] for head in (await alive(database))["chatkit_threads"]} == kept
    chainlits = await database.threads.count_documents({"deletedAt": {"$exists": False}})
    assert chainlits == (1 if "chatkit" in flags else 0)


async def test_a_thread_that_is_touched_in_between_stays(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await put_chatkit_thread(database, "ada", "t")
    await age(database, "t")
    chatkit = ChatKitData(database, FileBucket(database))
    expire = chatkit.threads.expire

    async def touched_before(thread: Any, filter: Any) -> Any:
        await store.add_thread_item("t", message("late"), ADA)
        return await expire(thread, filter)

    monkeypatch.setattr(chatkit.threads, "expire", touched_before)
    removed = await prune([chatkit], Rule(days_ago(30)), lambda _: None)

    assert not removed
    assert len((await store.load_thread_items("t", None, 99, "asc", ADA)).data) == 14


@pytest.mark.parametrize("command", ["findAndModify", "delete"])
async def test_what_a_killed_run_left_is_removed_by_the_next(
    mongo_uri: str, where: tuple[str, ...], database: Documents, command: str
) -> None:
    await put_chatkit_thread(database, "ada", "young")
    before = await alive(database)
    old = [f"t{number}" for number in range(3)]
    for thread_id in old:
        await put_chatkit_thread(database, "ada", thread_id)
    await age(database, *old)

    async def has_begun() -> bool:
        return await database.chatkit_threads.count_documents({"deletedAt": {"$exists": True}}) >= 1

    async with slowed(database, command) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(has_begun, "prune", "--days", "30", "--yes", *slow)
    assert code == -signal.SIGKILL
    assert await alive(database) != before

    done = await run("prune", "--days", "30", "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert await alive(database) == before


async def test_a_file_of_a_deleted_attachment_goes(
    where: tuple[str, ...], database: Documents
) -> None:
    store = store_of(database)
    attachment = await put_attachment(store, "ada", None)
    # As when the store was killed between the attachment and its file.
    await database.chatkit_attachments.replace_one(
        {"_id": owned("ada", attachment)}, {"deletedAt": datetime.now(timezone.utc)}
    )

    done = await run("prune", "--days", "30", "--yes", *where)

    assert "0 threads, 1 file" in done.out
    assert await database["fs.files"].count_documents({}) == 0


# files gc -------------------------------------------------------------------------------------


def collect(where: tuple[str, ...], *options: str) -> tuple[str, ...]:
    return ("files", "gc", *where, "--grace-hours", "0", *options)


def an_old_id(number: int = 0) -> str:
    old = datetime.now(timezone.utc) - timedelta(hours=2, seconds=number)
    return str(ObjectId.from_datetime(old))


async def test_what_nobody_points_to_is_collected_and_nothing_else(
    where: tuple[str, ...], database: Documents
) -> None:
    store = await put_chatkit_thread(database, "ada")
    await put_attachment(store, "ada", None)
    bucket = FileBucket(database)
    await bucket.write("chatkit/ada/own", b"an app's own", FileDetails())
    await bucket.write("chatkit-values/own", b"an app's own", FileDetails(thread_id="x"))
    before = await snapshot(database)
    part = await database.chatkit_overflow.find_one({})
    assert part is not None
    lost = owned("ada", "lost")
    await database.chatkit_overflow.insert_many(
        [{**part, "_id": an_old_id(1)}, {**part, "_id": an_old_id(2), "thread": lost}]
    )
    for key in (owned("ada", "t"), lost):
        details = FileDetails(thread_id=thread_name(key))
        file_key = f"{thread_items_folder(thread_name(key))}items/ada%2Flarge/item/{ObjectId()}"
        await bucket.write(file_key, b"{}", details)
    await bucket.write(object_key(lost), b"1", FileDetails(element_id=object_key(lost)))
    await asyncio.sleep(1.1)  # ids of uploads tell their time to the second

    found = await run(*collect(where, "--json"))
    listed = [entry["kind"] for entry in json.loads(found.out)["found"]]
    unchanged = await database.chatkit_overflow.count_documents({})
    done = await run(*collect(where, "--delete", "--yes"))

    assert (found.code, found.err, done.code, done.err) == (0, "", 0, "")
    assert sorted(listed) == ["file"] * 3 + ["overflow document"] * 2
    assert unchanged == len(before["chatkit_overflow"]) + 2
    assert done.out.splitlines()[-1] == "5 deleted."
    assert await snapshot(database) == before
    assert (await run(*collect(where, "--delete", "--yes"))).out == "0 deleted.\n"
    assert len((await store.load_thread_items("t", None, 99, "asc", ADA)).data) == 13


async def test_what_the_servers_expiry_leaves_is_collected(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_chatkit_thread(database, "ada", "kept")
    before = await snapshot(database)
    await put_chatkit_thread(database, "ada", "gone")
    await database.chatkit_threads.delete_one({"_id.id": "gone"})  # no mark stays
    async for number, part in _numbered(database.chatkit_overflow.find({"thread.id": "gone"})):
        await database.chatkit_overflow.delete_one({"_id": part["_id"]})
        await database.chatkit_overflow.insert_one({**part, "_id": an_old_id(number)})
    await asyncio.sleep(1.1)

    done = await run(*collect(where, "--delete", "--yes"))

    assert (done.code, done.err) == (0, ""), done
    assert "an attachment of ada, whose thread gone is gone" in done.out
    after = await alive(database)
    assert after == before


async def _numbered(found: Any) -> Any:
    for number, document in enumerate(await found.to_list()):
        yield number, document


async def test_an_attachment_that_was_never_sent_is_collected_after_the_limit(
    where: tuple[str, ...], database: Documents
) -> None:
    store = store_of(database)
    never = await put_attachment(store, "ada", None, send=False)
    sent = await put_attachment(store, "ada", None)
    used = await put_attachment(store, "ada", "t", send=False)
    await store.save_thread(thread(), ADA)
    killed = await put_attachment(store, "ada", None)  # the file is there, not the mark
    await database.chatkit_attachments.update_one({"_id.id": killed}, {"$unset": {"upload.at": ""}})

    young = await run("files", "gc", "--delete", "--yes", *where)
    found = await run(*collect(where))
    done = await run(*collect(where, "--delete", "--yes"))

    assert young.out == "0 deleted.\n"
    assert found.out.startswith(f"{never}  an attachment of ada that was never sent\n")
    assert done.out.splitlines()[-1] == "1 deleted."
    left = {stored["_id"]["id"] for stored in (await alive(database))["chatkit_attachments"]}
    assert left == {sent, used, killed}


async def test_an_attachment_that_is_sent_at_the_very_moment_stays(database: Documents) -> None:
    store = store_of(database)
    attachment = await put_attachment(store, "ada", None, send=False)
    soon = datetime.now(timezone.utc) + timedelta(seconds=1)
    garbage = Garbage(database, "fs", soon)
    orphans = [orphan async for orphan in garbage.attachments()]
    assert [orphan.id for orphan in orphans] == [attachment]
    await database.chatkit_attachments.update_one(
        {"_id.id": attachment}, {"$set": {"upload.at": datetime.now(timezone.utc)}}
    )

    assert await garbage.delete_attachments(orphans) == []

    assert await store.load_attachment(attachment, ADA)
