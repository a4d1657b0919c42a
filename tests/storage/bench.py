"""What the tests of long threads share: tiny bounds, what is stored, what a reader sees."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chainlit.types import Pagination, ThreadFilter
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.storage.overflow import Bounds

Dict = dict[str, Any]
Database = AsyncDatabase[Dict]

LIMITLESS = Bounds(main=10**9, kept=10**9, value=10**9)
"""Nothing overflows: what the others are compared with."""

ROOMY = Bounds(main=900, kept=300, value=100_000)
"""A few steps fill a head; no text is large."""

SMALL = Bounds(main=300, kept=100, value=60)
"""One step fills a head; nearly every text is large."""


def step(thread_id: str, name: str, second: int, **fields: Any) -> Any:
    """A step of about 200 bytes."""
    time = f"2024-05-06T12:{second // 60:02}:{second % 60:02}.000000Z"
    return {
        "id": f"{thread_id}/{name}",
        "threadId": thread_id,
        "type": "tool",
        "name": name,
        "createdAt": time,
        **fields,
    }


async def read(layer: MongoDataLayer, thread_id: str) -> Any:
    """The thread, in which everything is stored once: what is shown leaves doubles out."""
    thread: Any = await layer.get_thread(thread_id)
    assert thread is not None
    stored = await layer._threads.documents.get(thread_id)
    assert stored is not None
    ids = Counter(item["id"] for name in ("steps", "elements") for item in stored.get(name) or ())
    assert set(ids.values()) <= {1}, ids
    return thread


async def found(layer: MongoDataLayer, user_id: str, **filters: Any) -> list[str]:
    """Ids of the user's threads that fit."""
    page = await layer.list_threads(Pagination(first=200), ThreadFilter(userId=user_id, **filters))
    return [thread["id"] for thread in page.data]


async def fill(layer: MongoDataLayer, thread_id: str, count: int, *, first: int = 0) -> None:
    """Append steps until older ones move to parts."""
    for number in range(first, first + count):
        await layer.create_step(step(thread_id, f"s{number}", number, output=f"word{number} " * 20))


async def place(database: Database, thread_id: str, item_id: str) -> str:
    """Where an item is: in the main document, in a listed overflow document, or nowhere."""
    holds = {"$or": [{"steps.id": item_id}, {"elements.id": item_id}]}
    main = await database.threads.find_one({"_id": thread_id}) or {}
    if await database.threads.find_one({"_id": thread_id, **holds}):
        return "main"
    listed = {"_id": {"$in": main.get("overflowIds") or []}}
    overflow = await database.thread_overflow.find_one({**listed, **holds})
    return "nowhere" if overflow is None else "overflow"


async def leftovers(database: Database, thread_id: str | None = None) -> dict[str, int]:
    """How many documents hold something of a thread, or of any, beside the main documents."""
    fields = {"thread_overflow": "thread", "fs.files": "metadata.threadId"}
    counts: dict[str, int] = {}
    for name, field in fields.items():
        condition = {} if thread_id is None else {field: thread_id}
        counts[name] = await database[name].count_documents(condition)
    if thread_id is None:
        counts["fs.chunks"] = await database["fs.chunks"].count_documents({})
    return {name: count for name, count in counts.items() if count}
