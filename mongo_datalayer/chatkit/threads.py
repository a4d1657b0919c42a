"""ChatKit's threads, one document each with its items.

Every write is one atomic update with a guard, so that it can be repeated. Ordinarily an operation
is one command. Only where the guard says no the document is read to find out why. Old items of a
long thread are in overflow documents (:mod:`mongo_datalayer.storage.overflow`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from cachetools import LRUCache

from mongo_datalayer.chatkit import queries
from mongo_datalayer.chatkit.codec import date_of, precise, sort_key
from mongo_datalayer.chatkit.errors import AlreadyExistsError, MissingError
from mongo_datalayer.chatkit.item_pages import ItemPages
from mongo_datalayer.chatkit.queries import PageRequest, owned
from mongo_datalayer.chatkit.thread_storage import ThreadStorage
from mongo_datalayer.config import TOMBSTONE_SECONDS
from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.stored_lists import (
    any_before,
    is_listing_damaged,
    items,
    listed_overflow,
    stored_count,
)
from mongo_datalayer.model.times import now
from mongo_datalayer.mongodb.client import Database, aggregate
from mongo_datalayer.mongodb.unsupported import Fallback
from mongo_datalayer.mongodb.update import Update
from mongo_datalayer.storage.contention import (
    READ_ATTEMPTS,
    WRITE_ATTEMPTS,
    Attempts,
    DroppedWrites,
    contended,
    damaged_listing,
    incomplete,
    upsert_unless_deleted,
)
from mongo_datalayer.storage.conversion import converted
from mongo_datalayer.storage.overflow_ids import entry_bytes

OVERFLOW_VALUE_BYTES = 16 * 1024
"""From this size on an updated item of an overflow document goes to GridFS."""

REMEMBERED_BYTES = 16 * 1024 * 1024
"""How much memory the cache of overflow ids takes."""


class ChatKitThreads:
    """ChatKit's threads of one database.

    A thread is named by its key, owner and id (:func:`~mongo_datalayer.chatkit.queries.owned`).

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        storage = ThreadStorage(database)
        self._threads = storage.threads
        self._overflow = storage.overflow
        self._values = storage.values
        self._fallback = Fallback()
        self._pages = ItemPages(storage)
        self._overflow_ids: LRUCache[tuple[str, ...], tuple[str, ...]]
        self._overflow_ids = LRUCache(REMEMBERED_BYTES, getsizeof=entry_bytes)
        self._dropped = DroppedWrites()

    # Threads ----------------------------------------------------------------------------------

    async def get(self, key: Document) -> Document | None:
        """The stored thread without items; None when there is none or it was deleted."""
        stored: Document | None = await self._threads.find_one(
            queries.not_deleted(key), queries.THREAD_PROJECTION
        )
        return stored

    async def put(self, key: Document, thread: Document, created_at: datetime) -> bool:
        """Set a thread's own fields, or make it; False when it was deleted. One command."""
        update = queries.thread_put(
            key,
            thread,
            sort_key=f"{sort_key(created_at, _arrival())} {key['id']}",
            created_at=date_of(created_at),
            now=now(),
        )
        return await upsert_unless_deleted(self._threads, update)

    async def page(self, owner: str, request: PageRequest) -> list[Document] | None:
        """An owner's threads by their sort key. One command, two where the server joins nothing.

        Returns:
            None when the owner never had the thread ``after``.
        """
        pipeline = queries.threads_page_pipeline(owner, request)
        if request.after is None:
            return await aggregate(self._threads, pipeline)

        async def joined() -> list[Document] | None:
            found = await aggregate(self._threads, pipeline)
            return [row["page"] for row in found if "page" in row] if found else None

        return await self._fallback.read(joined, lambda: self._page_after(owner, request))

    async def _page_after(self, owner: str, request: PageRequest) -> list[Document] | None:
        key = owned(owner, cast("str", request.after))
        after = await self._threads.find_one({"_id": key}, {"sortKey": 1})
        if after is None:
            return None
        pipeline = queries.threads_page_after_pipeline(owner, request, str(after.get("sortKey")))
        return await aggregate(self._threads, pipeline)

    async def delete(self, key: Document) -> None:
        """Replace a thread by its tombstone; repeated, finish an interrupted deletion."""
        stored = await self._threads.find_one({"_id": key}, {"sortKey": 1, "deletedAt": 1})
        if stored is None:
            return
        if "deletedAt" not in stored:
            # A page of threads may have ended with this one: the next begins at its sort key.
            tombstone = {"sortKey": stored.get("sortKey"), "deletedAt": now()}
            await self._threads.replace_one(queries.not_deleted(key), tombstone)
        await self._overflow.delete([key])
        await self._values.delete(key)

    # Items ------------------------------------------------------------------------------------

    async def get_item(self, key: Document, item_id: str) -> Document | None:
        """One stored item. One command, more where the main document does not hold it."""
        async for _ in Attempts(READ_ATTEMPTS):
            item = await self._find(key, item_id)
            if item is None or await self._values.resolve([item], complete=True):
                return item
        raise incomplete(key["id"])

    async def items_page(self, key: Document, request: PageRequest) -> list[Document]:
        """A page of a thread's items by their sort key; empty if there is no such thread.

        One command, more for a thread with overflow documents.

        Raises:
            MissingError: ``after`` never was an item of the thread.
        """
        page: list[Document] = []
        async for _ in Attempts(READ_ATTEMPTS):
            page = await self._pages.read(key, request)
            if await self._values.resolve(page, complete=True):
                return page
        for item in page:  # one that is lost keeps its reference, and cannot be read
            await self._values.resolve([item], complete=True)
        return page

    async def add_item(
        self, key: Document, item: Document, created_at: datetime, *, lenient: bool = False
    ) -> None:
        """Append an item, unless its thread was deleted. One command.

        A later version of a stored item replaces it; where the call is ``lenient`` the stored one
        stays, whatever it is.

        Raises:
            MissingError: there is no such thread.
            AlreadyExistsError: something else is stored under the item's id.
        """
        externalized = await self._values.externalize(key, _place(item), item)
        stored = await self._append(key, externalized, created_at)
        if stored is externalized:
            return
        await self._values.delete_values(externalized)
        if stored is None or lenient or await self._is_same(stored, item):
            return
        # The Agents SDK's helper stores an open workflow when a client tool is called, and the
        # same one with more in it after the tool's output.
        if (stored["type"], _created(stored)) != (item["type"], precise(created_at)):
            raise AlreadyExistsError.of_item(item["id"], key["id"])
        await self.put_item(key, item, created_at)

    async def put_item(self, key: Document, item: Document, created_at: datetime) -> None:
        """Replace the item with its id in one command, or append it; not one that was deleted.

        Raises:
            MissingError: there is no such thread.
        """
        externalized = await self._values.externalize(key, _place(item), item)
        async for _ in Attempts(WRITE_ATTEMPTS):
            before = await self._replace(key, externalized)
            if before is not None:
                return await self._values.delete_values(before)
            state = await self._state(key, item["id"])
            if state is None:
                return await self._values.delete_values(externalized)
            if state.get("items"):  # the main document is full, or the item was appended just now
                await self._make_room(key, state)
                continue
            if await self._replace_in_overflow(key, item, state):
                return await self._values.delete_values(externalized)
            if state.get("deletedItems"):
                self._dropped.log(key["id"], item["id"])
                return await self._values.delete_values(externalized)
            if await self._append(key, externalized, created_at, anew=False) is externalized:
                return None
        raise contended(key["id"], item["id"])

    async def delete_item(self, key: Document, item_id: str) -> None:
        """Remove an item, and keep its sort key for pages that ended with it. Two commands.

        One more for an item of an overflow document, and those for a value in GridFS.
        """
        fields = {**queries.item_projection(item_id), "deletedItems": {"$slice": 1}}
        async for _ in Attempts(WRITE_ATTEMPTS):
            stored = await self._threads.find_one(queries.not_deleted(key), fields)
            if stored is None:
                return
            item = next(iter(stored.get("items") or ()), None)
            if item is None:
                ids = listed_overflow(stored)
                item = await self._overflow.find(key, ids, "items", item_id)
                if item is not None:
                    await self._delete_in_overflow(key, item)
            elif not await self._matched(queries.item_delete(key, item, now())):
                continue  # it moved, or another process deleted it
            await self._values.delete_values(item)
            await self._expire_tombstones(key, stored)
            return
        raise contended(key["id"], item_id)

    async def put_feedback(self, key: Document, item_id: str, kind: str) -> bool:
        """Set the feedback on an item; False when there is no such item."""
        item = queries.in_main_document(key, item_id)
        if await self._matched(queries.feedback_put(item, kind, now())):
            return True
        # In most threads the main document has all items, and a miss needs no second command.
        if (
            self._overflow_ids.get(tuple(key.values())) == ()
            or await self._find(key, item_id) is None
        ):
            return False
        item = queries.in_overflow(key, item_id)
        return await self._overflow.update(*queries.feedback_put(item, kind, now()))

    # Inside -----------------------------------------------------------------------------------

    async def _find(self, key: Document, item_id: str) -> Document | None:
        """An item as it is stored, in the main document or an overflow document."""
        stored = await self._threads.find_one(
            queries.not_deleted(key), queries.item_projection(item_id)
        )
        if stored is None:
            return None
        if stored.get("items"):
            item: Document = stored["items"][0]
            return item
        return await self._find_in_overflow(key, item_id, stored)

    async def _find_in_overflow(
        self, key: Document, item_id: str, thread: Mapping[str, Any]
    ) -> Document | None:
        """An item of a listed overflow document, unless the thread has its tombstone."""
        item = await self._overflow.find(key, listed_overflow(thread), "items", item_id)
        tombstones = items(thread, "deletedItems", ("sortKey",))
        deleted = [tombstone["sortKey"] for tombstone in tombstones]
        if item is not None and item.get("sortKey") in deleted:
            # A deletion was interrupted after its first command.
            await self._overflow.update(*queries.item_delete_in_overflow(key, item))
            return None
        return item

    async def _append(
        self, key: Document, item: Document, created_at: datetime, *, anew: bool = True
    ) -> Document | None:
        """Append an item; unless ``anew``, not one that was deleted.

        Returns:
            The very ``item`` when it was appended, else what is stored under its id. None when it,
            or its thread, was deleted.

        Raises:
            MissingError: there is no such thread.
        """
        arrival, cache_key = _arrival(), tuple(key.values())
        async for _ in Attempts(WRITE_ATTEMPTS):
            ids = self._overflow_ids.get(cache_key, ())
            # The insert's filter pins the list of overflow documents: "not found" stays true.
            if ids and await self._overflow.find(key, ids, "items", item["id"]):
                stored = await self._find(key, item["id"])
                if stored is not None:
                    return stored
            moment = now()
            times = {"sortKey": sort_key(created_at, arrival), "createdAt": date_of(created_at)}
            room = self._overflow.room(ids)
            insert = queries.item_insert(
                key, {**item, **times}, arrival=arrival, now=moment, room=room, anew=anew
            )
            if await self._matched(insert):
                self._overflow_ids.setdefault(cache_key, ids)
                return item
            state = await self._state(key, item["id"])
            if state is None:
                return None
            if state.get("items"):
                stored = state["items"][0]
                # An earlier attempt was applied, and its answer was lost.
                return item if stored.get("sortKey") == times["sortKey"] else stored
            if state.get("deletedItems") and not anew:
                return None
            await self._make_room(key, state)
            # The clock of the last writer may be ahead of this one's.
            arrival = max(_arrival(), (stored_count(state, "sequence") or 0) + 1)
        raise contended(key["id"], item["id"])

    async def _replace(self, key: Document, item: Document) -> Document | None:
        """What an item replaced; None where the main document is full or does not hold it."""
        before = await self._threads.find_one_and_update(
            *queries.item_replace(key, item, now()),
            projection={"items": {"$elemMatch": {"id": item["id"]}}},
        )
        return None if before is None else before["items"][0]

    async def _replace_in_overflow(
        self, key: Document, item: Document, state: Mapping[str, Any]
    ) -> bool:
        before = await self._find_in_overflow(key, item["id"], state)
        if before is None:
            return False
        # Overflow documents are never split: updates must not make them too large.
        at_least = min(OVERFLOW_VALUE_BYTES, self._overflow.bounds.value)
        externalized = await self._values.externalize(key, _place(item), item, at_least=at_least)
        replace = queries.item_replace_in_overflow(key, externalized)
        replaced = await self._overflow.update(*replace)
        await self._values.delete_values(before if replaced else externalized)
        return replaced

    async def _delete_in_overflow(self, key: Document, item: Document) -> None:
        """Delete an item of an overflow document; readers skip it from the first command on."""
        if await self._matched(queries.item_tombstone(key, item, now())):
            await self._overflow.update(*queries.item_delete_in_overflow(key, item))

    async def _state(self, key: Document, item_id: str) -> Document | None:
        """Why a write to an item did not match; None when its thread was deleted.

        Raises:
            MissingError: there is no such thread.
        """
        stored: Document | None = await self._threads.find_one(
            {"_id": key}, queries.item_state_projection(item_id)
        )
        if stored is None:
            raise MissingError(f"Thread {key['id']} not found")
        if "deletedAt" in stored:
            self._dropped.log(key["id"], item_id)
            return None
        if is_listing_damaged(stored):
            raise damaged_listing(key["id"])
        self._overflow_ids[tuple(key.values())] = listed_overflow(stored)
        return stored

    async def _make_room(self, key: Document, state: Mapping[str, Any]) -> None:
        if (size := stored_count(state)) is None:
            await self._overflow.begin_to_count(key)
        if (size or 0) >= self._overflow.bounds.of(listed_overflow(state)):
            await self._overflow.make_room(key)
            stored = await self._threads.find_one({"_id": key}, {"overflowIds": 1}) or {}
            self._overflow_ids[tuple(key.values())] = listed_overflow(stored)

    async def _is_same(self, stored: Document, item: Document) -> bool:
        """Whether what is stored is the very item; a file that is missing was replaced."""
        return (
            await self._values.resolve([stored], complete=True)
            and stored.get("rawJson") == item.get("rawJson")
            and await converted(to_bson, stored["item"]) == item["item"]
        )

    async def _expire_tombstones(self, key: Document, stored: Mapping[str, Any]) -> None:
        """Remove the tombstones that are older than any page, the oldest of which is at hand."""
        before = now() - timedelta(seconds=TOMBSTONE_SECONDS)
        if any_before(stored, "deletedItems", before):
            await self._threads.update_one(*queries.item_tombstones_expire(key, before))

    async def _matched(self, update: Update) -> bool:
        result = await self._threads.update_one(*update)
        return bool(result.matched_count)


def _place(item: Document) -> str:
    """Where in its thread an item is, for the object keys of its large values."""
    return f"items/{item['id']}"


def _created(stored: Document) -> str:
    """A stored item's ``created_at``, to the microsecond."""
    return str(stored.get("sortKey")).partition(" ")[0]


def _arrival() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
