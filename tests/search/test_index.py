"""The search index on a real MongoDB: whatever happens, it finds what the plain search finds."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, cast
from unicodedata import normalize

import pytest
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import User
from mongomock_motor import AsyncMongoMockClient
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect

from mongo_datalayer import ConfigurationError, MongoDataLayer, NotFoundError
from mongo_datalayer.search import indexer as building
from mongo_datalayer.search import ngrams, segments, upkeep
from mongo_datalayer.search import searcher as lookup
from mongo_datalayer.search.indexer import SearchIndexer
from tests.costs.commands import Commands, examined, explain, stages
from tests.storage.commands import Before, Killed, Stop, Watched

Documents = AsyncDatabase[dict[str, Any]]

THREADS = 60
WORDS = re.findall(
    r"\S+",
    """the server of this house is configured by hand and the other one was not
    Übung U\u0308bung résumé re\u0301sume\u0301 한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8
    STRASSE straße main.py foo::bar snake_case x=1 (see) … 🎉 字典の中 Ёлка
    INV-00017 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""",
)


def text(chance: random.Random) -> str:
    return chance.choice((" ", " ", "\n", "  ")).join(
        chance.choices(WORDS, k=chance.randint(1, 12))
    )


def step(thread_id: str, number: int, said: str) -> Any:
    return {
        "id": f"{thread_id}-{number}",
        "threadId": thread_id,
        "type": "assistant_message",
        "output": said,
        "input": "",
        "createdAt": f"2026-01-{1 + int(thread_id[1:]) % 28:02d}T10:00:{number:02d}.000000Z",
    }


class Chats:
    """A user's threads, and two layers on them: one asks the index, one does not."""

    def __init__(self, database: Documents, **options: Any) -> None:
        self.chance = random.Random(11)  # noqa: S311 - texts, not secrets
        self.database = database
        self.indexed = layer(database, search_index=True, **options)
        self.plain = layer(database, **options)
        self.indexer = SearchIndexer(database)
        self.user = ""

    async def begin(self) -> None:
        await self.indexed.create_indexes()
        user = await self.plain.create_user(User(identifier="ada"))
        assert user is not None
        self.user = user.id
        for number in range(THREADS):
            await self.add(f"t{number}")

    async def add(self, thread_id: str) -> None:
        await self.plain.update_thread(thread_id, name=text(self.chance), user_id=self.user)
        for number in range(self.chance.randint(0, 3)):
            await self.plain.create_step(step(thread_id, number, text(self.chance)))

    async def change(self) -> None:
        """One write of any kind, to any thread."""
        thread_id = f"t{self.chance.randrange(THREADS)}"
        number = self.chance.randrange(4)
        kind = self.chance.randrange(6)
        if kind == 0:
            await self.plain.update_thread(thread_id, name=text(self.chance))
        elif kind == 1:
            await self.plain.create_step(step(thread_id, number, text(self.chance)))
        elif kind == 2:
            await self.plain.update_step(step(thread_id, number, text(self.chance)))
        elif kind == 3:
            await self.plain.delete_step(f"{thread_id}-{number}")
        elif kind == 4:
            with suppress(NotFoundError):  # the step was deleted
                await self.plain.upsert_feedback(
                    Feedback(forId=f"{thread_id}-{number}", value=1, threadId=thread_id)
                )
        elif self.chance.random() < 0.2:
            await self.plain.delete_thread(thread_id)

    async def compare(self, *, searches: int = 25, **filters: Any) -> None:
        """Random parts of random texts are found in the same threads, page by page."""
        for _ in range(searches):
            said = text(self.chance)
            start = self.chance.randrange(len(said))
            search = said[start : start + self.chance.choice((1, 3, 6, 12, 30))]
            search = self.chance.choice((search, search.upper()))
            search = normalize(self.chance.choice(("NFC", "NFD")), search)
            given = ThreadFilter(userId=self.user, search=search, **filters)
            found = [await pages(each, given) for each in (self.indexed, self.plain)]
            assert found[0] == found[1], search
            other = normalize("NFD" if search == normalize("NFC", search) else "NFC", search)
            if other != search:
                given.search = other
                assert await pages(self.indexed, given) == found[0], other


def watched(chats: Chats, before: Before) -> SearchIndexer:
    """An indexer that has something awaited before each of its commands."""
    indexer: Any = SearchIndexer(chats.database)
    indexer._threads = Watched(indexer._threads, before)
    indexer._pages = Watched(indexer._pages, before)
    return cast(SearchIndexer, indexer)


def stored(number: int) -> dict[str, Any]:
    """A stored thread."""
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number)
    name = f"the usual words, and marker{number % 50:02d}"
    return {"_id": f"t{number}", "userId": "u", "name": name, "updatedAt": moment, "steps": []}


def layer(database: Documents, **options: Any) -> MongoDataLayer:
    return MongoDataLayer(client=database.client, database=database.name, **options)


async def pages(layer: MongoDataLayer, filters: ThreadFilter) -> list[list[str]]:
    """The ids on all pages of seven."""
    found: list[list[str]] = []
    cursor = None
    while True:
        page = await layer.list_threads(Pagination(first=7, cursor=cursor), filters)
        found.append([thread["id"] for thread in page.data])
        cursor = page.pageInfo.endCursor
        if not page.pageInfo.hasNextPage:
            return found


@pytest.fixture
async def chats(database: Documents, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chats]:
    # Some segments, of few threads; and no text is too frequent for them.
    monkeypatch.setattr(segments, "THREADS", 16)
    monkeypatch.setattr(segments, "NGRAMS", 1 << 12)
    monkeypatch.setattr(ngrams, "NGRAMS", 1 << 12)
    monkeypatch.setattr(lookup, "FREQUENT", 1.0)
    monkeypatch.setattr(upkeep, "WORTH_A_SEGMENT", 10**6)
    chats = Chats(database)
    await chats.begin()
    yield chats
    await chats.indexed.close()
    await chats.plain.close()


async def test_it_finds_what_the_plain_search_finds(chats: Chats) -> None:
    await chats.compare(searches=5)  # there is no segment yet
    built = await chats.indexer.build(chats.user)
    assert (built.threads, built.removed) == (THREADS, 0)
    assert built.segments >= THREADS // 16
    await chats.compare(searches=60)
    await chats.compare(searches=15, feedback=1)
    by_creation = Chats(chats.database, order_by="creation")
    by_creation.user = chats.user
    await by_creation.compare(searches=40)


async def test_what_is_written_after_the_build_is_found_and_what_is_gone_is_not(
    chats: Chats,
) -> None:
    for _ in range(4):
        await chats.indexer.build(chats.user)
        for _ in range(20):
            await chats.change()
        await chats.compare()


async def test_segments_of_an_earlier_form_are_not_asked_and_built_anew(
    chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep.SearchUpkeep, "begin", lambda *_: None)
    await chats.indexer.build(chats.user)
    pages = chats.database["search_words"]
    # As of the second form: other names of fields, and words in the place of n-grams.
    headers, others = {"format": {"$exists": True}}, {"segment": {"$exists": True}}
    await pages.update_many(
        headers, {"$unset": {"format": ""}, "$set": {"form": "2/0", "count": 9}}
    )
    earlier = {"words": "\nthe\n", "first": "the", "last": "the", "threads": bytes(9)}
    names = {"ngrams": "", "postings": ""}
    await pages.update_many(others, {"$unset": names, "$set": earlier})
    await chats.compare()
    assert (await chats.indexer.build(chats.user)).threads == THREADS
    assert await pages.count_documents({"$or": [{"words": {"$gt": ""}}, {"form": "2/0"}]}) == 0
    await chats.compare()


async def test_writes_and_builds_at_the_same_time(chats: Chats) -> None:
    for _ in range(3):
        await asyncio.gather(
            *(chats.change() for _ in range(40)),
            *(chats.indexer.build(chats.user) for _ in range(3)),
            chats.compare(searches=0),
        )
        await chats.compare()
    present = await chats.indexer.segments(chats.user)
    assert sum(each.live for each in present) + await chats.indexer.count_missing(
        chats.user, present
    ) == await chats.database["threads"].count_documents({"userId": chats.user})


async def test_a_build_that_is_killed_before_any_of_its_commands(
    chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "UNFINISHED", timedelta(hours=-1))
    monkeypatch.setattr(building, "PAGES_AT_ONCE", 20)
    monkeypatch.setattr(segments, "THREADS", 40)
    for at in range(0, 26, 2):
        for _ in range(12):
            await chats.change()
        stop = Stop(at + 1)
        with suppress(Killed):
            await watched(chats, stop).build(chats.user)
        assert stop.reached, f"the build has only {len(stop.told)} commands"
        await chats.compare(searches=3)
    await chats.indexer.build(chats.user)
    whole = {each.id for each in await chats.indexer.segments(chats.user)}
    left = await chats.database["search_words"].distinct("segment")
    assert set(left) == whole, "something is left over"


async def test_writes_before_every_command_of_a_build(chats: Chats) -> None:
    async def before(_: str) -> None:
        for _number in range(5):
            await chats.change()

    for _ in range(3):
        await watched(chats, before).build(chats.user)
        await chats.compare(searches=15)


async def test_a_search_reads_what_it_finds_and_not_every_thread(
    database: Documents, mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep.SearchUpkeep, "begin", lambda *_: None)
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](
        mongo_uri, tz_aware=True, event_listeners=[commands]
    ) as client:
        layer = MongoDataLayer(client=client, database=database.name, search_index=True)
        await layer.create_indexes()
        await database["threads"].insert_many(stored(number) for number in range(1000))
        await SearchIndexer(database).build("u")
        await database["threads"].insert_one(stored(1007))
        for search, hits, aggregations, at_most in (
            ("MARKER07", 21, 2, 22),
            ("marker99", 0, 1, 2),
            ("the usual", 30, 1, 34),  # in every thread: the plain search
        ):
            with commands.counted() as sent:
                page = await layer.list_threads(
                    Pagination(first=30), ThreadFilter(userId="u", search=search)
                )
            assert len(page.data) == hits
            looked_up, *aggregated = sent
            assert len(aggregated) == aggregations
            short = [{**each, "pipeline": each["pipeline"][:4]} for each in aggregated]
            assert sum([examined(await explain(database, each)) for each in short]) <= at_most
            assert "COLLSCAN" not in stages(await explain(database, looked_up))
        await layer.close()


async def test_the_layer_builds_by_itself_when_somebody_searches(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WORTH_A_SEGMENT", 20)
    chats = Chats(database)
    await chats.begin()
    await chats.compare(searches=1)
    for _ in range(500):
        present = await chats.indexer.segments(chats.user)
        if not await chats.indexer.count_missing(chats.user, present):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("nothing was built")
    await chats.compare()
    await chats.indexed.close()


async def test_a_build_that_fails_does_not_fail_the_search(
    database: Documents, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chats = Chats(database)
    await chats.begin()

    async def fails(*_: Any, **__: Any) -> None:
        raise AutoReconnect("gone")

    monkeypatch.setattr(SearchIndexer, "build", fails)
    await chats.compare(searches=2)
    await asyncio.sleep(0)
    assert f"The search index of user {chats.user} could not be built: gone" in caplog.text
    await chats.indexed.close()


async def test_small_segments_are_taken_along_and_stale_ones_rebuilt(database: Documents) -> None:
    chats = Chats(database)
    await chats.begin()
    assert (await chats.indexer.build(chats.user)).segments == 1
    assert (await chats.indexer.build(chats.user)).segments == 0
    for number in range(THREADS, 2 * THREADS):
        await chats.add(f"t{number}")
    built = await chats.indexer.build(chats.user)
    assert (built.threads, built.segments, built.removed) == (2 * THREADS, 1, 1)
    for number in range(THREADS):
        await chats.plain.update_thread(f"t{number}", name="another")
    (segment,) = await chats.indexer.segments(chats.user)
    assert (segment.threads, segment.live, segment.stale) == (2 * THREADS, THREADS, True)
    assert await chats.indexer.delete_segments(chats.user) > 0
    await chats.compare(searches=5)
    await chats.indexed.close()


async def test_without_its_indexes_it_is_the_plain_search(
    database: Documents, caplog: pytest.LogCaptureFixture
) -> None:
    chats = Chats(database)
    await chats.begin()
    await chats.indexer.build(chats.user)
    await database["threads"].drop_index("user_search")
    await database["search_words"].drop_index("user_ngrams")
    await chats.compare(searches=10)
    assert "The index threads.user_search is missing" in caplog.text
    await chats.indexed.close()


def test_mongomock_has_no_search_index() -> None:
    with pytest.raises(ConfigurationError, match="search_index=True needs MongoDB"):
        MongoDataLayer(client=AsyncMongoMockClient(), search_index=True)
