"""Lists with long threads among them: each thread once, in order, its owner's alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from chainlit.types import Pagination, ThreadFilter
from chainlit.user import User

from mongo_datalayer import MongoDataLayer
from tests.overflow.bench import ROOMY, Database, fill, found, place, step
from tests.overflow.conftest import Make

THREADS = 24


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


async def paged(layer: MongoDataLayer, user: str, size: int, search: str | None) -> list[str]:
    """Ids of all pages."""
    ids: list[str] = []
    cursor = None
    while True:
        page = await layer.list_threads(
            Pagination(first=size, cursor=cursor), ThreadFilter(userId=user, search=search)
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
    assert await place(database, "t", "t/s0") == "part"
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
