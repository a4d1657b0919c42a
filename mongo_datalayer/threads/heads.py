"""The heads of threads with their overflow: what steps, feedback and elements are stored by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from pymongo.errors import DuplicateKeyError, OperationFailure

from mongo_datalayer import pipelines
from mongo_datalayer.documents import OVERFLOW, THREADS, Document, is_reference
from mongo_datalayer.driver import Database, find_one, is_mongomock, open_collection
from mongo_datalayer.errors import MongoDataLayerError, StorageError
from mongo_datalayer.large_values import LargeValues
from mongo_datalayer.overflow import UNBOUNDED, Bounds, Overflow
from mongo_datalayer.pipelines import Statement
from mongo_datalayer.recent import Recent
from mongo_datalayer.threads.lists import Lists

logger = logging.getLogger(__name__)

ATTEMPTS = 10
"""How often a write is tried while other writers change the same step in between."""

READS = 3
"""How often a thread is read again of which a large value was replaced in between."""

REMEMBERED_THREADS = 10_000
"""Of how many threads it is remembered whether they are long, and which parts they have."""

PART_VALUE_BYTES = 8 * 1024
"""Values of this size go to GridFS when a step of a part gets them: parts must not grow."""

NO_OWNER: Mapping[str, str] = {}

# What the server says when an update would make a document larger than 16 MB.
_TOO_LARGE = frozenset({10334, 17419, 17420})
LEFT_BEHIND: Mapping[str, int] = {"elements.objectKey": 1, "overflow": 1, "deletedAt": 1}
"""What is asked of a thread that becomes a tombstone."""

# Only a thread without large values; not as an equality, which an upsert would store.
_SHORT: Document = {"overflow": {"$exists": False}}


class Heads:
    """The documents of threads, with their overflow, and what is remembered of them.

    Args:
        database: The database.
        bounds: How much one document holds.
    """

    def __init__(self, database: Database, *, bounds: Bounds | None = None) -> None:
        self.collection = open_collection(database, THREADS)
        parts = open_collection(database, OVERFLOW)
        self.joins = not is_mongomock(database)
        self.lists = Lists(self.collection, joins=self.joins)
        # Else the server weighs the other indexes that the guards could use, for each new shape.
        self.by_id: dict[str, Any] = {"hint": "_id_"} if self.joins else {}
        if not self.joins:
            bounds = UNBOUNDED
        self.overflow = Overflow(self.collection, parts, ("steps", "elements"), bounds=bounds)
        self.values = LargeValues(database, parts, at_least=self.overflow.bounds.value)
        self._known: Recent[str, _Known] = Recent(REMEMBERED_THREADS)

    async def get(self, thread_id: str) -> Document | None:
        """The stored thread, whole; None when there is none or it was deleted.

        One command; for a long thread one more, and those for its large values.
        """
        for attempt in range(ATTEMPTS):
            stored: Document | None = await find_one(self.collection, {"_id": thread_id})
            if stored is None or "deletedAt" in stored:
                return None
            self.learn(thread_id, stored)
            whole = await self.whole(stored, complete=attempt < READS)
            if whole is not None:
                return whole
        raise StorageError(f"Parts of the thread {thread_id!r} are missing in {OVERFLOW}.")

    async def matched(self, statement: Statement) -> bool:
        """Run an update; False when its filter found nothing."""
        try:
            result = await self.collection.update_one(*statement, **self.by_id)
        except OperationFailure as exc:
            await self._shrink(statement.filter["_id"], exc)
            return False
        return bool(result.matched_count)

    async def upserted(self, statement: Statement) -> bool:
        """Run an upsert; False when its guard said no."""
        try:
            await self.collection.update_one(*statement, upsert=True, **self.by_id)
        except DuplicateKeyError:
            return False
        except OperationFailure as exc:
            await self._shrink(statement.filter["_id"], exc)
            return False
        return True

    async def appended(self, thread_id: str, statement: Statement) -> bool:
        """Run an upsert that needs room; False when its guard said no."""
        done = await self.upserted(statement)
        long = "overflow" in statement.update.get("$set", ())
        if done and (long or self._known.get(thread_id) is None):
            # The guard was that the thread has the parts that are known of it.
            self._known.put(thread_id, _Known(tuple(self.parts(thread_id) or ()), long))
        return done

    async def _shrink(self, thread_id: str, error: OperationFailure) -> None:
        """Make room in a document that an update would make too large for MongoDB."""
        if error.code not in _TOO_LARGE:
            raise error
        await self.overflow.make_room(thread_id)

    def parts(self, thread_id: str) -> Sequence[str] | None:
        """The parts that the thread had when it was seen last; None when it never was."""
        known = self._known.get(thread_id)
        return None if known is None else known.parts

    def is_long(self, thread_id: str) -> bool:
        """Whether the thread had overflow when it was seen last."""
        known = self._known.get(thread_id)
        return known is not None and (known.long or bool(known.parts))

    def is_old(self, thread_id: str, item_id: str) -> bool | None:
        """Whether a part may hold the item, not the head; None when that is not known."""
        parts = self.parts(thread_id)
        return None if parts is None else self.overflow.may_hold(thread_id, parts, item_id)

    async def changed(
        self,
        thread_id: str,
        statement: Statement,
        shown: Mapping[str, Any],
        *,
        upsert: bool = False,
    ) -> Document | None:
        """Update a head, and tell what it had before, for its large values. One command.

        Args:
            thread_id: The thread.
            statement: The update.
            shown: A projection on what the update replaces.
            upsert: Make the thread where there is none.

        Returns:
            What was there; empty where it can have no large values. None when the filter found
            nothing, or there is more in the thread than was known.
        """
        if self._is_short(thread_id, statement):
            guarded = Statement({**statement.filter, **_SHORT}, statement.update)
            run = self.upserted if upsert else self.matched
            return {} if await run(guarded) else None
        is_new = thread_id not in self._known
        length = {"parts": 1, "overflow": 1} if is_new else {}
        try:
            before = await self.collection.find_one_and_update(
                *statement, projection={"_id": 1, **length, **shown}, upsert=upsert, **self.by_id
            )
        except DuplicateKeyError:
            return None
        except OperationFailure as exc:
            await self._shrink(thread_id, exc)
            return None
        if before is None and upsert:
            before = {}
        if before is not None and is_new:
            self.learn(thread_id, {**before, **statement.update.get("$set", {})})
        return before

    def _is_short(self, thread_id: str, statement: Statement) -> bool:
        """Whether neither the thread, as it was seen last, nor the update has large values."""
        known = self._known.get(thread_id)
        if known is not None and "overflow" in statement.update.get("$set", ()):
            self._known.put(thread_id, replace(known, long=True))
            return False
        return known is not None and not known.long

    def learn(self, thread_id: str, head: Mapping[str, Any]) -> None:
        """Remember what a head says of the thread's length."""
        self._known.put(thread_id, _Known(tuple(head.get("parts") or ()), "overflow" in head))

    async def listed(self, thread_id: str) -> Sequence[str]:
        """The parts that a thread has now."""
        stored = await find_one(self.collection, {"_id": thread_id}, {"parts": 1, "overflow": 1})
        self.learn(thread_id, stored or {})
        return self.parts(thread_id) or ()

    async def state(self, thread_id: str, step_id: str) -> State:
        """Why something for this step could not be inserted."""
        stored = await find_one(
            self.collection, {"_id": thread_id}, pipelines.step_state_projection(step_id)
        )
        if stored is None:
            return State()
        if "deletedAt" in stored or stored.get("deletedSteps"):
            logger.info(
                "The step %s or its thread %s was deleted; a late write is dropped.",
                step_id,
                thread_id,
            )
            return State(deleted=True)
        self.learn(thread_id, stored)
        parts = tuple(stored.get("parts") or ())
        return State(
            step=next(iter(stored.get("steps") or ()), None),
            feedback=next(iter(stored.get("pendingFeedback") or ()), None),
            parts=parts,
            full=(stored.get("bytes") or 0) >= self.overflow.bounds.of(parts),
            counted=stored.get("bytes") is not None,
        )

    async def make_room(self, thread_id: str, state: State) -> None:
        """Move old steps out of a head that is full; count what is in one that was made by hand."""
        if not state.counted:
            await self.overflow.begin_to_count(thread_id)
        if state.full:
            await self.overflow.make_room(thread_id)
            await self.listed(thread_id)

    async def whole(
        self, stored: Document, fields: tuple[str, ...] | None = None, *, complete: bool = False
    ) -> Document | None:
        """The thread that a head stands for; None when it should be read again.

        Args:
            stored: The head.
            fields: The fields to read; None reads all, large values included.
            complete: Read again also where a large value is missing.
        """
        stored.pop("searchMark", None)
        if "overflow" not in stored:
            stored.pop("bytes", None)
            return stored
        whole = await self.overflow.whole(stored, fields)
        if whole is None:
            return None
        deleted = {step["id"] for step in whole.get("deletedSteps") or ()}
        if deleted:  # a deletion that was killed may have left them in a part
            steps, elements = whole.get("steps") or (), whole.get("elements") or ()
            whole["steps"] = [step for step in steps if step["id"] not in deleted]
            whole["elements"] = [each for each in elements if each.get("forId") not in deleted]
        if fields is None and not await self.values.put_back(maps([whole]), complete=complete):
            return None
        return whole

    async def clear(self, thread_id: str, before: Mapping[str, Any]) -> list[str]:
        """Delete the overflow of a thread that was deleted.

        Returns:
            The object keys of its elements' files.
        """
        keys = object_keys(before.get("elements"))
        # Where the deletion is repeated nobody knows any more what the thread had.
        if before.get("overflow") or "deletedAt" in before:
            async for part in self.overflow.scan([thread_id], ("elements.objectKey",)):
                keys += object_keys(part.get("elements"))
            await self.overflow.delete([thread_id])
            await self.values.delete(thread_id)
        return keys

    @property
    def part_value_bytes(self) -> int:
        """Values of this size do not stay in a part."""
        return min(PART_VALUE_BYTES, self.overflow.bounds.value)


@dataclass(frozen=True)
class _Known:
    """What is remembered of a thread: its parts, and whether it may have large values."""

    parts: tuple[str, ...] = ()
    long: bool = False


@dataclass(frozen=True)
class State:
    """Why something could not be written.

    Attributes:
        step: The step, where the head holds it.
        feedback: What waits for the step.
        parts: The thread's parts.
        deleted: The thread or the step was deleted.
        full: There is no room in the head.
        counted: The head's bytes are counted.
    """

    step: Document | None = None
    feedback: Document | None = None
    parts: tuple[str, ...] = ()
    deleted: bool = False
    full: bool = False
    counted: bool = True


def maps(threads: Iterable[Document]) -> list[Document]:
    """The maps of threads whose values may be references."""
    found: list[Document] = []
    for thread in threads:
        if isinstance(thread.get("metadata"), dict):
            found.append(thread["metadata"])
        steps = thread.get("steps") or ()
        found.extend(steps)
        found.extend(step["feedback"] for step in steps if step.get("feedback"))
        found.extend(thread.get("pendingFeedback") or ())
        found.extend(thread.get("elements") or ())
    return found


def value_keys(threads: Iterable[Document]) -> set[str]:
    """The object keys of the large values that threads, or parts, refer to."""
    return {
        value["gridfs"]
        for fields in maps(threads)
        for value in fields.values()
        if is_reference(value)
    }


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(timezone.utc)


def object_keys(elements: Iterable[Mapping[str, Any]] | None) -> list[str]:
    """The keys of the elements' files."""
    return [element["objectKey"] for element in elements or () if element.get("objectKey")]


def contended(thread_id: str | None, item: Document) -> MongoDataLayerError:
    """The error of a write that others got in the way of every time."""
    return MongoDataLayerError(
        f"{item['id']!r} in thread {thread_id!r} could not be written: other writers changed it "
        f"each of {ATTEMPTS} times."
    )
