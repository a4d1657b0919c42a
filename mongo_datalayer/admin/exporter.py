"""Writes an export, line by line; no more than one thread and a page of heads is in memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timezone

from mongo_datalayer.chatkit.archive import (
    ChatKitAttachmentArchive,
    ChatKitThreadArchive,
    of_owner,
)
from mongo_datalayer.chatkit.keys import holds_item, object_key
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Database
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.large_values import holds_value
from mongo_datalayer.pipelines import owned_by
from mongo_datalayer.threads import Threads, object_keys
from mongo_datalayer.transfer.records import Counts, RecordWriter
from mongo_datalayer.users import Users
from mongo_datalayer.values import plain_text


@dataclass(frozen=True)
class Scope:
    """What is exported: one user with their threads, one thread, or (without either) everything.

    Attributes:
        identifier: What the user logs in with; also ChatKit's owner.
        thread_id: The thread, Chainlit's or ChatKit's.
    """

    identifier: str | None = None
    thread_id: str | None = None


class Export:
    """One export of a database.

    Each document is written as it is when it is read: threads that change meanwhile are in it as
    they were before or after.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        scope: What to export.
        with_files: Also the content of files.
    """

    def __init__(
        self, database: Database, bucket: FileBucket, scope: Scope, *, with_files: bool
    ) -> None:
        self._threads = Threads(database)
        self._chatkit = ChatKitThreadArchive(database)
        self._attachments = ChatKitAttachmentArchive(database, bucket)
        self._users = Users(database)
        self._bucket = bucket
        self._scope = scope
        self._with_files = with_files
        self._writer = RecordWriter()
        self.damaged: list[str] = []
        """Object keys of files that could not be read, so that they are left out."""
        self.damaged_threads: list[Document] = []
        """Owner and id of ChatKit's threads that could not be read whole; left out too."""

    @property
    def counts(self) -> Counts:
        """What was written until now."""
        return self._writer.counts

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines, from the first to the last.

        Raises:
            NotFoundError: there is no such user or thread; raised before the first line.
        """
        user, condition, chatkit = await self._found()
        yield self._writer.header(
            exportedAt=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            user=self._scope.identifier,
            thread=self._scope.thread_id,
            files=self._with_files,
        )
        if user is not None:
            yield self._writer.document("user", user)
        elif self._everything:
            async for stored in self._users.scan():
                yield self._writer.document("user", stored)
        async for thread in self._threads.archive.scan(condition):
            yield self._writer.document("thread", thread)
        async for thread in self._chatkit.scan(chatkit, self.damaged_threads.append):
            yield self._writer.document("chatkit-thread", thread)
        async for attachment in self._attachments.scan(self._of_attachments()):
            yield self._writer.document("chatkit-attachment", attachment)
        if self._with_files:
            async for file in self._files(condition):
                async for line in self._file(file):
                    yield line
        yield self._writer.trailer()

    @property
    def _everything(self) -> bool:
        return self._scope == Scope()

    async def _found(self) -> tuple[Document | None, Document, Document]:
        """The scope's user, the filter on threads, and that on ChatKit's threads."""
        identifier, thread_id = self._scope.identifier, self._scope.thread_id
        if thread_id is not None:
            chatkit: Document = {"_id.id": plain_text(thread_id)}
            if await self._threads.get(thread_id) is None and not await self._any(chatkit):
                raise NotFoundError(f"There is no thread {thread_id!r}.")
            return None, {"_id": thread_id}, chatkit
        if identifier is None:
            return None, {}, {}
        chatkit = of_owner(plain_text(identifier))
        user = await self._users.get(identifier)
        if user is None and not await self._any(chatkit):
            raise NotFoundError(f"There is no user {identifier!r}.")
        user_id = None if user is None else user["_id"]
        return user, owned_by(user_id, identifier), chatkit

    async def _any(self, chatkit: Document) -> bool:
        async for _ in self._chatkit.scan_heads(chatkit, ("order",)):
            return True
        async for _ in self._attachments.scan(self._of_attachments(), ("threadId",)):
            return True
        return False

    def _of_attachments(self) -> Document:
        """The filter on ChatKit's attachments."""
        if self._scope.thread_id is not None:
            return {"threadId": plain_text(self._scope.thread_id)}
        if self._scope.identifier is not None:
            return of_owner(plain_text(self._scope.identifier))
        return {}

    async def _files(self, condition: Document) -> AsyncIterator[StoredFile]:
        """The newest revision of each file, of the threads or of all.

        Large values are left out: they are in the threads.
        """
        if self._everything:
            async for key in self._bucket.list_keys():
                newest = await self._bucket.find(key)
                if newest is not None and not (holds_value(newest) or holds_item(newest)):
                    yield newest
            return
        async for thread in self._threads.archive.scan(condition, ("elements.objectKey",)):
            keys = object_keys(thread.get("elements"))
            found = self._bucket.list_belonging([thread["_id"]], keys)
            for key in sorted({f.object_key async for f in found if not holds_value(f)}):
                newest = await self._bucket.find(key)
                if newest is not None:
                    yield newest
        async for attachment in self._attachments.scan(self._of_attachments(), ("threadId",)):
            file = await self._bucket.find(object_key(attachment["_id"]))
            if file is not None:
                yield file

    async def _file(self, file: StoredFile) -> AsyncIterator[bytes]:
        """The lines of a file; once more when it is replaced while it is read."""
        latest: StoredFile | None = file
        while latest is not None:
            tried = latest
            yield self._writer.record("file", **_description(tried))
            digest = hashlib.sha256()
            try:
                async for piece in self._bucket.iterate(tried):
                    digest.update(piece)
                    yield self._writer.record("chunk", data=base64.b64encode(piece).decode())
            except StorageError:
                complete = False
            else:
                complete = digest.hexdigest() == tried.sha256
            yield self._writer.record("file-end", complete=complete)
            if complete:
                return
            latest = await self._bucket.find(tried.object_key)
            if latest == tried:
                self.damaged.append(tried.object_key)
                return


def _description(file: StoredFile) -> Document:
    return {
        "objectKey": file.object_key,
        "size": file.size,
        "sha256": file.sha256,
        "mime": file.mime,
        "name": file.name,
        "attachment": file.attachment,
        "threadId": file.thread_id,
        "elementId": file.element_id,
        "uploadedAt": file.uploaded_at.isoformat(timespec="milliseconds"),
    }
