"""``export`` and ``import`` with ChatKit's threads and attachments."""

from __future__ import annotations

import hashlib
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from chatkit.types import HiddenContextItem, ImageAttachment
from pydantic import AnyUrl

from mongo_datalayer.admin.export_format import RecordWriter, read_records
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.errors import ExportFormatError
from mongo_datalayer.testing.chatkit_contract import TRICKY, at, message, thread
from tests.cli.chatkit_people import (
    FILE,
    LARGE,
    put_attachment,
    put_chatkit_thread,
    small_store,
    store_of,
)
from tests.cli.commands import kill_when, run, slowed
from tests.cli.people import Documents, put_person, snapshot

ADA, BOB = "ada", "bob@example.com"


async def read(database: Documents, owner: str, thread_id: str = "t") -> Any:
    """What an owner sees of a thread, and the feedback and places of its items."""
    store: MongoChatKitStore[Any] = store_of(database)
    context = {"user_id": owner}
    page = await store.load_thread_items(thread_id, None, 999, "asc", context)
    stored = await database.chatkit_threads.find_one({"_id": {"owner": owner, "id": thread_id}})
    assert stored is not None
    parts = database.chatkit_overflow.find({"thread": stored["_id"]})
    items = [item async for part in parts for item in part["items"]] + stored["items"]
    beside = sorted((i["sortKey"], i["createdAt"], str(i.get("feedback"))) for i in items)
    head = {name: stored[name] for name in ("sortKey", "sequence", "createdAt", "updatedAt")}
    return await store.load_thread(thread_id, context), page.data, beside, head


async def attachments(database: Documents) -> list[tuple[Any, bytes]]:
    store: MongoChatKitStore[Any] = store_of(database)
    found = await database.chatkit_attachments.find({}).sort("_id").to_list()
    return [
        (
            stored,
            await store.read_attachment(stored["_id"]["id"], {"user_id": stored["_id"]["owner"]}),
        )
        for stored in found
    ]


async def fill(database: Documents) -> None:
    store = await put_chatkit_thread(database, ADA)
    await store.delete_thread_item("t", "ada/3", {"user_id": ADA})
    await put_attachment(store, ADA, None)
    await put_chatkit_thread(database, BOB)
    odd = store_of(database)
    context = {"user_id": "odd/é.."}
    await odd.save_thread(thread(metadata=TRICKY | {"big": 2**70}), context)
    text = {"text": "x" * 5, **TRICKY, "big": 2**80}
    await odd.add_thread_item("t", message("m", quoted_text=json.dumps(text)), context)
    await odd.save_thread(thread("gone"), context)
    await odd.delete_thread("gone", context)


async def test_an_import_into_another_database_gives_the_same(
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    there: tuple[str, ...],
    tmp_path: Path,
) -> None:
    await fill(database)
    exported = tmp_path / "chats.jsonl"
    path = str(exported)

    written = await run("export", "--files", "--output", path, *where)
    dry = await run("import", path, "--dry-run", *there)
    empty = await snapshot(other)
    stored = await run("import", path, *there)
    again = await run("import", path, *there)

    counts = "0 users, 0 threads, 3 ChatKit threads, 3 ChatKit attachments, 3 files"
    nothing = "0 users, 0 threads, 0 files"
    assert (written.code, written.err, written.out) == (0, "", f"{counts} written.\n")
    assert f"Would be stored: {counts}." in dry.out
    assert empty == {}
    assert f"Stored: {counts}." in stored.out
    assert f"Stored: {nothing}." in again.out
    assert f"There already, left as they are: {counts}." in again.out
    for owner in (ADA, BOB, "odd/é.."):
        assert await read(other, owner) == await read(database, owner)
    assert await attachments(other) == await attachments(database)
    assert [content for _, content in await attachments(other)] == [FILE] * 3
    assert LARGE in exported.read_text()  # the large item is in the thread
    # The imported thread goes on, and deletes all of itself.
    store = store_of(other)
    await store.add_thread_item("t", message("later", 1000), {"user_id": ADA})
    assert len((await read(other, ADA))[1]) == 13
    await store.delete_thread("t", {"user_id": ADA})
    left = await other["fs.files"].distinct("filename")
    assert sorted(left) == sorted(
        stored["upload"]["objectKey"]
        for stored, _ in await attachments(database)
        if stored.get("threadIds") is None or stored["_id"]["owner"] == BOB
    )


@pytest.mark.parametrize("files", [(), ("--files",)])
async def test_an_attachment_with_a_large_preview_is_moved_and_erased(
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    there: tuple[str, ...],
    tmp_path: Path,
    files: tuple[str, ...],
) -> None:
    context, path = {"user_id": ADA}, str(tmp_path / "chats.jsonl")
    url = AnyUrl("data:image/png;base64," + "A" * 2_000_000)
    image = ImageAttachment(id="a", name="p", mime_type="image/png", preview_url=url)
    await store_of(database).save_attachment(image, context)

    written = await run("export", *files, "--output", path, *where)
    stored = await run("import", path, *there)
    kept = await run("files", "gc", "--grace-hours", "0", "--delete", "--yes", *there)

    assert (written.code, stored.code) == (0, 0), stored
    assert kept.out == "0 deleted.\n"
    assert await store_of(other).load_attachment("a", context) == image
    erased = await run("erase-user", ADA, "--yes", *there)
    assert erased.code == 0, erased
    assert not any((await snapshot(other)).values())


async def test_a_long_thread_with_large_items_is_cut_again(
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    there: tuple[str, ...],
    tmp_path: Path,
) -> None:
    context = {"user_id": ADA}
    store = small_store(database)
    await store.save_thread(thread(), context)
    for number in range(40):
        large = HiddenContextItem(
            id=f"i{number}", thread_id="t", created_at=at(number), content="é" * 20_000
        )
        await store.add_thread_item("t", large, context)
    path = str(tmp_path / "chats.jsonl")
    await run("export", "--output", path, *where)

    done = await run("import", path, *there)

    assert done.code == 0, done
    assert (await read(other, ADA))[1] == (await read(database, ADA))[1]
    head = await other.chatkit_threads.find_one({})
    assert head is not None
    assert head["overflow"] is True
    assert len(head["overflowIds"]) > 1


async def test_what_is_there_is_kept_or_replaced(
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    there: tuple[str, ...],
    tmp_path: Path,
) -> None:
    await fill(database)
    path = str(tmp_path / "chats.jsonl")
    await run("export", "--files", "--output", path, *where)
    changed = await put_chatkit_thread(other, ADA)
    await changed.save_item("t", message("ada/0", text="other"), {"user_id": ADA})
    await changed.save_thread(thread(title="other"), {"user_id": ADA})
    bobs = store_of(other)
    await bobs.save_thread(thread(), {"user_id": BOB})
    await bobs.delete_thread("t", {"user_id": BOB})
    before = await read(other, ADA)

    kept = await run("import", path, *there)
    as_before = await read(other, ADA)
    replaced = await run("import", path, "--on-conflict", "replace", "--yes", *there)

    assert "Stored: 0 users, 0 threads, 1 ChatKit thread, 3 ChatKit attachments" in kept.out
    assert as_before == before
    assert "Stored: 0 users, 0 threads, 3 ChatKit threads, 3 ChatKit attachments" in replaced.out
    for owner in (ADA, BOB):
        assert await read(other, owner) == await read(database, owner)
    gc = await run("files", "gc", "--grace-hours", "0", *there)
    assert gc.out == "0 found.\n"
    head = await other.chatkit_threads.find_one({"_id": {"owner": ADA, "id": "t"}}) or {}
    parts = await other.chatkit_overflow.distinct("_id", {"thread": head["_id"]})
    assert sorted(parts) == sorted(head.get("overflowIds") or ())


@pytest.mark.parametrize(
    ("option", "owners"),
    [
        (("--user", ADA), [ADA]),
        (("--user", BOB), [BOB]),
        (("--thread", "t"), [ADA, BOB]),
        (("--thread", f"{BOB}/0"), []),
    ],
)
async def test_one_owner_or_thread(
    where: tuple[str, ...],
    database: Documents,
    tmp_path: Path,
    option: tuple[str, ...],
    owners: list[str],
) -> None:
    await put_person(database, BOB, threads=1)
    for owner in (ADA, BOB):
        await put_chatkit_thread(database, owner)
        await put_attachment(store_of(database), owner, None)
    path = tmp_path / "chats.jsonl"

    done = await run("export", "--files", "--output", str(path), *option, *where)

    assert (done.code, done.err) == (0, ""), done
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    found = [r["document"]["_id"]["owner"] for r in records if r["type"] == "chatkit-thread"]
    assert found == owners
    of_threads = [r for r in records if r["type"] == "chatkit-attachment"]
    assert len(of_threads) == (len(owners) * (2 if "--user" in option else 1))
    files = [r["objectKey"] for r in records if r["type"] == "file"]
    keys = [r["document"]["upload"]["objectKey"] for r in of_threads]
    assert sorted(key for key in files if key.startswith("chatkit/")) == sorted(keys)


async def test_nobody(where: tuple[str, ...], database: Documents) -> None:
    await put_chatkit_thread(database, ADA)

    for option in (("--user", "nobody"), ("--thread", "nothing")):
        done = await run("export", *option, *where)

        assert (done.code, done.out) == (1, "")


async def test_a_damaged_thread_is_left_out_and_named(
    where: tuple[str, ...], database: Documents, tmp_path: Path
) -> None:
    await put_chatkit_thread(database, ADA, "damaged")
    await put_chatkit_thread(database, ADA, "whole")
    await database["fs.files"].delete_many({"metadata.threadId": "chatkit/ada/damaged"})

    done = await run("export", "--output", str(tmp_path / "chats.jsonl"), *where)

    assert done.code == 1
    assert done.err == "Error: The ChatKit thread 'damaged' of 'ada' is damaged; left out.\n"
    assert "1 ChatKit thread" in done.out


async def test_a_killed_import_is_completed_by_the_next(
    mongo_uri: str,
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    there: tuple[str, ...],
    tmp_path: Path,
) -> None:
    names = [f"t{number}" for number in range(4)]
    for name in names:
        await put_chatkit_thread(database, ADA, name)
    path = str(tmp_path / "chats.jsonl")
    await run("export", "--files", "--output", path, *where)

    async def has_begun() -> bool:
        return await other.chatkit_threads.count_documents({}) >= 2

    async with slowed(database, "insert") as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *there[2:])
        assert await kill_when(has_begun, "import", path, *slow) == -signal.SIGKILL

    done = await run("import", path, *there)

    assert done.code == 0, done
    for name in names:
        assert await read(other, ADA, name) == await read(database, ADA, name)


# The format -----------------------------------------------------------------------------------


def old_export(*lines: str, trailer: dict[str, Any] | None = None) -> bytes:
    """An export of version 1."""
    header = {"type": "header", "format": "mongo-datalayer-export", "version": 1}
    body = "".join(f"{line}\n" for line in (json.dumps(header), *lines)).encode()
    counts = {"users": 0, "threads": 1, "files": 0} if trailer is None else trailer
    end = {"type": "trailer", **counts, "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end).encode() + b"\n"


def test_an_export_of_version_1_is_read() -> None:
    export = old_export('{"type": "thread", "document": {"_id": "t"}}')

    (record,) = read_records(io.BytesIO(export))

    assert record["document"] == {"_id": "t"}


def test_version_1_knows_no_chatkit() -> None:
    line = '{"type": "chatkit-attachment", "document": {"_id": {"owner": "a", "id": "b"}}}'

    with pytest.raises(ExportFormatError, match="line 2 is out of place"):
        list(read_records(io.BytesIO(old_export(line))))


@pytest.mark.parametrize(
    "document",
    [
        {"_id": "t", "sortKey": "o"},
        {"_id": {"owner": "a"}, "sortKey": "o"},
        {"_id": {"owner": "a", "id": 1}, "sortKey": "o"},
        {"_id": {"owner": "a", "id": "t"}},
    ],
)
def test_a_chatkit_thread_that_lacks_what_it_needs_is_refused(document: dict[str, Any]) -> None:
    writer = RecordWriter()
    export = writer.header() + writer.document("chatkit-thread", document) + writer.trailer()

    with pytest.raises(ExportFormatError, match="line 2"):
        list(read_records(io.BytesIO(export)))
