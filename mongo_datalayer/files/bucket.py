"""Files in a GridFS bucket, written and read a few chunks at a time.

The layout is that of the GridFS specification, so every GridFS tool can read it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import anyio
import pymongo
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import BulkWriteError, PyMongoError, WriteConcernError
from pymongo.read_preferences import ReadPreference

from mongo_datalayer.config import DEFAULT_TIMEOUT_MS, check_bucket_name
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.stored_file import (
    CHUNK_BYTES,
    FileDetails,
    StoredFile,
    ids_before,
    new_file,
    ours,
    require_object_key,
)
from mongo_datalayer.files.upload_source import Source, read_blocks
from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.model.documents import TEXT, Document
from mongo_datalayer.mongodb.client import Collection, Database
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.mongodb.paging import distinct_values

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

logger = get_logger(__name__)

# How many chunks one command carries, about 1 MB. PyMongo's own GridFS holds 48 MB of an upload,
# reads up to 16 MB ahead of a download, and keeps a cursor open while the reader pauses.
BLOCK_CHUNKS = 4
# How long a failed upload tries to remove its chunks: MongoDB may be away.
CLEAN_UP_SECONDS = 5.0
_DUPLICATE_KEY = 11000
# How many keys or ids one command names: some 100 KB of the 16 MB that a command may have.
BATCH = 1000

# The GridFS specification prescribes indexes on these, so that each query below has one.
_BY_KEY = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
_BY_FILE = [("files_id", ASCENDING), ("n", ASCENDING)]
_NEWEST_FIRST = [("uploadDate", DESCENDING), ("_id", DESCENDING)]

_Item = TypeVar("_Item")

Retry: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Awaits an operation, and makes it again after a transient error."""


class FileBucket:
    """Our files in one GridFS bucket; files of other applications in it are never touched.

    It borrows the database: nothing is opened or closed, and nothing is sent until a method runs.
    Reads go to the primary, so a file is readable as soon as its upload has returned. Iterators
    read page by page and hold no cursor in between, so you may pause for as long as you like.

    Args:
        database: PyMongo's ``AsyncDatabase``, or Motor's ``AsyncIOMotorDatabase``.
        name: Name of the bucket.
        retry: Makes the commands of an upload; None where the caller retries the whole upload.

    Attributes:
        name: Name of the bucket.

    Raises:
        ConfigurationError: MongoDB does not accept the name.
    """

    def __init__(
        self,
        database: Database | AsyncIOMotorDatabase[Document],
        name: str = "fs",
        *,
        retry: Retry | None = None,
    ) -> None:
        check_bucket_name(name, "bucket")
        borrowed = cast("Database", database)  # both drivers have the methods called here
        self.name = name
        self._files = _collection(borrowed, f"{name}.files")
        self._chunks = _collection(borrowed, f"{name}.chunks")
        self._indexed = False
        self._retry = _once if retry is None else retry

    async def write(
        self,
        object_key: str,
        source: Source,
        details: FileDetails,
        *,
        overwrite: bool = True,
        shielded: bool = False,
    ) -> StoredFile:
        """Store a file.

        Readers see the old content until the new one is complete, then only the new one. A write
        that fails or is cancelled leaves nothing behind. Of two concurrent writes to one key, the
        one that finishes last wins.

        Args:
            object_key: The key.
            source: The content. It is read once: what is retried is each block.
            details: What is stored about it.
            overwrite: False to refuse a key that is taken.
            shielded: True where the running task is never cancelled: it needs no other tasks.

        Raises:
            StorageError: the source cannot be read, the key cannot be used, or it is taken and
                ``overwrite`` is False.
        """
        # The caller may change its buffer while the upload waits for the database.
        source = bytes(source) if isinstance(source, bytearray | memoryview) else source
        if not overwrite and await self.find(object_key) is not None:
            raise _taken(object_key)
        try:
            stored, older = await self._upload(object_key, source, details, overwrite, shielded)
        except OSError as exc:
            if isinstance(exc, StorageError):
                raise
            raise StorageError(f"The content of {object_key!r} cannot be read: {exc}") from exc
        if older:
            await self._clean_up(older)
        return stored

    async def find(self, object_key: str) -> StoredFile | None:
        """The newest revision of a key; None when there is none."""
        query = ours(filename=require_object_key(object_key))
        document = await self._files.find_one(
            query, sort=_NEWEST_FIRST, max_time_ms=DEFAULT_TIMEOUT_MS
        )
        return None if document is None else StoredFile.from_document(document)

    async def read(self, object_key: str) -> bytes:
        """The whole content, of one revision.

        Raises:
            NotFoundError: no file is stored under the key.
            StorageError: the file is damaged.
        """
        while True:
            stored = await self.require(object_key)
            try:
                return b"".join([piece async for piece in self.iterate(stored)])
            except StorageError:
                # A revision that was replaced meanwhile is read anew, a damaged one is not.
                if await self.find(object_key) == stored:
                    raise

    async def require(self, object_key: str) -> StoredFile:
        """The newest revision of a key.

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

        Only the chunks that hold them are read.

        Raises:
            StorageError: this revision was replaced or deleted meanwhile, or is damaged. The bytes
                yielded until then are right, and all of this revision.
        """
        if stored.damaged:
            raise StorageError(f"{stored.object_key!r} is damaged: its sizes cannot be read.")
        end = stored.size if stop is None else min(stop, stored.size)
        position = start
        while position < end:
            first = position // stored.chunk_bytes
            last = min(first + BLOCK_CHUNKS, -(-end // stored.chunk_bytes))
            chunks: list[bytes] = await self._read_chunks(stored, first, last)
            for number, data in enumerate(chunks, first):
                offset = number * stored.chunk_bytes
                yield data[position - offset : end - offset]
                position = min(offset + len(data), end)

    async def delete(self, object_keys: Iterable[str]) -> int:
        """Delete the files stored under the keys; returns how many revisions there were."""
        return await self._delete_found("filename", object_keys)

    async def delete_thread(self, thread_id: str) -> int:
        """Delete every file that was uploaded for a thread; returns how many."""
        return await self._delete_found("metadata.threadId", [thread_id])

    async def list_files(self, *, before: datetime | None = None) -> AsyncIterator[StoredFile]:
        """Every revision of our files (uploaded before ``before``), ordered by object key."""
        query = ours() if before is None else ours(uploadDate={"$lt": before})
        last_key: str | None = None
        listed: list[str] = []
        while True:
            # A page may end between two revisions of a key: the next one begins with that key.
            rest = {} if last_key is None else {"filename": {"$gte": last_key}}
            found = _find(self._files, {**query, **rest, "_id": {"$nin": listed}})
            page = await found.sort(_BY_KEY).limit(BATCH).to_list(None)
            for document in page:
                if document["filename"] != last_key:
                    last_key, listed = document["filename"], []
                listed.append(document["_id"])
                yield StoredFile.from_document(document)
            if len(page) < BATCH:
                return

    async def list_keys(self) -> AsyncIterator[str]:
        """The object keys of all our files, each once, in order."""
        named = ours(filename=dict(TEXT))  # an edit by hand may have made it anything
        async for keys in distinct_values(self._files, "filename", named, size=BATCH):
            for key in keys:
                yield key

    async def existing(self, object_keys: Iterable[str]) -> set[str]:
        """The keys among ``object_keys`` that have a file."""
        found = self._find_in("filename", object_keys, {"filename": 1})
        return {document["filename"] async for document in found}

    async def list_unfinished(self, *, before: datetime) -> AsyncIterator[str]:
        """Ids of uploads that began before a time and left chunks without a file.

        A killed process leaves these, but so does an upload that still runs: choose ``before`` so
        that none does. Chunks of other applications are never among them.
        """
        old = {"files_id": ids_before(before)}
        async for file_ids in distinct_values(self._chunks, "files_id", old, size=BATCH):
            found = _find(self._files, {"_id": {"$in": file_ids}}, {"_id": 1})
            finished = {document["_id"] async for document in found}
            for file_id in file_ids:
                if file_id not in finished:
                    yield file_id

    async def list_belonging(
        self, thread_ids: Iterable[str], object_keys: Iterable[str] = ()
    ) -> AsyncIterator[StoredFile]:
        """Files that were uploaded for one of the threads, and files under one of the keys."""
        for field, values in (("metadata.threadId", thread_ids), ("filename", object_keys)):
            async for document in self._find_in(field, values):
                yield StoredFile.from_document(document)

    async def list_folder(self, folder: str) -> AsyncIterator[StoredFile]:
        """Our files whose keys begin with ``folder``, which ends with a slash, every revision."""
        beyond = f"{folder[:-1]}0"  # the character after the slash
        async for document in _find(self._files, ours(filename={"$gte": folder, "$lt": beyond})):
            yield StoredFile.from_document(document)

    async def count_chunks(self, file_ids: Iterable[str]) -> int:
        """How many chunks these revisions have."""
        count = 0
        for ids in _batches(file_ids):
            count += await self._chunks.count_documents(
                {"files_id": {"$in": ids}}, maxTimeMS=DEFAULT_TIMEOUT_MS
            )
        return count

    async def delete_revisions(
        self, file_ids: Iterable[str], *, content_first: bool = False
    ) -> None:
        """Delete revisions by their ids, finished or not.

        Args:
            file_ids: The ids.
            content_first: Keep a revision listed until its content is deleted, so that an
                interrupted call can be repeated. Readers see a damaged file until then.
        """
        for ids in _batches(file_ids):
            if not content_first:
                await self._files.delete_many(ours(_id={"$in": ids}))
            await self._chunks.delete_many({"files_id": {"$in": ids}})
            if content_first:
                await self._files.delete_many(ours(_id={"$in": ids}))

    async def _ensure_indexes(self) -> None:
        # The specification asks for this check: creating an index needs a privilege that an app may
        # lack, and where there are files somebody has created them.
        if await self._files.find_one({}, {"_id": 1}, max_time_ms=DEFAULT_TIMEOUT_MS) is None:
            await self._files.create_index(_BY_KEY)
            await self._chunks.create_index(_BY_FILE, unique=True)
        self._indexed = True

    async def _upload(
        self, object_key: str, source: Source, details: FileDetails, overwrite: bool, shielded: bool
    ) -> tuple[StoredFile, list[str]]:
        """Store a new revision; also returns the ids of those that it replaces."""
        file_id, fields = new_file(object_key, details)
        digest = hashlib.sha256()
        number = size = 0
        chunks: list[Document] = []
        try:
            async with aclosing(read_blocks(source, BLOCK_CHUNKS * CHUNK_BYTES)) as blocks:
                async for block in blocks:
                    if chunks:
                        inserted = self._retry(partial(self._insert, chunks))
                        await (inserted if shielded else _finish(inserted))
                    number += len(chunks)
                    size += len(block)
                    digest.update(block)
                    pieces = [block[n : n + CHUNK_BYTES] for n in range(0, len(block), CHUNK_BYTES)]
                    chunks = [
                        {"files_id": file_id, "n": n, "data": data}
                        for n, data in enumerate(pieces, number)
                    ]
            fields["length"] = Int64(size)
            fields["metadata"]["sha256"] = digest.hexdigest()
            published = self._retry(partial(self._publish, file_id, fields, chunks))
            stored, older = await (published if shielded else _finish(published))
            if older and not overwrite:  # another upload was published first: it stays
                raise _taken(object_key)
        except BaseException:
            await _finish(self._clean_up([file_id]))
            raise
        return stored, older

    async def _publish(
        self, file_id: str, fields: Document, chunks: list[Document]
    ) -> tuple[StoredFile, list[str]]:
        """Store the last chunks and make the upload visible."""
        await self._insert(chunks)
        # Dated by the server, because revisions of several processes are compared.
        document = await self._files.find_one_and_update(
            {"_id": file_id},
            {"$set": fields, "$currentDate": {"uploadDate": True}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        stored = StoredFile.from_document(cast("Document", document))  # an upsert makes one
        query = ours(filename=stored.object_key)
        rivals = self._files.find(query, max_time_ms=DEFAULT_TIMEOUT_MS)
        revisions = map(StoredFile.from_document, await rivals.to_list(None))
        # Newer ones stay: two uploads that finish together must not delete each other's file.
        return stored, [rival.file_id for rival in revisions if rival.revision < stored.revision]

    async def _insert(self, chunks: list[Document]) -> None:
        if not self._indexed:
            await self._ensure_indexes()
        if not chunks:
            return
        try:
            await self._chunks.insert_many(chunks, ordered=False)
        except BulkWriteError as exc:
            if exc.details["writeConcernErrors"]:  # stored, and perhaps not to stay
                raise WriteConcernError(str(exc)) from exc
            # A retry finds those chunks there that lost their acknowledgement.
            if any(error["code"] != _DUPLICATE_KEY for error in exc.details["writeErrors"]):
                raise

    async def _clean_up(self, file_ids: list[str]) -> None:
        # The upload has succeeded or failed already, and `files gc` finds what stays behind.
        try:
            with pymongo.timeout(CLEAN_UP_SECONDS):
                await self.delete_revisions(file_ids)
        except PyMongoError as exc:
            logger.warning("Left behind in GridFS, to be collected: %s (%s)", file_ids, exc)

    async def _find_in(
        self, field: str, values: Iterable[str], projection: Document | None = None
    ) -> AsyncIterator[Document]:
        for batch in _batches(values):
            query = ours(**{field: {"$in": to_bson(batch)}})
            async for document in _find(self._files, query, projection):
                yield document

    async def _delete_found(self, field: str, values: Iterable[str]) -> int:
        found = self._find_in(field, values, {"_id": 1})
        file_ids = [document["_id"] async for document in found]
        await self.delete_revisions(file_ids)
        return len(file_ids)

    async def _read_chunks(self, stored: StoredFile, first: int, last: int) -> list[bytes]:
        """The data of the chunks ``first`` to ``last`` (exclusive), checked to be complete."""
        cursor = _find(
            self._chunks,
            {"files_id": stored.file_id, "n": {"$gte": first, "$lt": last}},
            {"_id": 0, "n": 1, "data": 1},
        )
        chunks = await cursor.sort("n", ASCENDING).to_list(None)
        size, chunk_bytes = stored.size, stored.chunk_bytes
        expected = [(n, min(chunk_bytes, size - n * chunk_bytes)) for n in range(first, last)]
        # A chunk that was edited by hand may hold anything; the driver reads binary as bytes.
        parts = [(chunk["n"], chunk.get("data")) for chunk in chunks]
        if [(n, len(data)) for n, data in parts if isinstance(data, bytes)] != expected:
            raise StorageError(
                f"{stored.object_key!r} was replaced or deleted while it was read, or is damaged."
            )
        return [bytes(chunk["data"]) for chunk in chunks]


def _collection(database: Database, name: str) -> Collection:
    return database.get_collection(
        name, codec_options=CodecOptions(tz_aware=True), read_preference=ReadPreference.PRIMARY
    )


def _find(
    collection: Collection, query: Document, projection: Document | None = None
) -> AsyncCursor[Document]:
    # The app's client may have no bound of its own; if it has one, that one counts.
    return collection.find(query, projection, max_time_ms=DEFAULT_TIMEOUT_MS)


async def _once(operation: Callable[[], Awaitable[Any]]) -> Any:
    return await operation()


async def _finish(operation: Awaitable[_Item]) -> _Item:
    """Await a write; a cancelled caller waits for its end, too."""
    # The server carries on with a command that nobody awaits: chunks that it writes after the
    # cleaning up would stay. An ASGI server cancels a request again at every await.
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it; the caller gets the cancellation
        raise


def _taken(object_key: str) -> StorageError:
    return StorageError(f"A file is already stored under {object_key!r}.")


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
