"""A long ChatKit thread of which any field was edited by hand: pages still serve the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from mongo_datalayer.admin.doctor import run_checks
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import message, thread
from tests.chainlit.test_odd_fields import ODD, during, edited, places

Database = AsyncDatabase[dict[str, Any]]
ADA = {"user_id": "ada"}
COUNT = 12


@pytest.fixture
async def store(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MongoChatKitStore[Any]]:
    """The owner ada has the threads "t", which is long, and "other"."""
    monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(main=2500, kept=1200, value=3000))
    store = MongoChatKitStore[Any](mongo_uri, database=database_name)
    await store.create_indexes()
    for name in ("t", "other"):
        await store.save_thread(thread(name), ADA)
    await store.add_thread_item("t", message("large", 0, text="y" * 4000), ADA)
    for number in range(1, COUNT):
        await store.add_thread_item("t", message(f"i{number}", number, text="x" * 200), ADA)
    await store.delete_thread_item("t", "i2", ADA)
    yield store
    await store.close()


async def items(store: MongoChatKitStore[Any], limit: int = 100) -> list[str]:
    """The ids of all items, page by page."""
    found: list[str] = []
    after = None
    while True:
        page = await store.load_thread_items("t", after, limit, "asc", ADA)
        found += [item.id for item in page.data]
        if not page.has_more:
            return found
        after = page.after


async def test_every_page_serves_the_rest(
    store: MongoChatKitStore[Any], database: Database
) -> None:
    whole = await items(store)
    main: Any = await database.chatkit_threads.find_one({"_id.id": "t"})
    moved: Any = await database.chatkit_overflow.find_one()
    assert len(main["overflowIds"]) > 1
    tried = 0
    for collection, document in (
        (database.chatkit_threads, main),
        (database.chatkit_overflow, moved),
    ):
        for number, path in enumerate(places(document)):
            if path[0] in ("_id", "deletedAt") or (document is moved and path[0] == "thread"):
                continue  # which thread it is
            for value in (ODD * 2)[number % len(ODD) :][:3]:
                try:
                    await collection.replace_one(
                        {"_id": document["_id"]}, edited(document, path, value)
                    )
                except OperationFailure:  # an index takes no such value
                    continue
                # A process that knows nothing of the thread.
                other = MongoChatKitStore[Any](
                    client=store._connection._client, database=database.name
                )
                with during(path, value):
                    page = await other.load_threads(5, None, "desc", ADA)
                    assert "other" in [each.id for each in page.data]
                    for limit in (3, 100):
                        found = await items(other, limit)
                        assert set(found) <= {*whole, "i2", "text"}
                        if path[0] != "overflowIds":
                            assert len(found) >= (3 if path[0] == "items" else len(whole) - 1)
                    for read in (other.load_item("t", "i1", ADA), other.load_thread("t", ADA)):
                        try:
                            await read
                        except (StorageError, NotFoundError) as exc:
                            assert "i1" in str(exc) or "'t'" in str(exc)  # noqa: PT017
                tried += 1
        await collection.replace_one({"_id": document["_id"]}, document)
    assert tried > 200


async def test_a_lost_item_is_left_out(
    store: MongoChatKitStore[Any], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    whole = await items(store)
    await database["fs.files"].delete_many({})

    assert await items(store, 3) == [each for each in whole if each != "large"]
    assert "Damaged, and left out: 'large'" in caplog.text


@pytest.mark.parametrize("item", [None, 5, "text", {}, {"id": "odd"}], ids=repr)
async def test_what_is_no_item_takes_no_place_of_one(
    store: MongoChatKitStore[Any], database: Database, caplog: pytest.LogCaptureFixture, item: Any
) -> None:
    whole = await items(store)
    await database.chatkit_threads.update_one(
        {"_id.id": "t"}, {"$push": {"items": {"$each": [item] * 5, "$position": 0}}}
    )

    assert await items(store, 3) == whole
    assert "Damaged in the thread 't', and left out: 5 items" in caplog.text
    damage = next(result for result in await run_checks(database) if result.check == "damage")
    assert (damage.state, "t of ada" in damage.finding) == (
        ("ok", False) if item == {"id": "odd"} else ("problem", True)
    )


async def test_writes_name_an_odd_listing(
    store: MongoChatKitStore[Any], database: Database
) -> None:
    await database.chatkit_threads.update_one({"_id.id": "t"}, {"$set": {"overflowIds": "x"}})
    other = MongoChatKitStore[Any](client=store._connection._client, database=database.name)

    with pytest.raises(StorageError, match="The thread 't' is damaged and takes no writes"):
        await other.add_thread_item("t", message("new", 50), ADA)
