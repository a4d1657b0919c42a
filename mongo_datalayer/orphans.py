"""Finds what nothing points to: what a process that was killed in the middle of its work leaves.

Files: only those are looked at that were stored for an element or a ChatKit attachment, or that
hold a large value or item. A file that an app stored for itself through the storage client, and
every file of another application, is left alone.

Overflow: parts that no thread lists, and pieces of large texts whose file is gone. A part is
deleted only if its thread still does not list it, and not before it is :data:`LEAST_AGE` old.

ChatKit's attachments: those whose thread is gone, and those that were announced and never sent.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from bson import ObjectId

from mongo_datalayer.chatkit.archive import ChatKitAttachmentArchive, ChatKitThreadArchive
from mongo_datalayer.chatkit.keys import (
    holds_attachment,
    holds_item,
    object_key,
    owned_by_name,
)
from mongo_datalayer.chatkit.statements import owned
from mongo_datalayer.documents import OVERFLOW, THREADS, Document
from mongo_datalayer.driver import Collection as MongoCollection
from mongo_datalayer.driver import Database, open_collection
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.large_values import holds_value
from mongo_datalayer.threads import Threads

BATCH = 1000

LEAST_AGE = timedelta(hours=1)
"""A move of steps to a part takes seconds: a part of this age that no thread lists is left over."""

_ID = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True)
class Orphan:
    """A stored file that nothing points to.

    Attributes:
        file_id: Its id in ``fs.files`` and ``fs.chunks``.
        object_key: The key it is stored under; None for an upload that was never finished.
        size: Bytes; None for an upload that was never finished.
    """

    file_id: str
    object_key: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Leftover:
    """A document of overflow that nobody reads.

    Attributes:
        id: Its ``_id``.
        thread: The thread it names: its id, or a ChatKit thread's owner and id.
        value: Key of the large text that it is a piece of; None for a part.
        size: Bytes of the items of a part; None for a piece.
    """

    id: str
    thread: Any
    value: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Abandoned:
    """A ChatKit attachment that nobody uses.

    Attributes:
        key: Its ``_id``, owner and id.
        object_key: The key of its file.
        thread: The id of the thread it belonged to; None for one that was never sent.
    """

    key: Document
    object_key: str
    thread: str | None = None


# Files ----------------------------------------------------------------------------------------


async def find_orphans(
    bucket: FileBucket,
    threads: Threads,
    before: datetime,
    *,
    chatkit: ChatKit | None = None,
    elements: bool = True,
    values: bool = True,
) -> AsyncIterator[Orphan]:
    """Files older than ``before`` that nothing points to, and uploads never finished.

    Args:
        bucket: Where the files are.
        threads: Where the elements are.
        before: Files from this time on are left out: their element may be on its way.
        chatkit: Where ChatKit's threads and attachments are; None leaves their files out.
        elements: Look at files of elements and attachments.
        values: Look at large values and items.
    """
    batch: list[StoredFile] = []
    newest: StoredFile | None = None
    async for file in bucket.list_files(before=before):
        is_elements = file.element_id is not None and file.thread_id is not None
        is_values = holds_value(file)
        if chatkit is not None:
            is_elements = is_elements or holds_attachment(file)
            is_values = is_values or holds_item(file)
        if not ((elements and is_elements) or (values and is_values)):
            continue
        if newest is not None and newest.object_key == file.object_key:
            replaced, newest = sorted((newest, file), key=lambda revision: revision.revision)
            yield Orphan(replaced.file_id, replaced.object_key, replaced.size)
            continue
        if newest is not None:
            batch.append(newest)
        if len(batch) == BATCH:
            for orphan in await _unreferenced(batch, threads, chatkit):
                yield orphan
            batch = []
        newest = file
    last = [*batch, *([newest] if newest else [])]
    for orphan in await _unreferenced(last, threads, chatkit):
        yield orphan
    async for file_id in bucket.list_unfinished(before=before):
        yield Orphan(file_id)


async def _unreferenced(
    files: list[StoredFile], threads: Threads, chatkit: ChatKit | None
) -> list[Orphan]:
    """Those of ``files`` that nothing points to."""
    keys = await threads.archive.object_keys({file.thread_id for file in files if file.thread_id})
    if chatkit is not None:
        keys |= await chatkit.object_keys(files)
    return [
        Orphan(file.file_id, file.object_key, file.size)
        for file in files
        if file.object_key not in keys
    ]


# ChatKit --------------------------------------------------------------------------------------


class ChatKit:
    """What of ChatKit's may be left over.

    Args:
        database: The database.
        bucket: Where the files of attachments are.
    """

    def __init__(self, database: Database, bucket: FileBucket) -> None:
        self._threads = ChatKitThreadArchive(database)
        self._attachments = ChatKitAttachmentArchive(database, bucket)
        self._bucket = bucket

    async def object_keys(self, files: Collection[StoredFile]) -> set[str]:
        """Of some files the keys that an attachment or a thread points to."""
        names = {file.thread_id for file in files if file.thread_id and holds_item(file)}
        attachments = {file.object_key for file in files if holds_attachment(file)}
        found = await self._threads.object_keys([owned_by_name(name) for name in names])
        return found | await self._attachments.there([owned_by_name(key) for key in attachments])

    async def abandoned(self, before: datetime) -> AsyncIterator[Abandoned]:
        """Attachments not touched since ``before`` whose thread is gone, or that were never sent.

        The reader may take its time, and may delete what it was given.
        """
        async for key in self._attachments.never_sent(before):
            yield Abandoned(key, object_key(key))
        condition = {"threadId": {"$exists": True}, "updatedAt": {"$lt": before}}
        async for stored in self._attachments.scan(condition, ("threadId",)):
            thread = owned(stored["_id"]["owner"], stored["threadId"])
            if not await self._threads.there([thread]):
                yield Abandoned(stored["_id"], object_key(stored["_id"]), stored["threadId"])

    async def delete(self, left: Abandoned, before: datetime) -> bool:
        """Delete an attachment and its file, unless it was touched meanwhile."""
        if left.thread is None:
            gone = await self._attachments.expire_unsent(left.key, before)
        else:
            unchanged = {"threadId": left.thread, "updatedAt": {"$lt": before}}
            gone = await self._attachments.expire(left.key, unchanged)
        if gone:
            await self._bucket.delete([left.object_key])
        return gone


# Overflow -------------------------------------------------------------------------------------


class Leftovers:
    """What is left over in the collection of parts and pieces.

    Args:
        database: The database.
        values: The bucket of large values.
        heads: The collection of the threads.
        parts: The collection of their parts.
    """

    def __init__(
        self,
        database: Database,
        values: FileBucket,
        *,
        heads: str = THREADS,
        parts: str = OVERFLOW,
    ) -> None:
        self._overflow = open_collection(database, parts)
        self._threads = open_collection(database, heads)
        self._values = values

    def parts(self, before: datetime) -> AsyncIterator[Leftover]:
        """Parts that no thread lists, older than ``before`` and than :data:`LEAST_AGE`.

        The reader may take its time, and may delete what it was given: nothing is held on the
        server between two pages.
        """
        return self._find(min(before, _now() - LEAST_AGE), {"value": {"$exists": False}})

    def pieces(self, before: datetime) -> AsyncIterator[Leftover]:
        """Pieces older than ``before`` of texts whose file is gone; the same holds."""
        return self._find(before, {"value": {"$exists": True}})

    async def _find(self, before: datetime, kind: Document) -> AsyncIterator[Leftover]:
        fields = {"thread": 1, "value": 1, "bytes": 1}
        last = ""
        while True:
            place = {**kind, "_id": {"$gt": last, "$lt": _id_of(before)}}
            page = await self._overflow.find(place, fields).sort("_id", 1).limit(BATCH).to_list()
            ours = [found for found in page if _ID.fullmatch(found["_id"])]
            for left in await self._unused(ours):
                yield left
            if len(page) < BATCH:
                return
            last = page[-1]["_id"]

    async def delete(self, left: Leftover) -> bool:
        """Delete it, unless somebody reads it now; True when it was deleted.

        A part that a thread comes to list at the very moment is put back.
        """
        if not await self._unused([_stored(left)]):
            return False
        stored = await self._overflow.find_one_and_delete({"_id": left.id})
        if stored is None:
            return False
        if left.value is None and await _lists(self._threads, left):
            await self._overflow.insert_one(stored)
            return False
        return True

    async def _unused(self, page: list[Document]) -> list[Leftover]:
        listed = await self._listed([found["thread"] for found in page if "value" not in found])
        there = await self._values.existing({found["value"] for found in page if "value" in found})
        return [
            Leftover(found["_id"], found["thread"], found.get("value"), found.get("bytes"))
            for found in page
            if (found["value"] not in there if "value" in found else found["_id"] not in listed)
        ]

    async def _listed(self, thread_ids: list[Any]) -> set[str]:
        heads = self._threads.find({"_id": {"$in": thread_ids}}, {"parts": 1})
        return {part_id async for head in heads for part_id in head.get("parts") or ()}


def unlisted_parts_pipeline(before: datetime, heads: str = THREADS) -> list[Document]:
    """The parts older than ``before`` that no thread lists, as one aggregation of them. Pure."""
    head = {
        "from": heads,
        "localField": "thread",
        "foreignField": "_id",
        "pipeline": [{"$project": {"parts": 1}}],
        "as": "head",
    }
    listed = {"$in": ["$_id", {"$ifNull": [{"$first": "$head.parts"}, []]}]}
    return [
        {"$match": {"_id": {"$lt": _id_of(before)}, "value": {"$exists": False}}},
        {"$project": {"thread": 1}},
        {"$lookup": head},
        {"$match": {"$expr": {"$not": [listed]}}},
        {"$project": {"thread": 1}},
    ]


async def _lists(threads: MongoCollection, part: Leftover) -> bool:
    return await threads.find_one({"_id": part.thread, "parts": part.id}, {"_id": 1}) is not None


def _stored(left: Leftover) -> Document:
    value = {} if left.value is None else {"value": left.value}
    return {"_id": left.id, "thread": left.thread, "bytes": left.size, **value}


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _id_of(moment: datetime) -> str:
    """The ids of documents that were stored before are lower, to the second."""
    return str(ObjectId.from_datetime(moment))
