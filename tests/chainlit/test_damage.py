"""What was edited by hand, or lost, does not hide the rest; the log names it once for each read."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

import pytest
from chainlit.types import Pagination, ThreadFilter
from chainlit.user import PersistedUser, User
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.doctor import run_checks
from mongo_datalayer.chainlit.codec import INCOMPLETE
from mongo_datalayer.storage import overflow
from mongo_datalayer.storage.large_values import LOST, PREVIEW_CHARS
from mongo_datalayer.testing.contract import step

Database = AsyncDatabase[dict[str, Any]]
ODD_TIMES = ["2030-01-01T00:00:00Z", None, 5, {"$unset": True}]


@pytest.fixture
async def layer(mongo_uri: str, database: Database) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database.name)
    await layer.create_indexes()
    yield layer
    await layer.close()


@pytest.fixture
async def ada(layer: MongoDataLayer) -> PersistedUser:
    return await layer.create_user(User(identifier="ada"))


async def listed(layer: MongoDataLayer, user: PersistedUser, first: int = 20, **more: Any) -> Any:
    return await layer.list_threads(Pagination(first=first), ThreadFilter(userId=user.id, **more))


async def damage(database: Database) -> str:
    found = next(result for result in await run_checks(database) if result.check == "damage")
    return "" if found.state == "ok" else found.finding


@pytest.mark.parametrize("time", ODD_TIMES, ids=repr)
async def test_an_odd_time_breaks_no_list(
    layer: MongoDataLayer, ada: PersistedUser, database: Database, time: Any
) -> None:
    for number in range(5):
        await layer.update_thread(f"t{number}", name="n", user_id=ada.id)
    odd: Any = {"$set": {"updatedAt": time}}
    if isinstance(time, dict):
        odd = {"$unset": {"updatedAt": ""}}
    assert await damage(database) == ""
    await database.threads.update_one({"_id": "t0"}, odd)

    page = await listed(layer, ada)
    assert [thread["id"] for thread in page.data] == ["t4", "t3", "t2", "t1", "t0"]
    assert all(isinstance(thread["createdAt"], str) for thread in page.data)
    first = await listed(layer, ada, first=3)
    rest = await layer.list_threads(
        Pagination(first=3, cursor=first.pageInfo.endCursor), ThreadFilter(userId=ada.id)
    )
    assert [thread["id"] for thread in (*first.data, *rest.data)][:4] == ["t4", "t3", "t2", "t1"]
    assert not rest.pageInfo.hasNextPage
    assert await damage(database) == "1 thread with invalid fields, such as t0"


@pytest.mark.parametrize(
    "item",
    [None, 7, "text", [], {}, {"id": None, "output": "x"}, {"output": "no id"}],
    ids=repr,
)
@pytest.mark.parametrize("name", ["steps", "elements"])
async def test_an_odd_item_is_left_out(
    layer: MongoDataLayer,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    name: str,
    item: Any,
) -> None:
    for number in range(2):
        await layer.create_step(step("t", number, id=f"s{number}"))
    await database.threads.update_one({"_id": "t"}, {"$push": {name: {"$each": [item]}}})

    with caplog.at_level(logging.WARNING):
        thread: Any = await layer.get_thread("t")
    assert [s["id"] for s in thread["steps"]] == ["s0", "s1"]
    place = 2 if name == "steps" else 0
    assert f"Damaged in the thread 't', and left out: {name}.{place}" in caplog.text
    assert await damage(database) == "1 thread with invalid fields, such as t"


@pytest.mark.parametrize("name", ["steps", "elements"])
@pytest.mark.parametrize("value", [None, "text", {"a": 1}], ids=repr)
async def test_a_list_that_is_none_breaks_nothing(
    layer: MongoDataLayer, database: Database, name: str, value: Any
) -> None:
    await layer.create_step(step("t", id="s"))
    await database.threads.update_one({"_id": "t"}, {"$set": {name: value}})

    thread: Any = await layer.get_thread("t")
    assert thread[name] == []
    assert (await damage(database) != "") == (value is not None or name != "")


async def test_odd_fields_of_a_step_are_shown_as_text(
    layer: MongoDataLayer, database: Database
) -> None:
    await layer.create_step(step("t", id="s"))
    odd: dict[str, Any] = {"output": 7, "input": None, "type": 3, "name": ["n"], "parentId": [1]}
    odd |= {"createdAt": datetime(2026, 1, 2, tzinfo=timezone.utc), "feedback": "good", "tags": 1}
    await database.threads.update_one(
        {"_id": "t"}, {"$set": {f"steps.0.{field}": value for field, value in odd.items()}}
    )

    thread: Any = await layer.get_thread("t")
    found = thread["steps"][0]
    assert (found["output"], found["type"], found["parentId"]) == ("7", "3", None)
    assert all(isinstance(found[field], str) for field in ("input", "name", "createdAt"))
    assert found["createdAt"].startswith("2026-01-02T")
    assert found["feedback"] is None


@pytest.fixture
async def long(
    layer: MongoDataLayer, ada: PersistedUser, monkeypatch: pytest.MonkeyPatch
) -> MongoDataLayer:
    """The thread "long" has overflow documents, and a text in GridFS."""
    monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(2000, 500, 3000))
    short = MongoDataLayer(client=layer._connection._client, database=layer._database.name)
    await short.update_thread("long", name="n", user_id=ada.id)
    for number in range(20):
        await short.create_step(step("long", number, id=f"s{number}", output="x" * 300))
    await short.create_step(step("long", 20, id="large", output="y" * 5000))
    return short


async def test_a_missing_overflow_document_hides_only_its_steps(
    long: MongoDataLayer, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    whole: Any = await long.get_thread("long")
    lost: Any = await database.thread_overflow.find_one_and_delete(
        {"thread": "long", "value": None}
    )
    gone = {each["id"] for each in lost["steps"]}
    assert await damage(database) == "1 thread without all overflow documents, such as long"

    with caplog.at_level(logging.WARNING):
        thread: Any = await long.get_thread("long")
    assert thread["steps"][0]["output"] == INCOMPLETE
    assert [s["id"] for s in thread["steps"][1:]] == [
        s["id"] for s in whole["steps"] if s["id"] not in gone
    ]
    assert "The thread 'long' lost overflow documents." in caplog.text
    page = await listed(long, await long.create_user(User(identifier="ada")))
    assert [entry["id"] for entry in page.data] == ["long"]


async def test_a_missing_large_text_is_marked(long: MongoDataLayer, database: Database) -> None:
    await database["fs.files"].delete_many({"filename": {"$regex": "^values/"}})

    thread: Any = await long.get_thread("long")
    texts = {s["id"]: s["output"] for s in thread["steps"]}
    assert texts["large"] == "y" * PREVIEW_CHARS + LOST
    assert texts["s3"] == "x" * 300
    assert "1 large value without a file" in await damage(database)
