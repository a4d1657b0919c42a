"""The shape of one file in ``fs.files``, and what marks it as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.int64 import Int64
from bson.objectid import ObjectId

from mongo_datalayer.documents import Document
from mongo_datalayer.errors import StorageError
from mongo_datalayer.values import plain

OWNER = "mongo_datalayer"
DEFAULT_MIME = "application/octet-stream"

# The size every MongoDB driver cuts files into; a little under a power of two on purpose.
CHUNK_BYTES = 255 * 1024

# Chunks carry nothing but their file's id, so the id itself must say that they are ours: chunks
# of an upload that was killed have no other owner.
_ID_PREFIX = f"{OWNER}:"


@dataclass(frozen=True)
class StoredFile:
    """One revision of a stored file.

    Attributes:
        file_id: ``_id`` of the revision; a new one for each upload.
        object_key: The name it is stored under.
        size: Length in bytes.
        mime: Content type as it was given at the upload.
        sha256: SHA-256 of the content, in hex digits.
        uploaded_at: When the upload was complete, by the server's clock, in UTC.
        chunk_bytes: Size of its chunks in bytes.
        name: File name to offer when it is saved.
        attachment: True when the uploader asked for it to be saved, never shown.
        thread_id: Thread it belongs to.
        element_id: Element it belongs to.
    """

    file_id: str
    object_key: str
    size: int
    mime: str
    sha256: str
    uploaded_at: datetime
    chunk_bytes: int = CHUNK_BYTES
    name: str | None = None
    attachment: bool = False
    thread_id: str | None = None
    element_id: str | None = None

    @property
    def revision(self) -> tuple[datetime, str]:
        """Orders the revisions of one object key; the greatest is what readers get."""
        return (self.uploaded_at, self.file_id)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> StoredFile:
        """Read a document of ``fs.files`` that :func:`ours` selected."""
        metadata = document["metadata"]
        return cls(
            file_id=document["_id"],
            object_key=document["filename"],
            size=int(document["length"]),
            mime=metadata.get("contentType", DEFAULT_MIME),
            sha256=metadata["sha256"],
            uploaded_at=document["uploadDate"],
            chunk_bytes=int(document["chunkSize"]),
            name=metadata.get("name"),
            attachment=metadata.get("attachment", False),
            thread_id=metadata.get("threadId"),
            element_id=metadata.get("elementId"),
        )


@dataclass(frozen=True)
class FileDetails:
    """What an uploader says about a file; the rest is measured."""

    mime: str = DEFAULT_MIME
    name: str | None = None
    attachment: bool = False
    thread_id: str | None = None
    element_id: str | None = None


def file_fields(object_key: str, size: int, sha256: str, details: FileDetails) -> Document:
    """The fields of a finished upload, except ``_id`` and the date, which the server sets."""
    metadata = {
        "owner": OWNER,
        "contentType": details.mime,
        "sha256": sha256,
        "name": details.name,
        "attachment": details.attachment or None,
        "threadId": details.thread_id,
        "elementId": details.element_id,
    }
    return {
        "filename": object_key,
        "length": Int64(size),
        "chunkSize": CHUNK_BYTES,
        "metadata": plain({key: value for key, value in metadata.items() if value is not None}),
    }


def ours(**conditions: Any) -> Document:
    """A filter on ``fs.files`` that other applications' files never match."""
    return {"metadata.owner": OWNER, **conditions}


def new_file_id() -> str:
    """An id no other upload has; those of one process sort by time."""
    return f"{_ID_PREFIX}{ObjectId()}"


def ids_before(moment: datetime) -> Document:
    """A condition on file ids: made by us, and before ``moment`` (to the second)."""
    return {"$gte": _ID_PREFIX, "$lt": f"{_ID_PREFIX}{ObjectId.from_datetime(moment)}"}


def require_object_key(object_key: str) -> str:
    """The key, when it can name a file.

    Any characters may be in it. The exceptions are what neither MongoDB nor a URL can carry.

    Raises:
        StorageError: it is empty, ``.`` or ``..`` (every HTTP client removes these from a URL), or
            holds half of a surrogate pair.
    """
    if object_key in {"", ".", ".."}:
        raise StorageError(f"{object_key!r} cannot be an object key.")
    try:
        object_key.encode()
    except UnicodeEncodeError as exc:
        raise StorageError(f"{object_key!r} is not valid Unicode text: {exc.reason}.") from exc
    return object_key
