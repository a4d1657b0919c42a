"""Try, look why not, try again: how often, with which pauses, and the errors at the end.

A conditional write that matches nothing lost a race, or met a document that has to be changed
first. The caller finds out which one, and makes the next attempt.
"""

from __future__ import annotations

import asyncio
import logging
import random

from cachetools import LRUCache
from pymongo.errors import DuplicateKeyError

from mongo_datalayer.config import RUN_DOCTOR
from mongo_datalayer.errors import MongoDataLayerError, StorageError
from mongo_datalayer.mongodb.client import Collection
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.mongodb.update import Update

logger = get_logger(__name__)

READ_ATTEMPTS = 5
"""How often a thread is read of which an overflow document or a large value is replaced."""

WRITE_ATTEMPTS = 25
"""How often a write is tried while other writers change the same document."""

WARNED_THREADS = 1000
"""Of how many threads it is remembered that a dropped write was logged as a warning."""

FIRST_PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.1


class Attempts:
    """The numbers of ``count`` attempts at one operation, from 0, for ``async for``.

    The second attempt follows at once, the others after random pauses that grow to 0.1 s.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> int:
        number = self._next
        if number == self._count:
            raise StopAsyncIteration
        self._next = number + 1
        # After one failure a writer mostly knows what it lacked. After two it meets other writers,
        # and equal pauses would make them collide again.
        if number > 1:
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (number - 2), LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
        return number


async def upsert_unless_deleted(collection: Collection, update: Update) -> bool:
    """Run an upsert whose filter leaves out tombstones; False when there is one.

    Raises:
        MongoDataLayerError: other writers won every race.
    """
    key = update.filter["_id"]
    async for _ in Attempts(WRITE_ATTEMPTS):
        try:
            await collection.update_one(*update, upsert=True)
        except DuplicateKeyError:
            # Either a tombstone has the key, or another process has just made the document.
            if await collection.find_one({"_id": key, "deletedAt": {"$exists": True}}):
                logger.info("%s was deleted; a late write is dropped.", key)
                return False
        else:
            return True
    raise contended(str(key))


class DroppedWrites:
    """Logs writes that are dropped because they came after a deletion."""

    def __init__(self) -> None:
        self._threads: LRUCache[str, bool] = LRUCache(WARNED_THREADS)

    def log(self, thread_id: str, item_id: str) -> None:
        """Log one: as a warning the first time for a thread, as info after that."""
        # An answer in flight may bring hundreds, and one says it all.
        level = logging.INFO if thread_id in self._threads else logging.WARNING
        self._threads[thread_id] = True
        text = "A write to %r in thread %r came after its deletion and is dropped."
        logger.log(level, text, item_id, thread_id)


def contended(thread_id: str | None, item_id: str | None = None) -> MongoDataLayerError:
    """The error of a write to a thread, or to something in it, that lost every race."""
    thread = f"the thread {thread_id!r}"
    name = thread if item_id is None else f"{item_id!r} in {thread}"
    return MongoDataLayerError(
        f"Could not write {name}: other writers changed it during each of {WRITE_ATTEMPTS} "
        "attempts. Write to it from fewer places at once, or repeat the call."
    )


def damaged_listing(thread_id: str) -> StorageError:
    """The error of a write to a thread whose list of overflow documents was edited by hand."""
    return StorageError(
        f"The thread {thread_id!r} is damaged and takes no writes: its overflowIds are no list of "
        f"ids. {RUN_DOCTOR}"
    )


def incomplete(thread_id: str) -> StorageError:
    """The error of a read that never found all documents and files of a thread."""
    return StorageError(
        f"Could not read the whole thread {thread_id!r}: overflow documents or large values are "
        f"missing after {READ_ATTEMPTS} attempts."
    )
