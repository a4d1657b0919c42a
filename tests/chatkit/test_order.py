"""Writes at once, from one process and from several: nothing is lost, doubled or brought back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.chatkit.store import MongoChatKitStore as Store
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import message, thread

Stores = list[MongoChatKitStore[Any]]


@pytest.fixture(params=["one document", "overflowIds"], autouse=True)
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "overflowIds":
        small = overflow.Bounds(main=2000, kept=500, value=1500)
        monkeypatch.setattr(overflow, "BOUNDS", small)


async def ids(store: Store[Any], ada: dict[str, str]) -> list[str]:
    return [item.id for item in (await store.load_thread_items("t", None, 999, "asc", ada)).data]


async def test_writes_of_one_process_take_effect_in_the_order_of_their_calls(
    stores: Stores, ada: dict[str, str]
) -> None:
    store = stores[0]
    await store.save_thread(thread(), ada)
    await asyncio.gather(
        *(store.add_thread_item("t", message(f"i{number:02}"), ada) for number in range(30)),
        *(store.save_item("t", message("i03", text=str(number)), ada) for number in range(10)),
        *(store.save_thread(thread(title=str(number)), ada) for number in range(10)),
    )
    assert await ids(store, ada) == [f"i{number:02}" for number in range(30)]
    last: Any = await store.load_item("t", "i03", ada)
    assert last.content[0].text == "9"
    assert (await store.load_thread("t", ada)).title == "9"


async def test_several_processes_append_to_one_thread(stores: Stores, ada: dict[str, str]) -> None:
    """Each item once, and all pages agree on one order though all times are equal."""
    await stores[0].save_thread(thread(), ada)

    async def write(store: Store[Any], name: str) -> None:
        for number in range(20):
            await store.add_thread_item("t", message(f"{name}{number:02}"), ada)

    await asyncio.gather(*(write(store, name) for store, name in zip(stores, "abc", strict=True)))

    found = await ids(stores[1], ada)
    assert len(found) == 60
    for name in "abc":
        assert [each for each in found if each[0] == name] == [f"{name}{n:02}" for n in range(20)]
    paged, after = [], None
    while True:
        page = await stores[2].load_thread_items("t", after, 7, "desc", ada)
        paged += [item.id for item in page.data]
        after = page.after
        if not page.has_more:
            break
    assert paged == found[::-1]


async def test_the_order_is_that_of_arrival_whatever_the_clocks_show(
    stores: Stores, ada: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mongo_datalayer.chatkit import threads

    await stores[0].save_thread(thread(), ada)
    chance = random.Random(1)  # noqa: S311 - clocks that go wrong, no secret
    monkeypatch.setattr(threads, "_arrival", lambda: chance.randrange(10**15, 2 * 10**15))
    names = [f"i{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        await stores[number % 3].add_thread_item("t", message(name), ada)
    assert await ids(stores[0], ada) == names


async def test_one_item_written_by_several_processes_is_there_once(
    stores: Stores, ada: dict[str, str]
) -> None:
    await stores[0].save_thread(thread(), ada)
    for number in range(20):
        name = f"i{number:02}"
        await asyncio.gather(
            *(store.add_thread_item("t", message(name), ada) for store in stores),
            *(store.save_item("t", message(name), ada) for store in stores),
        )
    assert await ids(stores[0], ada) == [f"i{number:02}" for number in range(20)]


async def test_a_thread_made_by_several_processes_at_once_is_one(
    stores: Stores, ada: dict[str, str]
) -> None:
    for number in range(30):
        made = [store.save_thread(thread(f"t{number}"), ada) for store in stores]
        await asyncio.gather(*made)
    page = await stores[0].load_threads(99, None, "asc", ada)
    assert len(page.data) == 30


@pytest.mark.parametrize("seed", range(6))
async def test_a_thread_deleted_among_its_writes_is_gone(
    stores: Stores, ada: dict[str, str], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    await stores[0].save_thread(thread(), ada)

    def writes() -> list[Coroutine[Any, Any, None]]:
        return [
            write
            for number in range(10)
            for write in (
                chance.choice(stores).add_thread_item("t", message(f"i{number}"), ada),
                chance.choice(stores).save_item("t", message(f"i{number}"), ada),
                chance.choice(stores).save_thread(thread(title="late"), ada),
            )
        ]

    calls = [*writes(), stores[1].delete_thread("t", ada)]
    chance.shuffle(calls)
    await asyncio.gather(*calls)
    await asyncio.gather(*writes())

    assert (await stores[0].load_threads(9, None, "asc", ada)).data == []
    assert await ids(stores[0], ada) == []
    database = stores[0]._database
    stored: Any = await database["chatkit_threads"].find_one({"_id.id": "t"})
    assert stored.keys() == {"_id", "sortKey", "deletedAt"}
    await stores[0].delete_thread("t", ada)  # what a late move of items may have left
    assert await database["chatkit_overflow"].count_documents({}) == 0
    assert await database["fs.files"].count_documents({}) == 0


@pytest.mark.parametrize("seed", range(6))
async def test_an_item_deleted_among_its_updates_is_gone(
    stores: Stores, ada: dict[str, str], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - an interleaving, not a secret
    await stores[0].save_thread(thread(), ada)
    for number in range(10):
        await stores[0].add_thread_item("t", message(f"i{number}"), ada)
    calls = [
        chance.choice(stores).save_item("t", message("i4", text=str(number)), ada)
        for number in range(10)
    ]
    calls.append(stores[0].delete_thread_item("t", "i4", ada))
    chance.shuffle(calls)
    await asyncio.gather(*calls)
    await stores[1].save_item("t", message("i4"), ada)
    assert await ids(stores[2], ada) == [f"i{number}" for number in range(10) if number != 4]


async def test_close_waits_for_writes_on_their_way(stores: Stores, ada: dict[str, str]) -> None:
    await stores[0].save_thread(thread(), ada)
    writing = [
        asyncio.create_task(stores[0].add_thread_item("t", message(f"i{number}"), ada))
        for number in range(10)
    ]
    await stores[0].close()
    await asyncio.gather(*writing)
    assert len(await ids(stores[1], ada)) == 10


async def test_what_changes_after_the_call_is_not_seen(store: Store[Any], ada: Any) -> None:
    many = {"messages": [{"number": number} for number in range(10_000)]}
    changing = thread("many")
    changing.metadata = many
    saved = asyncio.create_task(store.save_thread(changing, ada))
    await asyncio.sleep(0)
    assert not saved.done()
    many["messages"][0]["number"] = -1
    await saved

    loaded = await store.load_thread("many", ada)
    assert loaded.metadata["messages"][0] == {"number": 0}
    assert len(loaded.metadata["messages"]) == 10_000
