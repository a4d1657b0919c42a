"""The collection of ChatKit's threads: the only code that talks to it.

One document holds one thread of one owner with its items, and every write is one atomic update of
it, guarded so that it can be repeated. The ordinary case of each operation is one command; only
where the guard says no the document is read to find out why.

Old items of a long thread are in parts (:mod:`mongo_datalayer.overflow`), very large ones in
GridFS. Nobody above this module knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from pymongo.errors import DuplicateKeyError

from mongo_datalayer.chatkit import statements
from mongo_datalayer.chatkit.archive import thread_overflow
from mongo_datalayer.chatkit.errors import AlreadyExistsError, MissingError
from mongo_datalayer.chatkit.large_items import LargeItems
from mongo_datalayer.chatkit.pages import ItemPages
from mongo_datalayer.chatkit.payloads import date_of, place
from mongo_datalayer.documents import CHATKIT_OVERFLOW, CHATKIT_THREADS, Document, is_reference
from mongo_datalayer.driver import Database, aggregate, open_collection
from mongo_datalayer.errors import MongoDataLayerError, NotFoundError, StorageError
from mongo_datalayer.indexes import TOMBSTONE_SECONDS
from mongo_datalayer.pipelines import Statement
from mongo_datalayer.recent import Recent
from mongo_datalayer.values import plain

logger = logging.getLogger(__name__)

ATTEMPTS = 25
"""How often a write is tried while other writers change the same thread in between."""

READS = 5
"""How often items are read whose large values are replaced meanwhile."""

PART_VALUE_BYTES = 16 * 1024
"""From this size on an item of a part goes to GridFS: updates must not make the part too large."""

REMEMBERED_THREADS = 10_000
"""Of how many threads the parts are remembered."""


class ChatKitThreads:
    """ChatKit's threads of one database, one document each.

    A thread is named by its key, owner and id (:func:`~mongo_datalayer.chatkit.statements.owned`).

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._threads = open_collection(database, CHATKIT_THREADS)
        self._stored_parts = open_collection(database, CHATKIT_OVERFLOW)
        self._overflow = thread_overflow(self._threads, self._stored_parts)
        self._pages = ItemPages(self._threads, self._stored_parts)
        self._large = LargeItems(database)
        self._parts: Recent[tuple[str, str], tuple[str, ...]] = Recent(REMEMBERED_THREADS)

    # Threads ----------------------------------------------------------------------------------

    async def get(self, key: Document) -> Document | None:
        """The stored thread without items; None when there is none or it was deleted."""
        stored: Document | None = await self._threads.find_one(
            statements.there(key), {"thread": 1, "exact": 1}
        )
        return stored

    async def put(self, key: Document, thread: Document, created_at: datetime) -> bool:
        """Set a thread's own fields, or make it; False when it was deleted. One command."""
        now = _now()
        statement = statements.thread_put(
            key,
            thread,
            order=f"{place(created_at, _arrival())} {key['id']}",
            created_at=date_of(created_at),
            now=now,
        )
        for _ in range(ATTEMPTS):
            try:
                await self._threads.update_one(*statement, upsert=True)
            except DuplicateKeyError:
                # Another process may just have made the thread.
                if await self._threads.find_one({"_id": key, "deletedAt": {"$exists": True}}):
                    logger.info("The thread %s was deleted; a late write is dropped.", key["id"])
                    return False
            else:
                return True
        raise _contended(key, key["id"])

    async def page(
        self, owner: str, *, after: str | None, limit: int, descending: bool
    ) -> list[Document] | None:
        """An owner's threads by their place; None when ``after`` never was one. One command."""
        pipeline = statements.threads_page_pipeline(
            owner, after=after, limit=limit, descending=descending
        )
        found = await aggregate(self._threads, pipeline)
        if after is None:
            return found
        return [row["page"] for row in found if "page" in row] if found else None

    async def delete(self, key: Document) -> None:
        """Replace a thread by its tombstone, which knows its place in lists. Two commands.

        A thread with overflow takes more: repeated, it deletes what an earlier try has left.
        """
        fields = {"order": 1, "overflow": 1, "deletedAt": 1}
        stored = await self._threads.find_one({"_id": key}, fields)
        if stored is None:
            return
        if "deletedAt" not in stored:
            tombstone = {"order": stored["order"], "deletedAt": _now()}
            await self._threads.replace_one(statements.there(key), tombstone)
        await self._overflow.delete([key])
        await self._large.delete_thread(key)

    # Items ------------------------------------------------------------------------------------

    async def get_item(self, key: Document, item_id: str) -> Document | None:
        """One stored item. One command, more where the head does not hold it."""
        for _ in range(READS):
            item = await self._find(key, item_id)
            try:
                return None if item is None else (await self._large.put_back([item]))[0]
            except NotFoundError as exc:
                missing = exc  # replaced between the two reads
        raise _damaged(key) from missing

    async def items_page(
        self, key: Document, *, after: str | None, limit: int, descending: bool
    ) -> list[Document]:
        """A page of a thread's items by their place; none of a thread that is not there.

        One command; more for a thread with overflow.

        Raises:
            MissingError: ``after`` never was an item of the thread.
        """
        for _ in range(READS):
            items = await self._pages.read(key, after=after, limit=limit, descending=descending)
            try:
                return await self._large.put_back(items)
            except NotFoundError as exc:
                missing = exc
        raise _damaged(key) from missing

    async def add_item(
        self, key: Document, item: Document, created_at: datetime, *, lenient: bool = False
    ) -> None:
        """Append an item. One command; one more to be sure of the parts of a long thread.

        An item that is there is left as it is: the very same one is no error, so that the call can
        be repeated. A thread that was deleted takes no more items.

        Args:
            key: The thread.
            item: The item.
            created_at: Its time.
            lenient: Another one with the id is no error either.

        Raises:
            MissingError: there is no such thread.
            AlreadyExistsError: something else is stored under the item's id.
        """
        taken = await self._large.take_out(key, item, self._overflow.bounds.value)
        before = await self._appended(key, taken, created_at)
        if before is taken:
            return
        await self._large.discard(taken)
        if before is not None and not lenient and not _same(before, taken):
            raise AlreadyExistsError(
                f"Another item {item['id']!r} is stored in thread {key['id']!r}."
            )

    async def put_item(self, key: Document, item: Document, created_at: datetime) -> None:
        """Put an item in the place of the one with its id, or append it.

        One command for an item that the head holds. An item or thread that was deleted stays
        deleted.

        Raises:
            MissingError: there is no such thread.
        """
        taken = await self._large.take_out(key, item, self._overflow.bounds.value)
        for _ in range(ATTEMPTS):
            before = await self._replaced(key, taken)
            if before is not None:
                return await self._large.discard(before)
            state = await self._state(key, item["id"])
            if state is None:
                return await self._large.discard(taken)
            if state.get("items"):  # too full, or appended just now
                await self._make_room(key, state)
                continue
            if await self._replaced_in_part(key, item, state):
                return await self._large.discard(taken)
            if state.get("deletedItems"):
                logger.info("The item %s was deleted; a late write is dropped.", item["id"])
                return await self._large.discard(taken)
            before = await self._appended(key, taken, created_at, anew=False)
            if before is taken:
                return None
        raise _contended(key, item["id"])

    async def delete_item(self, key: Document, item_id: str) -> None:
        """Remove an item and remember its place, for pages that ended with it. Two commands.

        One more where a part holds it, and those for a value in GridFS.
        """
        fields = {
            "items": {"$elemMatch": {"id": item_id}},
            "deletedItems": {"$slice": 1},
            "parts": 1,
        }
        for _ in range(ATTEMPTS):
            stored = await self._threads.find_one(statements.there(key), fields)
            if stored is None:
                return
            item = next(iter(stored.get("items") or ()), None)
            if item is None:
                item = await self._overflow.find(key, stored.get("parts") or (), "items", item_id)
                deleted = item is None or await self._deleted_in_part(key, item)
            else:
                deleted = await self._matched(
                    statements.item_delete(key, item_id, item["order"], _now())
                )
            if deleted:
                await self._large.discard(item)
                await self._forget_deleted(key, stored)
                return
        raise _contended(key, item_id)

    async def put_feedback(self, key: Document, item_id: str, kind: str) -> bool:
        """Put feedback on an item, in place of what was there; False when it is not there."""
        if await self._matched(statements.feedback_put(key, item_id, kind, _now())):
            return True
        if self._known_parts(key) == () or await self._find(key, item_id) is None:
            return False
        given = statements.feedback_put_in_part(key, item_id, kind, _now())
        return await self._overflow.update(*given)

    # Inside -----------------------------------------------------------------------------------

    async def _find(self, key: Document, item_id: str) -> Document | None:
        """An item of the head or of a part, as it is stored."""
        fields = {
            "parts": 1,
            "items": {"$elemMatch": {"id": item_id}},
            "deletedItems": {"$elemMatch": {"id": item_id}},
        }
        stored = await self._threads.find_one(statements.there(key), fields)
        if stored is None:
            return None
        if stored.get("items"):
            item: Document = stored["items"][0]
            return item
        return await self._not_deleted_in_parts(key, item_id, stored)

    async def _not_deleted_in_parts(
        self, key: Document, item_id: str, head: Mapping[str, Any]
    ) -> Document | None:
        """An item that a listed part holds; a deletion that was interrupted is finished."""
        item = await self._overflow.find(key, head.get("parts") or (), "items", item_id)
        gone = [deleted["order"] for deleted in head.get("deletedItems") or ()]
        if item is not None and item["order"] in gone:
            delete = statements.item_delete_in_part(key, item_id, item["order"])
            await self._overflow.update(*delete)
            return None
        return item

    async def _appended(
        self, key: Document, item: Document, created_at: datetime, *, anew: bool = True
    ) -> Document | None:
        """The very ``item`` when it is appended; what has its id; None in a deleted thread.

        None also, unless it may be added ``anew``, where the item was deleted.

        Raises:
            MissingError: there is no such thread.
        """
        arrival = _arrival()
        for _ in range(ATTEMPTS):
            parts = self._known_parts(key) or ()
            held = await self._overflow.find(key, parts, "items", item["id"], new=True)
            if held is not None:
                before = await self._find(key, item["id"])
                if before is not None:
                    return before
            placed = {**item, "order": place(created_at, arrival), "createdAt": date_of(created_at)}
            room = self._overflow.room(parts)
            insert = statements.item_insert(
                key, placed, arrival=arrival, now=_now(), room=room, anew=anew
            )
            if await self._matched(insert):
                self._parts.put(_name(key), parts)
                return item
            state = await self._state(key, item["id"])
            if state is None:
                return None
            if state.get("items"):
                before = state["items"][0]
                return item if before["order"] == placed["order"] else before
            if state.get("deletedItems") and not anew:
                return None
            await self._make_room(key, state)
            arrival = max(_arrival(), state["sequence"] + 1)
        raise _contended(key, item["id"])

    async def _replaced(self, key: Document, item: Document) -> Document | None:
        """What an item replaced in the head; None when that does not hold it, or is too full."""
        fields = {name: value for name, value in item.items() if name != "id"}
        before = await self._threads.find_one_and_update(
            *statements.item_replace(key, item["id"], fields, _now()),
            projection={"items": {"$elemMatch": {"id": item["id"]}}},
        )
        return None if before is None else before["items"][0]

    async def _replaced_in_part(
        self, key: Document, item: Document, state: Mapping[str, Any]
    ) -> bool:
        before = await self._not_deleted_in_parts(key, item["id"], state)
        if before is None:
            return False
        at_least = min(PART_VALUE_BYTES, self._overflow.bounds.value)
        taken = await self._large.take_out(key, item, at_least)
        fields = {name: value for name, value in taken.items() if name != "id"}
        replace = statements.item_replace_in_part(key, item["id"], fields)
        done = await self._overflow.update(*replace)
        await self._large.discard(before if done else taken)
        return done

    async def _deleted_in_part(self, key: Document, item: Document) -> bool:
        """Whether an item of a part was deleted; for readers it is from the first command on."""
        now = _now()
        if not await self._matched(statements.item_forget(key, item["id"], item["order"], now)):
            return True  # the whole thread was deleted
        await self._overflow.update(*statements.item_delete_in_part(key, item["id"], item["order"]))
        return True

    async def _state(self, key: Document, item_id: str) -> Document | None:
        """Why a write to an item did not match; None when its thread was deleted.

        Raises:
            MissingError: there is no such thread.
        """
        stored: Document | None = await self._threads.find_one(
            {"_id": key}, statements.item_state_projection(item_id)
        )
        if stored is None:
            raise missing_thread(key)
        if "deletedAt" in stored:
            logger.info("The thread %s was deleted; a late write is dropped.", key["id"])
            return None
        self._parts.put(_name(key), tuple(stored.get("parts") or ()))
        return stored

    async def _make_room(self, key: Document, state: Mapping[str, Any]) -> None:
        if state.get("bytes") is None:
            await self._overflow.begin_to_count(key)
        if (state.get("bytes") or 0) >= self._overflow.bounds.of(state.get("parts") or ()):
            await self._overflow.make_room(key)
            head = await self._threads.find_one({"_id": key}, {"parts": 1})
            self._parts.put(_name(key), tuple((head or {}).get("parts") or ()))

    def _known_parts(self, key: Document) -> tuple[str, ...] | None:
        return self._parts.get(_name(key))

    async def _forget_deleted(self, key: Document, stored: Mapping[str, Any]) -> None:
        """Drop memories of deleted items that are older than any page."""
        expired = _now() - timedelta(seconds=TOMBSTONE_SECONDS)
        if any(item["at"] < expired for item in stored.get("deletedItems") or ()):
            await self._threads.update_one(*statements.deleted_items_expire(key, expired))

    async def _matched(self, statement: Statement) -> bool:
        result = await self._threads.update_one(*statement)
        return bool(result.matched_count)


def missing_thread(key: Document) -> MissingError:
    """What says that an owner has no such thread."""
    return MissingError(f"Thread {key['id']} not found")


def _same(before: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Whether what is stored is the very item."""
    if is_reference(item["item"]):
        return bool(before["item"].get("sha256") == item["item"]["sha256"])
    return bool(
        before.get("exact") == item.get("exact") and plain(before.get("item")) == item["item"]
    )


def _contended(key: Document, name: str) -> MongoDataLayerError:
    return MongoDataLayerError(
        f"{name!r} in thread {key['id']!r} could not be written: other writers changed the thread "
        f"each of {ATTEMPTS} times."
    )


def _damaged(key: Document) -> StorageError:
    return StorageError(f"A large item of the thread {key['id']!r} is missing in GridFS.")


def _name(key: Document) -> tuple[str, str]:
    return (key["owner"], key["id"])


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _arrival() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
