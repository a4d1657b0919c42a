"""Records of older export formats, in the shape of the present one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongo_datalayer.model.documents import Document

# What the fields of ChatKit's documents were called in format 2. Format 1 has no such documents.
_RENAMED = {"order": "sortKey", "exact": "rawJson"}


def upgraded(record: Document, version: int) -> Document:
    """A record of the format ``version`` as a record of format 3.

    Chainlit's documents are the same in all formats: large values stand in them whole.
    """
    if version >= 3 or record["type"] not in ("chatkit-thread", "chatkit-attachment"):
        return record
    document = _renamed(record["document"])
    for name in ("items", "deletedItems"):
        if name in document:
            document[name] = [_renamed(item) for item in document[name]]
    if "threadId" in document:  # an attachment had one thread only
        document["threadIds"] = [document.pop("threadId")]
    return {**record, "document": document}


def _renamed(stored: Mapping[str, Any]) -> Document:
    return {_RENAMED.get(name, name): value for name, value in dict(stored).items()}
