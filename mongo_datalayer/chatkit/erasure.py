"""Erases an owner of ChatKit's threads and attachments.

Everything of an owner is found by the owner's id alone: in the keys of threads, parts and
attachments, and in the object keys of files. So the documents go first, replaced by tombstones that
late writes do not get past, and what belongs to them after. The tombstones name the owner: they go
last. An erasure that was interrupted is completed by another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mongo_datalayer.chatkit.archive import (
    ChatKitAttachmentArchive,
    ChatKitThreadArchive,
    of_owner,
)
from mongo_datalayer.chatkit.keys import (
    attachments_folder,
    holds_attachment,
    holds_item,
    items_folder,
    object_key,
)
from mongo_datalayer.driver import Database
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile

BATCH = 1000


@dataclass
class OwnerBelongings:
    """How much there is of an owner.

    Attributes:
        threads: Threads.
        items: Their items.
        feedback: Items with feedback.
        attachments: Attachments, also those of no thread.
        files: Their files.
        size: Bytes of these files.
        large_items: Items too large for a document.
        large_item_bytes: Their bytes.
        parts: Documents with older items of long threads.
        deleted: What is left of deleted threads and attachments.
    """

    threads: int = 0
    items: int = 0
    feedback: int = 0
    attachments: int = 0
    files: int = 0
    size: int = 0
    large_items: int = 0
    large_item_bytes: int = 0
    parts: int = 0
    deleted: int = 0


@dataclass
class OwnerErased:
    """What was removed: how many documents, and the files by revision."""

    threads: int = 0
    attachments: int = 0
    file_ids: list[str] = field(default_factory=list)
    item_file_ids: list[str] = field(default_factory=list)


class OwnerErasure:
    """Everything of one owner in ChatKit's collections.

    Args:
        database: The database.
        bucket: The GridFS bucket of the attachments' files.
        values: The bucket of large items.
        owner: The owner's id.
    """

    def __init__(
        self, database: Database, bucket: FileBucket, values: FileBucket, owner: str
    ) -> None:
        self._threads = ChatKitThreadArchive(database)
        self._attachments = ChatKitAttachmentArchive(database, bucket)
        self._bucket = bucket
        self._values = values
        self._owner = owner

    async def count(self) -> OwnerBelongings:
        """How much there is; changes nothing. Reads all threads of the owner once."""
        found = OwnerBelongings()
        condition = of_owner(self._owner)
        fields = ("items.id", "items.feedback.kind", "parts")
        async for head in self._threads.scan_heads(condition, fields):
            found.threads += 1
            await self._count_items(head, found)
        found.attachments = await _count(self._attachments.scan(condition, ("threadId",)))
        found.parts = await _count(self._threads.owners_parts(self._owner, ()))
        for archive in (self._threads, self._attachments):
            found.deleted += await _count(archive.deleted_keys(condition))
        async for file in self.files():
            found.files += 1
            found.size += file.size
        async for file in self.item_files():
            found.large_items += 1
            found.large_item_bytes += file.size
        return found

    async def erase(self, on_thread: Callable[[], object]) -> OwnerErased:
        """Remove everything; ``on_thread`` is called after each thread.

        May be interrupted at any moment and repeated: what is left is found again.
        """
        erased = OwnerErased()
        condition = of_owner(self._owner)
        async for head in self._threads.scan_heads(condition, ("order",)):
            erased.threads += await self._threads.expire(head, {})
            on_thread()
        async for attachment in self._attachments.scan(condition, ("threadId",)):
            erased.attachments += await self._attachments.expire(attachment["_id"])
        await self._threads.delete_owners_parts(self._owner)
        erased.file_ids = [file.file_id async for file in self.files()]
        await self._bucket.erase(erased.file_ids)
        erased.item_file_ids = [file.file_id async for file in self.item_files()]
        await self._values.erase(erased.item_file_ids)
        await self._threads.forget_owner(self._owner)
        await self._attachments.forget_owner(self._owner)
        return erased

    async def files(self) -> AsyncIterator[StoredFile]:
        """The files of the owner's attachments, also where the attachment is gone."""
        async for file in self._bucket.list_folder(attachments_folder(self._owner)):
            if holds_attachment(file):
                yield file

    async def item_files(self) -> AsyncIterator[StoredFile]:
        """The files of the owner's large items, also of those that are gone."""
        async for file in self._values.list_folder(items_folder(self._owner)):
            if holds_item(file):
                yield file

    async def keys_elsewhere(self) -> AsyncIterator[str]:
        """Object keys of attachments whose file came, under which the bucket has none."""
        there = {file.object_key async for file in self.files()}
        condition = {**of_owner(self._owner), "upload.at": {"$exists": True}}
        async for attachment in self._attachments.scan(condition, ("threadId",)):
            key = object_key(attachment["_id"])
            if key not in there:
                yield key

    async def _count_items(self, head: Mapping[str, Any], found: OwnerBelongings) -> None:
        """An item that is in the head and in a copy counts once."""
        items = {item["id"]: item for item in head.get("items") or ()}
        if head.get("parts"):
            fields = ("items.id", "items.feedback.kind")
            async for part in self._threads.scan_parts([head["_id"]], fields):
                items = {item["id"]: item for item in part["items"]} | items
        found.items += len(items)
        found.feedback += sum("feedback" in item for item in items.values())


async def _count(found: AsyncIterator[object]) -> int:
    return sum([1 async for _ in found])
