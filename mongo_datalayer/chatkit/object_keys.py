"""Object keys of ChatKit's files: attachments, and items too large for a document. Pure.

Owner and ids are quoted in them, so that the keys of two owners never meet and all files of an
owner have keys that begin alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from mongo_datalayer.files.stored_file import StoredFile, ours
from mongo_datalayer.model.documents import Document

_ATTACHMENTS = "chatkit"
_ITEMS = "chatkit-values"


def object_key(key: Mapping[str, Any]) -> str:
    """The key of an attachment's file."""
    return f"{_ATTACHMENTS}/{_quoted(key)}"


def fields_key(key: Mapping[str, Any]) -> str:
    """The key of the file with an attachment's fields, where they are large."""
    return f"{object_key(key)}/fields"


def file_keys(key: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of all files that an attachment may have."""
    return object_key(key), fields_key(key)


def thread_name(key: Mapping[str, Any]) -> str:
    """A text that names a thread of an owner, in the metadata of files."""
    return f"chatkit/{_quoted(key)}"


def thread_items_folder(name: str) -> str:
    """How the keys of a thread's large items begin, by the thread's name."""
    return f"{_ITEMS}/{name}/"


def attachments_folder(owner: str) -> str:
    """How the keys of the files of an owner's attachments begin."""
    return f"{_ATTACHMENTS}/{quote(owner, safe='')}/"


def items_folder(owner: str) -> str:
    """How the keys of an owner's large items begin."""
    return f"{_ITEMS}/chatkit/{quote(owner, safe='')}/"


def owned_by_name(name: str) -> Document:
    """The ``_id`` that a thread's name, or the key of an attachment's file, was made of."""
    _, owner, own_id, *_ = name.split("/")
    return {"owner": unquote(owner), "id": unquote(own_id)}


def holds_item(file: StoredFile) -> bool:
    """Whether a stored file holds a large item of a ChatKit thread."""
    name = file.thread_id
    return (
        file.element_id is None
        and name is not None
        and name.count("/") == 2
        and file.object_key.startswith(thread_items_folder(name))
    )


def holds_attachment(file: StoredFile) -> bool:
    """Whether a stored file is one of a ChatKit attachment, and not an app's own."""
    key = file.object_key
    folders = key.removesuffix("/fields").count("/")
    return file.element_id == key and key.startswith(f"{_ATTACHMENTS}/") and folders == 2


def item_files() -> Document:
    """The filter on ``fs.files`` that does what :func:`holds_item` does for one file."""
    return ours(
        **{
            "filename": {"$regex": f"^{_ITEMS}/chatkit(/[^/]*){{6}}$"},
            "metadata.threadId": {"$regex": "^chatkit/"},
            "metadata.elementId": {"$exists": False},
        }
    )


def _quoted(key: Mapping[str, Any]) -> str:
    return f"{quote(key['owner'], safe='')}/{quote(key['id'], safe='')}"
