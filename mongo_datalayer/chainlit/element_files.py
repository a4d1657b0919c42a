"""Files of elements, kept with any Chainlit storage client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from mongo_datalayer.errors import StorageError
from mongo_datalayer.files.stored_file import DEFAULT_MIME, FileDetails
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.logger import get_logger, reason_of

if TYPE_CHECKING:
    from chainlit.data.storage_clients.base import BaseStorageClient

logger = get_logger(__name__)


class ElementFiles:
    """The files of elements.

    Args:
        storage: The storage client. One with a true attribute ``streams`` keeps its files in a
            ``bucket``, which takes open files, and deletes many with ``delete_files``. Any other
            client gets bytes, and one key at a time, as Chainlit's interface has it.
    """

    def __init__(self, storage: BaseStorageClient) -> None:
        self._storage = storage
        self._streams = bool(getattr(storage, "streams", False))

    async def store(
        self, element: Document, thread_id: str, content: bytes | BinaryIO
    ) -> StorageError | None:
        """Store an element's content, and set its ``objectKey``; returns the error if that fails.

        Call it from a task that nobody cancels.
        """
        try:
            with nullcontext(content) if isinstance(content, bytes) else content as data:
                answer = await self._upload(element, thread_id, data)
        except StorageError as exc:
            return exc
        if not answer or not answer.get("object_key"):
            # Chainlit's own clients log their errors, and answer with an empty dict.
            return StorageError(
                f"{self._name} did not store the file of element {element['id']}: it answered "
                f"{answer!r} to upload_file. Its own log says why."
            )
        element["objectKey"] = str(answer["object_key"])
        return None

    async def link(self, elements: Iterable[Document]) -> None:
        """Set ``url`` of each element that has a file; None, and a log line, where that fails."""
        await asyncio.gather(
            *(self._link(element) for element in elements if element.get("objectKey"))
        )

    async def delete(self, object_keys: Iterable[str]) -> None:
        """Delete files. A failure is logged, as their elements are deleted already."""
        keys = list(object_keys)
        if self._streams and keys:
            await self._delete_together(keys)
        else:
            await asyncio.gather(*(self._delete(key) for key in keys))

    async def close(self) -> None:
        """Close the storage client; an error of its own is logged."""
        try:
            await self._storage.close()
        except Exception as exc:  # noqa: BLE001 - Chainlit's S3 client raises TypeError here
            logger.warning("%s could not be closed: %s", self._name, exc)

    async def _upload(self, element: Document, thread_id: str, data: bytes | BinaryIO) -> Any:
        storage: Any = self._storage
        key = object_key(thread_id, element["id"])
        mime = element.get("mime") or DEFAULT_MIME
        try:
            if self._streams:
                name = element.get("name")
                details = FileDetails(mime, name, thread_id=thread_id, element_id=element["id"])
                # Not upload_file, which signs a link that nobody would read.
                await storage.bucket.write(key, data, details, shielded=True)
                return {"object_key": key}
            if not isinstance(data, bytes):
                data = await asyncio.to_thread(data.read)
            return await storage.upload_file(object_key=key, data=data, mime=mime, overwrite=True)
        except Exception as exc:
            raise StorageError(
                f"{self._name} could not store the file of element {element['id']}: "
                f"{reason_of(exc)}"
            ) from exc

    async def _link(self, element: Document) -> None:
        key = element["objectKey"]
        try:
            url = await self._storage.get_read_url(key)
        except Exception as exc:  # noqa: BLE001 - one file must not hide the whole thread
            logger.error("%s made no link for %s: %s", self._name, key, exc)  # noqa: TRY400
            url = None
        else:
            if not url or url == key:  # Chainlit's S3 client answers with the key when it failed
                logger.error("%s made no link for %s: it answered %r.", self._name, key, url)
                url = None
        element["url"] = url

    async def _delete_together(self, keys: list[str]) -> None:
        storage: Any = self._storage
        try:
            await storage.delete_files(keys)
        except Exception as exc:  # noqa: BLE001 - any client's own errors
            logger.error("%s could not delete %s: %s", self._name, keys, exc)  # noqa: TRY400

    async def _delete(self, key: str) -> None:
        try:
            deleted = await self._storage.delete_file(key)
        except Exception as exc:  # noqa: BLE001 - any client's own errors
            logger.error("%s could not delete %s: %s", self._name, key, exc)  # noqa: TRY400
        else:
            if not deleted:
                logger.warning("%s did not delete %s.", self._name, key)

    @property
    def _name(self) -> str:
        return type(self._storage).__name__


def object_key(thread_id: str, element_id: str) -> str:
    """The key of an element's file, always the same for an element."""
    # Ids may be any text and become part of a link, from which "." and ".." would be lost.
    return "/".join(quote(part, safe="").replace(".", "%2E") for part in (thread_id, element_id))
