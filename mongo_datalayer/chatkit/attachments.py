"""The collection of ChatKit's attachments, and their files: the only code that talks to it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timezone

from pymongo.errors import DuplicateKeyError

from mongo_datalayer.chatkit import statements
from mongo_datalayer.chatkit.errors import AlreadyExistsError
from mongo_datalayer.documents import CHATKIT_ATTACHMENTS, Document
from mongo_datalayer.driver import Database, open_collection
from mongo_datalayer.errors import MongoDataLayerError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import FileDetails
from mongo_datalayer.pipelines import Statement

logger = logging.getLogger(__name__)

ATTEMPTS = 10
"""How often a write is tried while another process makes the same attachment."""


class UploadRefusedError(Exception):
    """The bytes are not those that were announced, or not wanted any more.

    Attributes:
        status: The status of HTTP that says so.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ChatKitAttachments:
    """ChatKit's attachments of one database.

    An attachment is named by its key, owner and id.

    Args:
        database: The database.
        bucket: Where the files are.
    """

    def __init__(self, database: Database, bucket: FileBucket) -> None:
        self._attachments = open_collection(database, CHATKIT_ATTACHMENTS)
        self._bucket = bucket

    async def announce(self, key: Document, attachment: Document, upload: Document) -> None:
        """Make an attachment whose file will come. One command.

        Raises:
            AlreadyExistsError: the owner has another attachment with this id.
        """
        statement = statements.attachment_announce(key, attachment, upload, _now())
        if not await self._upserted(statement):
            raise AlreadyExistsError(f"Another attachment {key['id']!r} is stored.")

    async def put(self, key: Document, attachment: Document, thread_id: str | None) -> bool:
        """Set an attachment's fields, or make it; False when it was deleted. One command."""
        statement = statements.attachment_put(key, attachment, thread_id, _now())
        for _ in range(ATTEMPTS):
            if await self._upserted(statement):
                return True
            if await self._attachments.find_one({"_id": key, "deletedAt": {"$exists": True}}):
                logger.info("The attachment %s was deleted; a late write is dropped.", key["id"])
                return False
        raise MongoDataLayerError(f"The attachment {key['id']!r} could not be written.")

    async def get(self, key: Document) -> Document | None:
        """The stored attachment; None when there is none or it was deleted. One command."""
        stored: Document | None = await self._attachments.find_one(statements.there(key))
        return stored

    async def delete(self, key: Document, object_key: str) -> None:
        """Replace an attachment by its tombstone and delete its file, also that of an earlier try.

        The document goes first: then no upload is taken any more.
        """
        await self._attachments.replace_one(statements.there(key), {"deletedAt": _now()})
        await self._bucket.delete([object_key])

    async def of_thread(self, owner: str, thread_id: str) -> list[Document]:
        """The keys of a thread's attachments. One command."""
        found = self._attachments.find({"_id.owner": owner, "threadId": thread_id}, {"_id": 1})
        return [{"owner": owner, "id": stored["_id"]["id"]} async for stored in found]

    async def receive(
        self, key: Document, pieces: AsyncIterator[bytes], *, mime: str, length: int | None
    ) -> None:
        """Store the file that was announced for an attachment.

        Of two uploads at once one is kept. An upload that is refused or fails leaves nothing.

        Args:
            key: The attachment.
            pieces: The content as it arrives.
            mime: The content's type, as the sender names it.
            length: How many bytes the sender says it has, if it does.

        Raises:
            UploadRefusedError: it is not what was announced, not wanted, or already there.
        """
        stored = await self.get(key)
        upload = None if stored is None else stored.get("upload")
        if stored is None or upload is None:
            raise UploadRefusedError(404, "There is no such attachment.")
        if "at" in upload:
            raise _there_already()
        if _media_type(mime) != _media_type(upload["mime"]):
            raise UploadRefusedError(415, f"A file of type {upload['mime']} was announced.")
        if length is not None:
            _require_size(length, upload["size"])
        details = FileDetails(
            # The mark of an attachment's file: an app's own file may have a key of the same form.
            mime=upload["mime"],
            name=upload["name"],
            element_id=upload["objectKey"],
        )
        try:
            await self._bucket.write(
                upload["objectKey"], _counted(pieces, upload["size"]), details, overwrite=False
            )
        except StorageError as exc:
            if await self._bucket.find(upload["objectKey"]) is None:
                raise
            raise _there_already() from exc
        done = statements.upload_complete(key, upload["ticket"], _now())
        if not (await self._attachments.update_one(*done)).matched_count:
            await self._bucket.delete([upload["objectKey"]])
            raise UploadRefusedError(404, "The attachment was deleted.")

    async def _upserted(self, statement: Statement) -> bool:
        """Run an upsert; False when its guard said no."""
        try:
            await self._attachments.update_one(*statement, upsert=True)
        except DuplicateKeyError:
            return False
        return True


async def _counted(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The pieces, refused as soon as they are more than ``size`` bytes, or end before."""
    count = 0
    async for piece in pieces:
        count += len(piece)
        if count > size:
            _require_size(count, size)
        yield piece
    _require_size(count, size)


def _require_size(size: int, announced: int) -> None:
    if size > announced:
        raise UploadRefusedError(413, f"A file of {announced} bytes was announced.")
    if size < announced:
        raise UploadRefusedError(400, f"A file of {announced} bytes was announced.")


def _media_type(mime: str) -> str:
    return mime.partition(";")[0].strip().lower()


def _there_already() -> UploadRefusedError:
    return UploadRefusedError(409, "The file is there already.")


def _now() -> datetime:
    return datetime.now(timezone.utc)
