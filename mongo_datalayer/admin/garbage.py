"""Finds what nothing refers to: what a process leaves that was killed in the middle of its work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Literal, TypeAlias

from bson import ObjectId

from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from mongo_datalayer.admin.chatkit_data import ChatKitData, thread_keys
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chatkit.object_keys import (
    file_keys,
    holds_attachment,
    holds_item,
    object_key,
    owned_by_name,
)
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.config import BUCKET
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.model.documents import (
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    OVERFLOW,
    THREADS,
    Document,
)
from mongo_datalayer.model.stored_lists import array, is_listing_damaged, listed_overflow
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.paging import batches, pages_by_id
from mongo_datalayer.storage.large_values import holds_value

BATCH = 100

LEAST_AGE = timedelta(hours=1)
"""An overflow document of this age that no thread lists is garbage: a move takes seconds."""

Kind: TypeAlias = Literal[
    "file",
    "unfinished upload",
    "overflow document",
    "piece of a text",
    "attachment never sent",
    "attachment of no thread",
]

_OVERFLOW = {THREADS: OVERFLOW, CHATKIT_THREADS: CHATKIT_OVERFLOW}
_ID = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True)
class Orphan:
    """Something stored that nothing refers to.

    Attributes:
        kind: What it is. An overflow document has steps or items, and no thread lists it; a piece
            of a text is one for keyword search in a large text that is gone.
        id: Id of the file, the overflow document or the attachment.
        key: Object key of the file, of the large text, or of the attachment's file.
        size: Its bytes; None where nobody counted them.
        thread: The thread that it names: an id, or for ChatKit's overflow documents owner and id.
            An attachment may name several.
        owner: The owner of an attachment.
    """

    kind: Kind
    id: str
    key: str | None = None
    size: int | None = None
    thread: Any = None
    owner: str | None = None


class Garbage:
    """Everything in a database that nothing refers to.

    Args:
        database: The database.
        bucket: Name of the bucket of the files; large values are always in ``fs``.
        before: Only what was stored, or last touched, before. What refers to a younger file or
            document may be on its way.
    """

    def __init__(self, database: Database, bucket: str, before: datetime) -> None:
        self._files = FileBucket(database, bucket)
        self._values = FileBucket(database, BUCKET)
        self._threads = ChainlitThreads(ThreadDocuments(database))
        self._chatkit = ChatKitData(database, self._files)
        self._main = {name: open_collection(database, name) for name in _OVERFLOW}
        self._overflow = {
            threads: open_collection(database, name) for threads, name in _OVERFLOW.items()
        }
        self._before = before
        self._old: Document = {"updatedAt": {"$lt": before}}
        self._unsent: Document = {
            **self._old,
            "upload": {"$exists": True},
            "upload.at": {"$exists": False},
            "upload.bucket": {"$in": [None, bucket]},
            "threadIds": {"$exists": False},
        }

    async def collect(self, *, delete: bool) -> AsyncIterator[Orphan]:
        """Find all orphans, and delete them if you say so: then you get those that were deleted.

        Deleting may give more than finding does: what only deleted ones referred to.
        """
        buckets = [self._files] if self._files.name == BUCKET else [self._files, self._values]
        # In this order: a file stays as long as an overflow document that refers to it, and the
        # pieces of a text stay as long as its file.
        steps: list[tuple[AsyncIterator[Orphan], Callable[..., Awaitable[list[Orphan]]]]] = [
            *((self.unlisted_overflow(t), partial(self.delete_overflow, t)) for t in _OVERFLOW),
            (self.attachments(), self.delete_attachments),
            *((self.files(bucket), partial(_delete_files, bucket)) for bucket in buckets),
            (self.pieces(), partial(self.delete_overflow, THREADS)),
        ]
        for orphans, delete_batch in steps:
            async for batch in batches(orphans, BATCH):
                for orphan in await delete_batch(batch) if delete else batch:
                    yield orphan

    async def files(self, bucket: FileBucket) -> AsyncIterator[Orphan]:
        """Files that nothing refers to, replaced revisions, and unfinished uploads."""
        async for batch in batches(self._by_key(bucket), BATCH):
            newest = [max(revisions, key=lambda file: file.revision) for revisions in batch]
            referred = await self._referred(newest)
            for latest, revisions in zip(newest, batch, strict=True):
                for file in revisions:
                    if file != latest or file.object_key not in referred:
                        yield Orphan("file", file.file_id, file.object_key, file.size)
        async for file_id in bucket.list_unfinished(before=self._before):
            yield Orphan("unfinished upload", file_id)

    async def _by_key(self, bucket: FileBucket) -> AsyncIterator[list[StoredFile]]:
        """The files that may be orphans, all revisions of one key together."""
        revisions: list[StoredFile] = []
        async for file in bucket.list_files(before=self._before):
            if not self._may_be_orphan(file, bucket):
                continue
            if revisions and revisions[0].object_key != file.object_key:
                yield revisions
                revisions = []
            revisions.append(file)
        if revisions:
            yield revisions

    def _may_be_orphan(self, file: StoredFile, bucket: FileBucket) -> bool:
        if holds_value(file) or holds_item(file):
            return bucket.name == BUCKET
        # A file that the app stored for itself through the storage client names no element.
        of_element = file.element_id is not None and file.thread_id is not None
        return bucket.name == self._files.name and (of_element or holds_attachment(file))

    async def _referred(self, files: list[StoredFile]) -> set[str]:
        """Those object keys of the files that something refers to."""
        thread_ids = {file.thread_id for file in files if file.thread_id}
        chatkit_names = {file.thread_id for file in files if file.thread_id and holds_item(file)}
        attachments = [owned_by_name(f.object_key) for f in files if holds_attachment(f)]
        return (
            await self._threads.object_keys(thread_ids)
            | await self._chatkit.threads.object_keys(map(owned_by_name, chatkit_names))
            | {
                name
                for key in await self._chatkit.attachments.existing(attachments)
                for name in file_keys(key)
            }
        )

    async def attachments(self) -> AsyncIterator[Orphan]:
        """Attachments that were announced and never sent, and those whose thread is gone."""
        scan = self._chatkit.attachments.scan
        async for stored in scan(self._unsent, ("upload.objectKey",)):
            # A process that was killed after an upload did not note that the file is there.
            if await self._files.find(stored["upload"]["objectKey"]) is None:
                yield _of_attachment("attachment never sent", stored)
        async for stored in scan({**self._old, "threadIds": {"$exists": True}}, ("threadIds",)):
            if not await self._chatkit.threads.existing(thread_keys(stored)):
                yield _of_attachment("attachment of no thread", stored)

    async def delete_attachments(self, orphans: list[Orphan]) -> list[Orphan]:
        """Delete attachments and their files; returns those that were not touched meanwhile."""
        deleted = []
        for orphan in orphans:
            of_thread = {**self._old, "threadIds": {"$exists": True}}
            unchanged = self._unsent if orphan.kind == "attachment never sent" else of_thread
            key = owned(str(orphan.owner), orphan.id)
            # An upload or a message that came meanwhile wins.
            if unchanged is self._unsent and await self._files.find(object_key(key)) is not None:
                continue
            if await self._chatkit.attachments.expire({"_id": key}, unchanged) is not None:
                await self._files.delete(file_keys(key))
                deleted.append(orphan)
        return deleted

    def unlisted_overflow(self, threads: str) -> AsyncIterator[Orphan]:
        """Overflow documents of :data:`LEAST_AGE` or older that no thread lists.

        Args:
            threads: The collection of the threads.
        """
        before = min(self._before, datetime.now(timezone.utc) - LEAST_AGE)
        return self._find_overflow(threads, before, {"value": {"$exists": False}})

    def pieces(self) -> AsyncIterator[Orphan]:
        """Pieces of large texts whose file is gone."""
        return self._find_overflow(THREADS, self._before, {"value": {"$exists": True}})

    async def delete_overflow(self, threads: str, orphans: list[Orphan]) -> list[Orphan]:
        """Delete overflow documents; returns those that were still orphans."""
        return [orphan for orphan in orphans if await self._delete_overflow(threads, orphan)]

    async def _find_overflow(
        self, threads: str, before: datetime, kind: Document
    ) -> AsyncIterator[Orphan]:
        filter = {**kind, "_id": {"$gt": "", "$lt": _id_at(before)}}
        stored = pages_by_id(self._overflow[threads], filter, ("thread", "value", "bytes"))
        async for batch in batches(stored, BATCH):
            orphans = [
                _of_overflow(document) for document in batch if _ID.fullmatch(document["_id"])
            ]
            for orphan in await self._unused(threads, orphans):
                yield orphan

    async def _unused(self, threads: str, orphans: list[Orphan]) -> list[Orphan]:
        values = await self._values.existing({orphan.key for orphan in orphans if orphan.key})
        thread_ids = [orphan.thread for orphan in orphans if orphan.key is None]
        found = self._main[threads].find({"_id": {"$in": thread_ids}}, {"overflowIds": 1})
        listed: set[str] = set()
        damaged: list[Any] = []
        async for thread in found:
            listed.update(listed_overflow(thread))
            # What it has listed is all that is left of its older items.
            damaged += [thread["_id"]] if is_listing_damaged(thread) else []
        return [
            orphan
            for orphan in orphans
            if orphan.key not in values
            and orphan.id not in listed
            and (orphan.key is not None or orphan.thread not in damaged)
        ]

    async def _delete_overflow(self, threads: str, orphan: Orphan) -> bool:
        if not await self._unused(threads, [orphan]):
            return False
        # With the thread: a sharded MongoDB before 7.1 refuses a deletion without it.
        named = {"_id": orphan.id, "thread": orphan.thread}
        stored = await self._overflow[threads].find_one_and_delete(named)
        # A move may have listed it between the look and the deletion: the thread reads it now.
        if stored is not None and not await self._unused(threads, [orphan]):
            await self._overflow[threads].insert_one(stored)
            return False
        return stored is not None


async def _delete_files(bucket: FileBucket, orphans: list[Orphan]) -> list[Orphan]:
    await bucket.delete_revisions([orphan.id for orphan in orphans])
    return orphans


def _of_attachment(kind: Kind, stored: Document) -> Orphan:
    key = stored["_id"]
    threads = ", ".join(stored.get("threadIds") or ()) or None
    return Orphan(kind, key["id"], object_key(key), thread=threads, owner=key["owner"])


def _of_overflow(stored: Document) -> Orphan:
    key = stored.get("value")
    kind: Kind = "overflow document" if key is None else "piece of a text"
    return Orphan(kind, stored["_id"], key, stored.get("bytes"), stored.get("thread"))


def unlisted_overflow_pipeline(before: datetime, threads: str = THREADS) -> list[Document]:
    """The overflow documents of before that no thread lists, as an aggregation of them. Pure."""
    lookup = {
        "from": threads,
        "localField": "thread",
        "foreignField": "_id",
        "pipeline": [{"$project": {"overflowIds": 1}}],
        "as": "main",
    }
    ids = {"$first": "$main.overflowIds"}
    listed = {"$in": ["$_id", array(ids)]}
    return [
        {"$match": {"_id": {"$lt": _id_at(before)}, "value": {"$exists": False}}},
        {"$project": {"thread": 1}},
        {"$lookup": lookup},
        {"$match": {"$expr": {"$not": [listed]}}},
        {"$project": {"thread": 1}},
    ]


def _id_at(moment: datetime) -> str:
    """Ids of documents that were stored before are lower, to the second."""
    return str(ObjectId.from_datetime(moment))
