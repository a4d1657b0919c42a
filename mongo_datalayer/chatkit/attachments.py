"""ChatKit's attachments, and the files that are uploaded for them."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial

import anyio
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from mongo_datalayer.chatkit import queries
from mongo_datalayer.chatkit.errors import AlreadyExistsError, UploadRefusedError
from mongo_datalayer.chatkit.object_keys import fields_key, file_keys, object_key
from mongo_datalayer.config import UPLOAD_BYTES_PER_SECOND, UPLOAD_GRACE_SECONDS
from mongo_datalayer.errors import StorageError
from mongo_datalayer.files.bucket import FileBucket, Retry
from mongo_datalayer.files.stored_file import FileDetails
from mongo_datalayer.model.bson_values import to_text
from mongo_datalayer.model.documents import CHATKIT_ATTACHMENTS, Document, is_reference, size_of
from mongo_datalayer.model.times import now
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.storage.contention import upsert_unless_deleted
from mongo_datalayer.storage.conversion import converted
from mongo_datalayer.storage.large_values import PREVIEW_CHARS

VALUE_BYTES = 1024 * 1024
"""From this size on the fields of an attachment are a file: apps write previews into their URL."""


class ChatKitAttachments:
    """ChatKit's attachments of one database, by their keys.

    Args:
        database: The database.
        bucket: Where the files are.
        retry: Makes the command that ends an upload.
    """

    def __init__(self, database: Database, bucket: FileBucket, retry: Retry) -> None:
        self._attachments = open_collection(database, CHATKIT_ATTACHMENTS)
        self._bucket = bucket
        self._retry = retry

    async def announce(self, key: Document, attachment: Document, upload: Document) -> None:
        """Make an attachment whose file will come. One command.

        Raises:
            AlreadyExistsError: the owner has another attachment with this id.
        """
        update = queries.attachment_announce(key, attachment, upload, now())
        try:
            await self._attachments.update_one(*update, upsert=True)
        except DuplicateKeyError as exc:
            raise AlreadyExistsError(f"Another attachment {key['id']!r} is stored.") from exc

    async def keep(
        self, key: Document, attachment: Document, thread_id: str, upload: Document, content: bytes
    ) -> None:
        """Store an attachment of a thread with its file; safe to repeat."""
        # The file first: an attachment that is there has its file.
        details = FileDetails(upload["mime"], upload["name"], element_id=upload["objectKey"])
        await self._bucket.write(upload["objectKey"], content, details)
        attachment = {**attachment, "threadIds": [thread_id]}
        await self.announce(key, attachment, {**upload, "at": now()})

    async def put(self, key: Document, attachment: Document, thread_id: str | None) -> bool:
        """Set an attachment's fields, or make it; False when it was deleted.

        One command, and those of a file where the fields are large.
        """
        if await converted(size_of, attachment) >= VALUE_BYTES:
            attachment = await self._externalize(key, attachment)
        update = queries.attachment_put(key, attachment, thread_id, now())
        return await upsert_unless_deleted(self._attachments, update)

    async def get(self, key: Document) -> Document | None:
        """The stored attachment; None when there is none or it was deleted.

        One command, and those of a file where the fields are large.
        """
        stored = await self._find(key)
        if stored is not None and is_reference(stored.get("attachment")):
            content = await self._bucket.read(stored["attachment"]["gridfs"])
            stored["rawJson"] = content.decode()
        return stored

    async def delete(self, key: Document) -> None:
        """Replace an attachment by its tombstone, and delete its file; safe to repeat."""
        # The document first: from then on no upload is accepted.
        await self._attachments.replace_one(queries.not_deleted(key), {"deletedAt": now()})
        await self._bucket.delete(file_keys(key))

    async def of_thread(self, key: Document) -> list[Document]:
        """The keys of a thread's attachments. One command."""
        owner = key["owner"]
        found = self._attachments.find({"_id.owner": owner, "threadIds": key["id"]}, {"_id": 1})
        return [queries.owned(owner, stored["_id"]["id"]) async for stored in found]

    async def leave(self, key: Document, thread_id: str) -> None:
        """Take an attachment out of a deleted thread; the last one takes it along."""
        left = await self._attachments.find_one_and_update(
            *queries.attachment_leave(key, thread_id),
            projection={"threadIds": 1},
            return_document=ReturnDocument.AFTER,
        )
        if left is None or left.get("threadIds"):
            return
        # A message of another thread may have come meanwhile: then the attachment stays.
        unused = {**queries.not_deleted(key), "threadIds": []}
        if (await self._attachments.replace_one(unused, {"deletedAt": now()})).matched_count:
            await self._bucket.delete(file_keys(key))

    async def receive(
        self, key: Document, pieces: AsyncIterator[bytes], *, mime: str, length: int | None
    ) -> None:
        """Store the file that was announced for an attachment, from its pieces as they arrive.

        The bucket keeps one of two simultaneous uploads. One that is refused or fails leaves
        nothing, unless only its last command failed. Repeating it then ends well, as the same
        bytes again always do. ``mime`` and ``length`` are what the sender says of the file.

        Raises:
            UploadRefusedError: it is not what was announced, not wanted, too slow, or another file
                is there already.
        """
        upload: Document | None = (await self._find(key) or {}).get("upload")
        if upload is None:
            raise UploadRefusedError(404, "There is no such attachment.")
        if _media_type(mime) != _media_type(upload["mime"]):
            raise UploadRefusedError(415, f"A file of type {upload['mime']} was announced.")
        if length is not None:
            _require_size(length, upload["size"])
        file_key = upload["objectKey"]
        # The element id marks it: an app's own file may have a key of the same shape.
        details = FileDetails(mime=upload["mime"], name=upload["name"], element_id=file_key)
        digest = hashlib.sha256()
        content = _checked(pieces, upload["size"], digest)
        try:
            await self._bucket.write(file_key, content, details, overwrite=False)
        except StorageError as exc:
            stored = await self._bucket.find(file_key)
            if stored is None:
                raise
            async for _ in content:  # the rest, or all: the bucket may have read nothing
                pass
            if stored.sha256 != digest.hexdigest():
                raise UploadRefusedError(409, "Another file is there already.") from exc
        complete = queries.upload_complete(key, upload["ticket"], now())
        result = await self._retry(partial(self._attachments.update_one, *complete))
        # The attachment may have been deleted while its file arrived.
        if not result.matched_count:
            await self._bucket.delete([file_key])
            raise UploadRefusedError(404, "The attachment was deleted.")

    async def _find(self, key: Document) -> Document | None:
        stored: Document | None = await self._attachments.find_one(queries.not_deleted(key))
        return stored

    async def _externalize(self, key: Document, attachment: Document) -> Document:
        """The fields as a reference to a file, which replaces the one of an earlier version."""
        text = attachment.get("rawJson") or json.dumps(attachment["attachment"])
        file_key = fields_key(key)
        details = FileDetails(mime="application/json", element_id=file_key)
        stored = await self._bucket.write(file_key, text.encode(), details)
        reference = {"gridfs": file_key, "bytes": stored.size, "encoding": "json"}
        return {"attachment": {**reference, "preview": text[:PREVIEW_CHARS]}}


async def _checked(
    pieces: AsyncIterator[bytes], size: int, digest: hashlib._Hash
) -> AsyncIterator[bytes]:
    """The pieces, which the digest reads too.

    They are refused as soon as they exceed ``size`` bytes or fall below the slowest rate, or if
    they end before.
    """
    count = 0
    waited = 0.0
    while count <= size:
        # Only the sender's time counts, and not the time that MongoDB takes for a block.
        left = UPLOAD_GRACE_SECONDS + count / UPLOAD_BYTES_PER_SECOND - waited
        began = time.monotonic()
        try:
            with anyio.fail_after(max(left, 0)):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise UploadRefusedError(408, "The file arrives too slowly.") from None
        waited += time.monotonic() - began
        if piece is None:
            break
        count += len(piece)
        digest.update(piece)
        if count <= size:
            yield piece
    _require_size(count, size)


def _require_size(size: int, announced: int) -> None:
    if size != announced:
        status = 413 if size > announced else 400
        raise UploadRefusedError(status, f"A file of {announced} bytes was announced.")


def _media_type(mime: str) -> str:
    return mime.partition(";")[0].strip().lower()


def new_upload(key: Document, name: str, mime: str, size: int, bucket: str) -> Document:
    """What is stored of an attachment's file; the ticket makes a repeated write the same one."""
    return {
        "name": to_text(name),
        "mime": to_text(mime),
        "size": size,
        "objectKey": object_key(key),
        "bucket": bucket,
        "ticket": uuid.uuid4().hex,
    }
