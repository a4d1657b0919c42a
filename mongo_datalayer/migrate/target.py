"""Where conversations go: the one module here that knows how this package stores them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

from cachetools import LRUCache
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, DocumentTooLarge, WriteError

from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from mongo_datalayer.admin.chatkit_data import ChatKitData, ChatKitThreads
from mongo_datalayer.admin.stored_documents import StoredDocuments
from mongo_datalayer.chainlit import codec
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.errors import StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.migrate.chatkit_records import expected_attachment
from mongo_datalayer.migrate.chatkit_records import expected_thread as expected_chatkit_thread
from mongo_datalayer.migrate.stored_threads import canonical, canonical_user
from mongo_datalayer.model.documents import MIGRATIONS, USERS, Document, is_reference, size_of
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.retries import Retries

RETRY_SECONDS = 120.0
"""How long one write is retried: long enough for an election, and for a server's restart."""

SMALL_BYTES = 64 * 1024
"""A thread below this needs neither overflow nor GridFS, and is inserted with others."""

REMEMBERED_USERS = 10_000
_DUPLICATE = 11000

Result = TypeVar("Result")


class Shelf(Protocol):
    """One kind of documents in the target.

    Attributes:
        table: The name that reports use.
    """

    table: str

    async def present(self, ids: Collection[str]) -> dict[str, bool]:
        """The ids that are taken; False where only the tombstone of a deleted one is there."""

    async def read(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents with these ids as they are compared."""

    async def insert(self, documents: list[Document]) -> dict[str, str]:
        """Store documents, but not under an id that is taken.

        Returns:
            Why MongoDB refused some of them, by id: a validator does, for example.
        """

    async def replace(self, document: Document) -> dict[str, str]:
        """Put a document in the place of the one with its id; why MongoDB refused it."""


class Target:
    """A database of this package.

    Args:
        database: The database.
        bucket: The bucket of the files.

    Attributes:
        bucket: The bucket of the files.
        users: Its users.
        threads: Its threads.
        chatkit: ChatKit's threads and attachments.
    """

    def __init__(self, database: Database, bucket: FileBucket) -> None:
        self.bucket = bucket
        self._retries = Retries(database.client, RETRY_SECONDS)
        self._migrations = open_collection(database, MIGRATIONS)
        self.users = UserShelf(database, self._retries)
        self.threads = ThreadShelf(database, self._retries)
        chatkit = ChatKitData(database, bucket)
        self.chatkit: dict[str, Shelf] = {
            "chatkit_threads": ChatKitThreadShelf(chatkit.threads, self._retries),
            "chatkit_attachments": ChatKitShelf(chatkit.attachments, self._retries),
        }

    async def retried(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """Run an operation that is safe to repeat."""
        return await self._retries.run(operation)

    async def recorded(self, source: str, table: str, ids: Iterable[str]) -> dict[str, str]:
        """The hash of each of these that was stored from a source and read back."""
        keys = [_key(source, table, row_id) for row_id in ids]

        async def find() -> dict[str, str]:
            found = self._migrations.find({"_id": {"$in": keys}})
            return {document["_id"]["id"]: document["hash"] async for document in found}

        return await self.retried(find)

    async def record(self, source: str, table: str, hashes: dict[str, str]) -> None:
        """Remember what was stored and read back."""
        writes: list[ReplaceOne[Document]] = []
        for each, hashed in hashes.items():
            key = {"_id": _key(source, table, each)}
            writes.append(ReplaceOne(key, {**key, "hash": hashed}, upsert=True))
        if writes:
            await self.retried(lambda: self._migrations.bulk_write(writes, ordered=False))

    async def load_state(self, source: str) -> Document:
        """How far the last run from a source came; empty where there was none."""
        key = {"_id": _key(source, "", "")}
        return await self.retried(lambda: self._migrations.find_one(key)) or {}

    async def save_state(self, source: str, state: Document) -> None:
        """Say how far this run came."""
        key = {"_id": _key(source, "", "")}
        await self.retried(lambda: self._migrations.update_one(key, {"$set": state}, upsert=True))


def _key(source: str, table: str, each: str) -> Document:
    return {"source": source, "table": table, "id": each}


class RestoringShelf:
    """What the shelves share: documents are stored one by one.

    Args:
        restore: Stores a document; with ``replace`` also in the place of one that is there.
        retries: How long writes are retried.
    """

    def __init__(self, restore: Callable[..., Awaitable[bool]], retries: Retries) -> None:
        self._restored = restore
        self._retries = retries

    async def insert(self, documents: list[Document]) -> dict[str, str]:
        """Store documents; why MongoDB refused some."""
        refused: dict[str, str] = {}
        for document in documents:
            refused |= await self._restore(document, replace=False)
        return refused

    async def replace(self, document: Document) -> dict[str, str]:
        """Put a document in the place of the one with its id; why MongoDB refused it."""
        return await self._restore(document, replace=True)

    async def _restore(self, document: Document, *, replace: bool) -> dict[str, str]:
        try:
            await self._retries.run(partial(self._restored, document, replace=replace))
        except (WriteError, DocumentTooLarge) as exc:
            return {self._id_of(document): str(exc).split(", full error", 1)[0]}
        return {}

    def _id_of(self, document: Document) -> str:
        return str(document["_id"])


class BulkShelf(RestoringShelf):
    """The same, with one command for all that are short: that is three times as fast.

    Args:
        collection: The collection.
        restore: Stores a document that is long.
        retries: How long writes are retried.
    """

    def __init__(
        self, collection: Any, restore: Callable[..., Awaitable[bool]], retries: Retries
    ) -> None:
        super().__init__(restore, retries)
        self._collection = collection

    async def present(self, ids: Collection[str]) -> dict[str, bool]:
        """The ids that are taken; False where only the tombstone of a deleted one is there."""

        async def find() -> dict[str, bool]:
            found = self._collection.find({"_id": {"$in": list(ids)}}, {"deletedAt": 1})
            return {document["_id"]: "deletedAt" not in document async for document in found}

        return await self._retries.run(find)

    async def insert(self, documents: list[Document]) -> dict[str, str]:
        """Store documents, short ones with one command; why MongoDB refused some."""
        short, long = [], []
        for document in documents:
            if _is_small(document):
                short.append(await self._stored(document))
            else:
                long.append(document)
        refused = await self._retries.run(lambda: _insert(self._collection, short))
        return refused | await super().insert(long)

    async def _stored(self, document: Document) -> Document:
        """A short document as it is stored."""
        return document


class UserShelf(BulkShelf):
    """The users of a database.

    Args:
        database: The database.
        retries: How long writes are retried.
    """

    table = "users"

    def __init__(self, database: Database, retries: Retries) -> None:
        super().__init__(open_collection(database, USERS), Users(database).restore, retries)
        self._ids: LRUCache[str, str] = LRUCache(REMEMBERED_USERS)

    async def ids_of(self, identifiers: Iterable[str]) -> dict[str, str]:
        """The ids that users have in this database, by identifier."""
        wanted = set(identifiers)
        found = {name: self._ids[name] for name in wanted if name in self._ids}
        if unknown := sorted(wanted - found.keys()):
            query = {"identifier": {"$in": unknown}}

            async def find() -> dict[str, str]:
                users = self._collection.find(query, {"identifier": 1})
                return {user["identifier"]: user["_id"] async for user in users}

            new = await self._retries.run(find)
            self._ids.update(new)
            found |= new
        return found

    async def names_of(self, ids: Collection[str]) -> dict[str, str]:
        """The identifiers of the users with these ids, by id."""

        async def find() -> dict[str, str]:
            users = self._collection.find({"_id": {"$in": list(ids)}}, {"identifier": 1})
            return {user["_id"]: user.get("identifier", "") async for user in users}

        return await self._retries.run(find)

    async def read(self, ids: Collection[str]) -> dict[str, Document]:
        """Users as they are compared."""

        async def find() -> dict[str, Document]:
            found = self._collection.find({"_id": {"$in": list(ids)}})
            return {user["_id"]: _user(user) async for user in found}

        return await self._retries.run(find)


class ThreadShelf(BulkShelf):
    """The threads of a database.

    Args:
        database: The database.
        retries: How long writes are retried.
    """

    table = "threads"

    def __init__(self, database: Database, retries: Retries) -> None:
        self._documents = ThreadDocuments(database)
        restore = ChainlitThreads(self._documents).restore
        super().__init__(self._documents.collection, restore, retries)

    async def read(self, ids: Collection[str]) -> dict[str, Document]:
        """What ``get_thread`` says of these threads, as it is compared."""

        async def find() -> dict[str, Document]:
            found = {}
            async for stored in self._collection.find({"_id": {"$in": list(ids)}}):
                if "deletedAt" in stored:  # it may have come since present() was asked
                    continue
                try:
                    whole = await self._documents.whole(stored)
                    whole = whole or await self._documents.get(stored["_id"])
                except StorageError:
                    continue  # it lost an overflow document: it is not what was stored
                if whole is not None:
                    found[whole["_id"]] = canonical(codec.read_thread(whole))
            return found

        return await self._retries.run(find)

    async def _stored(self, document: Document) -> Document:
        # The overflow of a short thread is empty, and nothing of it goes to GridFS.
        return await self._documents.overflow.store(document)


class ChatKitShelf(RestoringShelf):
    """ChatKit's attachments of a database; :func:`chatkit_id` names owner and id.

    Args:
        documents: The documents.
        retries: How long writes are retried.
    """

    table = "attachments"

    def __init__(self, documents: StoredDocuments, retries: Retries) -> None:
        super().__init__(documents.restore, retries)
        self._documents = documents

    async def present(self, ids: Collection[str]) -> dict[str, bool]:
        """The ids that are taken; False where only the tombstone of a deleted one is there."""
        keys = [_owned(text) for text in ids]

        async def find() -> dict[str, bool]:
            found = self._documents.collection.find({"_id": {"$in": keys}}, {"deletedAt": 1})
            return {chatkit_id(stored): "deletedAt" not in stored async for stored in found}

        return await self._retries.run(find)

    async def read(self, ids: Collection[str]) -> dict[str, Document]:
        """Documents as they are compared."""
        keys = {"_id": {"$in": [_owned(text) for text in ids]}}

        async def find() -> dict[str, Document]:
            return {chatkit_id(stored): self._read(stored) async for stored in self._scan(keys)}

        return await self._retries.run(find)

    def _id_of(self, document: Document) -> str:
        return chatkit_id(document)

    def _scan(self, filter: Document) -> AsyncIterator[Document]:
        return self._documents.scan(filter, ())

    def _read(self, stored: Document) -> Document:
        return expected_attachment(stored)


class ChatKitThreadShelf(ChatKitShelf):
    """ChatKit's threads of a database.

    Args:
        threads: The threads.
        retries: How long writes are retried.
    """

    table = "threads"

    def __init__(self, threads: ChatKitThreads, retries: Retries) -> None:
        super().__init__(threads, retries)
        self._threads = threads

    def _scan(self, filter: Document) -> AsyncIterator[Document]:
        return self._threads.scan_whole(filter, on_damaged=lambda _: None)

    def _read(self, stored: Document) -> Document:
        return expected_chatkit_thread(stored)


def chatkit_id(document: Document) -> str:
    """Owner and id of a ChatKit document as one text."""
    return json.dumps([document["_id"]["owner"], document["_id"]["id"]])


def _owned(text: str) -> Document:
    return owned(*json.loads(text))


async def _insert(collection: Any, documents: list[Document]) -> dict[str, str]:
    """Insert what is not there; a repetition finds its own documents there."""
    if not documents:
        return {}
    try:
        # Unordered: one that is refused must not keep the rest out.
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as exc:
        errors = [error for error in exc.details["writeErrors"] if error["code"] != _DUPLICATE]
        # Stored, but not acknowledged in time: the retry finds the documents there.
        if not errors and exc.details["writeConcernErrors"]:
            raise
        return {documents[error["index"]]["_id"]: error["errmsg"] for error in errors}
    return {}


def _is_small(document: Document) -> bool:
    """Whether a document is stored as it is: it is short, and nothing looks like a reference."""
    items = (document["metadata"], *document.get("steps", ()), *document.get("elements", ()))
    if any(is_reference(value) for item in items for value in item.values()):
        return False
    # All of it: one that is too large would keep out those that are inserted with it.
    return size_of(document) < SMALL_BYTES


def _user(stored: Document) -> Document:
    user = codec.read_fields(stored)
    user["id"] = user.pop("_id")
    user["metadata"] = codec.read_fields(stored.get("metadata") or {})
    return canonical_user({**user, "createdAt": stored.get("createdAt")})
