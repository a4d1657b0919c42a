"""Builds a user's segments, and builds them anew when many of their threads have changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from bson import ObjectId
from pymongo import UpdateOne

from mongo_datalayer.documents import SEARCH_WORDS, THREADS, Document
from mongo_datalayer.driver import Database, aggregate, open_collection
from mongo_datalayer.pipelines import UNINDEXED
from mongo_datalayer.search_index import segments
from mongo_datalayer.search_index.segments import Draft
from mongo_datalayer.search_index.words import FORM

SEGMENT_BYTES = 32 * 1024 * 1024
"""A segment ends with the thread that brings its texts to this size, in characters."""

KEPT_DAYS = 7
"""A segment is built anew after so many days if one of its threads was changed or deleted."""

UNFINISHED = timedelta(hours=1)
"""Pages without a head that are younger may be another process's, which is still building."""

_SHORT: Document = {"overflow": None}
_HEADS: Document = {"form": {"$exists": True}}
_PAGES_AT_ONCE = 64
_TEXTS = {"name": 1, "metadata.name": 1, "steps.input": 1, "steps.output": 1}


@dataclass
class Built:
    """What was built.

    Attributes:
        threads: How many threads were read.
        segments: How many segments were made of them.
        removed: How many segments were replaced by those.
    """

    threads: int = 0
    segments: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Segment:
    """A segment that is there.

    Attributes:
        id: Its id.
        form: What its words depend on; see :data:`~mongo_datalayer.search_index.words.FORM`.
        count: The first number that none of its threads has.
        threads: How many threads it was built of.
        live: How many of them have not changed since.
        built: When it was built.
    """

    id: str
    form: str
    count: int
    threads: int
    live: int
    built: datetime

    @property
    def worn(self) -> bool:
        """Whether it should be built anew."""
        gone = self.threads - self.live
        age = datetime.now(timezone.utc) - self.built
        return self.form != FORM or gone * 4 > self.threads or bool(gone and age.days >= KEPT_DAYS)


class SearchIndexer:
    """Builds the segments of one database.

    Any number of processes may build at the same time, and be killed at any time: a thread counts
    as indexed only by the segment whose mark it carries, and only once that segment is whole. Each
    write to a thread's texts takes the mark away.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._threads = open_collection(database, THREADS)
        self._pages = open_collection(database, SEARCH_WORDS)

    async def segments(self, user_id: str) -> list[Segment]:
        """The segments of a user, the smallest first."""
        found = self._pages.find(
            {"userId": user_id, **_HEADS}, {"count": 1, "form": 1, "threads": 1}
        )
        heads = await found.to_list(None)
        present = [await self._segment(user_id, head) for head in heads]
        return sorted(present, key=lambda segment: segment.live)

    async def missing(self, user_id: str, kept: Iterable[Segment]) -> int:
        """How many threads of a user none of these segments knows."""
        return int(await self._threads.count_documents(_outside(user_id, _ids(kept))))

    async def build(self, user_id: str, *, at_least: int = 1) -> Built:
        """Index the threads of a user that are in no segment; nothing if they are few.

        Small segments are taken along, so that there are never many.

        Args:
            user_id: The user.
            at_least: How many threads are worth a segment.
        """
        present = await self.segments(user_id)
        kept = [segment for segment in present if not segment.worn]
        replaced = [segment for segment in present if segment.worn]
        new = int(await self._threads.count_documents(_free(user_id, kept, replaced)))
        if new < at_least and not replaced:
            return Built()
        while kept and kept[0].live <= 2 * new and new + kept[0].live <= segments.THREADS:
            new += kept[0].live
            replaced.append(kept.pop(0))
        built = Built()
        free = _free(user_id, kept, replaced)
        while threads := await self._build_segment(user_id, free):
            built.segments += 1
            built.threads += threads
        built.removed = await self._remove(user_id, replaced)
        return built

    async def forget(self, user_id: str | None = None) -> int:
        """Remove all segments, of one user or of all; returns how many documents."""
        whose = {} if user_id is None else {"userId": user_id}
        # The heads first: pages without one do not count.
        heads = await self._pages.delete_many({**whose, **_HEADS})
        pages = await self._pages.delete_many(whose)
        return int(heads.deleted_count + pages.deleted_count)

    async def _segment(self, user_id: str, head: Document) -> Segment:
        condition = {
            "userId": user_id,
            "searchMark": segments.marks(head["_id"], end=head["count"]),
        }
        return Segment(
            head["_id"],
            head["form"],
            head["count"],
            head["threads"],
            await self._threads.count_documents(condition),
            ObjectId(head["_id"]).generation_time,
        )

    async def _build_segment(self, user_id: str, free: Document) -> int:
        """Build a segment of the newest threads that fit; returns how many it has."""
        name = str(ObjectId())
        if not await self._mark(user_id, name, free):
            return 0
        draft = Draft()
        async for thread in self._marked(user_id, name):
            # Elsewhere: a chat app has other things to do meanwhile.
            await asyncio.to_thread(draft.add, segments.number(thread["searchMark"]), thread)
            if draft.size >= SEGMENT_BYTES:
                break
        if draft:
            await self._store(user_id, name, draft)
        # Those that the segment had no room for are free again.
        rest = {"userId": user_id, "searchMark": segments.marks(name, first=draft.count)}
        await self._threads.update_many(rest, {"$unset": UNINDEXED})
        return len(draft)

    async def _mark(self, user_id: str, name: str, free: Document) -> bool:
        """Mark the newest threads that fit; False when there are none."""
        found = await aggregate(
            self._threads,
            [
                {"$match": free},
                {"$project": {"updatedAt": 1}},
                {"$sort": {"updatedAt": -1, "_id": -1}},
                {"$limit": segments.THREADS},
            ],
            hint="user_search",
        )
        if not found:
            return False
        # Not those that became long, or somebody else's, meanwhile.
        await self._threads.bulk_write(
            [
                UpdateOne(
                    {"_id": thread["_id"], **free},
                    {"$set": {"searchMark": segments.mark(name, number)}},
                )
                for number, thread in enumerate(found)
            ],
            ordered=False,
        )
        return True

    def _marked(self, user_id: str, name: str) -> AsyncIterator[Document]:
        """The threads with the marks of a segment, in the order of their numbers."""
        condition = {"userId": user_id, "searchMark": segments.marks(name)}
        fields = {**_TEXTS, **dict.fromkeys((*segments.TIMES, "searchMark"), 1)}
        found: AsyncIterator[Document] = self._threads.find(
            condition, fields, hint="user_search", batch_size=100
        ).sort("searchMark", 1)
        return found

    async def _store(self, user_id: str, name: str, draft: Draft) -> None:
        """Store a segment: its head last, which makes it count."""
        waiting: list[Document] = []
        for number, page in enumerate(draft.pages()):
            waiting.append({"_id": f"{name}/{number}", "segment": name, "userId": user_id, **page})
            await asyncio.sleep(0)
            if len(waiting) == _PAGES_AT_ONCE:
                await self._pages.insert_many(waiting)
                waiting = []
        await self._pages.insert_many([*waiting, {"_id": name, "userId": user_id, **draft.head()}])

    async def _remove(self, user_id: str, replaced: Iterable[Segment]) -> int:
        """Remove segments, the heads first, and what killed builds left; returns how many."""
        names = [segment.id for segment in replaced]
        await self._pages.delete_many({"_id": {"$in": names}})
        present = await self._pages.distinct("_id", {"userId": user_id, **_HEADS})
        headless = {"$nin": present, "$lt": _young()}
        either = [{"segment": {"$in": names}}, {"segment": headless}]
        await self._pages.delete_many({"userId": user_id, "$or": either})
        return len(names)


def _free(user_id: str, kept: Iterable[Segment], replaced: Iterable[Segment]) -> Document:
    """The short threads of a user that may get a mark.

    They are in none of the segments that are kept, and in none that another process may be
    building: two that took each other's threads would not come to an end.
    """
    marks: list[Document] = [{"$lt": _young()}, *(segments.marks(each.id) for each in replaced)]
    either = [{"searchMark": None}, *({"searchMark": mark} for mark in marks)]
    return {**_outside(user_id, _ids(kept)), "$and": [{"$or": either}]}


def _young() -> str:
    """The id that a segment would have at least that may still be being built."""
    return str(ObjectId.from_datetime(datetime.now(timezone.utc) - UNFINISHED))


def _outside(user_id: str, known: Mapping[str, int]) -> Document:
    """The short threads of a user that none of these segments knows."""
    return {"userId": user_id, **_SHORT, **segments.outside(known)}


def _ids(kept: Iterable[Segment]) -> dict[str, int]:
    return {segment.id: segment.count for segment in kept}
