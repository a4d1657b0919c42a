"""Removes ChatKit's threads with their attachments and files.

A thread is replaced by its tombstone in one guarded command: a thread that is touched in between
stays. What belongs to it goes after it; what an interrupted run left is found through the
tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mongo_datalayer.chatkit.archive import ChatKitAttachmentArchive, ChatKitThreadArchive
from mongo_datalayer.chatkit.keys import holds_attachment, holds_item, object_key, thread_name
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Database, batches
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile

BATCH = 100


@dataclass
class Expired:
    """How much was removed, or would be.

    Attributes:
        threads: Threads.
        attachments: Their attachments.
        files: The files of the attachments.
        size: Their bytes.
        large_items: Items too large for a document.
        large_item_bytes: Their bytes.
        parts: Documents with older items of long threads.
    """

    threads: int = 0
    attachments: int = 0
    files: int = 0
    size: int = 0
    large_items: int = 0
    large_item_bytes: int = 0
    parts: int = 0


class Expiry:
    """ChatKit's threads that are to go.

    Args:
        database: The database.
        bucket: Where the files of attachments are.
        values: Where the large items are.
    """

    def __init__(self, database: Database, bucket: FileBucket, values: FileBucket) -> None:
        self._threads = ChatKitThreadArchive(database)
        self._attachments = ChatKitAttachmentArchive(database, bucket)
        self._bucket = bucket
        self._values = values

    async def count(self, condition: Mapping[str, Any]) -> Expired:
        """How much :meth:`remove` would remove; changes nothing."""
        found = Expired()
        async for batch in batches(self._threads.scan_heads(condition, ("order",)), BATCH):
            keys = [head["_id"] for head in batch]
            found.threads += len(keys)
            async for _ in self._threads.scan_parts(keys, ()):
                found.parts += 1
            attachments = [stored["_id"] async for stored in self._attachments.of_threads(keys)]
            found.attachments += len(attachments)
            _add_files(found, await self._files(attachments))
            _add_items(found, await self._item_files(keys))
        return found

    async def remove(
        self, condition: Mapping[str, Any], on_threads: Callable[[int], object]
    ) -> Expired:
        """Remove the threads that fit; ``on_threads`` is told how many, batch by batch.

        May be interrupted at any moment and repeated.
        """
        removed = Expired()
        async for batch in batches(self._threads.scan_heads(condition, ("order",)), BATCH):
            gone = [head["_id"] for head in batch if await self._threads.expire(head, condition)]
            await self._remove_beside(gone, removed)
            removed.threads += len(gone)
            on_threads(len(gone))
        async for keys in batches(self._threads.deleted_keys(), BATCH):
            await self._remove_beside(keys, removed)
        async for keys in batches(self._attachments.deleted_keys(), BATCH):
            await self._remove_files(keys, removed)
        return removed

    async def _remove_beside(self, keys: list[Document], removed: Expired) -> None:
        """Remove what belongs to threads that are deleted."""
        if not keys:
            return
        removed.parts += await self._threads.delete_parts(keys)
        attachments = [stored["_id"] async for stored in self._attachments.of_threads(keys)]
        for key in attachments:
            removed.attachments += await self._attachments.expire(key)
        await self._remove_files(attachments, removed)
        items = await self._item_files(keys)
        await self._values.erase([file.file_id for file in items])
        _add_items(removed, items)

    async def _remove_files(self, attachments: list[Document], removed: Expired) -> None:
        files = await self._files(attachments)
        await self._bucket.erase([file.file_id for file in files])
        _add_files(removed, files)

    async def _files(self, attachments: Collection[Document]) -> list[StoredFile]:
        found = self._bucket.list_belonging((), map(object_key, attachments))
        return [file async for file in found if holds_attachment(file)]

    async def _item_files(self, keys: Collection[Document]) -> list[StoredFile]:
        found = self._values.list_belonging(map(thread_name, keys))
        return [file async for file in found if holds_item(file)]


def _add_files(total: Expired, files: list[StoredFile]) -> None:
    total.files += len(files)
    total.size += sum(file.size for file in files)


def _add_items(total: Expired, files: list[StoredFile]) -> None:
    total.large_items += len(files)
    total.large_item_bytes += sum(file.size for file in files)
