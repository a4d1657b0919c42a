"""Values too large for a document: they go to GridFS, and a reference stays in their place.

The file holds the text itself, or the value's JSON text, under a key that says whose it is. Texts
that keyword search looks through are besides kept in pieces, since MongoDB cannot search a file.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from bson import ObjectId

from mongo_datalayer.documents import Document, is_reference
from mongo_datalayer.driver import Collection as MongoCollection
from mongo_datalayer.driver import Database
from mongo_datalayer.errors import NotFoundError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import FileDetails, StoredFile, ours
from mongo_datalayer.search import SEARCH_LENGTH
from mongo_datalayer.values import plain, size_of

logger = logging.getLogger(__name__)

START = 1000
"""How many characters of a text stay in the document, for people in the shell."""

PIECE = 250_000
"""Characters of a piece that is searched: a document of at most 1 MB."""

MOST_BYTES = 1024 * 1024
"""How many bytes the fields may have together, whatever each of them has."""

_LEAST_LIMIT = 1024
_AT_ONCE = 4
_FOLDER = "values"
_ENCODED = 64 * 1024  # characters
# What documents are found and ordered by stays in them.
_FIXED = frozenset({"id", "parentId", "forId", "objectKey", "createdAt", "receivedAt", "updatedAt"})
_OF_REFERENCE = frozenset({"gridfs", "bytes", "form", "start"})
_MIMES = {"text": "text/plain", "json": "application/json"}


class LargeValues:
    """Large values of one kind of documents.

    Args:
        database: The database; the files go to its bucket ``fs``.
        pieces: The collection of the texts' pieces.
        at_least: Values of this many bytes are large.
    """

    def __init__(self, database: Database, pieces: MongoCollection, *, at_least: int) -> None:
        self._bucket = FileBucket(database)
        self._pieces = pieces
        self._at_least = at_least

    async def take_out(
        self,
        thread_id: str,
        place: str,
        fields: Document,
        *,
        at_least: int | None = None,
        searched: Collection[str] = (),
    ) -> Document:
        """The fields, each large value stored and replaced by a reference.

        Each under a key of its own: until the thread's document refers to it, nobody sees it. What
        turns out not to be needed, :meth:`discard` removes.

        Args:
            thread_id: The thread that the values belong to.
            place: Where in the thread: ``steps/<id>``, ``elements/<id>`` or ``metadata``.
            fields: The fields; they stay as they are.
            at_least: Values of this many bytes are large; None for the usual.
            searched: Names of texts that keyword search looks through.

        Returns:
            The same object when none of the values is large.
        """
        large = _large(fields, self._at_least if at_least is None else at_least)
        if not large:
            return fields
        taken = dict(fields)
        for name in large:
            key = f"{object_key(thread_id, place, name)}/{ObjectId()}"
            taken[name] = await self._store(thread_id, key, fields[name], name in searched)
        return taken

    def any_large(self, fields: Mapping[str, Any], at_least: int | None = None) -> bool:
        """Whether :meth:`take_out` would take something out."""
        return bool(_large(fields, self._at_least if at_least is None else at_least))

    async def put_back(self, maps: Iterable[Document], *, complete: bool = False) -> bool:
        """Replace every reference in these maps by its value.

        Args:
            maps: The maps; they are changed.
            complete: Whether what the maps were read from should be read again when a file is not
                there: it may have been replaced in between. Else the loss is logged, and the start
                of the text stays.

        Returns:
            False when it should be read again.
        """
        references = [
            (fields, name)
            for fields in maps
            for name, value in fields.items()
            if type(value) is dict and is_reference(value)  # few are: that is most of the time
        ]
        if not references:
            return True
        gate = asyncio.Semaphore(_AT_ONCE)
        try:
            await asyncio.gather(*(self._restore(gate, *of, complete) for of in references))
        except NotFoundError:
            return False
        return True

    async def discard(self, *maps: Mapping[str, Any] | None) -> None:
        """Delete the values that these maps refer to: nothing else does."""
        keys = [
            value["gridfs"]
            for fields in maps
            if fields
            for value in fields.values()
            if is_reference(value)
        ]
        if keys:
            await self._delete(keys)

    async def delete(self, thread_id: str, places: Iterable[str] | None = None) -> None:
        """Delete the values of some places of a thread, or of all."""
        keys = [file.object_key async for file in self._bucket.list_belonging([thread_id])]
        if places is None:
            await self._delete([key for key in keys if is_value_key(key)])
        else:
            folders = tuple(object_key(thread_id, place, "") for place in places)
            await self._delete([key for key in keys if key.startswith(folders)])

    async def delete_others(self, thread_id: str, keys: Collection[str]) -> None:
        """Delete the values of a thread but these."""
        found = [file.object_key async for file in self._bucket.list_belonging([thread_id])]
        await self._delete([key for key in found if is_value_key(key) and key not in keys])

    # Inside -----------------------------------------------------------------------------------

    async def _delete(self, keys: list[str]) -> None:
        await self._pieces.delete_many({"value": {"$in": keys}})
        await self._bucket.delete(keys)

    async def _store(self, thread_id: str, key: str, value: Any, searched: bool) -> Document:
        form = "text" if isinstance(value, str) else "json"
        text = value if form == "text" else await asyncio.to_thread(_json, value)
        if searched and form == "text":
            await self._store_pieces(thread_id, key, text)
        details = FileDetails(mime=_MIMES[form], thread_id=thread_id)
        stored = await self._bucket.write(key, _Encoded(text), details)
        reference = {"gridfs": key, "bytes": stored.size, "form": form, "start": text[:START]}
        return reference | _kept(value)

    async def _store_pieces(self, thread_id: str, key: str, text: str) -> None:
        """Store the text in pieces that overlap by as much as can be searched for."""
        for at in range(0, len(text), PIECE):
            await self._pieces.insert_one(
                {
                    "_id": str(ObjectId()),
                    "thread": thread_id,
                    "value": key,
                    "text": text[at : at + PIECE + SEARCH_LENGTH],
                }
            )

    async def _restore(
        self, gate: asyncio.Semaphore, fields: Document, name: str, complete: bool
    ) -> None:
        reference = fields[name]
        async with gate:
            try:
                text = await self._read(reference["gridfs"])
            except NotFoundError:
                if complete:
                    raise
                logger.error("The value %s is not there any more.", reference["gridfs"])  # noqa: TRY400
                fields[name] = reference["start"]
                return
        if reference["form"] == "text":
            fields[name] = text
            return
        value = await asyncio.to_thread(json.loads, text)
        added = {key: item for key, item in reference.items() if key not in _OF_REFERENCE}
        fields[name] = {**value, **added} if added and isinstance(value, dict) else value

    async def _read(self, key: str) -> str:
        """The text of a file, decoded piece by piece: other tasks go on meanwhile."""
        stored = await self._bucket.require(key)
        while True:
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                pieces = [decoder.decode(block) async for block in self._bucket.iterate(stored)]
            except StorageError:
                latest = await self._bucket.require(key)
                if latest == stored:
                    raise
                stored = latest  # it was replaced while it was read
            else:
                return "".join(pieces)


def object_key(thread_id: str, place: str, name: str) -> str:
    """How the keys of a field's files begin; ``/`` and an id of the file's own follow."""
    parts = (_FOLDER, thread_id, *place.split("/", 1), name)
    return "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def is_value_key(key: str) -> bool:
    """Whether this is the key of a value's file."""
    return key.startswith(f"{_FOLDER}/") and key.count("/") in (4, 5)


def holds_value(file: StoredFile) -> bool:
    """Whether a stored file holds a large value of a thread, and is no file of a person."""
    return file.element_id is None and file.thread_id is not None and is_value_key(file.object_key)


def value_files() -> Document:
    """The filter on ``fs.files`` that :func:`holds_value` is of one file."""
    return ours(
        **{
            "filename": {"$regex": f"^{_FOLDER}(/[^/]*){{4,5}}$"},
            "metadata.threadId": {"$exists": True},
            "metadata.elementId": {"$exists": False},
        }
    )


def _large(fields: Mapping[str, Any], at_least: int) -> list[str]:
    """Names of the fields that are too large: each by itself, or all of them together."""
    if _are_small(fields, min(at_least, MOST_BYTES)):
        return []
    # A user's own map must not be taken for a reference.
    large = {name for name, value in fields.items() if is_reference(value)}
    sizes = {name: _size(value, at_least) for name, value in fields.items() if name not in _FIXED}
    if not large and sum(sizes.values()) < min(at_least, MOST_BYTES):
        return []
    limit = at_least
    while True:
        large.update(name for name, size in sizes.items() if size >= limit)
        rest = sum(size for name, size in sizes.items() if name not in large)
        if rest < MOST_BYTES or limit <= _LEAST_LIMIT:
            return sorted(large)
        limit //= 8


def _are_small(fields: Mapping[str, Any], limit: int) -> bool:
    """Whether it is seen at once that nothing is large; what is like a reference is."""
    total = 0
    for value in fields.values():
        if type(value) is str:
            total += 5 + 4 * len(value)  # a character has at most four bytes
        elif total < limit:
            total += limit if is_reference(value) else size_of(value)
    return total < limit


def _size(value: Any, enough: int) -> int:
    # The length of a large text is enough: counting the bytes of 40 MB takes its time.
    if isinstance(value, str) and len(value) >= enough:
        return len(value)
    return size_of(value)


def _json(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def _kept(value: Any) -> Document:
    """What of a value must be found where it was: whether a step is a favourite."""
    favorite = value.get("favorite") if isinstance(value, dict) else None
    return {"favorite": favorite} if isinstance(favorite, bool) else {}


class _Encoded:
    """A text as a file to read from, encoded as it is read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._waiting = b""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if not self._waiting:
            piece = self._text[self._at : self._at + _ENCODED]
            self._at += len(piece)
            self._waiting = piece.encode(errors="replace")
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data
