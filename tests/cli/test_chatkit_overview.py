"""``stats``, ``doctor`` and ``schema`` with ChatKit's threads and attachments."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId

from mongo_datalayer.admin.doctor import run_checks
from mongo_datalayer.model.documents import (
    CHATKIT_OVERFLOW,
    ChatKitOverflowDocument,
    ChatKitThreadDocument,
)
from mongo_datalayer.schema.validators import MODELS, apply_validators, find_misfits
from mongo_datalayer.testing.chatkit_contract import thread
from tests.cli.chatkit_people import FILE, put_attachment, put_chatkit_thread
from tests.cli.commands import run
from tests.cli.people import Documents, put_person


async def test_chatkits_data_is_counted(where: tuple[str, ...], database: Documents) -> None:
    await put_person(database, "eve", threads=1)
    store = await put_chatkit_thread(database, "ada")
    await put_chatkit_thread(database, "bob")
    ada = {"user_id": "ada"}
    await store.add_feedback("t", ["ada/1", "ada/11"], "negative", ada)
    await put_attachment(store, "ada", None, send=False)
    await store.save_thread(thread("gone"), ada)
    await store.delete_thread("gone", ada)
    await store.save_thread(thread("earlier"), ada)
    long_ago = datetime.now(timezone.utc) - timedelta(days=700)
    await database.chatkit_threads.update_one(
        {"_id.id": "earlier"}, {"$set": {"createdAt": long_ago}}
    )
    now = datetime.now(timezone.utc)
    await database.chatkit_threads.update_many({"_id.id": "t"}, {"$set": {"createdAt": now}})

    done = await run("stats", "--json", *where)
    shown = await run("stats", *where)

    totals = json.loads(done.out)["totals"]
    large = database["fs.files"].find({"filename": {"$regex": "^chatkit-values/"}})
    assert (done.code, done.err, shown.code) == (0, "", 0)
    assert {name: value for name, value in totals.items() if name.startswith("chatkit")} == {
        "chatkit_threads": 3,
        "chatkit_deleted_threads": 1,
        "chatkit_items": 26,
        "chatkit_positive": 2,
        "chatkit_negative": 2,
        "chatkit_long_threads": 2,
        "chatkit_attachments": 3,
        "chatkit_attachment_bytes": 2 * len(FILE),
    }
    assert (totals["threads"], totals["steps"]) == (1, 2)
    assert totals["files"] == 3
    assert totals["file_bytes"] == 2 * len(FILE) + len("file of eve/0")
    assert totals["large_values"] == 2
    assert totals["large_value_bytes"] == sum([file["length"] async for file in large])
    week = json.loads(done.out)["weeks"][-1]
    assert (week["chatkit_threads"], week["files"], week["large_values"]) == (2, 3, 2)
    assert re.search(r"^ChatKit items +26$", shown.out, re.MULTILINE)


async def verdict(database: Documents, check: str) -> Any:
    return next(found for found in await run_checks(database) if found.check == check)


@pytest.mark.parametrize("collection", ["chatkit_threads", "chatkit_overflow"])
async def test_large_documents_are_named(database: Documents, collection: str) -> None:
    await put_chatkit_thread(database, "ada")
    assert (await verdict(database, "document sizes")).state == "ok"
    await database[collection].update_one({}, {"$set": {"app": "x" * 14_500_000}})

    found = await verdict(database, "document sizes")

    assert found.state == "problem"
    assert "t of ada (13.8 MB)" in found.finding


async def test_parts_that_no_thread_lists_are_counted(database: Documents) -> None:
    await put_chatkit_thread(database, "ada")
    part = await database.chatkit_overflow.find_one({})
    assert part is not None
    old = ObjectId.from_datetime(datetime.now(timezone.utc) - timedelta(hours=2))
    listed = ObjectId.from_datetime(datetime.now(timezone.utc) - timedelta(hours=3))
    await database.chatkit_overflow.insert_one({**part, "_id": str(listed)})
    await database.chatkit_threads.update_one({}, {"$push": {"overflowIds": str(listed)}})
    assert (await verdict(database, "unlisted overflow")).state == "ok"
    await database.chatkit_overflow.insert_one({**part, "_id": str(old)})

    found = await verdict(database, "unlisted overflow")

    assert (found.state, found.finding[:2]) == ("warning", "1 ")


async def test_what_the_store_writes_fits_and_is_described(database: Documents) -> None:
    await apply_validators(database, "error")
    store = await put_chatkit_thread(database, "ada")
    await store.delete_thread_item("t", "ada/0", {"user_id": "ada"})

    for name in MODELS:
        assert [misfit async for misfit in find_misfits(database, name)] == []
    async for part in database.chatkit_overflow.find({}):
        assert ChatKitOverflowDocument.model_validate(part).model_extra == {}
    async for head in database.chatkit_threads.find({}):
        assert ChatKitThreadDocument.model_validate(head).model_extra == {}


async def test_a_part_that_does_not_fit_is_named(database: Documents) -> None:
    await database.chatkit_overflow.insert_one({"_id": "p", "thread": "t", "items": []})

    (misfit,) = [misfit async for misfit in find_misfits(database, CHATKIT_OVERFLOW)]

    assert (misfit.id, misfit.faults) == ("p", ("thread: string instead of object",))
