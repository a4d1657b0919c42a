"""Reads many documents page by page, so that a slow reader holds nothing open on the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, TypeVar

from mongo_datalayer.config import DEFAULT_TIMEOUT_MS
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Collection

Item = TypeVar("Item")

PAGE = 100
"""How many documents one command reads."""


async def pages_by_id(
    collection: Collection,
    filter: Mapping[str, Any],
    fields: Iterable[str] = (),
    *,
    size: int = PAGE,
) -> AsyncIterator[Document]:
    """The documents that match, ordered by ``_id``, read with one command per page.

    You may take your time with each of them, and delete it: the next page starts after the last
    ``_id`` and not at a position.

    Args:
        collection: The collection.
        filter: A filter.
        fields: The fields to read besides ``_id``; none reads all.
        size: Documents per page.
    """
    projection = dict.fromkeys(("_id", *fields), 1) if (fields := tuple(fields)) else None
    after: Document = {}
    while True:
        # $and, as the filter may have a condition on _id of its own.
        cursor = collection.find({"$and": [dict(filter), after]}, projection)
        count = 0
        # One by one and not as a list: a page of the largest documents has more than a gigabyte.
        async for document in cursor.sort("_id", 1).limit(size):
            count += 1
            after = {"_id": {"$gt": document["_id"]}}
            yield document
        if count < size:
            return


async def distinct_values(
    collection: Collection, field: str, query: Document, *, size: int
) -> AsyncIterator[list[Any]]:
    """The values of an indexed field in matching documents, in order, each once, page by page.

    Args:
        collection: The collection.
        field: The field, which has a value in each of the documents.
        query: A filter, which may bound the field's values.
        size: Documents per page.
    """
    projection = {field: 1, "_id": 0}  # answered from the index, where the query is, too
    while True:
        found = collection.find(query, projection, max_time_ms=DEFAULT_TIMEOUT_MS)
        page = await found.sort(field, 1).limit(size).to_list(None)
        values = list(dict.fromkeys(document[field] for document in page))
        yield values
        if len(page) < size:
            return
        query = {**query, field: {**query.get(field, {}), "$gt": values[-1]}}


async def batches(items: AsyncIterator[Item], size: int) -> AsyncIterator[list[Item]]:
    """The items in lists of ``size``; the last one may be shorter."""
    batch: list[Item] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
