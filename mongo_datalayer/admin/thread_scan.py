"""The stored threads of a front, for administration: read whole or in part, and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from mongo_datalayer.admin.stored_documents import StoredDocuments
from mongo_datalayer.errors import StorageError
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.stored_lists import listed_overflow
from mongo_datalayer.mongodb.client import Collection
from mongo_datalayer.storage.overflow import Overflow

BELONGINGS = ("elements.objectKey",)
"""The fields of a thread that tell which files belong to it, besides its ``_id``."""


class ThreadScan(StoredDocuments, ABC):
    """Threads of any length: the main documents are the collection's, the rest is overflow.

    :meth:`scan` reads main documents alone, so it also finds a thread that lost other documents.

    Args:
        collection: The main documents.
        overflow: Their overflow documents.
        own: The filter on this package's main documents; all others are left alone.
        tombstone: The filter on this package's tombstones.
        kept: The fields that a tombstone keeps.
    """

    def __init__(
        self,
        collection: Collection,
        overflow: Overflow,
        own: Mapping[str, Any],
        tombstone: Mapping[str, Any],
        kept: Iterable[str] = (),
    ) -> None:
        super().__init__(collection, own, tombstone, kept)
        self.overflow = overflow

    async def scan_whole(
        self, filter: Mapping[str, Any], on_damaged: Callable[[Any], object]
    ) -> AsyncIterator[Document]:
        """Every thread that matches, with its older items and large values inline.

        A thread that lost an overflow document or a large value is left out, and ``on_damaged``
        told its ``_id``.
        """
        async for main in self.scan(filter, ()):
            thread_id = main["_id"]
            try:
                whole = await self._whole(main)
            except StorageError:
                on_damaged(thread_id)
                continue
            if whole is not None:
                yield whole

    async def scan_with_overflow(
        self, filter: Mapping[str, Any], fields: Iterable[str]
    ) -> AsyncIterator[list[Document]]:
        """Each thread's main document, then its overflow documents, also unlisted ones.

        A step or an item may be in two of them, when a process was killed while it moved it.
        """
        fields = tuple(fields)
        async for main in self.scan(filter, fields):
            overflow = [stored async for stored in self.overflow.scan([main["_id"]], fields)]
            yield [main, *overflow]

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a thread as :meth:`scan_whole` gave it. One command, more for a long one.

        Returns:
            False when its id is taken and ``replace`` is not set: nothing was changed.
        """
        thread_id = stored["_id"]
        # Saves storing large values in vain; the insert below decides.
        if not replace and await self.exists({"_id": thread_id}):
            return False
        thread = await self._externalize(stored)
        # Overflow before the main document: until that lists it, nobody reads it.
        main = await self.overflow.store(thread)
        overflow_ids = listed_overflow(main)
        if replace:
            before = await self.collection.find_one_and_replace(
                {"_id": thread_id}, main, projection={"overflow": 1, "deletedAt": 1}, upsert=True
            )
            # A deletion that was killed may have left something, which a tombstone does not tell.
            if before is not None and len(before) > 1:
                await self.overflow.delete_others(thread_id, overflow_ids)
                await self._delete_other_values(thread)
            return True
        if await super().restore(main, replace=False):
            return True
        # Somebody else took the id meanwhile and wins: what was stored for ours goes.
        await self.overflow.delete_documents(overflow_ids)
        await self._delete_values(thread)
        return False

    @abstractmethod
    async def _whole(self, main: Document) -> Document | None:
        """The whole thread; None when it was deleted meanwhile.

        Raises:
            StorageError: an overflow document or a large value is missing.
        """

    @abstractmethod
    async def _externalize(self, whole: Document) -> Document:
        """The thread with its large values stored, and references in their place."""

    @abstractmethod
    async def _delete_values(self, thread: Document) -> None:
        """Delete the large values that a thread from :meth:`_externalize` refers to."""

    @abstractmethod
    async def _delete_other_values(self, thread: Document) -> None:
        """Delete all large values of such a thread that it does not refer to."""
