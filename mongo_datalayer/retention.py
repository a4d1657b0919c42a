"""Removes threads that nobody has touched for long, with their files.

This is about Chainlit's; ChatKit's are removed by :mod:`mongo_datalayer.chatkit.retention` under
the same rule.

A thread is replaced by a tombstone in one guarded command: a thread that is touched in between
stays. Its overflow and its files go after it; what an interrupted run left of them is found through
the tombstones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from mongo_datalayer.chatkit.retention import Expired
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import batches
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.large_values import holds_value
from mongo_datalayer.pipelines import untouched_since
from mongo_datalayer.threads import Threads, object_keys

BATCH = 100

_KEYS = ("elements.objectKey",)


@dataclass(frozen=True)
class Rule:
    """Which threads are removed.

    Attributes:
        before: Those whose newest step is older, or for ChatKit's: whose last change is.
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

    @property
    def chatkit_condition(self) -> Document:
        """The filter on ChatKit's threads, whose metadata is the app's as well."""
        return {
            name if name == "updatedAt" else f"thread.{name}": wanted
            for name, wanted in self.condition.items()
        }


@dataclass
class Pruned:
    """How much was removed, or would be.

    Attributes:
        threads: Threads.
        chatkit_threads: ChatKit's threads.
        attachments: Their attachments.
        files: Files of elements and attachments.
        size: Their bytes.
        large_values: Texts, items and other values that are too large for a document.
        large_value_bytes: Their bytes.
        overflow: Documents with older steps or items of long threads, or pieces of large texts.
    """

    threads: int = 0
    chatkit_threads: int = 0
    attachments: int = 0
    files: int = 0
    size: int = 0
    large_values: int = 0
    large_value_bytes: int = 0
    overflow: int = 0

    def add_chatkit(self, expired: Expired) -> None:
        """Count in what went of ChatKit's."""
        self.chatkit_threads += expired.threads
        self.attachments += expired.attachments
        self.files += expired.files
        self.size += expired.size
        self.large_values += expired.large_items
        self.large_value_bytes += expired.large_item_bytes
        self.overflow += expired.parts


async def count_prunable(
    threads: Threads, bucket: FileBucket, values: FileBucket, rule: Rule
) -> Pruned:
    """How much :func:`prune` would remove; changes nothing."""
    found = Pruned()
    async for batch in batches(threads.archive.scan_heads(rule.condition, _KEYS), BATCH):
        ids = [thread["_id"] for thread in batch]
        beside = await _look_beside(threads, values, ids)
        found.threads += len(ids)
        beside.add_to(found, ids)
        await _add_files(found, bucket, ids, beside.object_keys | _object_keys(batch))
    return found


async def prune(
    threads: Threads,
    bucket: FileBucket,
    values: FileBucket,
    rule: Rule,
    on_threads: Callable[[int], object],
) -> Pruned:
    """Remove the threads that fit ``rule``; ``on_threads`` is told how many, batch by batch.

    May be interrupted at any moment and repeated.

    Args:
        threads: The threads.
        bucket: Where the files are.
        values: Where the large values are.
        rule: Which threads.
        on_threads: Called after each batch.
    """
    removed = Pruned()
    async for batch in batches(threads.archive.scan_heads(rule.condition, ()), BATCH):
        beside = await _look_beside(threads, values, [thread["_id"] for thread in batch])
        gone: list[str] = []
        keys: set[str] = set()
        for thread in batch:
            object_keys = await threads.archive.expire(thread["_id"], rule.condition)
            if object_keys is not None:
                gone.append(thread["_id"])
                keys.update(object_keys)
        await _erase_beside(threads, values, beside, gone)
        beside.add_to(removed, gone)
        await bucket.erase(await _add_files(removed, bucket, gone, keys))
        removed.threads += len(gone)
        on_threads(len(gone))
    await _erase_left_over(threads, bucket, values, removed)
    return removed


async def _erase_left_over(
    threads: Threads, bucket: FileBucket, values: FileBucket, removed: Pruned
) -> None:
    """Erase what belongs to deleted threads: an interrupted run had no time for it."""
    async for deleted in batches(threads.archive.deleted_ids(), BATCH):
        beside = await _look_beside(threads, values, deleted)
        # The files first: the keys of some stand in the overflow.
        await bucket.erase(await _add_files(removed, bucket, deleted, beside.object_keys))
        await _erase_beside(threads, values, beside, deleted)
        beside.add_to(removed, deleted)


@dataclass
class _Beside:
    """What belongs to some threads besides their heads and the files of elements."""

    overflow: Counter[str]
    object_keys: set[str]
    values: list[StoredFile]

    def add_to(self, total: Pruned, thread_ids: Collection[str]) -> None:
        """Count in what belongs to these threads."""
        total.overflow += sum(self.overflow[thread_id] for thread_id in thread_ids)
        of_these = self.values_of(thread_ids)
        total.large_values += len(of_these)
        total.large_value_bytes += sum(file.size for file in of_these)

    def values_of(self, thread_ids: Collection[str]) -> list[StoredFile]:
        wanted = set(thread_ids)
        return [file for file in self.values if file.thread_id in wanted]


async def _look_beside(threads: Threads, values: FileBucket, thread_ids: list[str]) -> _Beside:
    overflow: Counter[str] = Counter()
    keys: set[str] = set()
    async for stored in threads.archive.scan_overflow(thread_ids, _KEYS):
        overflow[stored["thread"]] += 1
        keys |= _object_keys([stored])
    files = [file async for file in values.list_belonging(thread_ids) if holds_value(file)]
    return _Beside(overflow, keys, files)


async def _erase_beside(
    threads: Threads, values: FileBucket, beside: _Beside, thread_ids: list[str]
) -> None:
    await threads.archive.delete_overflow(thread_ids)
    await values.erase([file.file_id for file in beside.values_of(thread_ids)])


async def _add_files(
    total: Pruned, bucket: FileBucket, thread_ids: list[str], object_keys: Collection[str]
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
        if file.thread_id in gone and not holds_value(file)
    }
    total.files += len(files)
    total.size += sum(file.size for file in files.values())
    return list(files)


def _object_keys(stored: Iterable[Document]) -> set[str]:
    return {key for document in stored for key in object_keys(document.get("elements"))}
