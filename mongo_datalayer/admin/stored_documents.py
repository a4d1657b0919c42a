"""The documents of one collection whose deleted documents leave tombstones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from pymongo.errors import DuplicateKeyError

from mongo_datalayer.model.documents import NOT_DELETED, Document
from mongo_datalayer.mongodb.client import Collection as MongoCollection
from mongo_datalayer.mongodb.paging import pages_by_id


class StoredDocuments:
    """Documents as administration sees them: scanned, replaced by tombstones, restored.

    Args:
        collection: The collection.
        own: The filter on this package's documents; all others are left alone.
        tombstone: The filter on this package's tombstones.
        kept: The fields that a tombstone keeps.
    """

    def __init__(
        self,
        collection: MongoCollection,
        own: Mapping[str, Any],
        tombstone: Mapping[str, Any],
        kept: Iterable[str] = (),
    ) -> None:
        self.collection = collection
        self._own = {"$and": [dict(own), NOT_DELETED]}
        self._tombstone = dict(tombstone)
        self._kept = tuple(kept)

    async def scan(
        self, filter: Mapping[str, Any], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """The documents that match and were not deleted, as ``pages_by_id`` gives them."""
        matching = {"$and": [self._own, dict(filter)]}
        if fields := tuple(fields):
            # expire() takes them from here into the tombstone.
            fields = (*fields, *self._kept)
        async for document in pages_by_id(self.collection, matching, fields):
            yield document

    async def tombstones(self, filter: Mapping[str, Any] | None = None) -> AsyncIterator[Document]:
        """The ``_id`` of each deleted document whose tombstone is still there."""
        # Not page by page: the index on deletedAt finds the few, sorting by _id would read all.
        matching = {"$and": [self._tombstone, dict(filter or {})]}
        async for tombstone in self.collection.find(matching, {"_id": 1}):
            yield tombstone

    async def existing(self, ids: Collection[Any]) -> list[Any]:
        """Those of the ids under which there is a document; deleted ones are not. One command."""
        found = self.collection.find({"_id": {"$in": list(ids)}, **NOT_DELETED}, {"_id": 1})
        return [document["_id"] async for document in found]

    async def exists(self, filter: Mapping[str, Any]) -> bool:
        """Whether a document or a tombstone matches."""
        return await self.collection.find_one(filter, {"_id": 1}) is not None

    async def expire(self, document: Document, filter: Mapping[str, Any]) -> Document | None:
        """Replace a document from :meth:`scan` by its tombstone if it still matches. One command.

        A write that came since the scan wins if ``filter`` tells it.

        Returns:
            The document as it was, reduced to the object keys of its elements. None when it does
            not match any more.
        """
        tombstone = {name: document[name] for name in self._kept if name in document}
        # Returned as it is now: a write since the scan may have added an element.
        expired: Document | None = await self.collection.find_one_and_replace(
            {"_id": document["_id"], "$and": [self._own, dict(filter)]},
            {**tombstone, "deletedAt": datetime.now(timezone.utc)},
            projection={"elements.objectKey": 1},
        )
        return expired

    async def delete_tombstones(self, filter: Mapping[str, Any]) -> None:
        """Delete the tombstones that match. One command."""
        await self.collection.delete_many({"$and": [self._tombstone, dict(filter)]})

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a document as it is. One command.

        Returns:
            False when its id is taken and ``replace`` is not set: nothing was changed.
        """
        if replace:
            await self.collection.replace_one({"_id": stored["_id"]}, stored, upsert=True)
            return True
        try:
            await self.collection.insert_one(stored)
        # A tombstone has the id as well, so a deleted document does not come back.
        except DuplicateKeyError:
            return False
        return True
