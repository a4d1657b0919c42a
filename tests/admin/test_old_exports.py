"""Exports of formats 1 and 2, recorded from the code that wrote them, are read and stored."""

from __future__ import annotations

import copy
import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.export_format import read_records
from mongo_datalayer.admin.importer import Import
from mongo_datalayer.admin.old_exports import upgraded
from mongo_datalayer.files.bucket import FileBucket
from tests.cli.chatkit_people import FILE, store_of

EXPORTS = Path(__file__).parent / "exports"
BIG = 2**70
"""An integer that BSON cannot hold: a thread, an item and an attachment have it."""

OLD_NAMES = {"order", "exact"}
ADA = {"user_id": "ada"}


def export(version: int) -> bytes:
    return gzip.decompress((EXPORTS / f"version_{version}.jsonl.gz").read_bytes())


def recorded(version: int) -> list[dict[str, Any]]:
    return [json_util.loads(line) for line in export(version).splitlines()]


@pytest.mark.parametrize("version", [1, 2])
def test_only_the_names_of_chatkits_fields_change(version: int) -> None:
    for record in recorded(version):
        before = copy.deepcopy(record)
        after = upgraded(record, version)
        assert record == before
        if not record["type"].startswith("chatkit-"):
            assert after == record
            continue
        old, new = before["document"], after["document"]
        assert len(old) == len(new)
        for name in ("_id", "thread", "attachment", "upload", "createdAt", "sequence"):
            assert new.get(name) == old.get(name)
        assert new.get("threadIds", []) == ([old["threadId"]] if "threadId" in old else [])
        assert (new.get("sortKey"), new.get("rawJson")) == (old.get("order"), old.get("exact"))
        for name in ("items", "deletedItems"):
            for was, now in zip(old.get(name, ()), new.get(name, ()), strict=True):
                assert not now.keys() & OLD_NAMES
                assert now["sortKey"] == was["order"]
                assert now.get("rawJson") == was.get("exact")
                assert now.get("item") == was.get("item")  # also where it has such names inside


def test_the_recording_has_what_it_is_about() -> None:
    documents = [r["document"] for r in recorded(2) if r["type"].startswith("chatkit-")]
    thread, *attachments = documents
    assert {item["id"] for item in thread["items"]} == {"plain", "large", "exact"}
    assert [item["id"] for item in thread["deletedItems"]] == ["gone"]
    assert sum("exact" in stored for stored in [thread, *thread["items"], *attachments]) == 3
    assert len(json.dumps(next(i for i in thread["items"] if i["id"] == "large")["item"])) > 2**18


def test_a_record_of_the_present_format_stays_as_it_is() -> None:
    record = {"type": "chatkit-thread", "document": {"order": "a field that ChatKit may add"}}
    assert upgraded(record, 3) is record


@pytest.mark.parametrize("version", [1, 2])
async def test_an_old_export_is_imported(
    database: AsyncDatabase[dict[str, Any]], version: int
) -> None:
    bucket = FileBucket(database)
    records = read_records(BytesIO(export(version)))
    done = await Import(database, bucket, replace=False).store(records)
    assert (done.stored["users"], done.stored["threads"], done.skipped["threads"]) == (1, 1, 0)

    layer = MongoDataLayer(client=database.client, database=database.name)
    thread: Any = await layer.get_thread("ada/0")
    steps = {step["id"]: step for step in thread["steps"]}
    assert steps["large"]["output"] == "words " * 60_000
    assert steps["large"]["metadata"] == {
        "gridfs": "values/x",
        "bytes": 1,
        "form": "text",
        "start": "s",
    }
    assert steps["ada/0/step1"]["feedback"]["comment"] == "thanks"
    await layer.close()
    if version == 1:
        return

    store = store_of(database)
    assert (await store.load_thread("t", ADA)).metadata == {"big": BIG}
    items: list[Any] = (await store.load_thread_items("t", None, 9, "asc", ADA)).data
    assert [item.id for item in items] == ["plain", "large", "exact"]
    assert items[1].content == "a large text " * 25_000
    assert items[2].content == {"order": BIG, "exact": "e"}
    assert (await store.load_thread_items("t", "gone", 9, "asc", ADA)).data == items[1:]
    assert [each.id for each in (await store.load_threads(9, None, "asc", ADA)).data] == ["t"]
    own: Any = await store.load_attachment("own", ADA)
    assert own.metadata == {"big": BIG}
    sent = await database.chatkit_attachments.find_one({"threadIds": "t"})
    assert sent is not None
    assert await store.read_attachment(sent["_id"]["id"], ADA) == FILE
