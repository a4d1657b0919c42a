"""Removes threads that were not touched for long, with their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from mongo_datalayer.admin.front_data import BATCH, Counts, FrontData, Rule
from mongo_datalayer.admin.thread_scan import BELONGINGS
from mongo_datalayer.mongodb.paging import batches


async def count_prunable(fronts: Iterable[FrontData], rule: Rule) -> Counts:
    """How much :func:`prune` would remove; changes nothing."""
    counts: Counts = Counter()
    for front in fronts:
        old = front.threads.scan(front.old_threads(rule), BELONGINGS)
        async for threads in batches(old, BATCH):
            counts += (await front.belongings(threads)).counts
            counts[front.counted_as] += len(threads)
    return counts


async def prune(
    fronts: Iterable[FrontData], rule: Rule, on_threads: Callable[[int], object]
) -> Counts:
    """Remove the threads that a rule names; may be interrupted at any moment and repeated.

    ``on_threads`` is told after each batch how many threads that were. Returns how much was
    removed, also of what an earlier run left.
    """
    counts: Counts = Counter()
    for front in fronts:
        old = front.old_threads(rule)
        async for threads in batches(front.threads.scan(old, BELONGINGS), BATCH):
            # One guarded command each: a thread that was touched since the scan stays.
            expired = [await front.threads.expire(thread, old) for thread in threads]
            removed = [thread for thread in expired if thread is not None]
            counts[front.counted_as] += len(removed)
            if removed:
                counts += (await front.delete_belongings(removed)).counts
            on_threads(len(removed))
        # Through the tombstones, which MongoDB keeps for a day.
        counts += await front.delete_remnants()
    return counts
