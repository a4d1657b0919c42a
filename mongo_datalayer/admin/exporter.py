"""Writes an export, line by line; no more than a page of threads is in memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from mongo_datalayer.admin.chainlit_data import ChainlitThreads, element_keys
from mongo_datalayer.admin.chatkit_data import ChatKitData, of_owner
from mongo_datalayer.admin.export_format import RecordWriter
from mongo_datalayer.chainlit.queries import owned_by
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.chatkit.object_keys import file_keys, holds_item
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.model.bson_values import to_text
from mongo_datalayer.model.documents import NOT_DELETED, Document
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.storage.large_values import holds_value, reference_keys


@dataclass(frozen=True)
class Scope:
    """What is exported: one user with their threads, one thread, or (without either) everything.

    Attributes:
        identifier: What the user logs in with; also ChatKit's owner.
        thread_id: The thread, Chainlit's or ChatKit's.
    """

    identifier: str | None = None
    thread_id: str | None = None


class _Filters(NamedTuple):
    threads: Document
    chatkit: Document
    attachments: Document


class Export:
    """One export of a database.

    Each document is written as it is when it is read: threads that change meanwhile are in it as
    they were before or after.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        scope: What to export.
        with_files: Also the content of files.

    Attributes:
        counts: What was written until now.
        damaged: Object keys of files that could not be read, and were left out.
        damaged_threads: Ids of threads that could not be read whole, and were left out.
    """

    def __init__(
        self, database: Database, bucket: FileBucket, scope: Scope, *, with_files: bool
    ) -> None:
        self._threads = ChainlitThreads(ThreadDocuments(database))
        self._chatkit = ChatKitData(database, bucket)
        self._users = Users(database)
        self._bucket = bucket
        self._scope = scope
        self._with_files = with_files
        self._writer = RecordWriter()
        self.counts = self._writer.counts
        self.damaged: list[str] = []
        self.damaged_threads: list[Any] = []

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines, from the first to the last.

        Raises:
            NotFoundError: there is no such user or thread; raised before the first line.
        """
        user, filters = await self._find()
        yield self._writer.header(
            exportedAt=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            user=self._scope.identifier,
            thread=self._scope.thread_id,
            files=self._with_files,
        )
        # Users first: the import gives threads to the ids that it finds for their users.
        if user is not None:
            yield self._writer.document("user", user)
        elif self._scope == Scope():
            async for stored in self._users.scan():
                yield self._writer.document("user", stored)
        damaged = self.damaged_threads.append
        async for thread in self._threads.scan_whole(filters.threads, damaged):
            yield self._writer.document("thread", thread)
        async for thread in self._chatkit.threads.scan_whole(filters.chatkit, damaged):
            yield self._writer.document("chatkit-thread", thread)
        large_fields = []
        async for attachment in self._chatkit.attachments.scan(filters.attachments, ()):
            large_fields += reference_keys([attachment])
            yield self._writer.document("chatkit-attachment", attachment)
        # An attachment is not whole without its large fields, so these files always come along.
        keys = self._file_keys(filters) if self._with_files else _each(large_fields)
        async for key in keys:
            async for line in self._file(key):
                yield line
        yield self._writer.trailer()

    async def _find(self) -> tuple[Document | None, _Filters]:
        """The scope's user, and the filters."""
        identifier, thread_id = self._scope.identifier, self._scope.thread_id
        user = None
        if thread_id is not None:
            text = to_text(thread_id)
            # A ChatKit key has the owner as well, and --thread names the id alone.
            filters = _Filters({"_id": thread_id}, {"_id.id": text}, {"threadIds": text})
            found = await self._threads.exists({**filters.threads, **NOT_DELETED})
            missing = f"There is no thread {thread_id!r}."
        elif identifier is not None:
            user = await self._users.by_identifier(identifier)
            owned = of_owner(to_text(identifier))
            user_id = None if user is None else user["_id"]
            filters = _Filters(owned_by(user_id, identifier), owned, owned)
            found = user is not None
            missing = f"There is no user {identifier!r}."
        else:
            return None, _Filters({}, {}, {})
        found = found or await self._chatkit.threads.exists({**filters.chatkit, **NOT_DELETED})
        attachments = {**filters.attachments, **NOT_DELETED}
        if not (found or await self._chatkit.attachments.exists(attachments)):
            raise NotFoundError(missing)
        return user, filters

    async def _file_keys(self, filters: _Filters) -> AsyncIterator[str]:
        """The object keys of all files, or of those of the threads in the scope."""
        if self._scope == Scope():
            async for key in self._bucket.list_keys():
                yield key
            return
        fields = ("elements.objectKey",)
        async for stored in self._threads.scan_with_overflow(filters.threads, fields):
            found = self._bucket.list_belonging([stored[0]["_id"]], element_keys(stored))
            for key in sorted({file.object_key async for file in found}):
                yield key
        async for attachment in self._chatkit.attachments.scan(filters.attachments, ("_id",)):
            for key in file_keys(attachment["_id"]):
                yield key

    async def _file(self, key: str) -> AsyncIterator[bytes]:
        """The lines of a file's newest revision; once more when it is replaced meanwhile."""
        latest = await self._bucket.find(key)
        # Large values are in the threads already.
        while latest is not None and not (holds_value(latest) or holds_item(latest)):
            file = latest
            yield self._writer.record("file", **_description(file))
            digest = hashlib.sha256()
            try:
                async for piece in self._bucket.iterate(file):
                    digest.update(piece)
                    yield self._writer.record("chunk", data=base64.b64encode(piece).decode())
            except StorageError:
                complete = False
            else:
                complete = digest.hexdigest() == file.sha256
            yield self._writer.record("file-end", complete=complete)
            if complete:
                return
            latest = await self._bucket.find(key)
            # Else it was replaced while it was read, and the new revision follows.
            if latest == file:
                self.damaged.append(key)
                return


async def _each(keys: list[str]) -> AsyncIterator[str]:
    for key in keys:
        yield key


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
