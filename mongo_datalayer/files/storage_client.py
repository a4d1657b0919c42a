"""Chainlit's storage client on GridFS."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from chainlit.data.storage_clients.base import BaseStorageClient

from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Database
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import DEFAULT_MIME, FileDetails, StoredFile
from mongo_datalayer.files.links import FileLinks
from mongo_datalayer.files.presentation import parse_disposition
from mongo_datalayer.files.source import Source

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase


logger = logging.getLogger(__name__)


class GridFSStorageClient(BaseStorageClient):
    """Keeps the files of elements in MongoDB's GridFS.

    It borrows the database and opens nothing of its own; the constructor does no I/O. Failures of
    the database are raised as the driver raises them.

    Args:
        database: PyMongo's ``AsyncDatabase``, or Motor's ``AsyncIOMotorDatabase``.
        bucket: Name of the GridFS bucket. Other applications may use the same one.
        links: Makes the links to files; None for links as the environment sets them.

    Attributes:
        bucket: The files themselves, for scripts and administration.
        links: Makes and checks the links.
        streams: Says that :meth:`upload_file` takes paths and open files, and whose they are.
    """

    streams: ClassVar[bool] = True

    def __init__(
        self,
        database: Database | AsyncIOMotorDatabase[Document],
        *,
        bucket: str = "fs",
        links: FileLinks | None = None,
    ) -> None:
        self.bucket = FileBucket(database, bucket)
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

        Where no secret is set the file is kept all the same: the URL is empty, and the log says
        what to set.

        Readers see the former content until the new is complete. An upload that fails or is
        cancelled leaves nothing behind. Memory does not grow with the file when ``data`` is a path
        or an open file: it is read in a thread, about 1 MB at a time.

        Args:
            object_key: Any text, except an empty one, ``.`` and ``..``.
            data: Bytes, text (stored as UTF-8), a ``Path``, or a file opened in binary mode, read
                from where it stands and left open.
            mime: Content type.
            overwrite: False to refuse a key that is taken.
            content_disposition: As of HTTP. ``attachment`` forbids showing the file in place; its
                file name is used when there is no ``name``.
            name: File name to offer when the file is saved; else the last part of the key.
            thread_id: Thread the file belongs to, for :meth:`delete_thread_files`.
            element_id: Element the file belongs to.

        Raises:
            StorageError: the content cannot be read, the key cannot be used, or it is taken.
        """
        attachment, given_name = False, None
        if content_disposition is not None:
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
        """A signed link to the file, which expires. Whether the file exists is not asked.

        Raises:
            ConfigurationError: no secret is set; the message says what to set.
        """
        return self.links.link(object_key)

    async def delete_file(self, object_key: str) -> bool:
        """Delete the file; False when there was none."""
        return await self.bucket.delete([object_key]) > 0

    async def delete_files(self, object_keys: Iterable[str]) -> int:
        """Delete many files, with three commands for a thousand; returns how many there were."""
        return await self.bucket.delete(object_keys)

    async def delete_thread_files(self, thread_id: str) -> int:
        """Delete every file uploaded with this ``thread_id``; returns how many there were."""
        return await self.bucket.delete_thread(thread_id)

    async def find_file(self, object_key: str) -> StoredFile | None:
        """What is known of the file; None when there is none."""
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
            StorageError: the file was replaced or deleted while it was read, or is damaged.
        """
        stored = await self.bucket.require(object_key)
        async for piece in self.bucket.iterate(stored, start, stop):
            yield piece

    async def close(self) -> None:
        """Does nothing: the database belongs to the caller."""

    def _link_if_signable(self, object_key: str) -> str:
        try:
            return self.links.link(object_key)
        except ConfigurationError as exc:
            logger.warning("%s is stored, but no link to it can be made. %s", object_key, exc)
            return ""
