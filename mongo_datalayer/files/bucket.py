"""Files in a GridFS bucket: the only code that talks to ``fs.files`` and ``fs.chunks``.

The layout is that of the GridFS specification, so every GridFS tool can read what is here. The
drivers' own GridFS classes are not used: they hold 48 MB of an upload before they send it, read
up to 16 MB ahead of a download, and keep a server cursor open as long as a reader takes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bson.codec_options import CodecOptions
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import PyMongoError
from pymongo.read_preferences import ReadPreference

from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Collection, Database
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.documents import (
    CHUNK_BYTES,
    FileDetails,
    StoredFile,
    file_fields,
    ids_before,
    new_file_id,
    ours,
    require_object_key,
)
from mongo_datalayer.files.source import Source, read_blocks, snapshot
from mongo_datalayer.values import plain

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

logger = logging.getLogger(__name__)

# How many chunks travel in one command: what an upload or a download holds in memory at a time.
BLOCK_CHUNKS = 4
# How many files one command may name.
BATCH = 1000

# The orders of the specification's own indexes.
_BY_KEY = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
_BY_FILE = [("files_id", ASCENDING), ("n", ASCENDING)]
_NEWEST_FIRST = [("uploadDate", DESCENDING), ("_id", DESCENDING)]

_Item = TypeVar("_Item")


class FileBucket:
    """Our files in one GridFS bucket; files of other applications in it are never touched.

    It borrows the database: nothing is opened or closed, and nothing is sent until a method runs.
    Reads go to the primary, so that a file is there as soon as its upload has returned.

    Args:
        database: PyMongo's ``AsyncDatabase``, or Motor's ``AsyncIOMotorDatabase``.
        name: Name of the bucket.

    Attributes:
        name: Name of the bucket.
    """

    def __init__(
        self, database: Database | AsyncIOMotorDatabase[Document], name: str = "fs"
    ) -> None:
        borrowed = cast("Database", database)  # the drivers' objects are used alike
        self.name = name
        self._files = _collection(borrowed, f"{name}.files")
        self._chunks = _collection(borrowed, f"{name}.chunks")
        self._indexed = False

    async def write(
        self, object_key: str, source: Source, details: FileDetails, *, overwrite: bool = True
    ) -> StoredFile:
        """Store a file.

        A reader sees the file as it was before until the new content is complete; then only the
        new one. A write that fails or is cancelled leaves nothing behind. Of two writes to one
        key the one that ends later stays.

        Raises:
            StorageError: the source cannot be read, the key cannot be used, or it is taken and
                ``overwrite`` is False.
        """
        require_object_key(object_key)
        source = snapshot(source)
        if not overwrite:
            await self._require_free(object_key)
        await self._ensure_indexes()
        file_id = new_file_id()
        try:
            size, sha256 = await self._write_chunks(file_id, source)
            stored = await self._publish(file_id, file_fields(object_key, size, sha256, details))
            older = await self._older_revisions(stored)
            if older and not overwrite:
                raise _taken(object_key)
        except BaseException as exc:
            # Also when the task is cancelled, once or more.
            await asyncio.shield(asyncio.ensure_future(self._clean_up([file_id])))
            if isinstance(exc, OSError) and not isinstance(exc, StorageError):
                raise StorageError(f"The content of {object_key!r} cannot be read: {exc}") from exc
            raise
        await self._clean_up(older)
        return stored

    async def find(self, object_key: str) -> StoredFile | None:
        """The newest revision stored under the key; None when there is none."""
        document = await self._files.find_one(
            ours(filename=require_object_key(object_key)), sort=_NEWEST_FIRST
        )
        return None if document is None else StoredFile.from_document(document)

    async def read(self, object_key: str) -> bytes:
        """The whole content, of one revision.

        Raises:
            NotFoundError: no file is stored under the key.
            StorageError: the file is damaged.
        """
        stored = await self.require(object_key)
        while (content := await self._read_unless_replaced(stored)) is None:
            stored = await self.require(object_key)
        return content

    async def require(self, object_key: str) -> StoredFile:
        """The newest revision.

        Raises:
            NotFoundError: no file is stored under the key.
        """
        stored = await self.find(object_key)
        if stored is None:
            raise NotFoundError(f"No file is stored under {object_key!r}.")
        return stored

    async def iterate(
        self, stored: StoredFile, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to ``stop`` (to the end when None), piece by piece.

        Only the chunks that hold them are read. The reader may take its time: nothing is held on
        the server between two pieces.

        Raises:
            StorageError: this revision was replaced or deleted meanwhile, or is damaged. The bytes
                given until then are right; those of another revision are never mixed in.
        """
        end = stored.size if stop is None else min(stop, stored.size)
        position = start
        while position < end:
            first = position // stored.chunk_bytes
            last = min(first + BLOCK_CHUNKS, _chunk_count(stored, end))
            chunks: list[bytes] = await self._read_chunks(stored, first, last)
            for number, data in enumerate(chunks, first):
                offset = number * stored.chunk_bytes
                yield data[position - offset : end - offset]
                position = min(offset + len(data), end)

    async def delete(self, object_keys: Iterable[str]) -> int:
        """Delete the files stored under the keys; returns how many revisions there were."""
        count = 0
        for keys in _batches(object_keys, BATCH):
            count += await self._delete_matching(ours(filename={"$in": keys}))
        return count

    async def delete_thread(self, thread_id: str) -> int:
        """Delete every file that was uploaded for a thread; returns how many."""
        return await self._delete_matching(ours(**{"metadata.threadId": plain(thread_id)}))

    async def list_files(self, *, before: datetime | None = None) -> AsyncIterator[StoredFile]:
        """Our files, every revision, those of one object key one after the other.

        The reader may take its time: nothing is held on the server between two pages.

        Args:
            before: Only files whose upload was complete before this time.
        """
        condition = ours() if before is None else ours(uploadDate={"$lt": before})
        last_key: str | None = None
        given: list[str] = []  # of the last key: the next page begins among its revisions
        while True:
            place = {} if last_key is None else {"filename": {"$gte": last_key}}
            found = self._files.find({**condition, **place, "_id": {"$nin": given}})
            page = await found.sort(_BY_KEY).limit(BATCH).to_list(None)
            for document in page:
                if document["filename"] != last_key:
                    last_key, given = document["filename"], []
                given.append(document["_id"])
                yield StoredFile.from_document(document)
            if len(page) < BATCH:
                return

    async def list_keys(self) -> AsyncIterator[str]:
        """The object keys of all our files, each once, in order.

        The reader may take its time: nothing is held on the server between two pages.
        """
        place: Document = {}
        while True:
            found = self._files.find(ours(**place), {"filename": 1}).sort("filename", ASCENDING)
            keys = [document["filename"] for document in await found.limit(BATCH).to_list(None)]
            for key in dict.fromkeys(keys):
                yield key
            if len(keys) < BATCH:
                return
            place = {"filename": {"$gt": keys[-1]}}

    async def existing(self, object_keys: Iterable[str]) -> set[str]:
        """Those of the keys under which there is a file."""
        found: set[str] = set()
        for batch in _batches(object_keys, BATCH):
            cursor = self._files.find(ours(filename={"$in": batch}), {"filename": 1})
            found.update([document["filename"] async for document in cursor])
        return found

    async def list_unfinished(self, *, before: datetime) -> AsyncIterator[str]:
        """Ids of uploads that began before a time and left chunks without a file.

        These are what a killed process leaves, or an upload that still runs: choose ``before`` so
        that none does. Chunks of other applications are never among them. The reader may take its
        time: nothing is held on the server between two pages.
        """
        place = ids_before(before)
        while True:
            found = self._chunks.find({"files_id": place}, {"files_id": 1, "_id": 0})
            page = await found.sort(_BY_FILE).limit(BATCH).to_list(None)
            candidates = list(dict.fromkeys(chunk["files_id"] for chunk in page))
            for file_id in await self._without_file(candidates):
                yield file_id
            if len(page) < BATCH:
                return
            place = {**place, "$gt": candidates[-1]}

    async def list_belonging(
        self, thread_ids: Iterable[str], object_keys: Iterable[str] = ()
    ) -> AsyncIterator[StoredFile]:
        """Files that were uploaded for one of the threads or stand under one of the keys."""
        conditions = [("metadata.threadId", thread_ids), ("filename", object_keys)]
        for field, values in conditions:
            for batch in _batches(values, BATCH):
                async for document in self._files.find(ours(**{field: {"$in": plain(batch)}})):
                    yield StoredFile.from_document(document)

    async def list_folder(self, folder: str) -> AsyncIterator[StoredFile]:
        """Our files whose keys begin with ``folder``, which ends with a slash, every revision."""
        beyond = f"{folder[:-1]}0"  # the character after the slash
        async for document in self._files.find(ours(filename={"$gte": folder, "$lt": beyond})):
            yield StoredFile.from_document(document)

    async def count_chunks(self, file_ids: Iterable[str]) -> int:
        """How many pieces of content there are of these revisions."""
        count = 0
        for ids in _batches(file_ids, BATCH):
            count += await self._chunks.count_documents({"files_id": {"$in": ids}})
        return count

    async def erase(self, file_ids: Iterable[str]) -> None:
        """Delete revisions by their ids, content first.

        When this is interrupted the file can still be found, so that repeating it erases the rest.
        Until then a reader sees a damaged file.
        """
        for ids in _batches(file_ids, BATCH):
            await self._chunks.delete_many({"files_id": {"$in": ids}})
            await self._files.delete_many(ours(_id={"$in": ids}))

    async def discard(self, file_ids: Iterable[str]) -> None:
        """Delete revisions by their ids, finished or not."""
        for ids in _batches(file_ids, BATCH):
            # The file first: a reader must not find a file whose chunks are gone.
            await self._files.delete_many(ours(_id={"$in": ids}))
            await self._chunks.delete_many({"files_id": {"$in": ids}})

    async def _ensure_indexes(self) -> None:
        """Create the specification's two indexes, as every driver does before the first file."""
        if self._indexed:
            return
        if await self._files.find_one({}, {"_id": 1}) is None:
            await self._files.create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            await self._chunks.create_index(
                [("files_id", ASCENDING), ("n", ASCENDING)], unique=True
            )
        self._indexed = True

    async def _require_free(self, object_key: str) -> None:
        if await self.find(object_key) is not None:
            raise _taken(object_key)

    async def _write_chunks(self, file_id: str, source: Source) -> tuple[int, str]:
        digest = hashlib.sha256()
        number = size = 0
        async with aclosing(read_blocks(source, BLOCK_CHUNKS * CHUNK_BYTES)) as blocks:
            async for block in blocks:
                digest.update(block)
                size += len(block)
                pieces = [block[at : at + CHUNK_BYTES] for at in range(0, len(block), CHUNK_BYTES)]
                documents = [
                    {"files_id": file_id, "n": n, "data": data}
                    for n, data in enumerate(pieces, number)
                ]
                await _to_its_end(self._chunks.insert_many(documents))
                number += len(pieces)
        return size, digest.hexdigest()

    async def _publish(self, file_id: str, fields: Document) -> StoredFile:
        """Make the upload visible, dated by the server: clocks of several processes differ."""
        document = await _to_its_end(
            self._files.find_one_and_update(
                {"_id": file_id},
                {"$set": fields, "$currentDate": {"uploadDate": True}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        )
        return StoredFile.from_document(cast("Document", document))  # an upsert finds or makes one

    async def _older_revisions(self, stored: StoredFile) -> list[str]:
        """Ids of the revisions that ``stored`` replaces.

        Newer ones are left out: two writers that end together must not delete each other's file.
        """
        rivals = self._files.find(ours(filename=stored.object_key))
        revisions = [StoredFile.from_document(rival) async for rival in rivals]
        return [rival.file_id for rival in revisions if rival.revision < stored.revision]

    async def _read_unless_replaced(self, stored: StoredFile) -> bytes | None:
        try:
            return b"".join([piece async for piece in self.iterate(stored)])
        except StorageError:
            latest = await self.find(stored.object_key)
            if latest == stored:
                raise
            return None

    async def _clean_up(self, file_ids: list[str]) -> None:
        """Discard what nobody reads any more; the outcome of the upload is settled already."""
        try:
            await self.discard(file_ids)
        except PyMongoError as exc:
            logger.warning("Left behind in GridFS, to be collected: %s (%s)", file_ids, exc)

    async def _delete_matching(self, condition: Document) -> int:
        ids = [document["_id"] async for document in self._files.find(condition, {"_id": 1})]
        await self.discard(ids)
        return len(ids)

    async def _read_chunks(self, stored: StoredFile, first: int, last: int) -> list[bytes]:
        """The data of the chunks ``first`` to ``last`` (exclusive), checked to be all there."""
        cursor = self._chunks.find(
            {"files_id": stored.file_id, "n": {"$gte": first, "$lt": last}},
            {"_id": 0, "n": 1, "data": 1},
        )
        chunks = await cursor.sort("n", ASCENDING).to_list(None)
        expected = [(n, _chunk_length(stored, n)) for n in range(first, last)]
        if [(chunk["n"], len(chunk["data"])) for chunk in chunks] != expected:
            raise StorageError(
                f"{stored.object_key!r} was replaced or deleted while it was read, or is damaged."
            )
        return [bytes(chunk["data"]) for chunk in chunks]

    async def _without_file(self, file_ids: Sequence[str]) -> list[str]:
        found = self._files.find({"_id": {"$in": file_ids}}, {"_id": 1})
        known = {document["_id"] async for document in found}
        return [file_id for file_id in file_ids if file_id not in known]


def _collection(database: Database, name: str) -> Collection:
    return database.get_collection(
        name, codec_options=CodecOptions(tz_aware=True), read_preference=ReadPreference.PRIMARY
    )


async def _to_its_end(operation: Awaitable[_Item]) -> _Item:
    """Await a write; when cancelled, let it end first.

    The server carries on with a command nobody waits for: cleaning up before it has ended would
    leave behind what it writes then.
    """
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller gets
        raise


def _chunk_count(stored: StoredFile, end: int) -> int:
    """How many chunks hold the first ``end`` bytes."""
    return -(-end // stored.chunk_bytes)


def _chunk_length(stored: StoredFile, number: int) -> int:
    return min(stored.chunk_bytes, stored.size - number * stored.chunk_bytes)


def _taken(object_key: str) -> StorageError:
    return StorageError(f"A file is already stored under {object_key!r}.")


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
