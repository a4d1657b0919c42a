"""In a database that another application shares, all commands concern this package's documents."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.model.documents import CHATKIT_TOMBSTONE, TOMBSTONE
from mongo_datalayer.schema.indexes import DECLARED, apply_indexes
from mongo_datalayer.server import LocalServer
from tests.cli.commands import run
from tests.cli.people import Documents, put_person

ALICE = "alice@example.com"
OLD = datetime(2020, 1, 1, tzinfo=timezone.utc)

FOREIGN: dict[str, list[dict[str, Any]]] = {
    "users": [
        {"_id": ObjectId(), "email": "a@x", "createdAt": OLD},
        {"_id": ObjectId(), "email": "b@x", "createdAt": OLD},
        {"_id": ObjectId(), "email": "c@x", "identifier": 7},
        {"_id": "text", "email": "d@x", "identifier": 7},
    ],
    "threads": [
        {"_id": ObjectId(), "title": "a forum's", "updatedAt": OLD, "posts": [1, 2]},
        {"_id": 5, "title": "a number", "updatedAt": OLD, "steps": []},
        {"_id": "slug", "title": "no steps", "createdAt": OLD, "updatedAt": OLD},
        {"_id": "list", "steps": "three", "updatedAt": OLD, "userId": ["a"]},
        {"_id": ObjectId(), "title": "deleted", "deletedAt": OLD},
        {"_id": 6, "deletedAt": OLD},
        {"_id": "soft", "title": "deleted", "deletedAt": OLD},
        {"_id": "mail", "updatedAt": OLD, "deletedAt": OLD},
        {"_id": ObjectId(), "userIdentifier": "bob", "updatedAt": OLD},
    ],
    "chatkit_threads": [
        {"_id": ObjectId(), "updatedAt": OLD},
        {"_id": "t", "updatedAt": OLD, "deletedAt": OLD},
    ],
    "chatkit_attachments": [
        {"_id": ObjectId(), "updatedAt": OLD, "threadId": "t"},
        {"_id": "a", "updatedAt": OLD, "threadId": "t", "deletedAt": OLD},
    ],
}


@pytest.fixture
async def foreign(database: Documents) -> dict[str, list[dict[str, Any]]]:
    for name, documents in FOREIGN.items():
        await database[name].insert_many(documents)
    return FOREIGN


async def unchanged(database: Documents) -> bool:
    """Whether all documents of the other application are there as they were."""
    for name, documents in FOREIGN.items():
        ids = [document["_id"] for document in documents]
        stored = await database[name].find({"_id": {"$in": ids}}).to_list()
        if {str(d["_id"]): d for d in stored} != {str(d["_id"]): d for d in documents}:
            return False
    return True


@pytest.mark.parametrize("command", [("indexes", "apply"), ("setup", "apply")], ids=" ".join)
async def test_all_indexes_are_made(
    where: tuple[str, ...], database: Documents, foreign: object, command: tuple[str, ...]
) -> None:
    done = await run(*command, *where)
    again = await run("indexes", "check", *where)

    assert (done.code, done.err) == (0, ""), done
    assert again.out.endswith(f"{len(DECLARED)} present, 0 created, 0 missing, 0 different.\n")
    users = Users(database)
    await asyncio.gather(*(users.put(ALICE, display_name=None, metadata={}) for _ in range(5)))
    assert await database.users.count_documents({"identifier": ALICE}) == 1


async def test_one_index_that_cannot_be_made_does_not_stop_the_others(
    where: tuple[str, ...], database: Documents
) -> None:
    await database.users.insert_many([{"_id": n, "identifier": "twice"} for n in "ab"])
    await database.threads.insert_one({"_id": "t", "userId": ["a", "b"], "updatedAt": [OLD, OLD]})

    done = await run("setup", "apply", *where)
    report = await apply_indexes(database)

    failed = {"users.identifier", "threads.user_activity"}
    assert done.code == 1
    assert {str(index) for index in report.failed} == failed
    assert len(report.present) == len(DECLARED) - len(failed)
    for name in failed:
        assert f"Error: {name} cannot be created: " in done.err
    assert "twice" not in done.err + done.out


async def test_prune_leaves_them_alone(
    where: tuple[str, ...], database: Documents, foreign: object
) -> None:
    await put_person(database, ALICE, threads=2)
    await database.threads.update_many({"userIdentifier": ALICE}, {"$set": {"updatedAt": OLD}})

    dry = await run("prune", "--days", "30", "--dry-run", *where)
    done = await run("prune", "--days", "30", "--yes", *where)

    assert dry.out.startswith("Would be removed: 2 threads, ")
    assert done.out.startswith("Removed: 2 threads, 2 files")
    assert await unchanged(database)


async def test_no_command_changes_or_counts_them(
    where: tuple[str, ...], database: Documents, foreign: object, tmp_path: Path
) -> None:
    await put_person(database, ALICE, threads=2)
    path = str(tmp_path / "chats.jsonl")

    stats = await run("stats", "--json", *where)
    exported = await run("export", "--files", "--output", path, *where)
    imported = await run("import", path, "--on-conflict", "replace", "--yes", *where)
    collected = await run("files", "gc", "--delete", "--yes", "--grace-hours", "0", *where)
    built = await run("search-index", "build", *where)
    dropped = await run("search-index", "drop", "--yes", *where)
    doctor = await run("doctor", *where)
    erased = await run("erase-user", ALICE, "--yes", *where)
    bob = await run("erase-user", "bob", "--yes", *where)

    totals = json.loads(stats.out)["totals"]
    assert (totals["users"], totals["threads"], totals["deleted_threads"]) == (1, 2, 0)
    assert (totals["chatkit_threads"], totals["chatkit_attachments"]) == (0, 0)
    assert exported.out == ("1 user, 2 threads, 2 files written.\n")
    assert imported.code == built.code == dropped.code == erased.code == 0
    assert collected.out == "0 deleted.\n"
    assert doctor.code in (0, 1)
    assert "Removed: 2 threads" in erased.out
    assert bob.code == 1
    assert "Left in threads: 1\n" in bob.err  # named, and left to the application
    assert await unchanged(database)


async def test_the_servers_expiry_leaves_them_alone() -> None:
    own = timedelta(days=2)
    tombstone = datetime.now(timezone.utc) - own
    with LocalServer(arguments=["--setParameter", "ttlMonitorSleepSecs=1"]) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri, tz_aware=True) as client:
            database = client["chainlit"]
            for name, documents in FOREIGN.items():
                await database[name].insert_many(documents)
            key = {"owner": "ada", "id": "t"}
            await database.threads.insert_one({"_id": "own", "deletedAt": tombstone})
            await database.chatkit_threads.insert_one(
                {"_id": key, "sortKey": "s", "deletedAt": tombstone}
            )
            await database.chatkit_attachments.insert_one({"_id": key, "deletedAt": tombstone})
            await apply_indexes(database)

            for _ in range(200):
                left = await database.threads.count_documents({"_id": "own"})
                left += await database.chatkit_threads.count_documents({"_id": key})
                left += await database.chatkit_attachments.count_documents({"_id": key})
                if not left:
                    break
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)  # another round

            assert not left
            assert await unchanged(database)


async def test_the_partial_indexes_serve_the_queries(database: Documents) -> None:
    await apply_indexes(database)
    await database.threads.insert_many({"_id": f"{n}", "steps": []} for n in range(50))
    await database.chatkit_threads.insert_many(
        {"_id": {"owner": "ada", "id": f"{n}"}, "sortKey": f"{n}"} for n in range(50)
    )
    queries = {
        ("users", "identifier"): {"identifier": ALICE},
        ("threads", "user_activity"): {"userId": "u", "updatedAt": {"$lt": OLD}},
        ("threads", "user_creation"): {"userId": "u", "createdAt": {"$lt": OLD}},
        ("threads", "step"): {"steps.id": "s"},
        ("threads", "deleted"): {"$and": [dict(TOMBSTONE), {}]},
        ("chatkit_threads", "deleted"): {"$and": [dict(CHATKIT_TOMBSTONE), {}]},
    }

    for (collection, name), query in queries.items():
        order = [("createdAt", -1), ("_id", -1)] if name == "user_creation" else []
        plan = await database[collection].find(query, sort=order).explain()
        assert f"'indexName': '{name}'" in str(plan["queryPlanner"]["winningPlan"]), name
