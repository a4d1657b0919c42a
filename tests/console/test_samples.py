"""The sample conversations are what the package would have stored itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from sample_conversations import Samples, fill

from mongo_datalayer.chainlit.codec import read_thread
from mongo_datalayer.chatkit.codec import read_item
from mongo_datalayer.chatkit.codec import read_thread as read_chatkit_thread
from mongo_datalayer.schema.validators import MODELS, find_misfits

NOW = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


async def test_every_document_fits_the_schema_and_is_read(
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    stored = await fill(database, Samples(NOW, weeks=3), 300)
    threads = await database.threads.find().to_list(None)
    chatkit = await database.chatkit_threads.find().to_list(None)

    assert stored == {"users": 40, "threads": 300, "chatkit_threads": 30}
    assert (len(threads), len(chatkit)) == (300, 30)
    assert any(thread.get("overflowIds") for thread in threads)
    for name in MODELS:
        assert [misfit async for misfit in find_misfits(database, name)] == []
    assert all(len(read_thread(thread)["steps"]) == len(thread["steps"]) for thread in threads)
    for thread in chatkit:
        assert read_chatkit_thread(thread).id == thread["_id"]["id"]
        assert [read_item(item).id for item in thread["items"]] == [
            i["id"] for i in thread["items"]
        ]


def test_a_seed_gives_the_same_conversations_and_they_end_in_time() -> None:
    one, again, other = (list(Samples(NOW, 3, seed).records(50)) for seed in (7, 7, 8))
    threads = [record["document"] for record in one if record["type"] == "thread"]

    assert one == again != other
    for thread in threads:
        times = [step["createdAt"] for step in thread["steps"]]
        assert times == sorted(times)
        assert NOW - timedelta(weeks=3) <= thread["createdAt"] <= thread["updatedAt"] <= NOW
