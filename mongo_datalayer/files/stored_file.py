"""The shape of one file in ``fs.files``, and what marks it as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.objectid import ObjectId

from mongo_datalayer.errors import StorageError
from mongo_datalayer.model.bson_values import to_bson, to_text
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.times import EPOCH

OWNER = "mongo_datalayer"
DEFAULT_MIME = "application/octet-stream"

# The drivers' default: with its other fields a chunk's document stays below 256 KB.
CHUNK_BYTES = 255 * 1024

# Chunks carry only their file's id. The prefix marks those of a killed upload, which have no file,
# as ours.
_ID_PREFIX = f"{OWNER}:"


@dataclass(frozen=True)
class StoredFile:
    """One revision of a stored file.

    Attributes:
        file_id: ``_id`` of the revision; a new one for each upload.
        object_key: The key it is stored under.
        size: Length in bytes.
        mime: Content type as given at the upload.
        sha256: SHA-256 of the content, in hex digits.
        uploaded_at: When the upload was complete, by the server's clock, in UTC.
        chunk_bytes: Size of its chunks in bytes.
        name: File name to offer when it is saved.
        attachment: True when the uploader asked for it to be saved, never shown.
        thread_id: Thread it belongs to.
        element_id: Element it belongs to.
        damaged: Whether its sizes were edited by hand, so that its content cannot be read.
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
    damaged: bool = False

    @property
    def revision(self) -> tuple[datetime, str]:
        """Orders the revisions of one object key; readers get the greatest."""
        return (self.uploaded_at, self.file_id)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> StoredFile:
        """Read a document of ``fs.files`` that :func:`ours` selected.

        One that was edited by hand is read as far as possible, and is ``damaged`` where its content
        cannot be read.
        """
        metadata = document["metadata"]
        metadata = metadata if isinstance(metadata, dict) else {}
        size, chunk_bytes = (_bytes(document.get(name)) for name in ("length", "chunkSize"))
        object_key, uploaded_at = document.get("filename"), document.get("uploadDate")
        return cls(
            file_id=document["_id"],
            object_key=object_key if isinstance(object_key, str) else to_text(object_key),
            size=size or 0,
            mime=_text(metadata.get("contentType")) or DEFAULT_MIME,
            sha256=_text(metadata.get("sha256")) or "",
            uploaded_at=uploaded_at if isinstance(uploaded_at, datetime) else EPOCH,
            chunk_bytes=chunk_bytes or CHUNK_BYTES,
            name=_text(metadata.get("name")),
            attachment=metadata.get("attachment") is True,
            thread_id=_text(metadata.get("threadId")),
            element_id=_text(metadata.get("elementId")),
            damaged=size is None or not chunk_bytes,
        )


def _bytes(value: Any) -> int | None:
    """A size as whole bytes; None where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and value >= 0 and value % 1 == 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class FileDetails:
    """What an uploader says about a file."""

    mime: str = DEFAULT_MIME
    name: str | None = None
    attachment: bool = False
    thread_id: str | None = None
    element_id: str | None = None


def new_file(object_key: str, details: FileDetails) -> tuple[str, Document]:
    """An id no other upload has, and the fields of a file, except what its content says.

    Raises:
        StorageError: the key cannot name a file.
    """
    metadata = {
        "owner": OWNER,
        "contentType": details.mime,
        "name": details.name,
        "attachment": details.attachment or None,
        "threadId": details.thread_id,
        "elementId": details.element_id,
    }
    return f"{_ID_PREFIX}{ObjectId()}", {
        "filename": require_object_key(object_key),
        "chunkSize": CHUNK_BYTES,
        "metadata": to_bson({key: value for key, value in metadata.items() if value is not None}),
    }


def ours(**filters: Any) -> Document:
    """A filter on ``fs.files`` that other applications' files never match."""
    return {"metadata.owner": OWNER, **filters}


def ids_before(moment: datetime) -> Document:
    """A filter on file ids: ours, made before ``moment`` (to the second)."""
    return {"$gte": _ID_PREFIX, "$lt": f"{_ID_PREFIX}{ObjectId.from_datetime(moment)}"}


def require_object_key(object_key: str) -> str:
    """The key itself, if it can name a file.

    Raises:
        StorageError: it is empty, ``.`` or ``..``, or has a lone surrogate.
    """
    # HTTP clients remove these two from a URL.
    if object_key in {"", ".", ".."}:
        raise StorageError(f"{object_key!r} cannot be an object key.")
    try:
        object_key.encode()
    except UnicodeEncodeError as exc:
        raise StorageError(f"{object_key!r} is not valid Unicode text: {exc.reason}.") from exc
    return object_key
