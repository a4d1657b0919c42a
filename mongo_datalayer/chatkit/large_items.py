"""Items too large for a document: their JSON text goes to GridFS, a reference stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from mongo_datalayer.chatkit.keys import new_item_key, thread_name
from mongo_datalayer.documents import Document, is_reference
from mongo_datalayer.driver import Database
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import FileDetails
from mongo_datalayer.values import plain, plain_text, size_of

START = 1000
"""How many characters stay in the document, for people in the shell."""


class LargeItems:
    """The large items of ChatKit's threads.

    Each version of an item has a file of its own: nobody reads a mix, and what was refused
    overwrites nothing.

    Args:
        database: The database; the files go to its bucket ``fs``.
    """

    def __init__(self, database: Database) -> None:
        self._bucket = FileBucket(database)

    async def take_out(self, key: Document, item: Document, at_least: int) -> Document:
        """The item, its payload stored and replaced by a reference if it has so many bytes."""
        if size_of(item["item"]) + size_of(item.get("exact")) < at_least:
            return item
        text = item.get("exact") or json.dumps(item["item"])
        content = text.encode()
        object_key = new_item_key(key, item["id"])
        details = FileDetails(mime="application/json", thread_id=thread_name(key))
        await self._bucket.write(object_key, content, details)
        reference = {
            "gridfs": object_key,
            "bytes": len(content),
            "form": "json",
            "start": plain_text(text[:START]),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return {
            **{name: value for name, value in item.items() if name != "exact"},
            "item": reference,
        }

    async def put_back(self, items: Iterable[Document]) -> list[Document]:
        """The items, those in GridFS with their text in ``exact``, which is what is read.

        Raises:
            NotFoundError: a file is gone: its item was replaced or deleted meanwhile.
        """
        return [
            {**item, "exact": (await self._bucket.read(item["item"]["gridfs"])).decode()}
            if is_reference(item["item"])
            else item
            for item in items
        ]

    async def put_in(self, items: Iterable[Document]) -> list[Document]:
        """The items, those in GridFS as if they had never been too large.

        Raises:
            NotFoundError: a file is gone.
        """
        return [
            _put_in(item, (await self._bucket.read(item["item"]["gridfs"])).decode())
            if is_reference(item["item"])
            else item
            for item in items
        ]

    async def discard(self, *items: Mapping[str, Any] | None) -> None:
        """Delete the files of items that nothing refers to any more."""
        keys = [
            item["item"]["gridfs"]
            for item in items
            if item is not None and is_reference(item.get("item"))
        ]
        if keys:
            await self._bucket.delete(keys)

    async def delete_thread(self, key: Document) -> None:
        """Delete all files of a thread's items."""
        await self._bucket.delete_thread(thread_name(key))

    async def delete_others(self, key: Document, items: Iterable[Mapping[str, Any]]) -> None:
        """Delete the files of all other items of a thread, and of earlier versions of these."""
        kept = {item["item"]["gridfs"] for item in items if is_reference(item["item"])}
        found = self._bucket.list_belonging([thread_name(key)])
        await self._bucket.discard(
            [file.file_id async for file in found if file.object_key not in kept]
        )


def _put_in(item: Mapping[str, Any], text: str) -> Document:
    payload = json.loads(text)
    readable = plain(payload)
    exact = {} if readable == payload else {"exact": text}
    return {**item, "item": readable, **exact}
