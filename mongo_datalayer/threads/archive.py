"""Threads for the people who run the database: read one by one, moved, expired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from mongo_datalayer import pipelines
from mongo_datalayer.documents import LONG, Document
from mongo_datalayer.threads.heads import LEFT_BEHIND, Heads, maps, now, object_keys, value_keys
from mongo_datalayer.threads.steps import SEARCHED

PAGE = 100
"""How many threads one command of a scan reads."""

_PARTED = ("parts", "overflow", "deletedSteps")


class Archive:
    """All threads of a database.

    Args:
        heads: Where they are stored.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._threads = heads.collection
        self._overflow = heads.overflow
        self._values = heads.values

    async def scan(
        self, condition: Mapping[str, Any], fields: Iterable[str] | None = None
    ) -> AsyncIterator[Document]:
        """Every thread that fits, in the order of ids, deleted ones left out; page by page.

        Each is whole, however long it is. The reader may take its time, and may delete what it was
        given.

        Args:
            condition: A filter.
            fields: The fields to read besides ``_id``; None reads all, large values included.
        """
        read = None if fields is None else tuple(fields)
        async for stored in self._matching(condition, None if read is None else (*_PARTED, *read)):
            whole = await self._heads.whole(stored, read)
            if whole is None:  # it was deleted meanwhile, or its parts are missing
                whole = await self._heads.get(stored["_id"])
            if whole is not None:
                yield whole

    async def scan_heads(
        self, condition: Mapping[str, Any], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """The same, but of a long thread only what its head holds: also where parts are missing."""
        async for stored in self._matching(condition, tuple(fields)):
            yield stored

    async def scan_overflow(
        self, thread_ids: Iterable[str], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """What there is besides the heads of threads, ``thread`` among the fields.

        Parts, also those that no head lists, and the pieces of large texts.
        """
        async for stored in self._overflow.scan(thread_ids, fields):
            yield stored

    async def delete_overflow(self, thread_ids: Iterable[str]) -> int:
        """Delete all that :meth:`scan_overflow` gives; returns how many documents. One command."""
        return await self._overflow.delete(thread_ids)

    async def expire(self, thread_id: str, condition: Mapping[str, Any]) -> list[str] | None:
        """Replace a thread by its tombstone if it still fits ``condition``. One command.

        Returns:
            The object keys of its elements' files; None when it does not fit any more.
        """
        before = await self._threads.find_one_and_replace(
            {"_id": thread_id, **condition}, {"deletedAt": now()}, projection=dict(LEFT_BEHIND)
        )
        return None if before is None else await self._heads.clear(thread_id, before)

    async def deleted_ids(self) -> AsyncIterator[str]:
        """The ids of the threads that were deleted and whose tombstone is still there."""
        async for stored in self._threads.find({"deletedAt": {"$exists": True}}, {"_id": 1}):
            yield stored["_id"]

    async def exists(self, thread_id: str) -> bool:
        """Whether there is a thread with this id, or what is left of a deleted one."""
        return await self._threads.find_one({"_id": thread_id}, {"_id": 1}) is not None

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a whole thread as it is. One command, more for a long one.

        Returns:
            False when one with its id is there and ``replace`` is not set; it is left alone.
        """
        thread_id = stored["_id"]
        if not replace and await self.exists(thread_id):
            return False
        taken = await self._taken_out(stored)
        head = await self._overflow.store(taken)
        parts = head.get("parts") or ()
        self._heads.learn(thread_id, head)
        if replace:
            before = await self._threads.find_one_and_replace(
                {"_id": thread_id}, head, projection={"overflow": 1}, upsert=True
            )
            if before is not None and "overflow" in before:
                await self._overflow.delete_others(thread_id, parts)
                await self._values.delete_others(thread_id, value_keys([taken]))
            return True
        try:
            await self._threads.insert_one(head)
        except DuplicateKeyError:
            await self._overflow.discard(parts)
            await self._values.discard(*maps([taken]))
            return False
        return True

    async def object_keys(self, thread_ids: Collection[str]) -> set[str]:
        """The object keys that these threads point to: files of elements, and large values."""
        found: set[str] = set()
        fields = ("elements", "steps", "metadata", "pendingFeedback")
        heads = self._threads.find({"_id": {"$in": list(thread_ids)}}, dict.fromkeys(fields, 1))
        async for head in heads:
            found.update(object_keys(head.get("elements")), value_keys([head]))
        async for part in self._overflow.scan(thread_ids, ("elements", "steps")):
            found.update(object_keys(part.get("elements")), value_keys([part]))
        return found

    async def _matching(
        self, condition: Mapping[str, Any], fields: tuple[str, ...] | None
    ) -> AsyncIterator[Document]:
        projection = None if fields is None else dict.fromkeys(("_id", *fields), 1)
        place: Document = {}
        while True:
            where = {"$and": [{"deletedAt": {"$exists": False}}, dict(condition), place]}
            page = self._threads.find(where, projection).sort("_id", 1).limit(PAGE)
            count = 0
            async for stored in page:
                count += 1
                place = {"_id": {"$gt": stored["_id"]}}
                yield stored
            if count < PAGE:
                return

    async def _taken_out(self, whole: Document) -> Document:
        """A whole thread without its large values, and without the mark of a search index."""
        thread_id = whole["_id"]
        taken = {name: value for name, value in whole.items() if name not in pipelines.UNINDEXED}
        if steps := whole.get("steps"):
            taken["steps"] = [await self._step_taken_out(thread_id, step) for step in steps]
        if elements := whole.get("elements"):
            taken["elements"] = [
                await self._values.take_out(thread_id, f"elements/{element['id']}", element)
                for element in elements
            ]
        if waiting := whole.get("pendingFeedback"):
            taken["pendingFeedback"] = [
                await self._values.take_out(thread_id, f"feedback/{feedback['forId']}", feedback)
                for feedback in waiting
            ]
        metadata = whole.get("metadata")
        if isinstance(metadata, dict):
            taken["metadata"] = await self._values.take_out(thread_id, "metadata", metadata)
        return taken | dict(LONG if any(map(pipelines.marks, maps([taken]))) else {})

    async def _step_taken_out(self, thread_id: str, step: Document) -> Document:
        feedback = step.get("feedback")
        if feedback is not None:
            place = f"feedback/{step['id']}"
            step = {**step, "feedback": await self._values.take_out(thread_id, place, feedback)}
        return await self._values.take_out(
            thread_id, f"steps/{step['id']}", step, searched=SEARCHED
        )
