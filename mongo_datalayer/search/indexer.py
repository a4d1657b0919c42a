"""Builds a user's segments, and rebuilds them when many of their threads have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice

from bson import ObjectId
from pymongo import UpdateOne

from mongo_datalayer.model.documents import SEARCH_WORDS, THREADS, Document
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.search import segments
from mongo_datalayer.search.ngrams import FORMAT
from mongo_datalayer.search.segments import SegmentBuilder

KEPT_DAYS = 7
"""A segment is stale after this many days if one of its threads was changed or deleted."""

UNFINISHED = timedelta(hours=1)
"""A younger segment without a header may be another process's, which is still building it."""

# A page of a full segment has about 5 kB, so one insert has little more than 1 MB.
PAGES_AT_ONCE = 256

READ_MS = 120_000
"""How long the server may work on one read of a build: the texts of a segment, all from disk."""

_HEADERS: Document = {"segment": None}
_TEXTS = {"name": 1, "metadata.name": 1, "steps.input": 1, "steps.output": 1}


@dataclass
class Built:
    """How many threads were indexed, in how many segments, and how many those replaced."""

    threads: int = 0
    segments: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Segment:
    """A stored segment.

    Attributes:
        id: Its id.
        format: What its n-grams depend on; see :data:`~mongo_datalayer.search.ngrams.FORMAT`.
        threads: How many threads it was built of.
        live: How many of them have not changed since.
    """

    id: str
    format: str | None
    threads: int
    live: int

    @property
    def stale(self) -> bool:
        """Whether it should be rebuilt."""
        changed = self.threads - self.live
        # A segment is written once, so its id tells the age of its n-grams.
        age = datetime.now(timezone.utc) - ObjectId(self.id).generation_time
        # The n-grams of a deleted text stay until the rebuild, which few changes must not put off.
        old = changed > 0 and age.days >= KEPT_DAYS
        return self.format != FORMAT or changed * 4 > self.threads or old


class SearchIndexer:
    """Builds the segments of one database.

    Any number of processes may build at the same time, and be killed at any time. A thread counts
    as indexed only by the segment it refers to, and only once that segment has its header. Each
    write to a thread's texts removes the reference.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._threads = open_collection(database, THREADS)
        self._pages = open_collection(database, SEARCH_WORDS)

    async def segments(self, user_id: str) -> list[Segment]:
        """The segments of a user, the smallest first."""
        stored = []
        for header in await self._pages.find(
            {"userId": user_id, **_HEADERS}, max_time_ms=READ_MS
        ).to_list(None):
            references = {"userId": user_id, "searchSegment": segments.inside(header["_id"])}
            live = await self._threads.count_documents(references, maxTimeMS=READ_MS)
            stored.append(Segment(header["_id"], header.get("format"), header["threads"], live))
        return sorted(stored, key=lambda segment: segment.live)

    async def count_missing(self, user_id: str, kept: Iterable[Segment]) -> int:
        """How many threads of a user are in none of these segments."""
        return int(await self._threads.count_documents(_outside(user_id, kept), maxTimeMS=READ_MS))

    async def build(self, user_id: str, *, at_least: int = 1) -> Built:
        """Index the threads of a user that are in no segment; nothing if they are few.

        Small segments are merged with new ones, so that there are never many.

        Args:
            user_id: The user.
            at_least: How many threads are worth a segment.
        """
        present = await self.segments(user_id)
        kept = [segment for segment in present if not segment.stale]
        replaced = [segment for segment in present if segment.stale]
        new = int(
            await self._threads.count_documents(_free(user_id, kept, replaced), maxTimeMS=READ_MS)
        )
        if new < at_least and not replaced:
            return Built()
        # Not a much larger one: for a few new threads, all of its texts would be read again.
        while kept and kept[0].live <= 2 * new and new + kept[0].live <= segments.THREADS:
            new += kept[0].live
            replaced.append(kept.pop(0))
        built = Built(removed=len(replaced))
        free = _free(user_id, kept, replaced)
        while threads := await self._build_segment(user_id, free):
            built.segments += 1
            built.threads += threads
        await self._delete_replaced(user_id, [segment.id for segment in replaced])
        return built

    async def delete_segments(self, user_id: str | None = None) -> int:
        """Delete all segments, of one user or of all; returns how many documents."""
        owner = {} if user_id is None else {"userId": user_id}
        # The headers first: pages without one do not count.
        headers = await self._pages.delete_many({**owner, **_HEADERS})
        pages = await self._pages.delete_many(owner)
        return int(headers.deleted_count + pages.deleted_count)

    async def _build_segment(self, user_id: str, free: Document) -> int:
        """Build a segment of free threads; returns of how many, 0 if there are none."""
        # The hint makes a missing index an error, not a read of all threads of the user.
        found = self._threads.find(
            free, {"_id": 1}, limit=segments.THREADS, hint="user_search", max_time_ms=READ_MS
        )
        numbers = {thread["_id"]: number for number, thread in enumerate(await found.to_list(None))}
        if not numbers:
            return 0
        segment = str(ObjectId())
        # The whole filter again: a thread may have become long, or somebody else's, meanwhile.
        claims = [
            UpdateOne(
                {"_id": thread_id, **free},
                {"$set": {"searchSegment": segments.reference(segment, number)}},
            )
            for thread_id, number in numbers.items()
        ]
        await self._threads.bulk_write(claims, ordered=False)
        references = {"userId": user_id, "searchSegment": segments.inside(segment)}
        builder = SegmentBuilder(len(numbers))
        # The texts are read after the claim: each write since then removed its reference.
        claimed = self._threads.find(
            references, _TEXTS, hint="user_search", batch_size=100, max_time_ms=READ_MS
        )
        async for thread in claimed:
            # In a thread: a chat app has other things to do meanwhile.
            await asyncio.to_thread(builder.add, numbers[thread["_id"]], thread)
        await self._store(user_id, segment, builder)
        return int(builder.header()["threads"])

    async def _store(self, user_id: str, segment: str, builder: SegmentBuilder) -> None:
        """Store a segment: its header last, which makes it count."""
        pages = builder.pages()
        while batch := await asyncio.to_thread(list, islice(pages, PAGES_AT_ONCE)):
            await self._pages.insert_many(
                [{"segment": segment, "userId": user_id, **page} for page in batch]
            )
        await self._pages.insert_one({"_id": segment, "userId": user_id, **builder.header()})

    async def _delete_replaced(self, user_id: str, replaced: list[str]) -> None:
        """Delete segments, the headers first, and the pages that killed builds left."""
        await self._pages.delete_many({"_id": {"$in": replaced}})
        # Not distinct(), which the Stable API does not have.
        found = self._pages.find({"userId": user_id, **_HEADERS}, {"_id": 1}, max_time_ms=READ_MS)
        headers = [header["_id"] async for header in found]
        abandoned = {"$nin": headers, "$lt": _oldest_unfinished()}
        pages = [{"segment": {"$in": replaced}}, {"segment": abandoned}]
        await self._pages.delete_many({"userId": user_id, "$or": pages})


def _outside(user_id: str, kept: Iterable[Segment]) -> Document:
    """The filter on the short threads of a user that none of these segments knows."""
    ids = [segment.id for segment in kept]
    return {"userId": user_id, "overflow": None, **segments.outside(ids)}


def _free(user_id: str, kept: Iterable[Segment], replaced: Iterable[Segment]) -> Document:
    """The filter on the short threads of a user that may get another reference.

    They are in none of the segments that are kept, and in none that another process may be
    building: two that took each other's threads would never end.
    """
    ranges = [segments.inside(segment.id) for segment in replaced]
    # A reference begins with an ObjectId, which begins with its time: text order is age.
    references = [None, {"$lt": _oldest_unfinished()}, *ranges]
    free = {"$or": [{"searchSegment": reference} for reference in references]}
    return {**_outside(user_id, kept), "$and": [free]}


def _oldest_unfinished() -> str:
    """The least id of a segment that may still be being built."""
    return str(ObjectId.from_datetime(datetime.now(timezone.utc) - UNFINISHED))
