"""The main documents of threads with their overflow, which steps, feedback and elements share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from cachetools import LRUCache
from pymongo.errors import DuplicateKeyError, OperationFailure

from mongo_datalayer.chainlit import queries, updates
from mongo_datalayer.chainlit.thread_contents import (
    drop_damaged,
    drop_deleted,
    maps,
    object_keys,
)
from mongo_datalayer.config import RUN_DOCTOR, TOMBSTONE_SECONDS
from mongo_datalayer.model.documents import OVERFLOW, THREADS, Document
from mongo_datalayer.model.stored_lists import (
    any_before,
    is_listing_damaged,
    items,
    listed_overflow,
    stored_count,
)
from mongo_datalayer.model.times import milliseconds, now
from mongo_datalayer.mongodb.client import Database, is_mongomock, open_collection
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.mongodb.unsupported import Fallback
from mongo_datalayer.mongodb.update import Update
from mongo_datalayer.storage.contention import (
    READ_ATTEMPTS,
    Attempts,
    DroppedWrites,
    damaged_listing,
    incomplete,
)
from mongo_datalayer.storage.large_values import LargeValues
from mongo_datalayer.storage.overflow import UNBOUNDED, Bounds, Overflow
from mongo_datalayer.storage.overflow_ids import entry_bytes

logger = get_logger(__name__)

REMEMBERED_BYTES = 16 * 1024 * 1024
"""How much memory the lengths of threads and the ids of their overflow documents take."""

OVERFLOW_VALUE_BYTES = 8 * 1024
"""Values of this size in an overflow document go to GridFS: nothing moves out of it any more."""

NO_OWNER: Mapping[str, str] = {}

LEFT_BEHIND: Mapping[str, int] = {"elements.objectKey": 1, "overflow": 1, "deletedAt": 1}
"""What a deletion has to know of the thread that it replaces by a tombstone."""

# The server's codes for an update that would make a document larger than 16 MB.
_TOO_LARGE = frozenset({10334, 17419, 17420})

_REMEMBERED: Mapping[str, int] = {"overflowIds": 1, "overflow": 1, "stepless": 1}

# After so many attempts a missing file is no race any more, and the rest is returned without it.
_COMPLETE_ATTEMPTS = 3

# No equality: an upsert would store it.
_SHORT: Document = {"overflow": {"$exists": False}}


class ThreadState(NamedTuple):
    """Why a write for a step did not match.

    Attributes:
        step: The step, where the main document holds it.
        feedback: Feedback that waits for the step.
        waiting: All feedback that waits.
        overflow_ids: The thread's overflow documents.
        deleted: The thread or the step was deleted, or an older thread to which the step belongs.
        is_made: There is a thread, and not only feedback that waits for it.
        full: The main document has no room.
        counted: The main document's bytes are counted.
    """

    step: Document | None = None
    feedback: Document | None = None
    waiting: tuple[Document, ...] = ()
    overflow_ids: tuple[str, ...] = ()
    deleted: bool = False
    is_made: bool = False
    full: bool = False
    counted: bool = True


class ThreadDocuments:
    """The documents of threads, and what is remembered about them.

    Args:
        database: The database.
        bounds: How much one document holds.

    Attributes:
        collection: The main documents.
        overflow: The overflow documents.
        values: Values too large for either.
        joins: Whether the database can join collections; mongomock cannot.
        fallback: For queries that join collections, where the server refuses that.
        by_id: Options for a command with an ``_id`` in its filter.
        dropped: The log of writes that came too late.
    """

    def __init__(self, database: Database, *, bounds: Bounds | None = None) -> None:
        mocked = is_mongomock(database)
        self.collection = open_collection(database, THREADS)
        overflow = open_collection(database, OVERFLOW)
        self.overflow = Overflow(
            self.collection,
            overflow,
            ("steps", "elements"),
            bounds=UNBOUNDED if mocked else bounds,
        )
        self.values = LargeValues(database, overflow, at_least=self.overflow.bounds.value)
        self.joins = not mocked
        self.fallback = Fallback()
        # Without it the server plans each new shape of a guard anew, weighing other indexes.
        self.by_id: dict[str, Any] = {} if mocked else {"hint": "_id_"}
        self.dropped = DroppedWrites()
        self.overflow_value_bytes = min(OVERFLOW_VALUE_BYTES, self.overflow.bounds.value)
        self._lengths: LRUCache[str, _Length] = LRUCache(
            REMEMBERED_BYTES, getsizeof=lambda length: entry_bytes(length.overflow_ids)
        )

    # Reading ----------------------------------------------------------------------------------

    async def get(self, thread_id: str, *, strict: bool = False) -> Document | None:
        """The whole thread; None when it does not exist or was deleted.

        One command; one more for a long thread, and those for its large values. What is damaged is
        left out, and the log names it. A thread that lost overflow documents is marked
        ``incomplete``.

        Args:
            thread_id: The thread.
            strict: Refuse a damaged thread.

        Raises:
            StorageError: the thread is damaged, and ``strict`` is set.
        """
        stored: Document | None = None
        async for attempt in Attempts(READ_ATTEMPTS):
            stored = await self.collection.find_one({"_id": thread_id})
            if stored is None or "deletedAt" in stored:
                return None
            self.remember(thread_id, stored)
            complete = strict or attempt < _COMPLETE_ATTEMPTS
            whole = await self.whole(stored, complete=complete, strict=strict)
            if whole is not None:
                return whole
        if strict:
            raise incomplete(thread_id)
        logger.warning("The thread %r lost overflow documents. %s", thread_id, RUN_DOCTOR)
        whole = await self.whole(cast("Document", stored), partial=True)
        return {**cast("Document", whole), "incomplete": True}

    async def whole(
        self,
        stored: Document,
        *,
        complete: bool = False,
        partial: bool = False,
        strict: bool = False,
    ) -> Document | None:
        """The whole thread of a main document; None when that should be read again.

        Args:
            stored: The main document.
            complete: Return None also when a large value is missing.
            partial: Return what there is where an overflow document is missing.
            strict: Refuse a thread with damaged items.
        """
        stored.pop("searchSegment", None)
        if "overflow" not in stored:
            stored.pop("bytes", None)
            _drop_damaged(stored, strict=strict)
            return stored
        whole = await self.overflow.whole(stored, partial=partial)
        if whole is None:
            return None
        _drop_damaged(whole, strict=strict)
        drop_deleted(whole)
        resolved = await self.values.resolve(maps([whole]), complete=complete)
        return whole if resolved else None

    async def state(
        self,
        thread_id: str,
        step_id: str,
        element_id: str | None = None,
        created_at: datetime | None = None,
    ) -> ThreadState:
        """Why a write for this step, created at that time, or this element of it did not match."""
        stored = await self.collection.find_one(
            {"_id": thread_id}, queries.thread_state_projection(step_id, element_id)
        )
        if stored is None:
            return ThreadState()
        earlier = stored.get("previousDeletedAt")
        is_older = (
            created_at is not None
            and isinstance(earlier, datetime)
            and milliseconds(created_at) <= milliseconds(earlier)
        )
        is_made = "deletedAt" not in stored
        is_tombstone = not is_made and "pendingFeedback" not in stored
        is_deleted = stored.get("deletedSteps") or stored.get("deletedElements")
        if is_tombstone or is_deleted or is_older:
            return ThreadState(deleted=True)
        overflow_ids = self.remember(thread_id, stored)
        if is_listing_damaged(stored):
            raise damaged_listing(thread_id)
        waiting = tuple(items(stored, "pendingFeedback", ()))
        size = stored_count(stored)
        return ThreadState(
            step=next(iter(items(stored, "steps")), None),
            feedback=next((f for f in waiting if f.get("forId") == step_id), None),
            waiting=waiting,
            overflow_ids=overflow_ids,
            is_made=is_made,
            full=(size or 0) >= self.overflow.bounds.of(overflow_ids),
            counted=size is not None,
        )

    # Memory -----------------------------------------------------------------------------------

    def overflow_ids(self, thread_id: str) -> Sequence[str] | None:
        """The overflow documents that the thread had when last seen; None when never seen."""
        length = self._lengths.get(thread_id)
        return None if length is None else length.overflow_ids

    def is_long(self, thread_id: str) -> bool:
        """Whether the thread had overflow or large values when last seen."""
        length = self._lengths.get(thread_id)
        return length is not None and (length.is_long or bool(length.overflow_ids))

    def is_stepless(self, thread_id: str) -> bool:
        """Whether the thread had no step yet when last seen."""
        length = self._lengths.get(thread_id)
        return length is not None and length.is_stepless

    def may_be_in_overflow(self, thread_id: str, item_id: str) -> bool | None:
        """Whether an overflow document may hold the item, and not the main one; None if unknown."""
        overflow_ids = self.overflow_ids(thread_id)
        if not overflow_ids:
            return None if overflow_ids is None else False
        return self.overflow.may_hold(thread_id, overflow_ids, item_id)

    def remember(self, thread_id: str, main: Mapping[str, Any]) -> tuple[str, ...]:
        """Remember what a main document says of the thread's length; returns its overflow ids."""
        overflow_ids = listed_overflow(main) if "overflowIds" in main else ()
        self._learn(thread_id, _Length(overflow_ids, "overflow" in main, "stepless" in main))
        return overflow_ids

    async def read_overflow_ids(self, thread_id: str) -> Sequence[str]:
        """The overflow documents that the thread has now. One command."""
        stored = await self.collection.find_one({"_id": thread_id}, dict(_REMEMBERED))
        return self.remember(thread_id, stored or {})

    # Writing ----------------------------------------------------------------------------------

    async def update(self, update: Update, *, upsert: bool = False) -> bool:
        """Update a main document, or insert one with ``upsert``; False when the guard failed."""
        try:
            result = await self.collection.update_one(*update, upsert=upsert, **self.by_id)
        except DuplicateKeyError:
            return False
        except OperationFailure as exc:
            await self._shrink(update.filter["_id"], exc)
            return False
        if result.upserted_id is not None:
            self._remember_inserted(update)
        return upsert or bool(result.matched_count)

    async def append(self, update: Update) -> bool:
        """Append to a main document, or insert one; False when the guard failed."""
        done = await self.update(update, upsert=True)
        thread_id = update.filter["_id"]
        if done:
            # The guard pinned the overflow ids, so those remembered are right.
            length = self._lengths.get(thread_id, _Length())
            has_step = "stepless" in update.update.get("$unset", ())
            marked = "overflow" in update.update.get("$set", ())
            is_long, is_stepless = length.is_long or marked, length.is_stepless and not has_step
            self._learn(thread_id, _Length(length.overflow_ids, is_long, is_stepless))
        return done

    async def find_and_update(
        self, update: Update, projection: Mapping[str, Any], *, upsert: bool = False
    ) -> Document | None:
        """Update a main document and return what it had before, for its large values. One command.

        Args:
            update: The update.
            projection: What the update replaces.
            upsert: Insert a thread where there is none.

        Returns:
            What was there; empty where it can have no large values. None when the guard failed, or
            the thread is longer than remembered.
        """
        thread_id = update.filter["_id"]
        length = self._lengths.get(thread_id)
        marked = "overflow" in update.update.get("$set", ())
        if length is not None and marked:
            self._lengths[thread_id] = length._replace(is_long=True)
        elif length is not None and not length.is_long:
            # An update_one is quicker than reading what it replaces.
            guarded = Update({**update.filter, **_SHORT}, update.update)
            return {} if await self.update(guarded, upsert=upsert) else None
        marks = _REMEMBERED if length is None else {}
        try:
            before = await self.collection.find_one_and_update(
                *update, projection={"_id": 1, **marks, **projection}, upsert=upsert, **self.by_id
            )
        except DuplicateKeyError:
            return None
        except OperationFailure as exc:
            await self._shrink(thread_id, exc)
            return None
        if before is None and upsert:
            self._remember_inserted(update)
            return {}
        if before is not None and length is None:
            self.remember(thread_id, {**before, **update.update.get("$set", {})})
        return before

    async def update_item(
        self,
        thread_id: str,
        item_id: str,
        in_main: Callable[[], Awaitable[bool]],
        in_overflow: Callable[[Sequence[str]], Awaitable[bool]],
    ) -> Sequence[str] | None:
        """Update an item in the document that holds it. Ordinarily one command.

        Returns:
            None when it was updated; else the thread's overflow documents, none of which holds it.
        """
        overflow_ids = self.overflow_ids(thread_id)
        may_be_in_overflow = self.may_be_in_overflow(thread_id, item_id)
        if may_be_in_overflow and await in_overflow(overflow_ids or ()):
            return None
        if await in_main():
            return None
        if overflow_ids is None:  # never seen: an append without them would fail
            overflow_ids = (await self.state(thread_id, item_id)).overflow_ids
        if may_be_in_overflow is None and overflow_ids and await in_overflow(overflow_ids):
            return None
        return overflow_ids

    async def make_room(
        self, thread_id: str, state: ThreadState, owner: Mapping[str, str] = NO_OWNER
    ) -> None:
        """Remove what made a write fail: a full document, bytes not counted, or a placeholder."""
        if not state.is_made:
            await self.update(updates.placeholder_fill(thread_id, now(), owner=owner))
            self.remember(thread_id, updates.STEPLESS)
            return
        if not state.counted:
            await self.overflow.begin_to_count(thread_id)
        if state.full:
            await self.overflow.make_room(thread_id)
            await self.read_overflow_ids(thread_id)

    async def restart(
        self, thread_id: str, moment: datetime, values: Mapping[str, Any] = NO_OWNER
    ) -> bool:
        """Begin a new thread under an id that was deleted before ``moment``.

        Returns:
            False when there is no tombstone from before ``moment``.
        """
        restart = updates.thread_restart(thread_id, moment, now(), values=values)
        tombstone = await self.collection.find_one(restart.filter)
        if tombstone is None:
            return False
        # The deletion may have been interrupted. What it left must not come back.
        await self.delete_overflow(thread_id, tombstone)
        self.remember(thread_id, updates.STEPLESS)
        await self.update(restart)  # or another process was quicker
        return True

    async def expire_tombstones(self, main: Document, list_name: str, moment: datetime) -> None:
        """Remove those of ``list_name`` that are older than any late write at ``moment``."""
        expired = moment - timedelta(seconds=TOMBSTONE_SECONDS)
        if any_before(main, list_name, expired):
            pull = {"$pull": {list_name: {"at": {"$lt": expired}}}}
            await self.collection.update_one({"_id": main["_id"]}, pull)

    async def delete_overflow(self, thread_id: str, before: Mapping[str, Any]) -> list[str]:
        """Delete the overflow and the large values of a deleted thread.

        Args:
            thread_id: The thread.
            before: What it had of :data:`LEFT_BEHIND`.

        Returns:
            The object keys of its elements' files.
        """
        keys = object_keys(before.get("elements"))
        # A repeated deletion finds a tombstone, which does not tell whether there was overflow.
        if before.get("overflow") or "deletedAt" in before:
            async for stored in self.overflow.scan([thread_id], ("elements.objectKey",)):
                keys += object_keys(stored.get("elements"))
            await self.overflow.delete([thread_id])
            await self.values.delete(thread_id)
        return keys

    def _learn(self, thread_id: str, length: _Length) -> None:
        if self._lengths.get(thread_id) != length:
            self._lengths[thread_id] = length

    def _remember_inserted(self, update: Update) -> None:
        inserted = {**update.update.get("$setOnInsert", {}), **update.update.get("$set", {})}
        self.remember(update.filter["_id"], inserted)

    async def _shrink(self, thread_id: str, error: OperationFailure) -> None:
        if error.code not in _TOO_LARGE:
            raise error
        await self.overflow.make_room(thread_id)


class _Length(NamedTuple):
    """A thread's overflow documents, whether it may have large values, and if it has a step yet."""

    overflow_ids: tuple[str, ...] = ()
    is_long: bool = False
    is_stepless: bool = False


def _drop_damaged(whole: Document, *, strict: bool) -> None:
    damaged = drop_damaged(whole)
    if damaged and strict:
        raise incomplete(whole["_id"])
    if damaged:
        items = ", ".join(damaged)
        logger.warning("Damaged in the thread %r, and left out: %s", whole["_id"], items)
