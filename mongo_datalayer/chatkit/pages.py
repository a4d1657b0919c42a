"""Pages of items: chosen by the server in the head, and from as few parts as hold them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mongo_datalayer.chatkit import statements
from mongo_datalayer.chatkit.errors import MissingError
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Collection as MongoCollection
from mongo_datalayer.driver import aggregate

_RANGE = {"first": 1, "last": 1}


class ItemPages:
    """Reads pages of the items of ChatKit's threads.

    The head is read first, and of the parts only those that it lists: together they are the thread
    at that moment, wherever an item moves meanwhile.

    Args:
        threads: The heads.
        parts: Their parts.
    """

    def __init__(self, threads: MongoCollection, parts: MongoCollection) -> None:
        self._threads = threads
        self._parts = parts

    async def read(
        self, key: Document, *, after: str | None, limit: int, descending: bool
    ) -> list[Document]:
        """At most ``limit`` items by their place; none of a thread that is not there.

        One command when the thread has no parts.

        Raises:
            MissingError: ``after`` never was an item of the thread.
        """
        head = await self._head(key, after=after, limit=limit, descending=descending)
        if head is None:
            return []
        place: str | None = head.get("cursor")
        if after is not None and place is None:
            place = await self._place_in_parts(key, after, head)
            head = await self._head(
                key, after=after, place=place, limit=limit, descending=descending
            )
            if head is None:  # deleted meanwhile
                return []
        page: list[Document] = head["items"]
        if not head.get("parts"):
            return page
        return await self._with_parts(key, head, page, place, limit, descending=descending)

    async def _head(self, key: Document, **options: Any) -> Document | None:
        found = await aggregate(self._threads, statements.items_page_pipeline(key, **options))
        return found[0] if found else None

    async def _place_in_parts(self, key: Document, item_id: str, head: Mapping[str, Any]) -> str:
        listed = head.get("parts") or ()
        part = listed and await self._parts.find_one(
            {"thread": key, "items.id": item_id, "_id": {"$in": listed}},
            {"items": {"$elemMatch": {"id": item_id}}},
        )
        if not part:
            raise MissingError(f"Item {item_id} not found in thread {key['id']}")
        return str(part["items"][0]["order"])

    async def _with_parts(
        self,
        key: Document,
        head: Mapping[str, Any],
        page: list[Document],
        place: str | None,
        limit: int,
        *,
        descending: bool,
    ) -> list[Document]:
        deleted = {item["order"] for item in head.get("deletedItems") or ()}
        for part in await self._ranges(key, head["parts"], place, descending=descending):
            if len(page) == limit and _is_beyond(part, page[-1]["order"], descending=descending):
                break
            stored = await self._parts.find_one({"_id": part["_id"]}, {"items": 1})
            more = (stored or {}).get("items") or ()
            fitting = (
                item
                for item in more
                if item["order"] not in deleted
                and (place is None or (item["order"] < place) == descending)
                and item["order"] != place
            )
            page = _merged(page, fitting, descending=descending)[:limit]
        return page

    async def _ranges(
        self, key: Document, listed: Collection[str], place: str | None, *, descending: bool
    ) -> list[Document]:
        """The listed parts that may hold some of the page, nearest first, without their items."""
        condition = statements.ranges_condition(key, place, descending=descending)
        known = set(listed)
        ranges = [part async for part in self._parts.find(condition, _RANGE)]
        edge = "last" if descending else "first"
        return sorted(
            (part for part in ranges if part["_id"] in known),
            key=lambda part: str(part[edge]),
            reverse=descending,
        )


def _is_beyond(part: Mapping[str, Any], place: str, *, descending: bool) -> bool:
    """Whether everything in a part comes after a place."""
    return bool(part["last"] < place if descending else part["first"] > place)


def _merged(page: list[Document], more: Iterable[Document], *, descending: bool) -> list[Document]:
    return sorted([*page, *more], key=lambda item: str(item["order"]), reverse=descending)
