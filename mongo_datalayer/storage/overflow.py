"""Threads of any length: older items move from the main document to overflow documents.

The main document of a thread holds its newest items in embedded lists, steps for example. When it
grows beyond a bound, its oldest items move to an *overflow document*: it has the same lists, is in
another collection, and the main document has its id in ``overflowIds``.

An item is in the main document or in one listed overflow document, never in both. A move ends with
one guarded update of the main document, and only listed overflow documents count. A process that
dies in between leaves a copy that nobody reads. Readers take the main document first and the
overflow documents after it, so an item that moves in between was in the main document.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongo_datalayer.model.bson_values import MAX_INT, MIN_INT
from mongo_datalayer.model.documents import LONG, Document, size_of
from mongo_datalayer.model.stored_lists import (
    as_list,
    is_item,
    is_listing_damaged,
    listed_overflow,
    stored_count,
)
from mongo_datalayer.mongodb.client import Collection, aggregate
from mongo_datalayer.storage.overflow_ids import OverflowIds


@dataclass(frozen=True)
class Bounds:
    """Where a document ends and its overflow begins, in bytes.

    Attributes:
        main: A larger main document moves its oldest items to an overflow document.
        kept: How much of each list stays in the main document then.
        value: A value of this size is stored in GridFS instead of a document.
        long: The bound of a main document that has overflow documents already.
    """

    main: int = 128 * 1024
    kept: int = 16 * 1024
    value: int = 256 * 1024
    long: int = 64 * 1024

    def of(self, overflow_ids: Sequence[str]) -> int:
        """The bound of a main document with these overflow documents."""
        return min(self.main, self.long) if overflow_ids else self.main


UNBOUNDED = Bounds(sys.maxsize, sys.maxsize, sys.maxsize)
"""For mongomock, whose documents may have any size, and which cannot join collections."""

BOUNDS = Bounds()
"""The bounds in use; docs/design/overflow.md has the measurements behind them."""

MOVED_BYTES = 4 * 1024 * 1024
"""How much one move takes at most, so that its commands stay small."""

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_MARKS = frozenset({"overflowIds", "bytes", "overflow"})

Summary = Callable[[Mapping[str, Sequence[Document]]], Document]


class Overflow:
    """The overflow documents of one collection of threads.

    Args:
        threads: The collection of the main documents.
        documents: The collection of the overflow documents.
        lists: Names of the embedded lists. Each item has an ``id``, unique in its thread.
        texts: What an item must have to move; others were edited by hand, and stay.
        summary: Further fields of an overflow document, made from the items that move to it.
        oldest_first: The sort key by which items move; None for the order of arrival.
        bounds: When items move.
    """

    def __init__(
        self,
        threads: Collection,
        documents: Collection,
        lists: Sequence[str],
        *,
        texts: Sequence[str] = ("id",),
        summary: Summary | None = None,
        oldest_first: Callable[[Document], Any] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._threads = threads
        self._documents = documents
        self._lists = tuple(lists)
        self._texts = tuple(texts)
        self._summary = summary
        self._oldest_first = oldest_first
        self.bounds = BOUNDS if bounds is None else bounds
        self._ids = OverflowIds(lists)

    # Reading ----------------------------------------------------------------------------------

    def may_hold(self, thread_id: Any, overflow_ids: Sequence[str], item_id: str) -> bool | None:
        """Whether one of these overflow documents may hold the item; None when unknown."""
        return self._ids.may_hold(thread_id, overflow_ids, item_id)

    async def whole(self, main: Document, *, partial: bool = False) -> Document | None:
        """A thread with the items of all its overflow documents. One command.

        Args:
            main: The main document, as it was read just before.
            partial: Leave out overflow documents that are missing.

        Returns:
            The thread; None when an overflow document is missing, because the thread was deleted
            meanwhile or is damaged. What is no list, or no item, is among the items.
        """
        if is_listing_damaged(main) and not partial:
            return None
        listed = listed_overflow(main)
        cursor = self._documents.find({"_id": {"$in": list(listed)}}) if listed else None
        found = {} if cursor is None else {stored["_id"]: stored async for stored in cursor}
        if len(found) < len(listed) and not partial:
            return None
        if listed and not partial:
            self._ids.learn(main["_id"], listed, found.values())
        whole = {name: value for name, value in main.items() if name not in _MARKS}
        documents = [*(found[name] for name in listed if name in found), main]
        for name in self._lists:
            if any(name in document for document in documents):
                parts = [as_list(document.get(name)) for document in documents]
                whole[name] = [item for part in parts for item in part]
        return whole

    async def find(
        self, thread_id: Any, overflow_ids: Sequence[str], list_name: str, item_id: str
    ) -> Document | None:
        """An item of these overflow documents. One command, none where the answer is known."""
        if self.may_hold(thread_id, overflow_ids, item_id) is False:
            return None
        # By thread, as a long one has hundreds of overflow documents. Copies that a move left
        # behind, when its process died, are sorted out here.
        cursor = self._documents.find(
            {"thread": thread_id, f"{list_name}.id": item_id},
            {list_name: {"$elemMatch": {"id": item_id}}},
        )
        found = await cursor.to_list(None)
        return next((doc[list_name][0] for doc in found if doc["_id"] in overflow_ids), None)

    async def find_threads(self, list_name: str, item_id: str) -> set[Any]:
        """The threads with overflow documents that have an item. One command."""
        found = self._documents.find({f"{list_name}.id": item_id}, {"thread": 1})
        return {stored["thread"] async for stored in found}

    async def find_matching(
        self, query_filter: Mapping[str, Any], listed: Mapping[Any, Sequence[str]]
    ) -> list[Any]:
        """The threads with a matching overflow document, or piece of a large text. One command.

        Args:
            query_filter: The filter on overflow documents.
            listed: The overflow documents of each thread; others do not count.
        """
        found = self._documents.find(dict(query_filter), {"thread": 1, "value": 1})
        return [
            stored["thread"]
            async for stored in found
            if "value" in stored or stored["_id"] in listed[stored["thread"]]
        ]

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """What an aggregation of the overflow documents finds. One command."""
        return await aggregate(self._documents, pipeline)

    async def scan(
        self, thread_ids: Iterable[Any], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """Some fields of all overflow documents of these threads, ``thread`` among them."""
        projection = dict.fromkeys(("thread", *fields), 1)
        cursor = self._documents.find({"thread": {"$in": list(thread_ids)}}, projection)
        async for stored in cursor:
            yield stored

    # Writing ----------------------------------------------------------------------------------

    def room(self, overflow_ids: Sequence[str]) -> Document:
        """A guard for an append: the main document has room, and these overflow documents only.

        Pinning the list keeps an earlier "not found in them" valid. A document without a count of
        bytes never matches: it is a tombstone, or was made by hand.
        """
        return {**_same_list(overflow_ids), "bytes": {"$lt": self.bounds.of(overflow_ids)}}

    async def update(self, query_filter: Mapping[str, Any], update: Mapping[str, Any]) -> bool:
        """Update every matching overflow document; False when none matches. One command."""
        result = await self._documents.update_many(dict(query_filter), dict(update))
        return bool(result.matched_count)

    async def find_and_update(
        self,
        query_filter: Mapping[str, Any],
        update: Mapping[str, Any],
        projection: Mapping[str, Any],
    ) -> Document | None:
        """Update a matching overflow document; returns it as it was before. One command."""
        before: Document | None = await self._documents.find_one_and_update(
            dict(query_filter), dict(update), projection=dict(projection)
        )
        return before

    async def begin_to_count(self, thread_id: Any) -> None:
        """Count the bytes of a main document that was made by hand, from now on."""
        number = {"$gte": MIN_INT, "$lte": MAX_INT}  # an edit by hand may be none
        uncounted = {"_id": thread_id, "bytes": {"$not": number}, "deletedAt": None}
        await self._threads.update_one(uncounted, {"$set": {"bytes": 0}})

    async def make_room(self, thread_id: Any) -> None:
        """Move the oldest items of a main document to an overflow document, if it is full.

        The caller tries its write again afterwards. Another process may have moved the items, or
        changed one of them meanwhile: then nothing is moved.
        """
        # The mark comes before the copy: a deletion looks for copies only where it is. The bytes
        # are read raw, as the guard below compares items to the byte.
        raw: Any = self._threads.with_options(codec_options=_RAW)
        main = await raw.find_one_and_update(
            {"_id": thread_id, "deletedAt": None},
            {"$set": dict(LONG)},
            projection=dict.fromkeys((*self._lists, "overflowIds", "bytes"), 1),
        )
        if main is None:
            return
        overflow_ids = listed_overflow(main)
        size = stored_count(main)
        moved, moved_bytes, kept_bytes = self._oldest(main)
        # Updates count as growth, whatever they replace. Here the true size is known.
        correction = {"$inc": {"bytes": kept_bytes - (size or 0)}}
        if not moved:
            await self._threads.update_one({"_id": thread_id, "bytes": size}, correction)
            return
        overflow_id = await self._add(thread_id, moved, moved_bytes)
        unchanged = {name: {"$all": items} for name, items in moved.items()}
        pulled = {
            name: {"id": {"$in": [item["id"] for item in items]}} for name, items in moved.items()
        }
        result = await self._threads.update_one(
            {"_id": thread_id, **_same_list(overflow_ids), **unchanged},
            {"$pull": pulled, "$push": {"overflowIds": overflow_id}, **correction},
        )
        if result.matched_count:
            self._ids.learn_newest(thread_id, [*overflow_ids, overflow_id], moved)
        else:
            await self._documents.delete_one({"_id": overflow_id, "thread": thread_id})

    async def store(self, whole: Document) -> Document:
        """Store the overflow documents that a whole thread needs; returns its main document."""
        main = {**whole}
        overflow_ids: list[str] = []
        main_bytes = 0
        sized = self._sized(whole)
        is_long = sum(size for items in sized.values() for _, size in items) >= self.bounds.main
        for name, items in sized.items():
            moved = _count_of_oldest(items, self.bounds.kept) if is_long else 0
            main_bytes += sum(size for _, size in items[moved:])
            for chunk, chunk_bytes in _chunks(items[:moved], self.bounds.main):
                overflow_ids.append(await self._add(whole["_id"], {name: chunk}, chunk_bytes))
            if name in whole:
                main[name] = [item for item, _ in items[moved:]]
        marks = {"overflowIds": overflow_ids, **LONG} if overflow_ids else {}
        return {**main, "bytes": main_bytes, **marks}

    async def delete_documents(self, overflow_ids: Iterable[str]) -> None:
        """Delete overflow documents that no main document lists."""
        await self._documents.delete_many({"_id": {"$in": list(overflow_ids)}})

    async def delete(self, thread_ids: Iterable[Any]) -> int:
        """Delete all overflow documents of these threads; returns how many. One command."""
        query_filter = {"thread": {"$in": list(thread_ids)}}
        return int((await self._documents.delete_many(query_filter)).deleted_count)

    async def delete_others(self, thread_id: Any, overflow_ids: Iterable[str]) -> int:
        """Delete all overflow documents of a thread but these; returns how many. One command."""
        others = {"$nin": list(overflow_ids)}
        # Pieces of large texts are in the same collection; they alone have a "value".
        query_filter = {"thread": thread_id, "_id": others, "value": None}
        return int((await self._documents.delete_many(query_filter)).deleted_count)

    # Inside -----------------------------------------------------------------------------------

    async def _add(self, thread_id: Any, items: Mapping[str, list[Document]], size: int) -> str:
        summary = {} if self._summary is None else self._summary(items)
        overflow_id = str(ObjectId())
        await self._documents.insert_one(
            {"_id": overflow_id, "thread": thread_id, "bytes": size, **summary, **items}
        )
        return overflow_id

    def _sized(self, main: Mapping[str, Any]) -> dict[str, list[tuple[Any, int]]]:
        """The items of each list with their bytes, the oldest first."""
        sized = {}
        for name in self._lists:
            items = as_list(main.get(name))
            if self._oldest_first is not None:
                items = sorted(filter(self._may_move, items), key=self._oldest_first)
            sized[name] = [(item, _size(item)) for item in items]
        return sized

    def _may_move(self, item: Any) -> bool:
        return is_item(item, self._texts)

    def _oldest(self, main: Mapping[str, Any]) -> tuple[dict[str, list[Any]], int, int]:
        """The items to move, by list, their bytes, and the bytes of those that stay."""
        sized = self._sized(main)
        total = sum(size for items in sized.values() for _, size in items)
        # Half full: another process moved items meanwhile, or the count ran ahead of the size.
        if total < self.bounds.of(listed_overflow(main)) // 2:
            return {}, 0, total
        moved: dict[str, list[Any]] = {}
        moved_bytes = 0
        for name, items in sized.items():
            for item, size in items[: _count_of_oldest(items, self.bounds.kept)]:
                if moved_bytes >= MOVED_BYTES:
                    break
                if not self._may_move(item):
                    continue
                moved.setdefault(name, []).append(item)
                moved_bytes += size
        return moved, moved_bytes, total - moved_bytes


def _same_list(overflow_ids: Sequence[str]) -> Document:
    """A guard: the main document lists these overflow documents."""
    if not overflow_ids:
        return {"overflowIds": {"$exists": False}}
    # The list only grows, so its length and its last id say it all. And no equality: an upsert
    # would store it, as a map, in the thread that it makes.
    return {
        "overflowIds": {"$size": len(overflow_ids)},
        f"overflowIds.{len(overflow_ids) - 1}": {"$not": {"$ne": overflow_ids[-1]}},
    }


def _count_of_oldest(items: Sequence[tuple[Any, int]], kept_bytes: int) -> int:
    """How many items come before the last ones that have ``kept_bytes`` together."""
    total = 0
    for count in range(len(items), 0, -1):
        total += items[count - 1][1]
        if total > kept_bytes:
            return count
    return 0


def _chunks(items: Iterable[tuple[Any, int]], min_bytes: int) -> Iterator[tuple[list[Any], int]]:
    """The items in runs that just reach ``min_bytes``, each with its bytes."""
    chunk: list[Any] = []
    total = 0
    for item, size in items:
        chunk.append(item)
        total += size
        if total >= min_bytes:
            yield chunk, total
            chunk, total = [], 0
    if chunk:
        yield chunk, total


def _size(item: Any) -> int:
    return len(item.raw) if isinstance(item, RawBSONDocument) else size_of(item)
