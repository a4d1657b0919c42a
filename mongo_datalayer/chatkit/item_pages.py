"""Pages of items: sorted by the server in the main document, then from overflow documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mongo_datalayer.chatkit import queries
from mongo_datalayer.chatkit.errors import MissingError
from mongo_datalayer.chatkit.queries import ITEM_TEXTS, PageRequest
from mongo_datalayer.chatkit.thread_storage import ThreadStorage
from mongo_datalayer.config import RUN_DOCTOR
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.printable import counted
from mongo_datalayer.model.stored_lists import (
    as_list,
    is_listing_damaged,
    items,
    listed_overflow,
)
from mongo_datalayer.mongodb.client import aggregate
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)


class ItemPages:
    """Reads pages of the items of ChatKit's threads.

    The main document is read first, and then only overflow documents that it lists. Together they
    are the thread at that moment, wherever an item moves meanwhile.

    Args:
        storage: Where the threads are.
    """

    def __init__(self, storage: ThreadStorage) -> None:
        self._threads = storage.threads
        self._overflow_documents = storage.overflow_documents

    async def read(self, key: Document, request: PageRequest) -> list[Document]:
        """At most ``limit`` items by their sort key; empty if there is no such thread.

        One command when the thread has no overflow documents.

        Raises:
            MissingError: ``after`` never was an item of the thread.
        """
        thread = await self._thread(key, request)
        if thread is None:
            return []
        cursor: str | None = thread.get("cursor")
        if request.after is not None and cursor is None:
            cursor = await self._cursor_in_overflow(key, request.after, thread)
            # Which items of the main document belong to the page depends on the cursor.
            thread = await self._thread(key, request, cursor)
            if thread is None:  # deleted meanwhile
                return []
        # An empty page comes as an item that is null.
        thread["items"] = items(thread, "items", ITEM_TEXTS)
        _warn_of_damaged(key, thread["damaged"])
        if thread["overflowIds"] is not None and is_listing_damaged(thread):
            _warn_of_lost_overflow(key)
        page: list[Document] = thread["items"]
        if not listed_overflow(thread):
            return page
        return await self._with_overflow(key, thread, cursor, request)

    async def _thread(
        self, key: Document, request: PageRequest, cursor: str | None = None
    ) -> Document | None:
        found = await aggregate(self._threads, queries.items_page_pipeline(key, request, cursor))
        return found[0] if found else None

    async def _cursor_in_overflow(
        self, key: Document, item_id: str, thread: Mapping[str, Any]
    ) -> str:
        listed = list(listed_overflow(thread))
        document = listed and await self._overflow_documents.find_one(
            {"thread": key, "items.id": item_id, "_id": {"$in": listed}},
            {"items": {"$elemMatch": {"id": item_id}}},
        )
        if not document:
            raise MissingError(f"Item {item_id} not found in thread {key['id']}")
        return str(document["items"][0]["sortKey"])

    async def _with_overflow(
        self, key: Document, thread: Mapping[str, Any], cursor: str | None, request: PageRequest
    ) -> list[Document]:
        """The page of the main document, completed from as few overflow documents as hold it."""
        page: list[Document] = thread["items"]
        descending = request.descending
        deleted = {item["sortKey"] for item in items(thread, "deletedItems", ("sortKey",))}
        for document in await self._nearest_first(key, thread, cursor, descending=descending):
            if len(page) == request.limit:
                last = page[-1]["sortKey"]
                # The page is full, and all that is in this document comes after it.
                end = document.get("last" if descending else "first")
                if isinstance(end, str) and (end < last if descending else end > last):
                    break
            stored = await self._overflow_documents.find_one({"_id": document["_id"]}, {"items": 1})
            more = (
                item
                for item in _readable_items(key, stored or {})
                if item["sortKey"] not in deleted
                and _is_after(item["sortKey"], cursor, descending=descending)
            )
            page = _sorted([*page, *more], "sortKey", descending=descending)[: request.limit]
        return page

    async def _nearest_first(
        self, key: Document, thread: Mapping[str, Any], cursor: str | None, *, descending: bool
    ) -> list[Document]:
        """The ranges of the listed overflow documents that may hold some of the page."""
        query_filter = queries.overflow_filter(key, cursor, descending=descending)
        # A killed move leaves a document that no thread lists.
        listed = set(listed_overflow(thread))
        found = self._overflow_documents.find(query_filter, {"first": 1, "last": 1})
        documents = [document async for document in found if document["_id"] in listed]
        if cursor is None and len(documents) < len(listed):
            _warn_of_lost_overflow(key)
        return _sorted(documents, "last" if descending else "first", descending=descending)


def _readable_items(key: Document, stored: Mapping[str, Any]) -> list[Document]:
    """The items of an overflow document, without those that were edited by hand."""
    found = items(stored, "items", ITEM_TEXTS)
    _warn_of_damaged(key, len(as_list(stored.get("items"))) - len(found))
    return found


def _warn_of_damaged(key: Document, count: int) -> None:
    if count:
        what = counted(count, "item")
        logger.warning("Damaged in the thread %r, and left out: %s", key["id"], what)


def _warn_of_lost_overflow(key: Document) -> None:
    logger.warning("The thread %r lost overflow documents. %s", key["id"], RUN_DOCTOR)


def _is_after(sort_key: str, cursor: str | None, *, descending: bool) -> bool:
    return cursor is None or (sort_key < cursor if descending else sort_key > cursor)


def _sorted(documents: Iterable[Document], field: str, *, descending: bool) -> list[Document]:
    return sorted(documents, key=lambda document: str(document.get(field)), reverse=descending)
