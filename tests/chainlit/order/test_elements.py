"""Elements: read in the order of the calls, and deleted for good, also in long threads."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from chainlit.element import CustomElement, Text
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import GridFSStorageClient, MongoDataLayer
from mongo_datalayer.admin.export_format import read_records
from mongo_datalayer.admin.exporter import Export, Scope
from mongo_datalayer.admin.importer import Import
from mongo_datalayer.config import TOMBSTONE_SECONDS
from mongo_datalayer.files import FileLinks
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.contract import step

Database = AsyncDatabase[dict[str, Any]]

NAMES = [f"{number:02}" for number in range(12)]


class SlowStorage(GridFSStorageClient):
    """Uploads end in any order."""

    chance = random.Random(3)  # noqa: S311 - an interleaving, not a secret

    async def upload_file(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.chance.uniform(0, 0.1))
        return await super().upload_file(*args, **kwargs)


@pytest.fixture(params=["one document", "overflow"])
async def layer(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[MongoDataLayer]:
    if request.param == "overflow":
        monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(main=900, kept=300))
    storage = SlowStorage(database, links=FileLinks("a secret of thirty-two bytes and more"))
    layer = MongoDataLayer(mongo_uri, database=database.name, storage_client=storage)
    await layer.create_indexes()
    await layer.create_step(step("t", id="s"))
    yield layer
    await layer.close()


async def names(layer: MongoDataLayer) -> list[str]:
    thread = await layer.get_thread("t")
    assert thread is not None
    elements: Any = thread["elements"]
    assert not any("sequence" in element for element in elements)
    return [element["name"] for element in elements]


def text(name: str, content: str = "words") -> Text:
    return Text(id=f"e{name}", name=name, content=content, thread_id="t", for_id="s")


async def test_the_order_is_that_of_the_calls_whatever_the_uploads_take(
    layer: MongoDataLayer,
) -> None:
    await asyncio.gather(*(layer.create_element(text(name)) for name in NAMES))
    assert await names(layer) == NAMES


async def test_another_version_keeps_the_place_and_leaves_no_field_of_the_first(
    layer: MongoDataLayer,
) -> None:
    for name in NAMES:
        await layer.create_element(text(name))
    card = CustomElement(id="e01", name="card", props={"n": 1}, thread_id="t")
    card.for_id = ""
    await layer.create_element(card)
    assert await names(layer) == ["00", "card", *NAMES[2:]]
    read: Any = await layer.get_element("t", "e01")
    assert "sequence" not in read
    assert (read["type"], read["props"], read["objectKey"]) == ("custom", {"n": 1}, None)
    assert (read["forId"], read["language"]) == (None, None)


async def test_the_order_survives_export_and_import(
    layer: MongoDataLayer, database: Database
) -> None:
    await asyncio.gather(*(layer.create_element(text(name)) for name in NAMES))
    bucket = FileBucket(database)
    export = Export(database, bucket, Scope(), with_files=True)
    lines = b"".join([line async for line in export.lines()])
    await layer.delete_thread("t")
    await Import(database, bucket, replace=True).store(read_records(io.BytesIO(lines)))
    assert await names(layer) == NAMES


@pytest.mark.parametrize("there", [True, False], ids=["stored", "not yet stored"])
async def test_a_deleted_element_stays_deleted(
    layer: MongoDataLayer, database: Database, there: bool
) -> None:
    for name in NAMES:
        if there or name != "03":
            await layer.create_element(text(name))
    await layer.delete_element("e03", "t")
    await layer.create_element(text("03"))
    assert await names(layer) == [name for name in NAMES if name != "03"]
    assert await layer.get_element("t", "e03") is None
    stored = await database.threads.find_one({"_id": "t"})
    assert stored is not None
    (tombstone,) = stored["deletedElements"]
    assert tombstone.keys() == {"id", "at"}
    assert await database.fs.files.count_documents({}) == len(NAMES) - 1


async def test_a_removal_that_names_no_thread_waits_for_the_upload(
    layer: MongoDataLayer, database: Database
) -> None:
    await asyncio.gather(
        layer.create_element(text("00", "words" * 300_000)), layer.delete_element("e00")
    )
    assert await layer.get_element("t", "e00") is None
    assert await database.fs.files.count_documents({}) == 0


async def test_the_same_id_in_another_thread_is_another_element(layer: MongoDataLayer) -> None:
    await layer.delete_element("e03", "t")
    other = text("03")
    other.thread_id = "other"
    await layer.create_element(other)
    assert await layer.get_element("other", "e03") is not None


async def test_old_tombstones_go_with_the_next_deletion(
    layer: MongoDataLayer, database: Database
) -> None:
    await layer.delete_element("old", "t")
    long_ago = datetime.now(timezone.utc) - timedelta(seconds=TOMBSTONE_SECONDS + 60)
    await database.threads.update_one({"_id": "t"}, {"$set": {"deletedElements.0.at": long_ago}})
    await layer.delete_element("new", "t")
    stored = await database.threads.find_one({"_id": "t"})
    assert stored is not None
    assert [deleted["id"] for deleted in stored["deletedElements"]] == ["new"]


async def test_what_an_interrupted_deletion_left_is_not_shown(
    layer: MongoDataLayer, database: Database
) -> None:
    for name in NAMES:
        await layer.create_element(text(name))
    copies = await database.thread_overflow.find().to_list(None)
    await layer.delete_element("e00", "t")
    for copy in copies:
        await database.thread_overflow.replace_one({"_id": copy["_id"]}, copy)
    assert await names(layer) == NAMES[1:]
    assert await layer.get_element("t", "e00") is None
