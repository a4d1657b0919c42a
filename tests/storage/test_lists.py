"""Lists with long threads among them: each thread once, in order, its owner's alone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import pytest
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import User
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit import lists
from tests.costs.commands import Commands, name
from tests.storage.bench import ROOMY, Database, Dict, fill, found, place, step
from tests.storage.commands import Meanwhile, watch
from tests.storage.conftest import Make

THREADS = 24
CHATS = 14


@pytest.mark.parametrize("order_by", ["activity", "creation"])
@pytest.mark.parametrize("ties", [False, True], ids=["different times", "one time for all"])
async def test_each_thread_once_and_in_order(
    make: Make, database: Database, alice: str, order_by: Any, ties: bool
) -> None:
    layer = make(ROOMY, order_by=order_by)
    bob = (await layer.create_user(User(identifier="bob"))).id
    chance = random.Random(1)  # noqa: S311 - an order, not a secret
    ids = [f"{number:02}" for number in range(THREADS)]
    chance.shuffle(ids)
    for number, thread in enumerate(ids):
        second = 0 if ties else number
        owner = bob if number % 8 == 0 else alice
        long = number % 3
        for nth in range(8 if long else 2):
            text = "needle" if nth == (7 if long == 1 else 0) else "hay"
            await layer.create_step(step(thread, f"s{nth}", second, output=f"{text} {'w' * 200}"))
        await layer.update_thread(thread, name="n", user_id=owner)
    longs = {thread["_id"] async for thread in database.threads.find({"overflow": True})}
    assert longs == {thread for number, thread in enumerate(ids) if number % 3}
    mine = [thread for number, thread in enumerate(ids) if number % 8]
    expected = sorted(mine, reverse=True) if ties else mine[::-1]
    for search in (None, "NEEDLE"):
        for size in (1, 3, 7, 100):
            assert await paged(layer, alice, size, search) == expected
    assert await found(layer, alice, search="nowhere") == []
    assert set(await found(layer, bob, search="needle")) == set(ids) - set(mine)


async def paged(
    layer: MongoDataLayer | Callable[[], MongoDataLayer],
    user: str,
    size: int,
    search: str | None,
    feedback: Any = None,
) -> list[str]:
    """Ids of all pages, each of them from the layer, or from one that is made for it."""
    ids: list[str] = []
    cursor = None
    while True:
        page = await (layer if isinstance(layer, MongoDataLayer) else layer()).list_threads(
            Pagination(first=size, cursor=cursor),
            ThreadFilter(userId=user, search=search, feedback=feedback),
        )
        ids += [thread["id"] for thread in page.data]
        cursor = page.pageInfo.endCursor
        assert len(page.data) <= size
        if not page.pageInfo.hasNextPage:
            return ids


async def test_a_long_thread_keeps_its_owner_and_what_was_not_shared(
    layers: list[MongoDataLayer], alice: str, database: Database
) -> None:
    first, second, _ = layers
    bob = (await first.create_user(User(identifier="bob"))).id
    await first.update_thread("t", name="n", user_id=alice, metadata={"is_shared": True, "a": 1})
    await fill(first, "t", 10)
    assert await place(database, "t", "t/s0") == "overflow"
    await second.update_thread("t", metadata={"is_shared": False})
    await second.create_step(step("t", "late", 60, output="needle"))
    thread: Any = await first.get_thread("t")
    assert thread["metadata"] == {"is_shared": False, "a": 1}
    assert (thread["userId"], thread["userIdentifier"]) == (alice, "alice")
    assert await first.get_thread_author("t") == "alice"
    assert await found(first, bob, search="word0") == []
    assert await found(first, alice, search="word0") == ["t"]
    await second.update_thread("t", user_id=bob)
    assert await found(first, bob, search="word0") == ["t"]
    assert await found(first, alice, search="word0") == []


class Written(NamedTuple):
    """What a thread of :func:`write_chats` has in it."""

    needle: bool
    verdicts: frozenset[int]
    favorites: frozenset[str]


async def write_chats(
    layer: MongoDataLayer, owner: str, chance: random.Random, long: float
) -> Mapping[str, Written]:
    """Threads of an owner, the newest first; each is long with the probability ``long``."""
    written: dict[str, Written] = {}
    for number in range(CHATS):
        thread = f"{owner[:4]}/{number:02}"
        count = 8 if chance.random() < long else 2
        drawn = {what: chance.randrange(count) for what in ("needle", "verdict", "favorite")}
        chosen = {what: nth for what, nth in drawn.items() if chance.random() < 0.5}
        value = chance.randrange(2)
        for nth in range(count):
            text = "needle" if nth == chosen.get("needle") else "hay"
            made = step(thread, f"s{nth}", number // 2, output=f"{text} {'w' * 200}")
            await layer.create_step(made)
            if nth == chosen.get("favorite"):
                await layer.set_step_favorite(made, True)
            if nth == chosen.get("verdict"):
                feedback = Feedback(forId=made["id"], value=value, threadId=thread)  # type: ignore[arg-type]  # 0 or 1
                await layer.upsert_feedback(feedback)
        await layer.update_thread(thread, name="n", user_id=owner)
        written[thread] = Written(
            needle="needle" in chosen,
            verdicts=frozenset({value} if "verdict" in chosen else ()),
            favorites=frozenset(
                f"{thread}/s{nth}" for what, nth in chosen.items() if what == "favorite"
            ),
        )
    return dict(reversed(written.items()))


@pytest.mark.parametrize("order_by", ["activity", "creation"])
@pytest.mark.parametrize("seed", range(3))
async def test_the_same_is_found_whatever_is_known_of_the_user(
    make: Make, database: Database, order_by: Any, seed: int
) -> None:
    """By a layer that meets each user for the first time, and by one that has met them."""
    chance = random.Random(seed)  # noqa: S311 - chats, not secrets
    writer, knows = make(ROOMY), make(order_by=order_by)

    def fresh() -> MongoDataLayer:
        return MongoDataLayer(client=database.client, database=database.name, order_by=order_by)

    for long in (0, 0.1, 0.5, 1):
        user = (await writer.create_user(User(identifier=f"user {long}"))).id
        written = await write_chats(writer, user, chance, long)
        longs = await database.threads.count_documents({"userId": user, "overflow": True})
        assert long not in (0, 1) or longs == long * CHATS
        favorites = {step_id for chat in written.values() for step_id in chat.favorites}
        for layer in (knows, knows, fresh()):
            marked = [step["id"] for step in await layer.get_favorite_steps(user)]
            assert (len(marked), set(marked)) == (len(favorites), favorites)
        for search, feedback in (("needle", None), (None, 0), (None, 1), ("needle", 1)):
            expected = [
                thread
                for thread, chat in written.items()
                if (search is None or chat.needle)
                and (feedback is None or feedback in chat.verdicts)
            ]
            for size in (1, 2, 5, 100):
                for layers in (fresh, knows):
                    assert await paged(layers, user, size, search, feedback) == expected
        assert (
            await paged(fresh, user, 5, "nowhere") == await paged(knows, user, 5, "nowhere") == []
        )


# What is remembered of users -----------------------------------------------------------------


class Reader(NamedTuple):
    """A layer that has met nobody, and the commands it sends."""

    layer: MongoDataLayer
    commands: Commands
    database: Database

    def another(self) -> Reader:
        """One that has met nobody either."""
        layer = MongoDataLayer(client=self.database.client, database=self.database.name)
        return self._replace(layer=layer)

    async def lists(self, user_id: str) -> list[str]:
        """The names of the commands of a filtered list."""
        with self.commands.counted() as sent:
            await found(self.layer, user_id, feedback=1)
        return [name(command) for command in sent]


@pytest.fixture
async def reader(mongo_uri: str, database: Database) -> AsyncIterator[Reader]:
    commands = Commands()
    async with AsyncMongoClient[Dict](mongo_uri, event_listeners=[commands]) as client:
        layer = MongoDataLayer(client=client, database=database.name)
        yield Reader(layer, commands, client[database.name])


async def test_a_long_thread_that_is_deleted_is_still_remembered_and_missed_by_nobody(
    make: Make, reader: Reader, alice: str
) -> None:
    layer = make(ROOMY)
    for thread in ("long", "short"):
        await fill(layer, thread, 10 if thread == "long" else 1)
        await layer.update_thread(thread, name="n", user_id=alice)
    assert await found(reader.layer, alice, search="word0") == ["long", "short"]
    await layer.delete_thread("long")
    assert await found(reader.layer, alice, search="word0") == ["short"]
    assert await reader.lists(alice) == ["aggregate"]


async def test_of_many_users_those_met_last_are_remembered(
    make: Make, monkeypatch: pytest.MonkeyPatch, reader: Reader
) -> None:
    users = [(await make().create_user(User(identifier=name))).id for name in "abc"]
    writer = make(ROOMY)
    for user in users:
        await fill(writer, user, 10)
        await writer.update_thread(user, name="n", user_id=user)
    monkeypatch.setattr(lists, "REMEMBERED_USERS", 2)
    small = reader.another()
    first, second, third = users
    counted = [len(await small.lists(user)) for user in (*users, third, second, first, third)]
    assert counted == [2, 2, 2, 1, 1, 2, 2]


# Between the commands ------------------------------------------------------------------------


async def favorite_threads(layer: MongoDataLayer, user: str) -> list[str]:
    """Ids of the threads of the user's favourite steps."""
    return [step["threadId"] for step in await layer.get_favorite_steps(user)]


LOOKS: Mapping[str, Callable[[MongoDataLayer, str], Awaitable[list[str]]]] = {
    "search": lambda layer, user: found(layer, user, search="needle"),
    "feedback": lambda layer, user: found(layer, user, feedback=1),
    "favourites": favorite_threads,
}


async def grow(layer: MongoDataLayer, thread: str) -> None:
    """What is in the first step moves to a part."""
    await fill(layer, thread, 10, first=1)


async def two_threads(layer: MongoDataLayer, user: str) -> None:
    """A long thread and a short one, and in the first step of each all that is looked for."""
    for thread in ("long", "short"):
        first = step(thread, "s0", 0, output="needle " * 20)
        await layer.create_step(first)
        await layer.set_step_favorite(first, True)
        await layer.upsert_feedback(Feedback(forId=f"{thread}/s0", value=1, threadId=thread))
        await layer.update_thread(thread, name="n", user_id=user)
    await grow(layer, "long")


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("look", LOOKS)
async def test_what_moves_before_a_command_is_found(
    make: Make, database: Database, alice: str, look: str, at: int
) -> None:
    mine, other = make(), make(ROOMY)
    await two_threads(other, alice)
    rush = Meanwhile(at, grow, other, "short")
    watch(mine, rush)
    assert sorted(await LOOKS[look](mine, alice)) == ["long", "short"]
    assert rush.told == ["aggregate threads"] * 2
    assert await place(database, "short", "short/s0") == "overflow"


@pytest.mark.parametrize("look", LOOKS)
async def test_a_long_thread_that_is_deleted_between_the_commands_is_not_found(
    make: Make, alice: str, look: str
) -> None:
    mine, other = make(), make(ROOMY)
    await two_threads(other, alice)
    rush = Meanwhile(2, lambda layer, thread: layer.delete_thread(thread), other, "long")
    watch(mine, rush)
    assert await LOOKS[look](mine, alice) == ["short"]
    assert rush.reached


@pytest.mark.parametrize("look", LOOKS)
async def test_a_thread_that_becomes_long_later_is_found(make: Make, alice: str, look: str) -> None:
    mine, other = make(), make(ROOMY)
    await two_threads(other, alice)
    await other.delete_thread("long")
    assert await LOOKS[look](mine, alice) == ["short"]
    await grow(other, "short")
    for _ in range(2):
        assert await LOOKS[look](mine, alice) == ["short"]
