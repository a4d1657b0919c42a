"""The search index holds a person's words; an erasure takes them along."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mongo_datalayer.admin.erasure import Erasure, Remains
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.schema.indexes import apply_indexes
from mongo_datalayer.search.indexer import SearchIndexer
from tests.cli.commands import kill_when, run, slowed
from tests.cli.people import Documents, put_person

ALICE, BOB = "alice@example.com", "bob@example.com"


async def put_indexed(database: Documents, identifier: str, *, threads: int = 2) -> str:
    """A person whose threads are indexed; the id of the user."""
    await apply_indexes(database, search=True)
    await put_person(database, identifier, threads=threads)
    user = await database.users.find_one({"identifier": identifier})
    assert user is not None
    built = await SearchIndexer(database).build(user["_id"])
    assert built.threads == threads
    return str(user["_id"])


async def words_of(database: Documents, user_id: str) -> list[dict[str, Any]]:
    return await database.search_words.find({"userId": user_id}).sort("_id").to_list()


async def test_the_words_are_counted_and_go(where: tuple[str, ...], database: Documents) -> None:
    bob = await put_indexed(database, BOB)
    alice = await put_indexed(database, ALICE)
    of_bob, of_alice = await words_of(database, bob), await words_of(database, alice)
    assert len(of_alice) > 2

    dry = await run("erase-user", ALICE, "--dry-run", *where)
    untouched = await words_of(database, alice)
    done = await run("erase-user", ALICE, "--yes", *where)

    counts = dict(line.rsplit(None, 1) for line in dry.out.splitlines()[:-1])
    assert counts["search index documents"] == f"{len(of_alice):,}"
    assert untouched == of_alice
    assert (done.code, done.err) == (0, ""), done
    assert f"{len(of_alice):,} search index documents, 1 user.\n" in done.out
    assert await words_of(database, alice) == []
    assert await words_of(database, bob) == of_bob


async def test_a_killed_erasure_leaves_the_user_until_the_words_are_gone(
    mongo_uri: str, where: tuple[str, ...], database: Documents
) -> None:
    alice = await put_indexed(database, ALICE)

    async def all_threads_are_gone() -> bool:
        return await database.threads.count_documents({"userId": alice}) == 0

    async with slowed(database, "delete") as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(all_threads_are_gone, "erase-user", ALICE, "--yes", *slow)
    assert code == -signal.SIGKILL
    assert await words_of(database, alice) != []
    assert await database.users.count_documents({"_id": alice}) == 1

    done = await run("erase-user", ALICE, "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    assert await words_of(database, alice) == []
    assert await database.users.count_documents({}) == 0


async def test_the_words_of_an_earlier_user_with_the_identifier_go_too(
    where: tuple[str, ...], database: Documents
) -> None:
    earlier = await put_indexed(database, ALICE)
    await database.users.delete_one({"_id": earlier})
    bob = await put_indexed(database, BOB)
    of_bob = await words_of(database, bob)
    # A thread of hers that was given to somebody who is there.
    given = {"_id": "given", "userId": bob, "userIdentifier": ALICE, "steps": []}
    await database.threads.insert_one(given)

    dry = await run("erase-user", ALICE, "--dry-run", *where)
    done = await run("erase-user", ALICE, "--yes", *where)

    counts = dict(line.rsplit(None, 1) for line in dry.out.splitlines()[:-1])
    assert int(counts["search index documents"].replace(",", "")) > 2
    assert (done.code, done.err) == (0, ""), done
    assert await words_of(database, earlier) == []
    assert await words_of(database, bob) == of_bob


@pytest.mark.parametrize("earlier", [False, True])
async def test_words_that_come_back_are_found(database: Documents, earlier: bool) -> None:
    alice = await put_indexed(database, ALICE)
    words = await words_of(database, alice)
    if earlier:
        await database.users.delete_one({"_id": alice})
    erasure = Erasure(database, FileBucket(database), ALICE)
    person = await erasure.person()

    erased = await erasure.erase(person, lambda: None)
    nothing = await erasure.remaining(person, erased)
    await database.search_words.insert_many(words)
    found = await erasure.remaining(person, erased)

    assert sum(part.counts["words"] for part in erased) == len(words)
    assert nothing == Remains()
    assert found.documents == {"search_words": len(words)}
