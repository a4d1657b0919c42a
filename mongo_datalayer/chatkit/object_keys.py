"""Object keys of ChatKit's files: attachments, and items too large for a document. Pure.

Owner and ids are quoted in them, so that two owners' keys never meet and all files of an owner have
keys that begin alike.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from mongo_datalayer.documents import Document
from mongo_datalayer.files.documents import StoredFile, ours

_ATTACHMENTS = "chatkit"
_ITEMS = "chatkit-values"


def object_key(key: Mapping[str, Any]) -> str:
    """The key of an attachment's file; two owners' never meet."""
    return f"{_ATTACHMENTS}/{_quoted(key)}"


def thread_name(key: Mapping[str, Any]) -> str:
    """A text that names a thread; two owners' never meet."""
    return f"chatkit/{_quoted(key)}"


def new_item_key(key: Mapping[str, Any], item_id: str) -> str:
    """A new key for an item of a thread, which no other version of the item has."""
    return f"{_ITEMS}/{thread_name(key)}/{quote(item_id, safe='')}/{uuid.uuid4().hex}"


def attachments_folder(owner: str) -> str:
    """How the keys of the files of an owner's attachments begin."""
    return f"{_ATTACHMENTS}/{quote(owner, safe='')}/"


def items_folder(owner: str) -> str:
    """How the keys of an owner's large items begin."""
    return f"{_ITEMS}/chatkit/{quote(owner, safe='')}/"


def owned_by_name(name: str) -> Document:
    """The ``_id`` that a thread's name, or the key of an attachment's file, was made of."""
    _, owner, own_id = name.split("/")
    return {"owner": unquote(owner), "id": unquote(own_id)}


def holds_item(file: StoredFile) -> bool:
    """Whether a stored file holds a large item of a ChatKit thread."""
    name = file.thread_id
    return (
        file.element_id is None
        and name is not None
        and name.count("/") == 2
        and file.object_key.startswith(f"{_ITEMS}/{name}/")
    )


def holds_attachment(file: StoredFile) -> bool:
    """Whether a stored file is that of a ChatKit attachment, and not an app's own."""
    key = file.object_key
    return file.element_id == key and key.startswith(f"{_ATTACHMENTS}/") and key.count("/") == 2


def item_files() -> Document:
    """The filter on ``fs.files`` that :func:`holds_item` is of one file."""
    return ours(
        **{
            "filename": {"$regex": f"^{_ITEMS}/chatkit(/[^/]*){{4}}$"},
            "metadata.threadId": {"$regex": "^chatkit/"},
            "metadata.elementId": {"$exists": False},
        }
    )


def _quoted(key: Mapping[str, Any]) -> str:
    return f"{quote(key['owner'], safe='')}/{quote(key['id'], safe='')}"
