"""ChatKit's threads and attachments for the people who run the database.

Read one by one, moved, expired, erased. Nothing here knows ChatKit's models, so that it can be used
where ChatKit is not installed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from bson.max_key import MaxKey
from pymongo.errors import DuplicateKeyError

from mongo_datalayer.chatkit import statements
from mongo_datalayer.chatkit.keys import object_key, thread_name
from mongo_datalayer.chatkit.large_items import LargeItems
from mongo_datalayer.documents import (
    CHATKIT_ATTACHMENTS,
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    LONG,
    Document,
    is_reference,
)
from mongo_datalayer.driver import Collection as MongoCollection
from mongo_datalayer.driver import Database, open_collection
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.overflow import Overflow

PAGE = 100
"""How many documents one command of a scan reads."""

READS = 5
"""How often a thread is read whose parts or large items are replaced meanwhile."""

_NOT_DELETED: Document = {"deletedAt": {"$exists": False}}
_DELETED: Document = {"deletedAt": {"$exists": True}}


def of_owner(owner: str, field: str = "_id") -> Document:
    """What an owner has or had, by a field that holds keys; the index on that field finds it."""
    return {field: {"$gte": {"owner": owner}, "$lt": {"owner": owner, "id": MaxKey()}}}


def thread_overflow(heads: MongoCollection, parts: MongoCollection) -> Overflow:
    """The parts of ChatKit's threads."""
    return Overflow(
        heads,
        parts,
        ("items",),
        summary=statements.range_of,
        oldest_first=lambda item: item["order"],
    )


class ChatKitThreadArchive:
    """All of ChatKit's threads of a database, each named by its key, owner and id.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._threads = open_collection(database, CHATKIT_THREADS)
        self._parts = open_collection(database, CHATKIT_OVERFLOW)
        self._overflow = thread_overflow(self._threads, self._parts)
        self._large = LargeItems(database)

    async def scan(
        self, condition: Mapping[str, Any], on_damaged: Callable[[Document], object]
    ) -> AsyncIterator[Document]:
        """Every thread that fits, whole, in the order of keys, deleted ones left out.

        Large items are in it as those that are not. The reader may take its time.

        Args:
            condition: A filter.
            on_damaged: Given the key of a thread that is left out, because a part or a large item
                of it is missing.
        """
        async for head in _pages(self._threads, {**_NOT_DELETED, **condition}, ()):
            try:
                whole = await self._whole(head)
            except StorageError:
                on_damaged(_key(head))
                continue
            if whole is not None:
                yield whole

    async def scan_heads(
        self, condition: Mapping[str, Any], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """The same, but of a long thread only what its head holds: also where parts are missing.

        The reader may delete what it was given.
        """
        async for head in _pages(self._threads, {**_NOT_DELETED, **condition}, fields):
            yield head

    async def scan_parts(
        self, keys: Collection[Document], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """The parts of threads, also those that no head lists; ``thread`` is among the fields."""
        async for part in self._overflow.scan(keys, fields):
            yield part

    async def owners_parts(self, owner: str, fields: Iterable[str]) -> AsyncIterator[Document]:
        """The parts of all threads that an owner has or had."""
        async for part in self._parts.find(
            of_owner(owner, "thread"), dict.fromkeys(("thread", *fields), 1)
        ):
            yield part

    async def deleted_keys(
        self, condition: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Document]:
        """The keys of the deleted threads whose tombstone is still there."""
        async for stored in self._threads.find({**_DELETED, **(condition or {})}, {"_id": 1}):
            yield _key(stored)

    async def there(self, keys: Collection[Document]) -> set[str]:
        """The names of those of the threads that are there; deleted ones are not. One command."""
        heads = self._threads.find({"_id": {"$in": list(keys)}, **_NOT_DELETED}, {"_id": 1})
        return {thread_name(head["_id"]) async for head in heads}

    async def exists(self, key: Document) -> bool:
        """Whether there is a thread with this key, or what is left of a deleted one."""
        return await self._threads.find_one({"_id": key}, {"_id": 1}) is not None

    async def object_keys(self, keys: Collection[Document]) -> set[str]:
        """The object keys of the large items that these threads point to."""
        found: set[str] = set()
        heads = self._threads.find({"_id": {"$in": list(keys)}}, {"items.item.gridfs": 1})
        async for head in heads:
            found.update(_references(head))
        async for part in self._overflow.scan(keys, ("items.item.gridfs",)):
            found.update(_references(part))
        return found

    async def expire(self, head: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
        """Replace a thread by its tombstone if it still fits ``condition``. One command.

        Args:
            head: At least its ``_id`` and ``order``.
            condition: A filter.
        """
        tombstone = {"order": head["order"], "deletedAt": _now()}
        fits = {**_NOT_DELETED, **condition, "_id": head["_id"]}
        return bool((await self._threads.replace_one(fits, tombstone)).matched_count)

    async def delete_parts(self, keys: Collection[Document]) -> int:
        """Delete all parts of threads; returns how many. One command."""
        return await self._overflow.delete(keys)

    async def delete_owners_parts(self, owner: str) -> int:
        """Delete all parts of an owner's threads; returns how many. One command."""
        return int((await self._parts.delete_many(of_owner(owner, "thread"))).deleted_count)

    async def forget_owner(self, owner: str) -> int:
        """Remove the tombstones of an owner's threads, which name the owner. One command."""
        condition = {**of_owner(owner), **_DELETED}
        return int((await self._threads.delete_many(condition)).deleted_count)

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a whole thread as :meth:`scan` gave it. One command, more for a long one.

        Returns:
            False when one with its key is there and ``replace`` is not set; it is left alone.
        """
        key = _key(stored)
        if not replace and await self.exists(key):
            return False
        at_least = self._overflow.bounds.value
        given = stored.get("items") or ()
        items = [await self._large.take_out(key, item, at_least) for item in given]
        long = LONG if any(is_reference(item["item"]) for item in items) else {}
        head = await self._overflow.store({**stored, "_id": key, "items": items} | dict(long))
        if replace:
            await self._threads.replace_one({"_id": key}, head, upsert=True)
            await self._overflow.delete_others(key, head.get("parts") or ())
            await self._large.delete_others(key, items)
            return True
        try:
            await self._threads.insert_one(head)
        except DuplicateKeyError:
            await self._overflow.discard(head.get("parts") or ())
            await self._large.discard(*items)
            return False
        return True

    async def _whole(self, head: Document) -> Document | None:
        """A thread with all its items; None when it was deleted meanwhile.

        Raises:
            StorageError: a part or a large item is missing.
        """
        latest: Document | None = head
        for _ in range(READS):
            if latest is None:
                return None
            whole = await self._overflow.whole(latest)
            try:
                if whole is not None:
                    return await self._completed(whole)
            except NotFoundError:
                pass  # an item was replaced between the two reads
            latest = await self._threads.find_one({"_id": head["_id"], **_NOT_DELETED})
        raise StorageError(f"A part or a large item of the thread {head['_id']!r} is missing.")

    async def _completed(self, whole: Document) -> Document:
        gone = {item["order"] for item in whole.get("deletedItems") or ()}
        items = [item for item in whole.get("items") or () if item["order"] not in gone]
        return {**whole, "items": await self._large.put_in(items)}


class ChatKitAttachmentArchive:
    """All of ChatKit's attachments of a database, each named by its key, owner and id.

    Args:
        database: The database.
        bucket: Where their files are.
    """

    def __init__(self, database: Database, bucket: FileBucket) -> None:
        self._attachments = open_collection(database, CHATKIT_ATTACHMENTS)
        self._bucket = bucket

    async def scan(
        self, condition: Mapping[str, Any], fields: Iterable[str] = ()
    ) -> AsyncIterator[Document]:
        """Every attachment that fits, in the order of keys, deleted ones left out.

        The reader may take its time, and may delete what it was given.

        Args:
            condition: A filter.
            fields: The fields to read besides ``_id``; none reads all.
        """
        async for stored in _pages(self._attachments, {**_NOT_DELETED, **condition}, fields):
            yield stored

    async def of_threads(self, keys: Iterable[Document]) -> AsyncIterator[Document]:
        """The attachments of threads, without their fields. One command for each thread."""
        for key in keys:
            condition = {"_id.owner": key["owner"], "threadId": key["id"], **_NOT_DELETED}
            async for stored in self._attachments.find(condition, {"threadId": 1}):
                yield stored

    async def deleted_keys(
        self, condition: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Document]:
        """The keys of the deleted attachments whose tombstone is still there."""
        async for stored in self._attachments.find({**_DELETED, **(condition or {})}, {"_id": 1}):
            yield _key(stored)

    async def there(self, keys: Collection[Document]) -> set[str]:
        """The object keys of those that are there; deleted ones are not. One command."""
        found = self._attachments.find({"_id": {"$in": list(keys)}, **_NOT_DELETED}, {"_id": 1})
        return {object_key(stored["_id"]) async for stored in found}

    async def exists(self, key: Document) -> bool:
        """Whether there is an attachment with this key, or what is left of a deleted one."""
        return await self._attachments.find_one({"_id": key}, {"_id": 1}) is not None

    async def expire(self, key: Document, condition: Mapping[str, Any] | None = None) -> bool:
        """Replace an attachment by its tombstone if it still fits; its file stays. One command.

        After it no upload is taken any more.
        """
        fits = {**_NOT_DELETED, **(condition or {}), "_id": key}
        replaced = await self._attachments.replace_one(fits, {"deletedAt": _now()})
        return bool(replaced.matched_count)

    async def forget_owner(self, owner: str) -> int:
        """Remove the tombstones of an owner's attachments. One command."""
        condition = {**of_owner(owner), **_DELETED}
        return int((await self._attachments.delete_many(condition)).deleted_count)

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store an attachment as it is, without its file. One command.

        Returns:
            False when one with its key is there and ``replace`` is not set; it is left alone.
        """
        attachment = {**stored, "_id": _key(stored)}
        if replace:
            await self._attachments.replace_one({"_id": attachment["_id"]}, attachment, upsert=True)
            return True
        try:
            await self._attachments.insert_one(attachment)
        except DuplicateKeyError:
            return False
        return True

    async def never_sent(self, before: datetime) -> AsyncIterator[Document]:
        """The keys of attachments announced before, whose file did not come, and of no thread."""
        async for stored in self.scan(_unsent(before), ("upload.objectKey",)):
            # A process that was killed after an upload did not note that the file is there.
            if await self._bucket.find(stored["upload"]["objectKey"]) is None:
                yield _key(stored)

    async def expire_unsent(self, key: Document, before: datetime) -> bool:
        """Replace one of :meth:`never_sent` by its tombstone, unless its file came meanwhile."""
        return await self.expire(key, _unsent(before))


def _unsent(before: datetime) -> Document:
    return {
        "upload": {"$exists": True},
        "upload.at": {"$exists": False},
        "threadId": {"$exists": False},
        "updatedAt": {"$lt": before},
    }


def _key(stored: Mapping[str, Any]) -> Document:
    """The key, in the order of fields that MongoDB compares it by."""
    return statements.owned(stored["_id"]["owner"], stored["_id"]["id"])


def _references(stored: Mapping[str, Any]) -> list[str]:
    payloads = [item.get("item") or {} for item in stored.get("items") or ()]
    return [payload["gridfs"] for payload in payloads if isinstance(payload.get("gridfs"), str)]


async def _pages(
    collection: MongoCollection, condition: Mapping[str, Any], fields: Iterable[str]
) -> AsyncIterator[Document]:
    """What fits, by ``_id``; nothing is held on the server between two pages."""
    projection = dict.fromkeys(("_id", *fields), 1) if (fields := tuple(fields)) else None
    place: Document = {}
    while True:
        found = collection.find({"$and": [dict(condition), place]}, projection)
        page = await found.sort("_id", 1).limit(PAGE).to_list(None)
        for stored in page:
            yield stored
        if len(page) < PAGE:
            return
        place = {"_id": {"$gt": page[-1]["_id"]}}


def _now() -> datetime:
    return datetime.now(timezone.utc)
