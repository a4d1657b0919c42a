"""Stores what an export holds; safe to repeat, so that an interrupted import is run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mongo_datalayer.chatkit.archive import ChatKitAttachmentArchive, ChatKitThreadArchive
from mongo_datalayer.chatkit.statements import owned
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Database
from mongo_datalayer.errors import ExportFormatError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import FileDetails, StoredFile
from mongo_datalayer.recent import Recent
from mongo_datalayer.threads import Threads
from mongo_datalayer.transfer.records import Counts
from mongo_datalayer.users import Users

REMEMBERED = 10_000


@dataclass
class Imported:
    """What was stored, and what was left as it was because it is there."""

    stored: Counts = field(default_factory=Counts)
    skipped: Counts = field(default_factory=Counts)


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
        self._users = Users(database)
        self._threads = Threads(database)
        self._chatkit = ChatKitThreadArchive(database)
        self._attachments = ChatKitAttachmentArchive(database, bucket)
        self._bucket = bucket
        self._replace = replace
        self._dry_run = dry_run
        self._owners: Recent[str, str] = Recent(REMEMBERED)

    async def store(self, records: Iterator[Document]) -> Imported:
        """Store all of ``records``.

        Raises:
            ExportFormatError: the records are not those of a whole export. What came before is
                stored already.
        """
        done = Imported()
        for record in records:
            if record["type"] == "file":
                if (stored := await self._store_file(record, records)) is None:
                    continue
                tally = done.stored if stored else done.skipped
                tally.files += 1
            elif record["type"] == "user":
                tally = done.stored if await self._store_user(record) else done.skipped
                tally.users += 1
            elif record["type"] == "thread":
                tally = done.stored if await self._store_thread(record) else done.skipped
                tally.threads += 1
            elif record["type"] == "chatkit-thread":
                tally = done.stored if await self._store_chatkit_thread(record) else done.skipped
                tally.chatkit_threads += 1
            else:
                tally = done.stored if await self._store_attachment(record) else done.skipped
                tally.chatkit_attachments += 1
        return done

    async def _store_user(self, record: Document) -> bool:
        user = record["document"]
        same = await self._users.get(user["identifier"])
        if same is not None and (same["_id"] != user["_id"] or not self._replace):
            return False
        if self._dry_run:
            return self._replace or await self._users.find(user["_id"]) is None
        return await self._users.restore(user, replace=self._replace)

    async def _store_thread(self, record: Document) -> bool:
        thread = record["document"]
        if self._dry_run:
            return self._replace or not await self._threads.archive.exists(thread["_id"])
        owner = await self._owner(thread.get("userIdentifier"))
        if owner is not None and thread.get("userId") is not None:
            thread = {**thread, "userId": owner}
        return await self._threads.archive.restore(thread, replace=self._replace)

    async def _store_chatkit_thread(self, record: Document) -> bool:
        thread = record["document"]
        if self._dry_run:
            return self._replace or not await self._chatkit.exists(_key(thread))
        return await self._chatkit.restore(thread, replace=self._replace)

    async def _store_attachment(self, record: Document) -> bool:
        attachment = record["document"]
        if self._dry_run:
            return self._replace or not await self._attachments.exists(_key(attachment))
        return await self._attachments.restore(attachment, replace=self._replace)

    async def _owner(self, identifier: str | None) -> str | None:
        """The id that the user has in this database."""
        if identifier is None:
            return None
        known = self._owners.get(identifier)
        if known is None:
            user = await self._users.get(identifier)
            if user is None:
                return None
            known = str(user["_id"])
            self._owners.put(identifier, known)
        return known

    async def _store_file(self, record: Document, records: Iterator[Document]) -> bool | None:
        """Whether the file was stored; None when the export says that it is not complete."""
        content = _Content(records)
        there = await self._bucket.find(record["objectKey"])
        if self._dry_run or (there is not None and not self._must_replace(there, record)):
            content.skip()
            stored = there is None or self._must_replace(there, record)
        else:
            stored = await self._write(record, content)
        return stored if content.complete else None

    def _must_replace(self, there: StoredFile, record: Document) -> bool:
        return self._replace and there.sha256 != record["sha256"]

    async def _write(self, record: Document, content: _Content) -> bool:
        details = FileDetails(
            mime=record["mime"],
            name=record.get("name"),
            attachment=record.get("attachment") is True,
            thread_id=record.get("threadId"),
            element_id=record.get("elementId"),
        )
        try:
            stored = await self._bucket.write(record["objectKey"], content, details)
        except _IncompleteError:
            return False
        if stored.sha256 != record["sha256"]:
            await self._bucket.discard([stored.file_id])
            raise ExportFormatError(f"The content of {record['objectKey']!r} is not what it says.")
        return True


def _key(document: Document) -> Document:
    return owned(document["_id"]["owner"], document["_id"]["id"])


class _IncompleteError(StorageError):
    """The export ended a file before its end: it was replaced or removed while it was read."""


class _Content:
    """The content of a file, read from the records that follow its first one."""

    def __init__(self, records: Iterator[Document]) -> None:
        self._records = records
        self._waiting = b""
        self._ended = False
        self.complete = False

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self._waiting and not self._ended:
            self._advance()
        if self._ended and not self.complete:
            raise _IncompleteError
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data

    def skip(self) -> None:
        """Pass over what was not read."""
        while not self._ended:
            self._advance()
        self._waiting = b""

    def _advance(self) -> None:
        record = next(self._records)
        if record["type"] == "chunk":
            self._waiting = record["data"]
        else:
            self._ended = True
            self.complete = record.get("complete") is True
