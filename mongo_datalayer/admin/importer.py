"""Stores what an export holds. If an import is interrupted, run it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from cachetools import LRUCache

from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from mongo_datalayer.admin.chatkit_data import ChatKitData
from mongo_datalayer.admin.export_format import COUNT_NAMES
from mongo_datalayer.admin.front_data import Counts
from mongo_datalayer.admin.stored_documents import StoredDocuments
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.errors import ExportFormatError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Database

CACHED_OWNERS = 10_000


@dataclass
class Imported:
    """What was stored, and what was skipped because it is there already."""

    stored: Counts = field(default_factory=Counter)
    skipped: Counts = field(default_factory=Counter)


class Import:
    """Stores the records of an export in a database.

    A user whose identifier is there under another id stays as it is, and the user's threads are
    given to it.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        replace: Put users, threads, attachments and files in the place of those with the same id
            or key; else they are left alone. Also a deleted one comes back then.
        dry_run: Only count.
    """

    def __init__(
        self, database: Database, bucket: FileBucket, *, replace: bool, dry_run: bool = False
    ) -> None:
        chatkit = ChatKitData(database, bucket)
        self._users = Users(database)
        self._documents: Mapping[str, StoredDocuments] = {
            "thread": ChainlitThreads(ThreadDocuments(database)),
            "chatkit-thread": chatkit.threads,
            "chatkit-attachment": chatkit.attachments,
        }
        self._bucket = bucket
        self._replace = replace
        self._dry_run = dry_run
        self._owners: LRUCache[str, str] = LRUCache(CACHED_OWNERS)

    async def store(self, records: Iterator[Document]) -> Imported:
        """Store all of ``records``.

        Raises:
            ExportFormatError: the records are not those of a whole export. What came before is
                stored already.
        """
        imported = Imported()
        for record in records:
            kind = record["type"]
            if kind == "file":
                stored = await self._store_file(record, records)
            elif kind == "user":
                stored = await self._store_user(record["document"])
            else:
                stored = await self._store_document(kind, record["document"])
            if stored is not None:
                counts = imported.stored if stored else imported.skipped
                counts[COUNT_NAMES[kind]] += 1
        return imported

    async def _store_user(self, user: Document) -> bool:
        same = await self._users.by_identifier(user["identifier"])
        # Threads name the user's id: a user that is there keeps its own.
        if same is not None and (same["_id"] != user["_id"] or not self._replace):
            return False
        if self._dry_run:
            return self._replace or await self._users.by_id(user["_id"]) is None
        return await self._users.restore(user, replace=self._replace)

    async def _store_document(self, kind: str, document: Document) -> bool:
        documents = self._documents[kind]
        if kind != "thread":
            # MongoDB compares the keys with the order of their fields.
            key = owned(document["_id"]["owner"], document["_id"]["id"])
            document = {**document, "_id": key}
        if self._dry_run:
            return self._replace or not await documents.exists({"_id": document["_id"]})
        if kind == "thread" and document.get("userId") is not None:
            owner = await self._owner(document.get("userIdentifier"))
            document = document if owner is None else {**document, "userId": owner}
        return await documents.restore(document, replace=self._replace)

    async def _owner(self, identifier: object) -> str | None:
        """The id that the user has in this database."""
        if not isinstance(identifier, str):  # none, or edited by hand
            return None
        if identifier not in self._owners:
            user = await self._users.by_identifier(identifier)
            # Not remembered: the person may log in for the first time meanwhile.
            if user is None:
                return None
            self._owners[identifier] = str(user["_id"])
        return self._owners[identifier]

    async def _store_file(self, record: Document, records: Iterator[Document]) -> bool | None:
        """Whether the file was stored; None when the export says that it is not complete."""
        content = _content(records)
        present = await self._bucket.find(record["objectKey"])
        stored = present is None or (self._replace and present.sha256 != record["sha256"])
        try:
            # Read all the same: the pieces stand before the next record in the file.
            if self._dry_run or not stored:
                async for _ in content:
                    pass
            else:
                await self._write(record, content)
        except _IncompleteError:
            return None
        return stored

    async def _write(self, record: Document, content: AsyncIterator[bytes]) -> None:
        details = FileDetails(
            mime=record["mime"],
            name=record.get("name"),
            attachment=record.get("attachment") is True,
            thread_id=record.get("threadId"),
            element_id=record.get("elementId"),
        )
        stored = await self._bucket.write(record["objectKey"], content, details)
        if stored.sha256 != record["sha256"]:
            await self._bucket.delete_revisions([stored.file_id])
            raise ExportFormatError(f"The content of {record['objectKey']!r} is not what it says.")


class _IncompleteError(StorageError):
    """The export ended a file before its end: it was replaced or removed while it was read."""


async def _content(records: Iterator[Document]) -> AsyncIterator[bytes]:
    """The content of a file, from the records that follow its first one."""
    for record in records:
        if record["type"] == "file-end":
            if record.get("complete") is not True:
                raise _IncompleteError
            return
        yield record["data"]
