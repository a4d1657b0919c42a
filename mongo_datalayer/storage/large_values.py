"""Values too large for a document: they go to GridFS, and a reference stays in their place.

The file holds the text itself, or the value's JSON text, under a key that says whose it is. Texts
that keyword search reads are kept in pieces as well, since MongoDB cannot search a file.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import bson
from bson import ObjectId

from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails, StoredFile, ours
from mongo_datalayer.model.bson_values import to_bson, to_text
from mongo_datalayer.model.documents import REFERENCE_FIELDS, Document, is_reference
from mongo_datalayer.mongodb.client import Collection as MongoCollection
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.search.pattern import FORM_LENGTH

logger = get_logger(__name__)

PREVIEW_CHARS = 1000
"""How many characters of a text stay in the document, for people in the shell."""

PIECE_CHARS = 250_000
"""How long a piece for keyword search is: a document of at most 1 MB."""

MAX_FIELDS_BYTES = 1024 * 1024
"""How large the fields may be together, whatever each of them has."""

MAX_READS = 4
"""How many files are read at once."""

LOST = "… [the rest of this text is missing in the database]"
"""What stands behind the preview of a text whose file is missing."""

_MIN_LIMIT = 1024
_BLOCK = 64 * 1024
_FOLDER = "values"
# Documents are found and sorted by these: they stay.
_FIXED = frozenset({"id", "parentId", "forId", "objectKey", "createdAt", "receivedAt", "updatedAt"})
_JSON = json.JSONEncoder(ensure_ascii=False, default=to_bson)  # what was converted, or read
_MIMES = {"text": "text/plain", "json": "application/json"}


def values_folder(thread_id: str) -> str:
    """How the object keys of a Chainlit thread's large values begin."""
    return f"{_FOLDER}/{_quoted(thread_id)}/"


class LargeValues:
    """The large values of one collection of threads.

    Args:
        database: The database; the files go to its bucket ``fs``.
        pieces: The collection of the pieces of searched texts; None where nothing is searched.
        at_least: Values of this many bytes are large.
        folder: How the object keys of a thread's values begin, by its name; ends with a slash.
        thread_name: What names a thread in the metadata of files, made of its ``_id``.
    """

    def __init__(
        self,
        database: Database,
        pieces: MongoCollection | None,
        *,
        at_least: int,
        folder: Callable[[str], str] = values_folder,
        thread_name: Callable[[Any], str] = str,
    ) -> None:
        self._bucket = FileBucket(database)
        self._pieces = pieces
        self._at_least = at_least
        self._folder = folder
        self._thread_name = thread_name

    async def externalize(
        self,
        thread_id: Any,
        place: str,
        fields: Document,
        *,
        at_least: int | None = None,
        searched: Collection[str] = (),
    ) -> Document:
        """The fields, each large value stored and replaced by a reference.

        A value is invisible until a document refers to it; :meth:`delete_values` removes it again.

        Args:
            thread_id: The ``_id`` of the thread that the values belong to.
            place: Where in the thread: ``steps/<id>``, ``items/<id>`` or ``metadata`` for example.
            fields: The fields; they stay as they are.
            at_least: Values of this many bytes are large; None for the usual.
            searched: Names of texts that keyword search reads.

        Returns:
            The same object when none of the values is large.
        """
        large = _large(fields, self._at_least if at_least is None else at_least)
        if not large:
            return fields
        thread = self._thread_name(thread_id)
        folder = self._place_folder(thread, place)
        references = {}
        for name in large:
            key = f"{folder}{_quoted(name)}/{ObjectId()}"
            references[name] = await self._store(thread, key, fields[name], name in searched)
        return {**fields, **references}

    def any_large(self, fields: Mapping[str, Any], at_least: int | None = None) -> bool:
        """Whether :meth:`externalize` would put something aside."""
        return bool(_large(fields, self._at_least if at_least is None else at_least))

    async def resolve(self, maps: Iterable[Document], *, complete: bool = False) -> bool:
        """Replace every reference in these maps by its value.

        Args:
            maps: The maps; they are changed.
            complete: Whether a missing file, which may have been replaced since, asks you to read
                the maps again. So does a damaged one. Else the loss is logged, and the preview
                takes the value's place.

        Returns:
            False when you should read the maps again.
        """
        references = [
            (fields, name)
            for fields in maps
            for name, value in fields.items()
            if is_reference(value)
        ]
        gate = asyncio.Semaphore(MAX_READS)
        restored = (self._restore(gate, *reference, complete) for reference in references)
        try:
            await asyncio.gather(*restored)
        except (NotFoundError, StorageError):
            return False
        return True

    async def delete_values(self, *maps: Mapping[str, Any] | None) -> None:
        """Delete the values that these maps refer to."""
        if keys := reference_keys(maps):
            await self._delete(keys)

    async def delete(self, thread_id: Any, places: Iterable[str] | None = None) -> None:
        """Delete the values of some places of a thread, or of all."""
        thread = self._thread_name(thread_id)
        keys = await self._keys(thread)
        if places is not None:
            folders = tuple(self._place_folder(thread, place) for place in places)
            keys = [key for key in keys if key.startswith(folders)]
        await self._delete(keys)

    async def delete_others(self, thread_id: Any, kept: Collection[str]) -> None:
        """Delete the values of a thread except those under these keys."""
        keys = await self._keys(self._thread_name(thread_id))
        await self._delete([key for key in keys if key not in kept])

    def _place_folder(self, thread: str, place: str) -> str:
        return f"{self._folder(thread)}{'/'.join(map(_quoted, place.split('/', 1)))}/"

    async def _keys(self, thread: str) -> list[str]:
        """The keys of a thread's values; a person's own file may have been stored beside them."""
        folder = self._folder(thread)
        return [
            file.object_key
            async for file in self._bucket.list_belonging([thread])
            if file.element_id is None and file.object_key.startswith(folder)
        ]

    async def _delete(self, keys: list[str]) -> None:
        if self._pieces is not None:
            await self._pieces.delete_many({"value": {"$in": keys}})
        await self._bucket.delete(keys)

    async def _store(self, thread: str, key: str, value: Any, searched: bool) -> Document:
        encoding = "text" if isinstance(value, str) else "json"
        text, content = await asyncio.to_thread(_encoded, value)
        if searched and encoding == "text" and self._pieces is not None:
            await _store_pieces(self._pieces, thread, key, text)
        details = FileDetails(mime=_MIMES[encoding], thread_id=thread)
        await self._bucket.write(key, content, details)
        reference = {"gridfs": key, "bytes": len(content), "encoding": encoding}
        return {**reference, "preview": text[:PREVIEW_CHARS], **_kept(value)}

    async def _restore(
        self, gate: asyncio.Semaphore, fields: Document, name: str, complete: bool
    ) -> None:
        reference = fields[name]
        try:
            value = await self._read(gate, reference)
        except (NotFoundError, StorageError) as exc:
            if complete:
                raise
            logger.error("The value %s cannot be read: %s", reference["gridfs"], exc)  # noqa: TRY400
            fields[name] = f"{to_text(reference['preview'])}{LOST}"
            return
        # An update may have set a field beside the reference, such as a step's favourite mark.
        beside = {key: item for key, item in reference.items() if key not in REFERENCE_FIELDS}
        fields[name] = {**value, **beside} if beside and isinstance(value, dict) else value

    async def _read(self, gate: asyncio.Semaphore, reference: Document) -> Any:
        key, encoding = reference["gridfs"], reference["encoding"]
        if type(key) is not str or encoding not in ("text", "json"):
            raise StorageError("the reference to it was edited by hand.")
        async with gate:
            content = await self._bucket.read(key)
        try:
            return await asyncio.to_thread(_decoded, content, encoding)
        except ValueError as exc:
            raise StorageError(f"its file holds something else: {type(exc).__name__}.") from exc


def reference_keys(maps: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """The object keys of the large values that these maps refer to."""
    return [
        value["gridfs"]
        for fields in maps
        for value in (fields or {}).values()
        if is_reference(value) and type(value["gridfs"]) is str
    ]


def is_value_key(key: str) -> bool:
    """Whether an object key is that of a Chainlit thread's large value."""
    return key.startswith(f"{_FOLDER}/") and key.count("/") in (4, 5)


def holds_value(file: StoredFile) -> bool:
    """Whether a stored file holds a Chainlit thread's large value, and no person's file."""
    return file.element_id is None and file.thread_id is not None and is_value_key(file.object_key)


def value_files() -> Document:
    """The filter on ``fs.files`` that does what :func:`holds_value` does for one file."""
    return ours(
        **{
            "filename": {"$regex": f"^{_FOLDER}(/[^/]*){{4,5}}$"},
            "metadata.threadId": {"$exists": True},
            "metadata.elementId": {"$exists": False},
        }
    )


def _large(fields: Mapping[str, Any], at_least: int) -> list[str]:
    """Names of the fields that are too large: each by itself, or all of them together."""
    limit = min(at_least, MAX_FIELDS_BYTES)
    texts = sum(len(value) for value in fields.values() if type(value) is str)
    is_small = texts < limit and _size(fields) < limit
    # A user's own map must not be taken for a reference: it goes to a file as well.
    large = {name for name, value in fields.items() if is_reference(value)}
    if is_small and not large:  # nearly always
        return []
    # Counting the bytes of a text of 40 MB takes its time; that it is large is seen at once.
    sizes = {
        name: len(value)
        if isinstance(value, str) and len(value) >= at_least
        else _size({name: value})
        for name, value in fields.items()
        if name not in _FIXED
    }
    limit = at_least
    while True:
        large.update(name for name, size in sizes.items() if size >= limit)
        rest = sum(size for name, size in sizes.items() if name not in large)
        if rest < MAX_FIELDS_BYTES or limit <= _MIN_LIMIT:
            return sorted(large)
        limit //= 8


def _size(fields: Mapping[str, Any]) -> int:
    # BSON counts ten times as fast as size_of, and these may be 200,000 maps.
    return len(bson.encode(fields))


def _encoded(value: Any) -> tuple[str, bytes]:
    """A value's text, and that as the content of a file."""
    # In pieces, as one call for 40 MB holds the interpreter's lock, and with it all other requests.
    text = value if isinstance(value, str) else "".join(_JSON.iterencode(value))
    blocks = (text[at : at + _BLOCK] for at in range(0, len(text), _BLOCK))
    return text, b"".join(block.encode(errors="replace") for block in blocks)


def _decoded(content: bytes, encoding: str) -> Any:
    blocks = (content[at : at + _BLOCK] for at in range(0, len(content), _BLOCK))
    text = "".join(codecs.iterdecode(blocks, "utf-8"))
    return text if encoding == "text" else json.loads(text)


async def _store_pieces(pieces: MongoCollection, thread_id: str, key: str, text: str) -> None:
    # They overlap by the longest text that can be searched for, so that one of them has all of it.
    for start in range(0, len(text), PIECE_CHARS):
        piece = text[start : start + PIECE_CHARS + FORM_LENGTH]
        await pieces.insert_one(
            {"_id": str(ObjectId()), "thread": thread_id, "value": key, "text": piece}
        )


def _kept(value: Any) -> Document:
    # get_favorite_steps queries the favourite mark of a step's metadata, which may be large.
    favorite = value.get("favorite") if isinstance(value, dict) else None
    return {"favorite": favorite} if isinstance(favorite, bool) else {}


def _quoted(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E")
