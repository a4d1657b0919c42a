"""Threads: read whole, listed, changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from mongo_datalayer.chainlit import codec, queries, updates
from mongo_datalayer.chainlit.elements import Elements
from mongo_datalayer.chainlit.feedback import StepFeedback
from mongo_datalayer.chainlit.lists import Lists
from mongo_datalayer.chainlit.steps import Steps
from mongo_datalayer.chainlit.thread_documents import (
    LEFT_BEHIND,
    NO_OWNER,
    ThreadDocuments,
)
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.times import now
from mongo_datalayer.mongodb.client import Database, aggregate
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.mongodb.update import Update
from mongo_datalayer.storage.contention import WRITE_ATTEMPTS, Attempts, contended
from mongo_datalayer.storage.overflow import Bounds

logger = get_logger(__name__)

METADATA_VALUE_BYTES = 64 * 1024
"""Values of this size in a thread's metadata go to GridFS: metadata never moves to overflow."""


@dataclass(frozen=True)
class ThreadChanges:
    """What an update changes of a thread; everything else stays.

    Attributes:
        values: Fields of the thread: name, owner, tags, session.
        metadata: Top-level metadata to set, by stored field name.
        removed_metadata: Top-level metadata to remove, by stored field name.
        called_at: When the call came. With a name and an owner, it begins a new thread in place of
            one that was deleted before.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    removed_metadata: tuple[str, ...] = ()
    called_at: datetime | None = None


class Threads:
    """Threads of one database.

    Args:
        database: The database.
        bounds: How much one document holds.
        search_index: Whether to use the search index, and keep it up to date.

    Attributes:
        steps: Their steps.
        feedback: The feedback on steps.
        elements: Their elements.
        documents: The documents that they are stored in.
        lists: Lists of a user's threads, and of favourite steps.
    """

    def __init__(
        self, database: Database, *, bounds: Bounds | None = None, search_index: bool = False
    ) -> None:
        self.documents = ThreadDocuments(database, bounds=bounds)
        self.steps = Steps(self.documents)
        self.feedback = StepFeedback(self.documents)
        self.elements = Elements(self.documents)
        self._threads = self.documents.collection
        self._overflow = self.documents.overflow
        self._values = self.documents.values
        self.lists = Lists(self.documents, database, search_index=search_index)

    async def author(self, thread_id: str) -> str | None:
        """The identifier of the thread's owner, if there is one. One command."""
        stored = await self._threads.find_one({"_id": thread_id}, {"userIdentifier": 1})
        return None if stored is None else stored.get("userIdentifier")

    async def thread_with(self, list_name: str, item_id: str) -> str | None:
        """The id of the thread that has an item. One command, or two.

        Raises:
            MongoDataLayerError: several threads have an item with this id.
        """
        pipeline = queries.threads_with_pipeline(list_name, item_id, overflow=self.documents.joins)
        found = await self.documents.fallback.read(
            lambda: aggregate(self._threads, pipeline),
            lambda: self._find_threads_apart(list_name, item_id),
        )
        if len(found) > 1:
            raise MongoDataLayerError(
                f"Several threads have {item_id!r} among their {list_name}. Name the thread, or "
                "call this in its chat."
            )
        return str(found[0]["_id"]) if found else None

    async def _find_threads_apart(self, list_name: str, item_id: str) -> list[Document]:
        main = await self._threads.find({f"{list_name}.id": item_id}, {"_id": 1}).to_list(None)
        overflow = await self._overflow.find_threads(list_name, item_id)
        return [
            {"_id": thread_id} for thread_id in {*(thread["_id"] for thread in main), *overflow}
        ]

    async def update(
        self, thread_id: str, changes: ThreadChanges, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Change a thread, or make it; False when it was deleted. Ordinarily one command."""
        at_least = min(METADATA_VALUE_BYTES, self._overflow.bounds.value)
        metadata = await self._values.externalize(
            thread_id, "metadata", dict(changes.metadata), at_least=at_least
        )
        update = updates.thread_update(
            thread_id,
            now(),
            values=changes.values,
            metadata=metadata,
            removed_metadata=changes.removed_metadata,
            owner=owner,
        )
        replaced = {f"metadata.{name}": 1 for name in (*metadata, *changes.removed_metadata)}
        async for _ in Attempts(WRITE_ATTEMPTS):
            before = await self._upsert(update, replaced)
            if before is not None:
                await self._values.delete_values(before.get("metadata"))
                return True
            # Another process may have just made the thread, which is no reason to drop the update.
            state = await self.documents.state(thread_id, "")
            if state.deleted:
                await self._values.delete_values(metadata)
                if await self._restart(thread_id, changes):
                    return await self.update(thread_id, changes, owner=owner)
                logger.info("The thread %r was deleted: an update is dropped.", thread_id)
                return False
            await self.documents.make_room(thread_id, state, owner)
        raise contended(thread_id)

    async def pin(self, thread_id: str, pinned: bool) -> bool:
        """Set whether a thread is pinned; False when there is no such thread. Two commands."""
        if not (await self.documents.state(thread_id, "")).is_made:
            return False
        # A thread that is deleted in between leaves a tombstone, so the update does not make it.
        return await self.update(thread_id, ThreadChanges(metadata={"pinned": pinned}))

    async def delete(self, thread_id: str, moment: datetime) -> list[str]:
        """Replace a thread by its tombstone, and delete its overflow. Ordinarily one command.

        Args:
            thread_id: The thread.
            moment: When its deletion was asked for.

        Returns:
            The object keys of its elements' files.
        """
        # A repeated deletion must not take the conversation that began after the first attempt.
        undeleted = {"_id": thread_id, "previousDeletedAt": {"$ne": moment}}
        try:
            before = await self._threads.find_one_and_replace(
                undeleted, {"deletedAt": moment}, projection=dict(LEFT_BEHIND), upsert=True
            )
        except DuplicateKeyError:
            return []
        return await self.documents.delete_overflow(thread_id, before or {})

    async def _restart(self, thread_id: str, changes: ThreadChanges) -> bool:
        called_at = changes.called_at
        if called_at is None or not {"name", "userId"} <= changes.values.keys():
            return False
        return await self.documents.restart(thread_id, called_at)

    async def _upsert(self, update: Update, replaced: Mapping[str, int]) -> Document | None:
        """What an update replaced of these fields; None when its guard failed."""
        if replaced:
            return await self.documents.find_and_update(update, replaced, upsert=True)
        return {} if await self.documents.update(update, upsert=True) else None

    async def delete_session_metadata(self, session_id: str) -> bool:
        """Remove the metadata that a session saved; False when there is none."""
        found = False
        async for stored in self._threads.find({"session.id": session_id}, {"session": 1}):
            names = [name for name in stored["session"]["keys"] if name not in codec.ROUTE_KEYS]
            removed = {f"metadata.{name}": "" for name in names} | {"session": ""}
            # Guarded: another session may save its own metadata in between.
            before = await self._threads.find_one_and_update(
                {"_id": stored["_id"], "session": stored["session"]},
                {"$unset": removed},
                projection=dict.fromkeys(removed, 1),
            )
            if before is not None:
                await self._values.delete_values(before.get("metadata"))
                found = True
        return found
