"""Files of elements, kept with any Chainlit storage client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from mongo_datalayer.documents import Document
from mongo_datalayer.errors import StorageError

if TYPE_CHECKING:
    from chainlit.data.storage_clients.base import BaseStorageClient

logger = logging.getLogger(__name__)

DEFAULT_MIME = "application/octet-stream"


class ElementFiles:
    """Keeps, links and removes the files of elements.

    Args:
        storage: The storage client. One with a true attribute ``streams`` takes open files,
            records whose they are, and deletes many at once with ``delete_files``; every other one
            gets bytes, and one key at a time, as Chainlit's interface says.
    """

    def __init__(self, storage: BaseStorageClient) -> None:
        self._storage = storage
        self._streams = bool(getattr(storage, "streams", False))

    async def keep(self, element: Document, thread_id: str, content: bytes | BinaryIO) -> str:
        """Store an element's content under a key of its own.

        Returns:
            The object key.

        Raises:
            StorageError: the storage client failed, or did not say that it kept the file.
        """
        with nullcontext(content) if isinstance(content, bytes) else content as data:
            kept = await self._upload(element, thread_id, data)
        if not kept or not kept.get("object_key"):
            raise StorageError(
                f"{self._name} did not store the file of element {element['id']}: it answered "
                f"{kept!r} to upload_file. Its own log says why."
            )
        return str(kept["object_key"])

    async def link(self, elements: Iterable[Document]) -> None:
        """Set ``url`` of each element that has a file; None, and a log line, where that fails."""
        await asyncio.gather(
            *(self._link(element) for element in elements if element.get("objectKey"))
        )

    async def discard(self, object_keys: Iterable[str]) -> None:
        """Delete files. One that cannot be deleted is logged: its element is gone already."""
        keys = list(object_keys)
        if self._streams and keys:
            await self._discard_together(keys)
        else:
            await asyncio.gather(*(self._discard(key) for key in keys))

    async def close(self) -> None:
        """Close the storage client; an error of its own is logged."""
        try:
            await self._storage.close()
        except Exception as exc:  # noqa: BLE001 - Chainlit's S3 client raises TypeError here
            logger.warning("%s could not be closed: %s", self._name, exc)

    async def _upload(self, element: Document, thread_id: str, data: bytes | BinaryIO) -> Any:
        options: dict[str, Any] = {}
        if self._streams:
            options = {
                "name": element.get("name"),
                "thread_id": thread_id,
                "element_id": element["id"],
            }
        elif not isinstance(data, bytes):
            data = await asyncio.to_thread(data.read)
        try:
            return await self._storage.upload_file(
                object_key=object_key(thread_id, element["id"]),
                data=data,  # type: ignore[arg-type]  # an open file, where the client streams
                mime=element.get("mime") or DEFAULT_MIME,
                overwrite=True,
                **options,
            )
        except Exception as exc:
            raise StorageError(
                f"{self._name} could not store the file of element {element['id']}: {exc}"
            ) from exc

    async def _link(self, element: Document) -> None:
        key = element["objectKey"]
        try:
            url = await self._storage.get_read_url(key)
        except Exception as exc:  # noqa: BLE001 - one file must not hide the whole thread
            logger.error("%s made no link for %s: %s", self._name, key, exc)  # noqa: TRY400
            url = None
        else:
            if not url or url == key:  # what Chainlit's S3 client answers when it failed
                logger.error("%s made no link for %s: it answered %r.", self._name, key, url)
                url = None
        element["url"] = url

    async def _discard_together(self, keys: list[str]) -> None:
        storage: Any = self._storage
        try:
            await storage.delete_files(keys)
        except Exception as exc:  # noqa: BLE001 - any client's own errors
            logger.error("%s could not delete %s: %s", self._name, keys, exc)  # noqa: TRY400

    async def _discard(self, key: str) -> None:
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
    """The key of an element's file: the same element always has the same.

    Ids may be any text, and the key becomes part of a link: ``.`` and ``..`` would be lost there.
    """
    return "/".join(quote(part, safe="").replace(".", "%2E") for part in (thread_id, element_id))
