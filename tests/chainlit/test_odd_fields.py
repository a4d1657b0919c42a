"""A long thread of which any field was edited by hand: every read still serves the rest."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest
from chainlit.element import Text
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.garbage import Garbage
from mongo_datalayer.errors import StorageError
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.contract import step

Database = AsyncDatabase[dict[str, Any]]
ODD: list[Any] = [None, 5, "text", ["x", 1], {"a": 1}, [{}], float("nan")]
ODD_LISTINGS = [None, 5, "text", {"a": 1}, [], [5], datetime(2026, 1, 1, tzinfo=timezone.utc)]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a document has fields, and of each list the first and the last item."""
    pairs = list(enumerate(value)) if isinstance(value, list) else []
    for key, part in (
        value.items() if isinstance(value, dict) else {**dict(pairs[:1] + pairs[-1:])}.items()
    ):
        yield (*path, key)
        yield from places(part, (*path, key))


def edited(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *above, last = path
    fields: Any = changed
    for name in above:
        fields = fields[name]
    fields[last] = value
    return changed


@pytest.fixture
async def layer(
    mongo_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MongoDataLayer]:
    monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(2500, 800, 3000))
    layer = MongoDataLayer(mongo_uri, database=database.name)
    yield layer
    await layer.close()


@pytest.fixture
async def ada(layer: MongoDataLayer) -> PersistedUser:
    """The user whose thread "t" has steps and elements in overflow documents and in GridFS."""
    user = await layer.create_user(User(identifier="ada", metadata={"role": "author"}))
    await layer.update_thread("t", name="n", user_id=user.id, metadata={"big": "z" * 4000})
    await layer.create_step(step("t", 0, id="large", output="y" * 4000))
    for number in range(8):
        favorite = {"favorite": number % 3 == 0}
        await layer.create_step(
            step("t", number, id=f"s{number}", output="hello" + "x" * 300, metadata=favorite)
        )
    for number in range(3):
        await layer.create_element(
            Text(id=f"e{number}", thread_id="t", for_id=f"s{number}", name="n", content="c")
        )
    await layer.upsert_feedback(Feedback(threadId="t", forId="s0", value=1, comment="c" * 4000))
    await layer.upsert_feedback(Feedback(threadId="t", forId="later", value=0))
    await layer.delete_step("s7")
    await layer.delete_element("e2", "t")
    await layer.create_step(step("t", 8, id="s8"))
    return user


@contextmanager
def during(path: tuple[Any, ...], value: Any) -> Iterator[None]:
    """Add to an error which field had which value."""
    try:
        yield
    except Exception as exc:
        raise AssertionError(f"{'.'.join(map(str, path))} = {value!r}") from exc


async def read_everything(layer: MongoDataLayer, user_id: str) -> Any:
    thread = await layer.get_thread("t")
    for filters in ({}, {"search": "hello"}, {"feedback": 1}):
        await layer.list_threads(Pagination(first=9), ThreadFilter(userId=user_id, **filters))
    await layer.get_favorite_steps(user_id)
    await layer.get_element("t", "e0")
    await layer.get_user("ada")
    return thread


async def test_every_read_serves_the_rest(
    layer: MongoDataLayer, ada: PersistedUser, database: Database
) -> None:
    main: Any = await database.threads.find_one({"_id": "t"})
    moved: Any = await database.thread_overflow.find({"steps.0": {"$exists": True}}).to_list(None)
    assert len(main["overflowIds"]) > 1
    assert main["steps"], "some steps are in the main document"
    user: Any = await database.users.find_one()
    documents = [(database.threads, main), (database.users, user)]
    documents += [(database.thread_overflow, document) for document in moved[:1]]
    tried = 0
    for collection, document in documents:
        for number, path in enumerate(places(document)):
            # Three of the values for each, and other ones for the next field.
            odd = (ODD * 2)[number % len(ODD) :][:3]
            for value in odd if path != ("_id",) else ():
                try:
                    await collection.replace_one(
                        {"_id": document["_id"]}, edited(document, path, value)
                    )
                except OperationFailure:  # an index takes no such value
                    continue
                # A process that knows nothing of the thread.
                other = MongoDataLayer(client=layer._connection._client, database=database.name)
                with during(path, value):
                    thread = await read_everything(other, ada.id)
                assert thread is not None or path[0] == "deletedAt"
                tried += 1
        await collection.replace_one({"_id": document["_id"]}, document)
    assert tried > 250


@pytest.mark.parametrize("listing", ODD_LISTINGS, ids=repr)
async def test_an_odd_listing_is_named_by_reads_and_writes(
    layer: MongoDataLayer,
    ada: PersistedUser,
    database: Database,
    listing: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before: Any = await layer.get_thread("t")
    await database.threads.update_one({"_id": "t"}, {"$set": {"overflowIds": listing}})
    other = MongoDataLayer(client=layer._connection._client, database=database.name)

    thread: Any = await other.get_thread("t")
    assert thread["steps"][0]["id"] == "t/incomplete"
    left = [s["id"] for s in thread["steps"][1:]]
    assert left == [s["id"] for s in before["steps"]][-len(left) :]
    assert "The thread 't' lost overflow documents." in caplog.text
    with pytest.raises(StorageError, match="The thread 't' is damaged and takes no writes"):
        await other.create_step(step("t", 9, id="new"))


@pytest.mark.parametrize("listing", ODD_LISTINGS, ids=repr)
async def test_the_overflow_of_an_odd_listing_is_no_garbage(
    ada: PersistedUser, database: Database, listing: Any
) -> None:
    await database.threads.update_one({"_id": "t"}, {"$set": {"overflowIds": listing}})
    kept = await database.thread_overflow.count_documents({})

    garbage = Garbage(database, "fs", datetime(2100, 1, 1, tzinfo=timezone.utc))
    found = [orphan async for orphan in garbage.collect(delete=True)]
    assert [orphan for orphan in found if orphan.kind == "overflow document"] == []
    assert await database.thread_overflow.count_documents({}) == kept


@pytest.mark.parametrize("count", [None, "text", {"a": 1}, float("nan"), True], ids=repr)
async def test_bytes_are_counted_anew(
    layer: MongoDataLayer, ada: PersistedUser, database: Database, count: Any
) -> None:
    await database.threads.update_one({"_id": "t"}, {"$set": {"bytes": count}})
    await layer.create_step(step("t", 9, id="new"))

    thread: Any = await layer.get_thread("t")
    assert thread["steps"][-1]["id"] == "new"


@pytest.mark.parametrize("field", ["gridfs", "encoding"])
async def test_an_odd_reference_is_marked(
    layer: MongoDataLayer, ada: PersistedUser, database: Database, field: str
) -> None:
    only = {"_id": "t", "steps.id": "large"}
    changed = {"$set": {f"steps.$.output.{field}": 5}}
    for collection in (database.threads, database.thread_overflow):
        await collection.update_one({**only, "_id": {"$exists": True}}, changed)

    thread: Any = await layer.get_thread("t")
    (large,) = (s for s in thread["steps"] if s["id"] == "large")
    assert large["output"].endswith("is missing in the database]")


async def test_a_file_with_something_else_is_marked(
    layer: MongoDataLayer, ada: PersistedUser, database: Database
) -> None:
    await database["fs.chunks"].update_many({}, {"$set": {"data": b"\xff\xfe"}})

    thread: Any = await layer.get_thread("t")
    (large,) = (s for s in thread["steps"] if s["id"] == "large")
    assert large["output"].endswith("is missing in the database]")
