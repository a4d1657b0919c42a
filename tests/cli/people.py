"""Fills a database through the data layer with people and their conversations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import chainlit as cl
from chainlit.element import Text
from chainlit.types import Feedback
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import GridFSStorageClient, MongoDataLayer
from mongo_datalayer.files import FileLinks
from mongo_datalayer.storage import overflow

Documents = AsyncDatabase[dict[str, Any]]

LARGE = "a large text " * 200
"""Its middle is neither in the step nor in a part."""

SMALL = overflow.Bounds(main=300, kept=100, value=60)


def storage_of(database: Documents, bucket: str = "fs") -> GridFSStorageClient:
    return GridFSStorageClient(database, bucket=bucket, links=FileLinks("secret " * 8))


async def put_person(
    database: Documents, identifier: str, *, threads: int, bucket: str = "fs"
) -> list[str]:
    """A user with threads of two steps, one feedback and one file each; the thread ids."""
    layer = MongoDataLayer(
        client=database.client,
        database=database.name,
        storage_client=storage_of(database, bucket),
    )
    user = await layer.create_user(cl.User(identifier=identifier, metadata={"role": "tester"}))
    assert user is not None
    ids = [f"{identifier}/{number}" for number in range(threads)]
    for thread_id in ids:
        await layer.update_thread(thread_id, name=f"of {identifier}", user_id=user.id)
        for place, kind in enumerate(("user_message", "assistant_message")):
            await layer.create_step(
                {
                    "id": f"{thread_id}/step{place}",
                    "threadId": thread_id,
                    "type": kind,  # type: ignore[typeddict-item]  # a narrower str
                    "name": identifier,
                    "output": f"text {place} of {identifier}",
                    "createdAt": f"2026-01-02T03:04:0{place}.123456Z",
                    "metadata": {},
                }
            )
        await layer.upsert_feedback(
            Feedback(forId=f"{thread_id}/step1", threadId=thread_id, value=1, comment="thanks")
        )
        element = Text(
            id=f"{thread_id}/file",
            thread_id=thread_id,
            name="t.txt",
            content=f"file of {thread_id}",
            for_id=f"{thread_id}/step1",
        )
        await layer.create_element(element)
    return ids


@contextmanager
def small_documents(bounds: overflow.Bounds = SMALL) -> Iterator[None]:
    """What is written in here overflows although it is short."""
    usual = overflow.BOUNDS
    overflow.BOUNDS = bounds
    try:
        yield
    finally:
        overflow.BOUNDS = usual


async def put_long_thread(
    database: Documents, thread_id: str, identifier: str = "alice", *, steps: int = 8
) -> str:
    """A thread of short steps in several parts, and of one large text; the id of its user.

    The oldest step has a thumbs up and a file.
    """
    with small_documents():
        layer = MongoDataLayer(
            client=database.client,
            database=database.name,
            storage_client=storage_of(database),
        )
    user = await layer.create_user(cl.User(identifier=identifier))
    assert user is not None
    await layer.update_thread(thread_id, name=f"long {thread_id}", user_id=user.id)
    for number in range(steps):
        await layer.create_step(
            {
                "id": f"{thread_id}/step{number}",
                "threadId": thread_id,
                "type": "user_message",
                "name": identifier,
                "output": LARGE if number == 1 else f"text {number}",
                "createdAt": f"2026-01-02T03:04:{number % 60:02}.123456Z",
                "metadata": {},
            }
        )
    await layer.upsert_feedback(Feedback(forId=f"{thread_id}/step0", threadId=thread_id, value=1))
    await layer.create_element(
        Text(
            id=f"{thread_id}/file",
            thread_id=thread_id,
            name="t.txt",
            content="of a long thread",
            for_id=f"{thread_id}/step0",
        )
    )
    stored = await database.threads.find_one({"_id": thread_id})
    assert stored is not None
    assert len(stored["overflowIds"]) > 1
    return user.id


async def snapshot(database: Documents) -> dict[str, list[dict[str, Any]]]:
    """Every document of every collection, in the order of ids."""
    return {
        name: await database[name].find().sort("_id").to_list(None)
        for name in sorted(await database.list_collection_names())
    }
