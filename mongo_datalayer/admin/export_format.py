"""The format of an export, described in ``docs/export-format.md``: one JSON object a line.

The first line names the format and its version; the last one holds the counts and the SHA-256 of
everything before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from typing import Any, BinaryIO

import bson
from bson import json_util
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS

from mongo_datalayer.documents import Document
from mongo_datalayer.errors import ExportFormatError

FORMAT = "mongo-datalayer-export"
VERSION = 2
"""Since 2 there are ChatKit's threads and attachments."""

_CHATKIT = {"chatkit-thread": "chatkitThreads", "chatkit-attachment": "chatkitAttachments"}

# A header or trailer is short: more is not read to find out that a file is something else.
_FIRST_LINE_BYTES = 64 * 1024

# What the reader's callers rely on, by type of record.
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "file": ("objectKey", "sha256", "mime"),
    "chunk": ("data",),
}
_DOCUMENT_TEXTS: Mapping[str, tuple[str, ...]] = {"user": ("_id", "identifier"), "thread": ("_id",)}
_KEY_TEXTS = ("owner", "id")  # of the _id of ChatKit's documents

_READING = RELAXED_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=timezone.utc)
_AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=timezone.utc)


@dataclass
class Counts:
    """How many of each there are in an export."""

    users: int = 0
    threads: int = 0
    chatkit_threads: int = 0
    chatkit_attachments: int = 0
    files: int = 0

    def in_version(self, version: int) -> dict[str, int]:
        """The counts as the last line of an export of this version has them."""
        counts = {"users": self.users, "threads": self.threads, "files": self.files}
        if version == 1:
            return counts
        chatkit = (self.chatkit_threads, self.chatkit_attachments)
        return counts | dict(zip(_CHATKIT.values(), chatkit, strict=True))

    def add(self, record: Mapping[str, Any]) -> None:
        """Count ``record`` in; a file counts when its last line says that it is complete."""
        kind = record["type"]
        self.users += kind == "user"
        self.threads += kind == "thread"
        self.chatkit_threads += kind == "chatkit-thread"
        self.chatkit_attachments += kind == "chatkit-attachment"
        self.files += kind == "file-end" and record.get("complete") is True


class RecordWriter:
    """Makes the lines of one export, in the order in which its methods are called."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.counts = Counts()

    def header(self, **fields: Any) -> bytes:
        """The first line."""
        return self.record("header", format=FORMAT, version=VERSION, **fields)

    def record(self, kind: str, **fields: Any) -> bytes:
        """A line of plain JSON values."""
        record = {"type": kind, **fields}
        self.counts.add(record)
        return self._line(json.dumps(record))

    def document(self, kind: str, document: Document) -> bytes:
        """A line with a stored document, from which exactly the same document can be made."""
        self.counts.add({"type": kind})
        name, content = document_text(document)
        return self._line(f'{{"type": "{kind}", "{name}": {content}}}')

    def trailer(self) -> bytes:
        """The last line."""
        sha256 = self._digest.hexdigest()
        return self.record("trailer", **self.counts.in_version(VERSION), sha256=sha256)

    def _line(self, text: str) -> bytes:
        line = text.encode("ascii") + b"\n"
        self._digest.update(line)
        return line


def document_text(document: Document) -> tuple[str, str]:
    """Name and JSON text of the field that holds ``document``.

    That is ``document`` with MongoDB's Extended JSON, relaxed where that keeps every type, else
    canonical. Where keys look like Extended JSON's own, which then has no way to say so, it is
    ``bson``: the document's BSON as base64.
    """
    stored = bson.encode(document)
    if not _has_dollar_keys(document):
        for options in (RELAXED_JSON_OPTIONS, CANONICAL_JSON_OPTIONS):
            text = json_util.dumps(document, json_options=options)
            if bson.encode(json_util.loads(text, json_options=_READING)) == stored:
                return "document", text
    return "bson", json.dumps(base64.b64encode(stored).decode())


def _has_dollar_keys(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key.startswith("$") or _has_dollar_keys(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_dollar_keys(item) for item in value)


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
        ExportFormatError: the file is no export, is truncated, or is not what was written. A
            caller that must not act on such a file reads all of it before.
    """
    digest = hashlib.sha256()
    counts = Counts()
    version = VERSION
    order = _Order(version)
    for number, line in enumerate(_lines(file), 1):
        record = _parse(line, number)
        if number == 1:
            version = _required_version(record)
            order = _Order(version)
            digest.update(line)
            on_bytes(len(line))
            continue
        order.require(record["type"], number)
        if record["type"] == "trailer":
            _require_end(file, record, counts.in_version(version), digest.hexdigest())
            on_bytes(len(line))
            return
        counts.add(record)
        digest.update(line)
        on_bytes(len(line))
        yield record
    raise ExportFormatError("The file is truncated: its last line is missing.")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    first = file.readline(_FIRST_LINE_BYTES)
    if not first:
        raise ExportFormatError("The file is empty.")
    if FORMAT.encode() not in first:
        raise ExportFormatError(f"The file is no export: its first line does not name {FORMAT!r}.")
    yield first
    for line in file:
        if not line.endswith(b"\n"):
            raise ExportFormatError("The file is truncated: it ends in the middle of a line.")
        yield line


def _parse(line: bytes, number: int) -> Document:
    try:
        record = json_util.loads(line, json_options=_READING)
        if "bson" in record:
            record["document"] = bson.decode(base64.b64decode(record["bson"]), _AWARE)
        texts = [record[name] for name in _TEXTS.get(record["type"], ())]
        texts += [record["document"][name] for name in _DOCUMENT_TEXTS.get(record["type"], ())]
        if record["type"] in _CHATKIT:
            texts += [record["document"]["_id"][name] for name in _KEY_TEXTS]
            texts += [record["document"]["order"]] if record["type"] == "chatkit-thread" else []
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("what must be text is something else")
        if record["type"] == "chunk":
            record["data"] = base64.b64decode(record["data"], validate=True)
    except (ValueError, TypeError, KeyError, BSONError) as exc:
        raise ExportFormatError(f"The file is damaged: line {number} cannot be read.") from exc
    return dict(record)


_IN_FILE = frozenset({"chunk", "file-end"})
_OUTSIDE = frozenset({"user", "thread", "file", "trailer"})


class _Order:
    """Which records may follow which: the content of a file stands between its two lines."""

    def __init__(self, version: int) -> None:
        self._outside = _OUTSIDE if version == 1 else _OUTSIDE | _CHATKIT.keys()
        self._in_file = False

    def require(self, kind: str, number: int) -> None:
        if kind not in (_IN_FILE if self._in_file else self._outside):
            raise ExportFormatError(f"The file is damaged: line {number} is out of place.")
        if kind != "chunk":
            self._in_file = kind == "file"


def _required_version(record: Document) -> int:
    version = record.get("version")
    if record.get("format") != FORMAT or not isinstance(version, int):
        raise ExportFormatError("The file is no export: its first line cannot be used.")
    if version > VERSION:
        raise ExportFormatError(
            f"The file has version {version} of the format; this mongo-datalayer reads up to "
            f"version {VERSION}. Update it."
        )
    return version


def _require_end(file: BinaryIO, trailer: Document, counts: Mapping[str, int], sha256: str) -> None:
    if file.read(1):
        raise ExportFormatError("The file was changed: something stands after its last line.")
    if {**counts, "sha256": sha256} != {k: v for k, v in trailer.items() if k != "type"}:
        raise ExportFormatError(
            "The file was changed or damaged: it is not what its last line says "
            "(the counts or the SHA-256 differ)."
        )
