"""Fills a database through the ChatKit store with owners, their threads and attachments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from chatkit.types import AttachmentCreateParams, HiddenContextItem

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.files import FileLinks
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import at, message, thread
from tests.cli.people import Documents, small_documents

LARGE = "a large text " * 200
"""An item with it is in GridFS."""

FILE = b"the file"


def store_of(database: Documents, bucket: str = "fs") -> MongoChatKitStore[Any]:
    return MongoChatKitStore(
        client=database.client,
        database=database.name,
        bucket=bucket,
        links=FileLinks("secret " * 8, url="http://chat.test"),
    )


def small_store(database: Documents, bucket: str = "fs") -> MongoChatKitStore[Any]:
    """A store whose threads overflow although they are short."""
    with small_documents(overflow.Bounds(main=1200, kept=400, value=1500)):
        return store_of(database, bucket)


async def put_attachment(
    store: MongoChatKitStore[Any], owner: str, thread_id: str | None, *, send: bool = True
) -> str:
    """An attachment of a thread, with its file unless that is not sent; its id."""
    context = {"user_id": owner}
    params = AttachmentCreateParams(name="a.txt", size=len(FILE), mime_type="text/plain")
    made = await store.create_attachment(params, context)
    if send:
        await store.attachments.receive(
            owned(owner, made.id), _pieces(), mime="text/plain", length=len(FILE)
        )
    if thread_id is not None:
        await store.save_attachment(made.model_copy(update={"thread_id": thread_id}), context)
    return str(made.id)


async def put_chatkit_thread(
    database: Documents, owner: str, thread_id: str = "t", *, bucket: str = "fs"
) -> MongoChatKitStore[Any]:
    """A thread of 13 items in several parts: one is large, the oldest has feedback.

    It has one attachment.
    """
    store = small_store(database, bucket)
    context = {"user_id": owner}
    await store.save_thread(thread(thread_id, title=f"of {owner}"), context)
    for number in range(12):
        item = message(f"{owner}/{number}", number, f"text {number} of {owner}")
        await store.add_thread_item(thread_id, item, context)
    large = HiddenContextItem(
        id=f"{owner}/large", thread_id=thread_id, created_at=at(99), content=LARGE
    )
    await store.add_thread_item(thread_id, large, context)
    await store.add_feedback(thread_id, [f"{owner}/0"], "positive", context)
    await put_attachment(store, owner, thread_id)
    stored = await database.chatkit_threads.find_one({"_id": owned(owner, thread_id)})
    assert stored is not None
    assert len(stored["overflowIds"]) > 1
    return store


async def _pieces() -> AsyncIterator[bytes]:
    yield FILE
