"""The format of an export, described in ``docs/export-format.md``: one JSON object a line.

The first line names the format and its version. The last one holds the counts and the SHA-256 of
everything before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timezone
from typing import Any, BinaryIO

import bson
from bson import json_util
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS

from mongo_datalayer.admin.front_data import Counts
from mongo_datalayer.admin.old_exports import upgraded
from mongo_datalayer.errors import ExportFormatError
from mongo_datalayer.model.documents import Document

FORMAT = "mongo-datalayer-export"
VERSION = 3
"""Since 2 there are ChatKit's threads and attachments; since 3 their fields have other names."""

COUNT_NAMES = {
    "user": "users",
    "thread": "threads",
    "file": "files",
    "chatkit-thread": "chatkit_threads",
    "chatkit-attachment": "chatkit_attachments",
}
"""The name under which the records of each type are counted."""

_CHATKIT = frozenset({"chatkit-thread", "chatkit-attachment"})
_IN_FILE = frozenset({"chunk", "file-end"})

# What the readers of records rely on: the fields of each type that must be texts.
_TEXTS = {"file": ("objectKey", "sha256", "mime"), "chunk": ("data",)}
_DOCUMENT_TEXTS = {
    "user": ("_id", "identifier"),
    "thread": ("_id",),
    "chatkit-thread": ("sortKey",),
}

# Enough for any header: no more is read of a file that is something else.
_FIRST_LINE_BYTES = 64 * 1024

_READING = RELAXED_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=timezone.utc)
_AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=timezone.utc)


def _types(version: int) -> frozenset[str]:
    """The types of the records outside of files. ChatKit's came with version 2."""
    return frozenset(COUNT_NAMES) - (_CHATKIT if version == 1 else frozenset())


def _trailer(version: int, counts: Counts, sha256: str) -> Document:
    """The fields of the last line."""
    trailer: Document = {name: counts[name] for name in ("users", "threads", "files")}
    if version > 1:
        trailer["chatkitThreads"] = counts["chatkit_threads"]
        trailer["chatkitAttachments"] = counts["chatkit_attachments"]
    return {**trailer, "sha256": sha256}


class RecordWriter:
    """Makes the lines of one export, in the order in which its methods are called.

    Attributes:
        counts: What was written until now.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.counts: Counts = Counter()

    def header(self, **fields: Any) -> bytes:
        """The first line."""
        return self.record("header", format=FORMAT, version=VERSION, **fields)

    def record(self, kind: str, **fields: Any) -> bytes:
        """A line of plain JSON values."""
        record = {"type": kind, **fields}
        _count(record, self.counts)
        return self._line(json.dumps(record))

    def document(self, kind: str, document: Document) -> bytes:
        """A line with a stored document, from which exactly the same document can be made."""
        _count({"type": kind}, self.counts)
        name, content = document_text(document)
        return self._line(f'{{"type": "{kind}", "{name}": {content}}}')

    def trailer(self) -> bytes:
        """The last line."""
        return self.record("trailer", **_trailer(VERSION, self.counts, self._digest.hexdigest()))

    def _line(self, text: str) -> bytes:
        # json escapes all else, so nothing in a text can end its line.
        line = text.encode("ascii") + b"\n"
        self._digest.update(line)
        return line


def document_text(document: Document) -> tuple[str, str]:
    """Name and JSON text of the field that holds ``document``.

    That is ``document`` with MongoDB's Extended JSON, relaxed where that keeps every type, else
    canonical. Where keys look like Extended JSON's own, which it cannot tell apart, it is ``bson``:
    the document's BSON as base64.
    """
    stored = bson.encode(document)
    if not _has_dollar_keys(document):
        for options in (RELAXED_JSON_OPTIONS, CANONICAL_JSON_OPTIONS):
            text = json_util.dumps(document, json_options=options)
            if bson.encode(json_util.loads(text, json_options=_READING)) == stored:
                return "document", text
    return "bson", json.dumps(base64.b64encode(stored).decode())


def _has_dollar_keys(value: Any) -> bool:
    # A reader of Extended JSON would take {"$date": "…"} of a user for a date.
    if isinstance(value, dict):
        return any(key.startswith("$") or _has_dollar_keys(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_dollar_keys, value))


def _count(record: Document, counts: Counts) -> None:
    kind = record["type"]
    # At its end: only then it is known whether the file could be read whole.
    if kind == "file-end" and record.get("complete") is True:
        counts["files"] += 1
    elif kind in COUNT_NAMES and kind != "file":
        counts[COUNT_NAMES[kind]] += 1


def read_records(
    file: BinaryIO, on_bytes: Callable[[int], object] = lambda _: None
) -> Iterator[Document]:
    """The records of an export between its first and its last line, one at a time.

    Each is a map with its ``type``; a user, thread or attachment has its ``document``, a chunk its
    ``data`` as bytes.

    Args:
        file: The export, open for reading bytes.
        on_bytes: Told the length of each line that was read.

    Raises:
        ExportFormatError: the file is no export, is truncated, or was changed. That may turn out at
            its end: read all of it before you act on it.
    """
    lines = _lines(file)
    first = next(lines)
    version = _required_version(_parse(first, 1, VERSION))
    on_bytes(len(first))
    digest = hashlib.sha256(first)
    counts: Counts = Counter()
    in_file = False
    for number, line in enumerate(lines, 2):
        record = _parse(line, number, version)
        kind = record["type"]
        if kind not in (_IN_FILE if in_file else _types(version) | {"trailer"}):
            raise ExportFormatError(f"The file is damaged: line {number} is out of place.")
        on_bytes(len(line))
        if kind == "trailer":
            _require_end(file, record, _trailer(version, counts, digest.hexdigest()))
            return
        # The importer reads on from a file to its end, so nothing may stand between.
        in_file = kind in ("file", "chunk")
        _count(record, counts)
        digest.update(line)
        yield record
    raise ExportFormatError("The file is truncated: its last line is missing.")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    first = file.readline(_FIRST_LINE_BYTES)
    if not first:
        raise ExportFormatError("The file is empty.")
    if FORMAT.encode() not in first:
        raise ExportFormatError(f"This is not an export: its first line does not name {FORMAT!r}.")
    yield first
    for line in file:
        if not line.endswith(b"\n"):
            raise ExportFormatError("The file is truncated: it ends in the middle of a line.")
        yield line


def _parse(line: bytes, number: int, version: int) -> Document:
    try:
        record: Document = json_util.loads(line, json_options=_READING)
        kind = record["type"]
        if "bson" in record:
            record["document"] = bson.decode(base64.b64decode(record["bson"]), _AWARE)
        record = upgraded(record, version)
        texts = [record[name] for name in _TEXTS.get(kind, ())]
        texts += [record["document"][name] for name in _DOCUMENT_TEXTS.get(kind, ())]
        if kind in _CHATKIT:
            texts += [record["document"]["_id"][name] for name in ("owner", "id")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("what must be text is something else")
        if kind == "chunk":
            record["data"] = base64.b64decode(record["data"], validate=True)
    except (ValueError, TypeError, KeyError, BSONError) as exc:
        raise ExportFormatError(f"The file is damaged: line {number} cannot be read.") from exc
    return record


def _require_end(file: BinaryIO, record: Document, trailer: Document) -> None:
    if file.read(1):
        raise ExportFormatError("The file was changed: something stands after its last line.")
    if record != {"type": "trailer", **trailer}:
        raise ExportFormatError(
            "The file was changed or damaged: it is not what its last line says "
            "(the counts or the SHA-256 differ)."
        )


def _required_version(record: Document) -> int:
    version = record.get("version")
    if record.get("format") != FORMAT or not isinstance(version, int):
        raise ExportFormatError("This is not an export: its first line cannot be used.")
    if version > VERSION:
        raise ExportFormatError(
            f"The file has version {version} of the format; this mongo-datalayer reads up to "
            f"version {VERSION}. Update it."
        )
    return version
