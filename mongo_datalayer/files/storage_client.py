"""Chainlit's storage client on GridFS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from chainlit.data.storage_clients.base import BaseStorageClient

from mongo_datalayer.config import DEFAULT_TIMEOUT_MS
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.http_headers import parse_disposition
from mongo_datalayer.files.links import FileLinks
from mongo_datalayer.files.stored_file import DEFAULT_MIME, FileDetails, StoredFile
from mongo_datalayer.files.upload_source import Source
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.arguments import check_asynchronous_database
from mongo_datalayer.mongodb.client import Database, timeout
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.mongodb.retries import Retries

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase


logger = get_logger(__name__)


class GridFSStorageClient(BaseStorageClient):
    """Keeps the files of elements in MongoDB's GridFS.

    It borrows the database. Uploads are retried after transient errors, within the client's
    ``timeoutMS`` or 20 seconds for each block. Errors are raised as the driver raises them.

    Args:
        database: PyMongo's ``AsyncDatabase``, or Motor's ``AsyncIOMotorDatabase``.
        bucket: Name of the GridFS bucket; you may share it with other applications.
        links: Makes the links to files; None reads the environment for them.

    Attributes:
        bucket: The files themselves, for scripts and administration.
        links: Makes and checks the links.
        streams: True: ``bucket`` takes open files, and :meth:`delete_files` many keys at once.

    Raises:
        ConfigurationError: ``database`` is no database, or that of a blocking client.
    """

    streams: ClassVar[bool] = True

    def __init__(
        self,
        database: Database | AsyncIOMotorDatabase[Document],
        *,
        bucket: str = "fs",
        links: FileLinks | None = None,
    ) -> None:
        check_asynchronous_database("GridFSStorageClient", database)
        client: Any = database.client
        seconds = timeout(client) or DEFAULT_TIMEOUT_MS / 1000
        self.bucket = FileBucket(database, bucket, retry=Retries(client, seconds).run)
        self.links = FileLinks() if links is None else links

    async def upload_file(
        self,
        object_key: str,
        data: Source,
        mime: str = DEFAULT_MIME,
        overwrite: bool = True,
        content_disposition: str | None = None,
        *,
        name: str | None = None,
        thread_id: str | None = None,
        element_id: str | None = None,
    ) -> dict[str, Any]:
        """Store a file under a key, and return ``{"object_key": …, "url": …}``.

        Readers see the old content until the new one is complete. An upload that fails or is
        cancelled leaves nothing behind. A path or an open file is read in a thread, about 1 MB at a
        time. Without a secret to sign links with, the URL is empty and the log says what to set.

        Args:
            object_key: Any text, except an empty one, ``.`` and ``..``.
            data: Bytes, text (stored as UTF-8), a ``Path``, or a file opened in binary mode, which
                is read from its current position and left open.
            mime: Content type.
            overwrite: False to refuse a key that is taken.
            content_disposition: As in HTTP. ``attachment`` forbids showing the file in place.
            name: File name for saving; else that of ``content_disposition``, else the key's end.
            thread_id: Thread the file belongs to, for :meth:`delete_thread_files`.
            element_id: Element the file belongs to.

        Raises:
            StorageError: the content cannot be read, the key cannot be used, or it is taken.
        """
        attachment, given_name = parse_disposition(content_disposition)
        details = FileDetails(
            mime=mime,
            name=given_name if name is None else name,
            attachment=attachment,
            thread_id=thread_id,
            element_id=element_id,
        )
        await self.bucket.write(object_key, data, details, overwrite=overwrite)
        return {"object_key": object_key, "url": self._link_if_signable(object_key)}

    async def get_read_url(self, object_key: str) -> str:
        """A signed link to the file, which expires; the database is not asked.

        Raises:
            ConfigurationError: no secret is set; the message says what to set.
        """
        return self.links.link(object_key)

    async def delete_file(self, object_key: str) -> bool:
        """Delete the file; False when there was none."""
        return await self.bucket.delete([object_key]) > 0

    async def delete_files(self, object_keys: Iterable[str]) -> int:
        """Delete many files, three commands per thousand; returns how many there were."""
        return await self.bucket.delete(object_keys)

    async def delete_thread_files(self, thread_id: str) -> int:
        """Delete every file uploaded with this ``thread_id``; returns how many there were."""
        return await self.bucket.delete_thread(thread_id)

    async def find_file(self, object_key: str) -> StoredFile | None:
        """Size, type and name of the file; None when there is none."""
        return await self.bucket.find(object_key)

    async def download_file(self, object_key: str) -> bytes:
        """The whole content; never a mix of two uploads.

        Raises:
            NotFoundError: no file is stored under the key.
            StorageError: the file is damaged.
        """
        return await self.bucket.read(object_key)

    async def stream_file(
        self, object_key: str, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to ``stop`` (to the end when None), piece by piece.

        Raises:
            NotFoundError: no file is stored under the key.
            StorageError: the file was replaced or deleted meanwhile, or is damaged.
        """
        stored = await self.bucket.require(object_key)
        async for piece in self.bucket.iterate(stored, start, stop):
            yield piece

    async def close(self) -> None:
        """Does nothing: the database belongs to the caller."""

    def _link_if_signable(self, object_key: str) -> str:
        # An app without a secret keeps its files; links can be made once there is one.
        try:
            return self.links.link(object_key)
        except ConfigurationError as exc:
            logger.warning("%s is stored, but no link to it can be made. %s", object_key, exc)
            return ""
