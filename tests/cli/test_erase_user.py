from __future__ import annotations

import signal
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer.admin.erasure import Erasure, Remains
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.schema.agent_collections import LIBRARIES
from mongo_datalayer.schema.roles import app_role
from mongo_datalayer.server import LocalServer
from tests.cli.commands import NOBODY, kill_when, run, slowed
from tests.cli.people import LARGE, Documents, put_long_thread, put_person, snapshot, storage_of

ALICE, BOB = "alice@example.com", "bob@example.com"


def mentions(stored: dict[str, list[dict[str, object]]], word: str) -> list[str]:
    """The collections in which the word stands anywhere."""
    return [name for name, documents in stored.items() if word in repr(documents)]


async def test_everything_of_a_person_goes_and_nothing_else(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, BOB, threads=2)
    before = await snapshot(database)
    await put_person(database, ALICE, threads=3)
    alice = await database.users.find_one({"identifier": ALICE})
    assert alice is not None

    done = await run("erase-user", ALICE, "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert (
        "Removed: 3 threads, 3 files, 0 large values, 0 search index documents, 1 user." in done.out
    )
    assert "nothing is left" in done.out
    tombstones = await database.threads.find({"deletedAt": {"$exists": True}}).to_list(None)
    assert [set(tombstone) for tombstone in tombstones] == [{"_id", "deletedAt"}] * 3
    await database.threads.delete_many({"deletedAt": {"$exists": True}})
    after = await snapshot(database)
    assert after == before
    assert mentions(after, ALICE) == mentions(after, alice["_id"]) == []


async def test_a_dry_run_counts_and_changes_nothing(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=3)
    before = await snapshot(database)

    done = await run("erase-user", ALICE, "--dry-run", *where)

    assert (done.code, done.err) == (0, ""), done
    counts = dict(line.rsplit(None, 1) for line in done.out.splitlines()[:-1])
    size = sum(len(f"file of {ALICE}/{number}") for number in range(3))
    assert counts == {
        "user": "1",
        "threads": "3",
        "steps": "6",
        "feedback": "3",
        "elements": "3",
        "files": "3",
        "bytes of files": str(size),
        "large values": "0",
        "bytes of large values": "0",
        "overflow documents": "0",
        "search index documents": "0",
    }
    assert await snapshot(database) == before


async def test_all_of_a_long_thread_goes(where: tuple[str, ...], database: Documents) -> None:
    await put_person(database, BOB, threads=1)
    await put_long_thread(database, "bobs", BOB)
    before = await snapshot(database)
    alice = await put_long_thread(database, "alices", ALICE)
    overflow = await database.thread_overflow.count_documents({"thread": "alices"})
    # A copy that a killed move left: nobody reads it, and it is this person's too.
    part = await database.thread_overflow.find_one({"thread": "alices", "steps.id": "alices/step2"})
    assert part is not None
    await database.thread_overflow.insert_one({**part, "_id": "nobody lists it"})

    dry = await run("erase-user", ALICE, "--dry-run", *where)
    done = await run("erase-user", ALICE, "--yes", *where)

    counts = dict(line.rsplit(None, 1) for line in dry.out.splitlines()[:-1])
    assert counts == {
        "user": "1",
        "threads": "1",
        "steps": "8",
        "feedback": "1",
        "elements": "1",
        "files": "1",
        "bytes of files": "16",
        "large values": "1",
        "bytes of large values": f"{len(LARGE):,}",
        "overflow documents": str(overflow + 1),
        "search index documents": "0",
    }
    assert (done.code, done.err) == (0, ""), done
    assert "Removed: 1 thread, 1 file, 1 large value, 0 search index documents, 1 user." in done.out
    await database.threads.delete_many({"deletedAt": {"$exists": True}})
    after = await snapshot(database)
    assert after == before
    assert mentions(after, ALICE) == mentions(after, alice) == mentions(after, "alices") == []


async def test_what_is_left_of_a_long_thread_is_found(database: Documents) -> None:
    await put_long_thread(database, "t", ALICE)
    erasure = Erasure(database, FileBucket(database), ALICE)
    person = await erasure.person()
    parts = await database.thread_overflow.find({"value": None}).to_list()
    values = await database["fs.files"].find({"filename": {"$regex": "^values/"}}).to_list()
    chunks = await database["fs.chunks"].find({"files_id": values[0]["_id"]}).to_list()

    erased = await erasure.erase(person, lambda: None)
    nothing = await erasure.remaining(person, erased)
    await database.thread_overflow.insert_many(parts)
    await database["fs.files"].insert_many(values)
    await database["fs.chunks"].insert_many(chunks)
    found = await erasure.remaining(person, erased)

    assert nothing == Remains()
    assert found.documents == {
        "thread_overflow": len(parts),
        "the list of files": 1,
        "the content of files": 1,
    }


async def test_a_long_thread_that_a_killed_erasure_left_is_erased_by_the_next(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_long_thread(database, "t", ALICE)
    # As when it was killed between the overflow and the head: the thread cannot be read whole.
    await database.thread_overflow.delete_many({})

    dry = await run("erase-user", ALICE, "--dry-run", *where)
    done = await run("erase-user", ALICE, "--yes", *where)

    assert (dry.code, done.code, done.err) == (0, 0, ""), (dry, done)
    await database.threads.delete_many({"deletedAt": {"$exists": True}})
    assert not any((await snapshot(database)).values())


async def test_an_unknown_person(where: tuple[str, ...], database: Documents) -> None:
    await put_person(database, BOB, threads=1)
    before = await snapshot(database)

    done = await run("erase-user", ALICE, "--yes", *where)

    assert done.code == 1
    assert done.err == f"Error: There is no user {ALICE!r} in the database {where[3]!r}.\n"
    assert await snapshot(database) == before


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 2)])
async def test_a_person_is_asked_first(
    where: tuple[str, ...], database: Documents, answer: str, code: int
) -> None:
    await put_person(database, ALICE, threads=1)
    before = await snapshot(database)

    done = await run("erase-user", ALICE, *where, stdin=answer)

    assert done.code == code
    assert f"Remove all of this for {ALICE!r}?" in done.err
    assert f"Database {database.name!r} at 127.0.0.1:" in done.err
    assert ((await snapshot(database)) == before) == (code != 0)
    assert ("Pass --yes" in done.err) == (code == 2)


async def test_threads_of_an_earlier_user_with_the_identifier_go_too(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await database.users.delete_one({"identifier": ALICE})

    done = await run("erase-user", ALICE, "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert (
        "Removed: 1 thread, 1 file, 0 large values, 0 search index documents, 0 users." in done.out
    )
    assert mentions(await snapshot(database), f"of {ALICE}") == []


async def test_what_a_view_shows_is_not_said_twice(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await database.ratings.insert_one({"userIdentifier": ALICE})
    await database.create_collection("best_ratings", viewOn="ratings")

    done = await run("erase-user", ALICE, "--yes", *where)

    assert done.code == 1
    told = [line for line in done.err.splitlines() if line.startswith("Left in")]
    assert told == ["Left in ratings: 1"]


async def test_what_is_found_in_a_collection_of_the_app_is_said(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await database.ratings.insert_many([{"userIdentifier": ALICE}, {"userIdentifier": BOB}])

    done = await run("erase-user", ALICE, "--yes", *where)
    again = await run("erase-user", ALICE, "--yes", *where)

    for outcome in (done, again):
        assert outcome.code == 1
        assert "Left in ratings: 1\n" in outcome.err
    assert await database.users.count_documents({}) == 0


async def test_a_file_of_another_persons_thread_stays(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await put_person(database, BOB, threads=1)
    bobs = await database.threads.find_one({"_id": f"{BOB}/0"})
    assert bobs is not None
    key = bobs["elements"][0]["objectKey"]
    await database.threads.update_one(
        {"_id": f"{ALICE}/0"}, {"$push": {"elements": {"id": "copied", "objectKey": key}}}
    )

    done = await run("erase-user", ALICE, "--yes", *where)

    assert done.code == 0, done
    assert await storage_of(database).download_file(key) == f"file of {BOB}/0".encode()


async def test_files_in_another_bucket_are_named_and_removed_when_it_is_said(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1, bucket="chat")
    thread = await database.threads.find_one({})
    assert thread is not None

    missed = await run("erase-user", ALICE, "--dry-run", *where)
    done = await run("erase-user", ALICE, "--yes", "--bucket", "chat", *where)

    assert f"not in the bucket: {thread['elements'][0]['objectKey']}\n" in missed.out
    assert "1 file of elements not in the bucket" in missed.err
    assert (done.code, done.err) == (0, ""), done
    assert await database["chat.files"].count_documents({}) == 0
    assert await database["chat.chunks"].count_documents({}) == 0


@pytest.mark.parametrize("command", ["findAndModify", "delete"], ids=["threads", "files"])
async def test_a_killed_erasure_is_completed_by_the_next(
    mongo_uri: str, where: tuple[str, ...], database: Documents, command: str
) -> None:
    await put_person(database, BOB, threads=1)
    await put_person(database, ALICE, threads=20)

    async def some_are_gone() -> bool:
        return await database.threads.count_documents({"deletedAt": {"$exists": True}}) >= 3

    async with slowed(database, command) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(some_are_gone, "erase-user", ALICE, "--yes", *slow)
    assert code == -signal.SIGKILL
    assert 0 < await database.threads.count_documents({"userIdentifier": ALICE}) <= 17
    assert await database.users.count_documents({"identifier": ALICE}) == 1

    done = await run("erase-user", ALICE, "--yes", *where)

    assert done.code == 0, done
    await database.threads.delete_many({"deletedAt": {"$exists": True}})
    stored = await snapshot(database)
    assert mentions(stored, ALICE) == []
    files = {file["_id"] for file in stored["fs.files"]}
    assert {chunk["files_id"] for chunk in stored["fs.chunks"]} == files
    assert len(files) == len(stored["threads"]) == len(stored["users"]) == 1


async def test_a_server_that_does_not_answer() -> None:
    done = await run("erase-user", ALICE, "--yes", "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()


async def test_help_has_an_example() -> None:
    done = await run("erase-user", "--help")

    assert done.code == 0
    assert "Example: mongo-datalayer erase-user " in done.out


async def test_the_commands_work_with_the_role_of_the_app_and_no_more(tmp_path: Path) -> None:
    with LocalServer(arguments=["--auth"]) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri) as client:
            roles = [{"role": "root", "db": "admin"}]
            await client.admin.command("createUser", "root", pwd="root", roles=roles)
        root = server.uri.replace("mongodb://", "mongodb://root:root@")
        async with AsyncMongoClient[dict[str, Any]](root, tz_aware=True) as client:
            database = client["chainlit"]
            role = app_role("chainlit")
            await database.command("createRole", role.name, privileges=role.privileges, roles=[])
            await database.command("createUser", "app", pwd="app", roles=[role.name])
            await put_person(database, ALICE, threads=2)
            long_ago = {"updatedAt": datetime(2020, 1, 1, tzinfo=timezone.utc)}
            await database.threads.update_many({}, {"$set": long_ago})
            app = server.uri.replace("mongodb://", "mongodb://app:app@")
            where = ("--uri", f"{app}/?authSource=chainlit")
            path = str(tmp_path / "chats.jsonl")

            exported = await run("export", "--files", "--output", path, *where)
            pruned = await run("prune", "--days", "1", "--yes", *where)
            imported = await run("import", path, "--on-conflict", "replace", "--yes", *where)
            await database.ratings.insert_one({"userIdentifier": BOB})
            await database.agent_messages.insert_one({"session_id": f"{ALICE}/0"})
            also = ("--also", "agents-sdk")
            refused = await run("erase-user", ALICE, "--yes", *also, *where)
            wider = app_role("chainlit", also=LIBRARIES["agents-sdk"].collections)
            await database.command("updateRole", role.name, privileges=wider.privileges, roles=[])
            erased = await run("erase-user", ALICE, "--yes", *also, *where)

            assert [done.code for done in (exported, pruned, imported)] == [0, 0, 0]
            assert pruned.out.startswith("Removed: 2 threads, 2 files")
            assert imported.out.startswith("Stored: 1 user, 2 threads, 2 files")
            told = "may not read and delete in the collection 'agent_messages'"
            assert told in refused.failed_with_one_line()
            assert "Removed: 2 threads, 2 files" in erased.out
            assert "Removed from agent_messages: 1\n" in erased.out
            assert erased.code == 1
            assert "Not searched, the login may not read it: ratings\n" in erased.err
            assert "not all collections were searched" in erased.err
