from __future__ import annotations

import signal
from typing import Any

import pytest

from mongo_datalayer.admin.erasure import Erasure, Remains
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails
from mongo_datalayer.testing.chatkit_contract import message, thread
from tests.cli.chatkit_people import FILE, put_attachment, put_chatkit_thread, store_of
from tests.cli.commands import kill_when, run, slowed
from tests.cli.people import Documents, put_person, snapshot

ALICE, BOB = "alice@example.com", "alice@example.com.au"


def mentions(stored: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The collections in which something of Alice's stands."""
    quoted = "alice%40example.com/"
    return [
        name
        for name, documents in stored.items()
        if f"'{ALICE}'" in repr(documents) or quoted in repr(documents)
    ]


async def test_everything_of_an_owner_goes_and_nothing_else(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, BOB, threads=1)
    await put_chatkit_thread(database, BOB)
    await FileBucket(database).write(
        "chatkit/alice%40example.com/mine", b"an app's own", FileDetails()
    )
    before = await snapshot(database)
    await put_person(database, ALICE, threads=1)
    alices = await put_chatkit_thread(database, ALICE)
    await put_chatkit_thread(database, ALICE, "other")
    await put_attachment(alices, ALICE, None)
    await put_attachment(alices, ALICE, None, send=False)
    await alices.save_thread(thread("gone"), {"user_id": ALICE})
    await alices.delete_thread("gone", {"user_id": ALICE})
    overflow = await database.chatkit_overflow.count_documents({"thread.owner": ALICE})
    part = await database.chatkit_overflow.find_one({"thread": owned(ALICE, "t")})
    assert part is not None
    # What a killed move and a killed deletion left is the person's too.
    await database.chatkit_overflow.insert_one({**part, "_id": "nobody lists it"})
    left = {**part, "_id": "no thread", "thread": owned(ALICE, "long gone")}
    await database.chatkit_overflow.insert_one(left)

    dry = await run("erase-user", ALICE, "--dry-run", *where)
    done = await run("erase-user", ALICE, "--yes", *where)

    counts = dict(line.rsplit(None, 1) for line in dry.out.splitlines()[:-1])
    assert (dry.code, dry.err) == (0, ""), dry
    assert counts == {
        "user": "1",
        "threads": "1",
        "steps": "2",
        "feedback": "3",
        "elements": "1",
        "ChatKit threads": "2",
        "ChatKit items": "26",
        "ChatKit attachments": "4",
        "ChatKit deleted": "1",
        "files": "4",
        "bytes of files": str(3 * len(FILE) + len(f"file of {ALICE}/0")),
        "large values": "2",
        "bytes of large values": counts["bytes of large values"],
        "overflow documents": str(overflow + 2),
        "search index documents": "0",
    }
    assert (done.code, done.err) == (0, ""), done
    assert (
        "Removed: 1 thread, 2 ChatKit threads, 4 ChatKit attachments, 4 files, 2 large values, "
        "0 search index documents, 1 user." in done.out
    )
    assert "nothing is left" in done.out
    await database.threads.delete_many({"deletedAt": {"$exists": True}})
    after = await snapshot(database)
    assert after == before


async def test_an_owner_without_a_user_is_erased(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_chatkit_thread(database, ALICE)

    done = await run("erase-user", ALICE, "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert "Removed: 0 threads, 1 ChatKit thread, 1 ChatKit attachment, 1 file, 1 large" in done.out
    assert mentions(await snapshot(database)) == []


async def test_what_is_left_of_an_owner_is_found(database: Documents) -> None:
    await put_chatkit_thread(database, ALICE)
    names = ("chatkit_threads", "chatkit_overflow", "chatkit_attachments", "fs.files", "fs.chunks")
    stored = {name: await database[name].find().to_list() for name in names}
    erasure = Erasure(database, FileBucket(database), ALICE)
    person = await erasure.person()

    erased = await erasure.erase(person, lambda: None)
    nothing = await erasure.remaining(person, erased)
    for name, documents in stored.items():
        await database[name].insert_many(documents)
    found = await erasure.remaining(person, erased)

    assert nothing == Remains()
    assert found.documents == {
        "chatkit_threads": 1,
        "chatkit_overflow": len(stored["chatkit_overflow"]),
        "chatkit_attachments": 1,
        "the list of ChatKit's files": 2,
        "the content of ChatKit's files": 2,
    }


async def test_files_in_another_bucket_are_named(
    where: tuple[str, ...], database: Documents
) -> None:
    store = await put_chatkit_thread(database, ALICE, bucket="chat")
    await put_attachment(store, ALICE, "t", send=False)
    attachment = await database.chatkit_attachments.find_one({"upload.at": {"$exists": True}})
    assert attachment is not None

    missed = await run("erase-user", ALICE, "--dry-run", *where)
    done = await run("erase-user", ALICE, "--yes", "--bucket", "chat", *where)

    assert f"not in the bucket: {attachment['upload']['objectKey']}\n" in missed.out
    assert (done.code, done.err) == (0, ""), done
    assert mentions(await snapshot(database)) == []


@pytest.mark.parametrize("command", ["findAndModify", "delete"], ids=["threads", "the rest"])
async def test_a_killed_erasure_is_completed_by_the_next(
    mongo_uri: str, where: tuple[str, ...], database: Documents, command: str
) -> None:
    await put_chatkit_thread(database, BOB)
    before = await snapshot(database)
    store = await put_chatkit_thread(database, ALICE)
    for number in range(15):
        await store.save_thread(thread(f"t{number}"), {"user_id": ALICE})

    async def has_begun() -> bool:
        return await database.chatkit_threads.count_documents({"deletedAt": {"$exists": True}}) >= 3

    async with slowed(database, command) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(has_begun, "erase-user", ALICE, "--yes", *slow)
    assert code == -signal.SIGKILL
    assert mentions(await snapshot(database)) != []

    done = await run("erase-user", ALICE, "--yes", *where)

    # The kill may fall between the files of a thread and the thread, and then stderr names those.
    assert done.code == 0, done
    assert await snapshot(database) == before


async def test_what_is_written_while_the_person_is_erased_is_said(
    database: Documents,
) -> None:
    await put_chatkit_thread(database, ALICE)
    erasure = Erasure(database, FileBucket(database), ALICE)
    person = await erasure.person()
    erased = await erasure.erase(person, lambda: None)

    await store_of(database).save_thread(thread("late"), {"user_id": ALICE})
    await store_of(database).add_thread_item("late", message("i"), {"user_id": ALICE})

    assert (await erasure.remaining(person, erased)).documents == {"chatkit_threads": 1}
