"""Removes threads that nobody has touched for long, with their files.

A thread is replaced by a tombstone in one guarded command: a thread that is touched in between
stays. Its files go after it; those that an interrupted run left are found through the tombstones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from mongo_datalayer.documents import Document
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.pipelines import untouched_since
from mongo_datalayer.threads import Threads

BATCH = 100


@dataclass(frozen=True)
class Rule:
    """Which threads are removed.

    Attributes:
        before: Those whose newest step is older.
        keep_pinned: Not those with ``metadata.pinned: true``.
        keep_shared: Not those with ``metadata.is_shared: true``.
    """

    before: datetime
    keep_pinned: bool = False
    keep_shared: bool = False

    @property
    def condition(self) -> Document:
        """The filter on threads."""
        return untouched_since(
            self.before, keep_pinned=self.keep_pinned, keep_shared=self.keep_shared
        )


@dataclass
class Pruned:
    """How much was removed, or would be; ``size`` is the bytes of the files."""

    threads: int = 0
    files: int = 0
    size: int = 0


async def count_prunable(threads: Threads, bucket: FileBucket, rule: Rule) -> Pruned:
    """How much :func:`prune` would remove; changes nothing."""
    found = Pruned()
    async for batch in _batches(threads.scan(rule.condition, ("elements.objectKey",))):
        found.threads += len(batch)
        keys = {
            element["objectKey"]
            for thread in batch
            for element in thread.get("elements") or ()
            if element.get("objectKey")
        }
        await _add_files(found, bucket, [thread["_id"] for thread in batch], keys)
    return found


async def prune(
    threads: Threads, bucket: FileBucket, rule: Rule, on_threads: Callable[[int], object]
) -> Pruned:
    """Remove the threads that fit ``rule``; ``on_threads`` is told how many, batch by batch.

    May be interrupted at any moment and repeated.
    """
    removed = Pruned()
    async for batch in _batches(threads.scan(rule.condition, ())):
        gone: list[str] = []
        keys: set[str] = set()
        for thread in batch:
            object_keys = await threads.expire(thread["_id"], rule.condition)
            if object_keys is not None:
                gone.append(thread["_id"])
                keys.update(object_keys)
        await bucket.erase(await _add_files(removed, bucket, gone, keys))
        removed.threads += len(gone)
        on_threads(len(gone))
    await _erase_left_over(threads, bucket, removed)
    return removed


async def _erase_left_over(threads: Threads, bucket: FileBucket, removed: Pruned) -> None:
    """Erase files of deleted threads: an interrupted run had no time for them."""
    batch: list[str] = []
    async for thread_id in threads.deleted_ids():
        batch.append(thread_id)
        if len(batch) == BATCH:
            await bucket.erase(await _add_files(removed, bucket, batch, ()))
            batch = []
    await bucket.erase(await _add_files(removed, bucket, batch, ()))


async def _add_files(
    total: Pruned, bucket: FileBucket, thread_ids: list[str], object_keys: set[str] | tuple[()]
) -> list[str]:
    """Count the files of the threads into ``total``; returns their ids.

    An element may point to a file of a thread that stays: that file stays too.
    """
    if not thread_ids:
        return []
    gone = {*thread_ids, None}
    files = {
        file.file_id: file
        async for file in bucket.list_belonging(thread_ids, object_keys)
        if file.thread_id in gone
    }
    total.files += len(files)
    total.size += sum(file.size for file in files.values())
    return list(files)


async def _batches(found: AsyncIterator[Document]) -> AsyncIterator[list[Document]]:
    batch: list[Document] = []
    async for document in found:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
