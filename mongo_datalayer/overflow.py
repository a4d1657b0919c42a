"""Documents of any length: what a head no longer holds is in parts.

A *head* is a document with embedded lists, a thread with its steps for example. It always holds the
newest items. When it grows beyond a bound its oldest items move to a *part*, a document of another
collection with lists of the same names, and the head lists the part's id in ``parts``.

An item is in the head or in one listed part, never in both: the move ends with one guarded update
of the head, and a part counts only when the head lists it. A move that was killed in between leaves
a copy that nobody reads. Who reads takes the head first and the parts after it: an item that moves
in between is in what was read already.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongo_datalayer.documents import LONG, Document
from mongo_datalayer.driver import Collection
from mongo_datalayer.part_items import PartItems
from mongo_datalayer.values import size_of


@dataclass(frozen=True)
class Bounds:
    """Where a document ends and its overflow begins, in bytes.

    Attributes:
        head: A head that holds more moves its oldest items to a part.
        kept: How much of each list stays in the head then.
        value: A value of this size is not stored in a document, but in GridFS.
        long: A head that has parts already holds no more than this.
    """

    head: int = 128 * 1024
    kept: int = 16 * 1024
    value: int = 256 * 1024
    long: int = 64 * 1024

    def of(self, parts: Sequence[str] | int) -> int:
        """Where a head with these parts, or so many, ends."""
        return min(self.head, self.long) if parts else self.head


UNBOUNDED = Bounds(sys.maxsize, sys.maxsize, sys.maxsize)
"""For a database whose documents have no limit, and that cannot join: mongomock's."""

BOUNDS = Bounds()
"""The bounds in use; how they were chosen is in docs/design/overflow.md."""

MOVED_BYTES = 4 * 1024 * 1024
"""How much a move takes at most, so that its commands stay small."""

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)

Summary = Callable[[Mapping[str, Sequence[Document]]], Document]


class Overflow:
    """The parts of one collection of heads.

    Args:
        heads: The collection of the heads.
        parts: The collection of their parts.
        lists: Names of the embedded lists. Their items have an ``id``, unique among a head's.
        summary: Fields that a part gets besides, for the items that move to it.
        oldest_first: The order in which items move; the order of arrival when None.
        bounds: Where a head ends.
    """

    def __init__(
        self,
        heads: Collection,
        parts: Collection,
        lists: Sequence[str],
        *,
        summary: Summary | None = None,
        oldest_first: Callable[[Document], Any] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._heads = heads
        self._parts = parts
        self._lists = tuple(lists)
        self._summary = summary
        self._oldest_first = oldest_first
        self.bounds = BOUNDS if bounds is None else bounds
        self._items = PartItems(parts, lists)

    # Guards -----------------------------------------------------------------------------------

    def room(self, parts: Sequence[str] | int) -> Document:
        """A guard for what appends to a head: it has these parts (or so many), and room for more.

        That it has no others is what makes the look sound that the item is in none of them. A head
        whose bytes nobody counts does not fit: a tombstone, or one that was made by hand.
        """
        return {**_same_parts(parts), "bytes": {"$lt": self.bounds.of(parts)}}

    # Reading ----------------------------------------------------------------------------------

    def may_hold(self, head_id: Any, parts: Sequence[str], item_id: str) -> bool | None:
        """Whether one of these parts of a head may hold the item; None when that is not known."""
        return self._items.may_hold(head_id, parts, item_id)

    async def whole(self, head: Document, fields: Iterable[str] | None = None) -> Document | None:
        """A head with everything of its parts, without the marks of overflow.

        One command. None when a part is missing: the head was deleted meanwhile, or its parts are
        damaged.

        Args:
            head: The head, as it was read just before.
            fields: The fields to read of the parts; None reads all.
        """
        listed = head.get("parts") or ()
        projection = None if fields is None else dict.fromkeys(("thread", *fields), 1)
        cursor = self._parts.find({"_id": {"$in": listed}}, projection) if listed else None
        found = {part["_id"]: part async for part in cursor} if cursor is not None else {}
        if len(found) < len(listed):
            return None
        if listed and fields is None:
            self._items.learn(head["_id"], listed, found.values())
        whole = {name: value for name, value in head.items() if name not in _MARKS}
        stored = [*(found[part_id] for part_id in listed), head]
        for name in self._lists:
            if any(name in document for document in stored):
                whole[name] = [item for document in stored for item in document.get(name) or ()]
        return whole

    async def find(
        self, head_id: Any, parts: Sequence[str], name: str, item_id: str, *, new: bool = False
    ) -> Document | None:
        """An item of one of these parts of a head.

        One command; none where it is known that they do not hold it.

        Args:
            head_id: The head.
            parts: Its parts.
            name: The item's list.
            item_id: The item.
            new: The item is about to be appended, and others may be after it: so it is worth while
                to learn what the parts hold.
        """
        if new:
            await self._items.look_up(head_id, parts, item_id)
        if self.may_hold(head_id, parts, item_id) is False:
            return None
        # The parts are many, and their ids not needed to see that none of them has the item.
        found = self._parts.find(
            {"thread": head_id, f"{name}.id": item_id}, {name: {"$elemMatch": {"id": item_id}}}
        )
        return next(
            (part[name][0] for part in await found.to_list(None) if part["_id"] in parts), None
        )

    async def holder(self, condition: Mapping[str, Any]) -> Any:
        """The id of a head, one of whose parts may fit; None when none does. One command.

        It may be that the part is one that the head does not list.
        """
        part = await self._parts.find_one(dict(condition), {"thread": 1})
        return None if part is None else part["thread"]

    async def scan(self, head_ids: Iterable[Any], fields: Iterable[str]) -> AsyncIterator[Document]:
        """Some fields of all parts of these heads, ``thread`` among them."""
        found = self._parts.find(
            {"thread": {"$in": list(head_ids)}}, dict.fromkeys(("thread", *fields), 1)
        )
        async for part in found:
            yield part

    # Writing ----------------------------------------------------------------------------------

    async def update(self, condition: Mapping[str, Any], update: Mapping[str, Any]) -> bool:
        """Update every part that fits; False when there is none. One command."""
        result = await self._parts.update_many(dict(condition), dict(update))
        return bool(result.matched_count)

    async def find_and_update(
        self, condition: Mapping[str, Any], update: Mapping[str, Any], name: str, item_id: str
    ) -> Document | None:
        """Update the part that fits. One command.

        Returns:
            The item as it was before; None when no part fits.
        """
        before = await self._parts.find_one_and_update(
            dict(condition), dict(update), projection={name: {"$elemMatch": {"id": item_id}}}
        )
        return None if before is None else before[name][0]

    async def remove(
        self, condition: Mapping[str, Any], update: Mapping[str, Any], shown: Mapping[str, Any]
    ) -> Document | None:
        """Remove something from the part that fits; what ``shown`` projects of it as it was."""
        before: Document | None = await self._parts.find_one_and_update(
            dict(condition), dict(update), projection=dict(shown)
        )
        return before

    async def begin_to_count(self, head_id: Any) -> None:
        """Count the bytes of a head from now on, if nobody does."""
        uncounted = {"_id": head_id, "bytes": {"$exists": False}, "deletedAt": None}
        await self._heads.update_one(uncounted, {"$set": {"bytes": 0}})

    async def make_room(self, head_id: Any) -> None:
        """Move the oldest items of a head to a part, unless there is room in it.

        Whoever needs the room tries again afterwards: another process may have moved them, or one
        of the items may have changed meanwhile.
        """
        # Marked before there is a copy: a deletion must know that there may be one. And raw, as an
        # item must go over, and be compared, to the byte.
        raw: Any = self._heads.with_options(codec_options=_RAW)
        head = await raw.find_one_and_update(
            {"_id": head_id, "deletedAt": None},
            {"$set": dict(LONG)},
            projection=dict.fromkeys((*self._lists, "parts", "bytes"), 1),
        )
        if head is None:
            return
        parts = list(head.get("parts") or ())
        counted = head.get("bytes")
        moved, moved_bytes, kept_bytes = self._oldest(head)
        # Updates count as growth whatever they replace: now the size is known.
        correction = {"$inc": {"bytes": kept_bytes - (counted or 0)}}
        if not moved:
            await self._heads.update_one({"_id": head_id, "bytes": counted}, correction)
            return
        part_id = await self._add(head_id, moved, moved_bytes)
        unchanged = {name: {"$all": items} for name, items in moved.items()}
        gone = {name: {"id": {"$in": _ids(items)}} for name, items in moved.items()}
        result = await self._heads.update_one(
            {"_id": head_id, **_same_parts(parts), **unchanged},
            {"$pull": gone, "$push": {"parts": part_id}, **correction},
        )
        if not result.matched_count:
            await self._parts.delete_one({"_id": part_id})
            return
        self._items.learn_one(head_id, [*parts, part_id], moved)

    async def store(self, whole: Document) -> Document:
        """The head of a whole document, after the parts that it needs were stored."""
        head = {**whole}
        parts: list[str] = []
        kept_bytes = 0
        sized = self._sized(whole)
        is_long = sum(size for _, _, size in sized) >= self.bounds.head
        for name in self._lists:
            items = [(item, size) for of, item, size in sized if of == name]
            kept = _newest(items, self.bounds.kept) if is_long else len(items)
            kept_bytes += sum(size for _, size in items[len(items) - kept :])
            for chunk, chunk_bytes in _chunks(items[: len(items) - kept], self.bounds.head):
                parts.append(await self._add(whole["_id"], {name: chunk}, chunk_bytes))
            if name in whole:
                head[name] = [item for item, _ in items[len(items) - kept :]]
        return {**head, "bytes": kept_bytes, **({"parts": parts, **LONG} if parts else {})}

    async def discard(self, parts: Iterable[str]) -> None:
        """Delete parts that no head lists."""
        await self._parts.delete_many({"_id": {"$in": list(parts)}})

    async def delete(self, head_ids: Iterable[Any]) -> int:
        """Delete all that there is of these heads; returns how many documents. One command."""
        condition = {"thread": {"$in": list(head_ids)}}
        return int((await self._parts.delete_many(condition)).deleted_count)

    async def delete_others(self, head_id: Any, parts: Iterable[str]) -> int:
        """Delete all parts of a head but these; returns how many. One command."""
        others = {"$nin": list(parts)}
        condition = {"thread": head_id, "_id": others, "value": None}  # a piece of a text has one
        return int((await self._parts.delete_many(condition)).deleted_count)

    # Inside -----------------------------------------------------------------------------------

    async def _add(self, head_id: Any, items: Mapping[str, list[Document]], size: int) -> str:
        summary = self._summary(items) if self._summary is not None else {}
        part_id = str(ObjectId())
        await self._parts.insert_one(
            {"_id": part_id, "thread": head_id, "bytes": size, **summary, **items}
        )
        return part_id

    def _sized(self, head: Mapping[str, Any]) -> list[tuple[str, Any, int]]:
        """List, item and bytes of each item of a head, in each list the oldest first."""
        found = []
        for name in self._lists:
            items = list(head.get(name) or ())
            if self._oldest_first is not None:
                items.sort(key=self._oldest_first)
            found += [(name, item, _size(item)) for item in items]
        return found

    def _oldest(self, head: Mapping[str, Any]) -> tuple[dict[str, list[Any]], int, int]:
        """The items to move, by list, their bytes, and the bytes of those that stay."""
        sized = self._sized(head)
        total = sum(size for _, _, size in sized)
        if total < self.bounds.of(head.get("parts") or ()) // 2:
            return {}, 0, total
        moved: dict[str, list[Any]] = {}
        moved_bytes = 0
        for name in self._lists:
            items = [(item, size) for of, item, size in sized if of == name]
            for item, size in items[: len(items) - _newest(items, self.bounds.kept)]:
                if moved_bytes >= MOVED_BYTES:
                    break
                moved.setdefault(name, []).append(item)
                moved_bytes += size
        return moved, moved_bytes, total - moved_bytes


_MARKS = frozenset({"parts", "bytes", "overflow"})


def _same_parts(parts: Sequence[str] | int) -> Document:
    if isinstance(parts, int):
        return {"parts": {"$size": parts} if parts else {"$exists": False}}
    if not parts:
        return {"parts": {"$exists": False}}
    # Not as an equality: an upsert would store it, as a map, in the thread that it makes.
    return {"parts": {"$size": len(parts)}, f"parts.{len(parts) - 1}": {"$not": {"$ne": parts[-1]}}}


def _newest(items: Sequence[tuple[Any, int]], at_most: int) -> int:
    """How many of the last items have ``at_most`` bytes together."""
    count = total = 0
    for _, size in reversed(items):
        total += size
        if total > at_most:
            break
        count += 1
    return count


def _chunks(items: Iterable[tuple[Any, int]], at_least: int) -> Iterator[tuple[list[Any], int]]:
    """The items in runs that are just as large, and their bytes."""
    chunk: list[Any] = []
    total = 0
    for item, size in items:
        chunk.append(item)
        total += size
        if total >= at_least:
            yield chunk, total
            chunk, total = [], 0
    if chunk:
        yield chunk, total


def _size(item: Any) -> int:
    return len(item.raw) if isinstance(item, RawBSONDocument) else size_of(item)


def _ids(items: Iterable[Mapping[str, Any]]) -> list[str]:
    return [item["id"] for item in items]
