from __future__ import annotations

import json
import re
import signal
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.admin.search_index import Coverage, SearchIndex
from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.schema.indexes import apply_indexes, check_indexes
from mongo_datalayer.search import indexer as building
from mongo_datalayer.search.indexer import SearchIndexer
from mongo_datalayer.search.ngrams import query_ngrams
from mongo_datalayer.search.segments import threads_with_all
from tests.cli.commands import NOBODY, Done, kill_when, run, slowed
from tests.cli.people import put_long_thread, snapshot

Documents = AsyncDatabase[dict[str, Any]]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
ALICE, BOB, CAROL = "u-alice", "u-bob", "u-carol"


async def put_threads(database: Documents, user_id: str, count: int, *, first: int = 0) -> None:
    """Short threads of a user, each with a word of its own."""
    await database.threads.insert_many(
        {
            "_id": f"{user_id}/{number}",
            "userId": user_id,
            "userIdentifier": f"{user_id}@example.com",
            "name": f"word{number} of a conversation",
            "steps": [{"id": f"{user_id}/{number}/0", "output": f"answer{number} is here"}],
            "createdAt": NOW,
            "updatedAt": NOW + timedelta(seconds=number),
        }
        for number in range(first, first + count)
    )


async def put_user(database: Documents, user_id: str) -> None:
    await database.users.insert_one(
        {
            "_id": user_id,
            "identifier": f"{user_id}@example.com",
            "metadata": {},
            "createdAt": NOW,
        }
    )


@pytest.fixture
async def people(database: Documents) -> Documents:
    """Alice has many threads, Bob some, and Carol's are of a user who is not there."""
    for user_id in (ALICE, BOB):
        await put_user(database, user_id)
    await put_threads(database, ALICE, 250)
    await put_threads(database, BOB, 20)
    await put_threads(database, CAROL, 210)
    return database


async def checked(where: tuple[str, ...]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and what is said of each user."""
    done = await run("search-index", "check", "--json", *where)
    return done.code, {row["user_id"]: row for row in json.loads(done.out)}


def row(user_id: str, **counts: int) -> dict[str, Any]:
    identifier = None if user_id == CAROL else f"{user_id}@example.com"
    none = dict.fromkeys(("segments", "stale", "indexed", "missing", "waiting"), 0)
    return {"user_id": user_id, "identifier": identifier, **none, **counts}


def succeeded(done: Done) -> str:
    assert (done.code, done.err) == (0, ""), done
    return done.out


async def found(database: Documents, user_id: str, search: str) -> set[str]:
    """What a search finds with the index as it is."""
    threads = Threads(database, search_index=True)
    threads.lists._upkeep = None  # it would build what is missing
    page = await threads.lists.page(
        user_id, limit=50, time_field="updatedAt", cursor=None, search=search, feedback=None
    )
    return {thread["_id"] for thread in page}


# check ----------------------------------------------------------------------------------------


async def test_check_counts_what_is_indexed_and_what_is_not(
    where: tuple[str, ...], people: Documents
) -> None:
    before = await checked(where)
    untouched = await people.list_collection_names()
    await run("search-index", "build", *where)
    built = await checked(where)
    await put_threads(people, ALICE, 20, first=1000)
    few = await checked(where)
    await put_threads(people, ALICE, 20, first=2000)
    more = await checked(where)

    assert before == (
        1,
        {
            ALICE: row(ALICE, missing=250, waiting=250),
            CAROL: row(CAROL, missing=210, waiting=210),
        },
    )
    assert "search_words" not in untouched
    of_carol = row(CAROL, segments=1, indexed=210)
    of_alice = row(ALICE, segments=1, indexed=250)
    assert built == (0, {ALICE: of_alice, CAROL: of_carol})
    new: dict[str, Any] = {"missing": 20, "waiting": 20}
    assert few == (0, {ALICE: {**of_alice, **new}, CAROL: of_carol})
    assert more[0] == 1
    assert more[1][ALICE] == {**of_alice, "missing": 40, "waiting": 40}


async def test_check_prints_a_table(where: tuple[str, ...], people: Documents) -> None:
    await run("search-index", "build", *where)

    done = await run("search-index", "check", *where)

    title, *lines = (re.split(r"\s{2,}", line) for line in done.out.splitlines() if line)
    assert (done.code, done.err) == (0, "")
    assert title == ["Search index"]
    assert lines == [
        ["User", "Segments", "Stale", "Threads indexed", "Not indexed"],
        [f"{ALICE}@example.com", "1", "0", "250", "0"],
        [CAROL, "1", "0", "210", "0"],
    ]


async def test_check_says_what_to_do(where: tuple[str, ...], people: Documents) -> None:
    done = await run("search-index", "check", *where)

    assert done.code == 1
    assert done.err == "Run `mongo-datalayer search-index build`.\n"


@pytest.mark.parametrize(
    ("indexed", "missing", "poor"),
    [(0, 0, False), (0, 199, False), (0, 200, True), (180, 20, False), (179, 21, True)],
)
def test_when_too_little_is_indexed(indexed: int, missing: int, poor: bool) -> None:
    coverage = Coverage("u", None, 1, 0, indexed=indexed, missing=missing, waiting=0)

    assert coverage.poor is poor


async def test_a_segment_of_another_format_counts_for_nothing(
    where: tuple[str, ...], people: Documents
) -> None:
    """As after a change of how n-grams are made: no search asks it."""
    await run("search-index", "build", *where)
    await people.search_words.update_many(
        {"format": {"$exists": True}}, {"$set": {"format": "0/old"}}
    )

    code, said = await checked(where)
    built = succeeded(await run("search-index", "build", *where))

    assert code == 1
    assert said[ALICE] == row(ALICE, segments=1, stale=1, missing=250, waiting=250)
    assert built == "Indexed: 460 threads in 2 segments. Replaced or removed: 2 segments.\n"
    assert (await checked(where))[0] == 0


async def test_long_threads_are_none_of_the_index(
    where: tuple[str, ...], database: Documents
) -> None:
    user_id = await put_long_thread(database, "long")
    await put_threads(database, user_id, 200)
    await run("search-index", "build", *where)

    _, said = await checked(where)

    (only,) = said.values()
    assert (only["indexed"], only["missing"], only["waiting"]) == (200, 0, 0)


# build ----------------------------------------------------------------------------------------


async def test_build_indexes_who_has_many_threads_and_repeats_safely(
    where: tuple[str, ...], people: Documents
) -> None:
    built = await run("search-index", "build", *where)
    stored = await snapshot(people)
    again = await run("search-index", "build", *where)

    assert succeeded(built) == (
        "Indexed: 460 threads in 2 segments. Replaced or removed: 0 segments.\n"
    )
    assert (await check_indexes(people, search=True)).complete
    assert await people.threads.count_documents({"searchSegment": {"$exists": True}}) == 460
    assert await people.threads.count_documents({"userId": BOB, "searchSegment": None}) == 20
    assert await found(people, ALICE, "answer17 is") == {f"{ALICE}/17"}
    assert succeeded(again) == (
        "Indexed: 0 threads in 0 segments. Replaced or removed: 0 segments.\n"
    )
    assert await snapshot(people) == stored


async def test_build_for_one_user_who_may_have_few_threads(
    where: tuple[str, ...], people: Documents
) -> None:
    built = await run("search-index", "build", "--user", f"{BOB}@example.com", *where)
    unknown = await run("search-index", "build", "--user", "nobody", *where)

    assert "20 threads in 1 segment" in succeeded(built)
    assert await people.threads.distinct("userId", {"searchSegment": {"$exists": True}}) == [BOB]
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "Error: There is no user 'nobody'.\n"


async def test_a_dry_run_counts_and_changes_nothing(
    where: tuple[str, ...], people: Documents
) -> None:
    before = await snapshot(people)

    everybody = await run("search-index", "build", "--dry-run", *where)
    bob = await run("search-index", "build", "--user", f"{BOB}@example.com", "--dry-run", *where)

    would = "Would be indexed: {} threads of {}. Nothing was changed.\n"
    assert succeeded(everybody) == would.format(460, "2 users")
    assert succeeded(bob) == would.format(20, "1 user")
    assert await snapshot(people) == before
    assert "user_search" not in await people.threads.index_information()


async def test_the_ngrams_of_removed_threads_go(where: tuple[str, ...], people: Documents) -> None:
    await run("search-index", "build", *where)
    threads = Threads(people)
    for number in range(100):
        await threads.delete(f"{ALICE}/{number}", NOW)
    for number in range(210):
        await threads.delete(f"{CAROL}/{number}", NOW)

    dry = await run("search-index", "build", "--dry-run", *where)
    built = await run("search-index", "build", *where)

    # Alice's segment has lost more than a quarter; Carol has no threads any more.
    assert "150 threads of 1 user" in succeeded(dry)
    assert succeeded(built) == (
        "Indexed: 150 threads in 1 segment. Replaced or removed: 2 segments.\n"
    )
    pages = {
        page["ngrams"]: page["postings"]
        async for page in people.search_words.find({"postings": {"$exists": True}})
    }
    assert threads_with_all(query_ngrams("answer17 is"), pages) == []
    assert len(threads_with_all(query_ngrams("answer117 is"), pages) or ()) == 1
    assert await people.search_words.distinct("userId") == [ALICE]


async def test_what_a_killed_build_left_of_a_user_without_threads_goes(
    where: tuple[str, ...], database: Documents
) -> None:
    name = str(ObjectId())
    await database.search_words.insert_one(
        {"_id": f"{name}/0", "segment": name, "userId": ALICE, "ngrams": 0, "postings": b"secret"}
    )

    succeeded(await run("search-index", "build", *where))

    assert await database.search_words.count_documents({}) == 0


@pytest.mark.parametrize(
    "commands", [("insert",), ("update", "find", "insert")], ids=["pages", "references"]
)
async def test_a_killed_build_is_completed_by_a_later_one(
    mongo_uri: str,
    where: tuple[str, ...],
    people: Documents,
    commands: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await apply_indexes(people, search=True)

    async def it_has_begun() -> bool:
        return await people.threads.count_documents({"searchSegment": {"$exists": True}}) > 0

    async with slowed(people, *commands) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(it_has_begun, "search-index", "build", *slow)
    assert code == -signal.SIGKILL
    assert await found(people, ALICE, "answer17 is") == {f"{ALICE}/17"}

    at_once = await run("search-index", "build", *where)
    left = await checked(where)
    # As an hour later: until then the threads might be in another process's hands.
    monkeypatch.setattr(building, "UNFINISHED", timedelta(0))
    await SearchIndex(people).build(ALICE)

    assert succeeded(at_once)
    assert left[1][CAROL]["indexed"] == 210
    assert left[1][ALICE]["indexed"] < 250
    assert await found(people, ALICE, "answer17 is") == {f"{ALICE}/17"}
    code, said = await checked(where)
    assert (code, said[ALICE]["indexed"], said[CAROL]["indexed"]) == (0, 250, 210)
    segments = await people.search_words.distinct("segment", {"userId": ALICE})
    heads = await people.search_words.distinct("_id", {"userId": ALICE, "format": {"$gt": ""}})
    assert segments == heads


async def test_an_index_that_differs_is_named(where: tuple[str, ...], people: Documents) -> None:
    await people.search_words.create_index([("ngrams", 1)], name="user_ngrams")

    done = await run("search-index", "build", *where)

    line = done.failed_with_one_line()
    assert "search_words.user_ngrams" in line
    assert "mongo-datalayer indexes apply --replace" in line


# drop -----------------------------------------------------------------------------------------


async def test_drop_leaves_nothing_and_the_threads_as_they_were(
    where: tuple[str, ...], people: Documents
) -> None:
    await apply_indexes(people)
    before = await snapshot(people)
    indexes = await people.threads.index_information()
    await run("search-index", "build", *where)
    documents = await people.search_words.count_documents({})
    built = await snapshot(people)

    dry = await run("search-index", "drop", "--dry-run", *where)
    untouched = await snapshot(people)
    dropped = await run("search-index", "drop", "--yes", *where)
    again = await run("search-index", "drop", "--yes", *where)

    counts = f"{documents:,} segment documents, 460 segment references"
    assert succeeded(dry) == f"Would be removed: {counts}.\nNothing was changed.\n"
    assert untouched == built
    assert succeeded(dropped) == f"Removed: {counts}.\n"
    assert await snapshot(people) == before
    assert await people.threads.index_information() == indexes
    assert succeeded(again) == "Removed: 0 segment documents, 0 segment references.\n"
    assert (await check_indexes(people)).complete


async def test_drop_where_there_is_nothing(where: tuple[str, ...], database: Documents) -> None:
    done = await run("search-index", "drop", "--yes", *where)
    assert (done.code, done.out[:29]) == (0, "Removed: 0 segment documents,")
    assert await database.list_collection_names() == []


async def test_a_killed_drop_is_completed_by_the_next(
    mongo_uri: str, where: tuple[str, ...], people: Documents
) -> None:
    await run("search-index", "build", *where)

    async def pages_are_gone() -> bool:
        return await people.search_words.count_documents({}) == 0

    async with slowed(people, "update", "delete") as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(pages_are_gone, "search-index", "drop", "--yes", *slow)
    assert code == -signal.SIGKILL
    assert await found(people, ALICE, "answer17 is") == {f"{ALICE}/17"}

    succeeded(await run("search-index", "drop", "--yes", *where))

    assert await people.threads.count_documents({"searchSegment": {"$exists": True}}) == 0


async def test_a_segment_that_is_built_during_a_drop_hides_no_thread(people: Documents) -> None:
    """Its first pages go, its head comes later; then it must know none of the threads."""
    await apply_indexes(people, search=True)
    await SearchIndexer(people).build(ALICE)
    pages = await people.search_words.find({"userId": ALICE}).to_list()
    head = next(page for page in pages if "format" in page)

    await SearchIndex(people).delete()
    await people.search_words.insert_one(head)

    assert await found(people, ALICE, "answer17 is") == {f"{ALICE}/17"}


# In all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "build", "drop"])
async def test_a_server_that_does_not_answer(command: str) -> None:
    done = await run("search-index", command, "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()


async def test_indexes_shows_those_of_the_search_index_where_it_is_used(
    where: tuple[str, ...], people: Documents
) -> None:
    await apply_indexes(people)
    without = await run("indexes", "check", *where)
    await run("search-index", "build", *where)
    used = await run("indexes", "check", *where)
    await people.threads.drop_index("user_search")
    missing = await run("indexes", "check", *where)

    assert "user_search" not in succeeded(without)
    lines = {line.split()[0]: line.split()[1] for line in succeeded(used).splitlines()[:-1]}
    assert lines["threads.user_search"] == lines["search_words.user_ngrams"] == "present"
    assert missing.code == 1
    assert [line.split()[0] for line in missing.out.splitlines() if " missing " in line] == [
        "threads.user_search"
    ]


async def test_stats_has_a_row_for_it(where: tuple[str, ...], people: Documents) -> None:
    await run("search-index", "build", *where)

    done = await run("stats", "--json", *where)

    sizes = {size["name"]: size for size in json.loads(succeeded(done))["collections"]}
    assert sizes["search_words"]["documents"] == await people.search_words.count_documents({})
    assert sizes["search_words"]["bytes"] > 1000


async def test_the_validator_takes_indexed_threads(
    where: tuple[str, ...], people: Documents
) -> None:
    await run("schema", "apply", "--action", "error", *where)

    succeeded(await run("search-index", "build", *where))
    fits = await run("schema", "check", *where)

    assert fits.code == 0, fits
    wrong = await people.threads.find_one({"_id": f"{ALICE}/0"})
    assert wrong is not None
    await people.command("collMod", "threads", validationAction="warn")
    await people.threads.update_one({"_id": wrong["_id"]}, {"$set": {"searchSegment": 1}})
    misfits = await run("schema", "check", *where)
    assert "searchSegment: int instead of string" in misfits.out


async def test_the_views_do_not_show_segment_references(
    where: tuple[str, ...], people: Documents
) -> None:
    await run("search-index", "build", *where)
    await run("views", "apply", *where)

    thread = await people.conversations.find_one({"_id": f"{ALICE}/0"})
    step = await people.conversation_steps.find_one({"thread": f"{ALICE}/0"})

    assert "answer0" in repr(thread)
    assert "answer0" in repr(step)
    assert "searchSegment" not in {*(thread or {}), *(step or {})}


def test_the_fields_of_the_json_are_those_of_the_code() -> None:
    assert set(row(ALICE)) == set(asdict(Coverage("u", None, 0, 0, 0, 0, 0)))
