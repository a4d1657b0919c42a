"""Threads: read whole, listed, changed and deleted."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pymongo.errors import OperationFailure

from mongo_datalayer import codec, pipelines
from mongo_datalayer.cursor import Cursor
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Database, aggregate, find_one
from mongo_datalayer.overflow import Bounds
from mongo_datalayer.search_index import Candidates, SearchWords
from mongo_datalayer.threads.archive import Archive
from mongo_datalayer.threads.elements import Elements
from mongo_datalayer.threads.feedback import StepFeedback
from mongo_datalayer.threads.heads import (
    ATTEMPTS,
    LEFT_BEHIND,
    NO_OWNER,
    Heads,
    contended,
    maps,
    now,
)
from mongo_datalayer.threads.steps import Steps

logger = logging.getLogger(__name__)

# What the server says to a hint that is no index.
_BAD_HINT = 2

METADATA_VALUE_BYTES = 64 * 1024
"""Values of this size in a thread's metadata go to GridFS: metadata stays in the head for ever."""


@dataclass(frozen=True)
class ThreadChanges:
    """What an update changes of a thread; everything else stays.

    Attributes:
        values: Fields of the thread: name, owner, tags, session.
        metadata: Top-level metadata to set, by stored field name.
        removed_metadata: Top-level metadata to remove, by stored field name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    removed_metadata: tuple[str, ...] = ()


class Threads:
    """Threads of one database.

    Args:
        database: The database.
        bounds: How much one document holds.
        search_index: Whether to ask the search index first.

    Attributes:
        steps: Their steps.
        feedback: The feedback on steps.
        elements: Their elements.
        archive: All of them, for tools.
    """

    def __init__(
        self, database: Database, *, bounds: Bounds | None = None, search_index: bool = False
    ) -> None:
        heads = Heads(database, bounds=bounds)
        self.steps = Steps(heads)
        self.feedback = StepFeedback(heads, self.steps)
        self.elements = Elements(heads)
        self.archive = Archive(heads)
        self._heads = heads
        self._threads = heads.collection
        self._overflow = heads.overflow
        self._values = heads.values
        self._words = SearchWords(database) if search_index else None

    async def get(self, thread_id: str) -> Document | None:
        """The stored thread, whole; None when there is none or it was deleted.

        One command; for a long thread one more, and those for its large values.
        """
        return await self._heads.get(thread_id)

    async def author(self, thread_id: str) -> str | None:
        """The identifier of the thread's owner, if there is one. One command."""
        stored = await find_one(self._threads, {"_id": thread_id}, {"userIdentifier": 1})
        return None if stored is None else stored.get("userIdentifier")

    async def page(
        self,
        user_id: str,
        *,
        limit: int,
        time_field: str,
        cursor: Cursor | None,
        search: str | None,
        feedback: int | None,
    ) -> list[Document]:
        """A page of a user's threads without their steps.

        One aggregation; with a filter one more the first time that a long thread of the user is
        met. A search that is helped by the search index has three commands, or a few more.
        """
        pipeline = partial(
            pipelines.thread_page_pipeline,
            user_id,
            limit=limit,
            time_field=time_field,
            cursor=cursor,
            search=search,
            feedback=feedback,
        )
        known = None
        if search and self._words is not None:
            known = await self._words.candidates(user_id, search, time_field)
        found = None
        if known is not None:
            found = await self._search(pipeline, known, cursor, limit, time_field)
        if found is None and (search or feedback is not None):
            found = await self._heads.lists.read(user_id, pipeline)
        if found is None:
            found = await aggregate(self._threads, pipeline())
        # A thread that becomes long just now may be found among the short and the long ones.
        threads = list({thread["_id"]: thread for thread in found}.values())
        await self._values.put_back(maps([each for each in threads if "overflow" in each]))
        return threads

    async def _search(
        self,
        pipeline: Callable[..., list[Document]],
        known: Candidates,
        cursor: Cursor | None,
        limit: int,
        time_field: str,
    ) -> list[Document] | None:
        """A page of what is found among candidates, and among the threads that are in no segment.

        The candidates are looked at newest first, until there are enough; then the others, and the
        long threads. None where the index is missing that finds them.
        """
        found: dict[str, Document] = {}

        async def look(**where: Any) -> list[Document]:
            read = await aggregate(self._threads, pipeline(**where), hint="user_search")
            found.update((thread["_id"], thread) for thread in read)
            order = operator.itemgetter(time_field, "_id")
            return sorted(found.values(), key=order, reverse=True)[:limit]

        try:
            for among, rest in known.batches(None if cursor is None else cursor.time):
                page = await look(among=among, overflow=False)
                if rest is not None and len(page) == limit and page[-1][time_field] > rest:
                    break
            # Last: a thread that changed meanwhile is in no segment any more.
            return await look(among=known.outside, overflow=True)
        except OperationFailure as exc:
            if exc.code != _BAD_HINT:
                raise
            logger.warning("The index threads.user_search is missing: `search-index build`.")
            return None

    async def update(
        self, thread_id: str, changes: ThreadChanges, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Change a thread, or make it; False when it was deleted. Ordinarily one command."""
        metadata = await self._values.take_out(
            thread_id,
            "metadata",
            dict(changes.metadata),
            at_least=min(METADATA_VALUE_BYTES, self._overflow.bounds.value),
        )
        statement = pipelines.thread_update(
            thread_id,
            now(),
            values=changes.values,
            metadata=metadata,
            removed_metadata=changes.removed_metadata,
            on_insert=owner,
        )
        touched = {f"metadata.{name}": 1 for name in (*metadata, *changes.removed_metadata)}
        for _ in range(ATTEMPTS):
            before: Document | None
            if not touched:
                before = {} if await self._heads.upserted(statement) else None
            else:
                before = await self._heads.changed(thread_id, statement, touched, upsert=True)
            if before is not None:
                await self._values.discard(before.get("metadata"))
                return True
            # Another process may just have made the thread: that is no reason to drop the update.
            state = await self._heads.state(thread_id, "")
            if state.deleted:
                await self._values.discard(metadata)
                return False
            await self._heads.make_room(thread_id, state)
        raise contended(thread_id, {"id": thread_id})

    async def delete(self, thread_id: str) -> list[str]:
        """Replace a thread by its tombstone, and delete its overflow. Ordinarily one command.

        Returns:
            The object keys of its elements' files.
        """
        before = await self._threads.find_one_and_replace(
            {"_id": thread_id}, {"deletedAt": now()}, projection=dict(LEFT_BEHIND), upsert=True
        )
        return await self._heads.clear(thread_id, before or {})

    async def forget_session(self, session_id: str) -> bool:
        """Remove the metadata that a session saved; False when there is none of it."""
        found = False
        async for stored in self._threads.find({"session.id": session_id}, {"session": 1}):
            names = [name for name in stored["session"]["keys"] if name not in codec.SHARING_KEYS]
            removed = {f"metadata.{name}": "" for name in names} | {"session": ""}
            before = await self._threads.find_one_and_update(
                {"_id": stored["_id"], "session": stored["session"]},
                {"$unset": removed},
                projection=dict.fromkeys(removed, 1),
            )
            if before is not None:
                await self._values.discard(before.get("metadata"))
                found = True
        return found
