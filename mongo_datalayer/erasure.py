"""Erases a person: threads with everything in them, files, and the user's document last.

Each thread's files go before the thread, and the user's document goes last: so whatever is still
there can be found by the person's id or identifier, and an erasure that was interrupted is
completed by another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from pymongo.errors import OperationFailure

from mongo_datalayer.documents import THREADS, Document
from mongo_datalayer.driver import Database, open_collection
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.pipelines import owned_by
from mongo_datalayer.threads import Threads
from mongo_datalayer.users import Users

# Where applications keep whose a document is; searched in every collection afterwards.
OWNER_FIELDS = (
    "_id",
    "id",
    "identifier",
    "user",
    "userId",
    "user_id",
    "userIdentifier",
    "user_identifier",
    "email",
    "metadata.userId",
    "metadata.user_id",
    "metadata.userIdentifier",
)
BATCH = 1000

_CHUNKS = ".chunks"
_SYSTEM = "system."
_UNAUTHORIZED = 13
_COUNTED = ("steps.id", "steps.feedback.id", "pendingFeedback.id", "elements.objectKey")


@dataclass(frozen=True)
class Person:
    """Who is erased.

    Attributes:
        identifier: What the person logs in with.
        user_id: Id of the user's document; None when there is none.
    """

    identifier: str
    user_id: str | None

    @property
    def threads(self) -> Document:
        """The filter that finds the person's threads."""
        return owned_by(self.user_id, self.identifier)


@dataclass
class Belongings:
    """How much there is of a person; ``size`` is the bytes of the files."""

    users: int = 0
    threads: int = 0
    steps: int = 0
    feedback: int = 0
    elements: int = 0
    files: int = 0
    size: int = 0


@dataclass
class Erased:
    """What an erasure removed.

    Attributes:
        thread_ids: The threads.
        file_ids: The files, by revision.
        users: 1 when the user's document was removed.
    """

    thread_ids: list[str] = field(default_factory=list)
    file_ids: list[str] = field(default_factory=list)
    users: int = 0


@dataclass
class Remains:
    """What is left of a person.

    Attributes:
        documents: How many documents there are in each place that has some.
        unread: The collections that the login may not read.
    """

    documents: dict[str, int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, place: str, count: int) -> None:
        """Count in what was found at ``place``."""
        if count:
            self.documents[place] = self.documents.get(place, 0) + count


class Erasure:
    """Everything of one person in a database.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        identifier: What the person logs in with.
    """

    def __init__(self, database: Database, bucket: FileBucket, identifier: str) -> None:
        self._database = database
        self._bucket = bucket
        self._threads = Threads(database)
        self._users = Users(database)
        self._identifier = identifier

    async def person(self) -> Person:
        """The person as the database knows them now. One command."""
        user = await self._users.get(self._identifier)
        return Person(self._identifier, None if user is None else str(user["_id"]))

    async def count(self, person: Person) -> Belongings:
        """How much there is of the person; changes nothing. Reads all threads once."""
        found = Belongings(users=int(person.user_id is not None))
        async for thread in self._threads.scan(person.threads, _COUNTED):
            steps = thread.get("steps") or ()
            found.threads += 1
            found.steps += len(steps)
            found.feedback += sum("feedback" in step for step in steps)
            found.feedback += len(thread.get("pendingFeedback") or ())
            found.elements += len(thread.get("elements") or ())
            for file in await self._files(thread):
                found.files += 1
                found.size += file.size
        return found

    async def keys_elsewhere(self, person: Person) -> AsyncIterator[str]:
        """Object keys of the person's elements under which the bucket has no file.

        These files are in another file store, or were removed before.
        """
        async for thread in self._threads.scan(person.threads, _COUNTED):
            here = {file.object_key for file in await self._files(thread)}
            for key in _object_keys(thread):
                if key not in here:
                    yield key

    async def erase(self, person: Person, on_thread: Callable[[], object]) -> Erased:
        """Remove everything; ``on_thread`` is called after each thread.

        May be interrupted at any moment and repeated: what is left is found again.
        """
        erased = Erased()
        async for thread in self._threads.scan(person.threads, _COUNTED):
            erased.file_ids += await self._erase_files(thread)
            erased.thread_ids.append(thread["_id"])
            late = await self._threads.delete(thread["_id"])
            # What was uploaded between the two.
            erased.file_ids += await self._erase_files(
                {"_id": thread["_id"], "elements": [{"objectKey": key} for key in late]}
            )
            on_thread()
        if person.user_id is not None:
            erased.users = int(await self._users.delete(person.user_id))
        return erased

    async def remains(self, person: Person, erased: Erased) -> Remains:
        """What can still be found of the person.

        Every collection of the database is searched for the person's id and identifier in
        :data:`OWNER_FIELDS`; threads and files besides for the ids of what was erased. Views are
        not searched: they hold nothing but what is in the collections.
        """
        left = Remains()
        no_views = {"type": {"$ne": "view"}}
        for name in sorted(await self._database.list_collection_names(filter=no_views)):
            if name.startswith(_SYSTEM) or name.endswith(_CHUNKS):
                continue
            try:
                left.add(name, await self._count_mentions(name, person))
            except OperationFailure as exc:
                if exc.code != _UNAUTHORIZED:
                    raise
                left.unread.append(name)
        for start in range(0, len(erased.thread_ids), BATCH):
            ids = {"_id": {"$in": erased.thread_ids[start : start + BATCH]}}
            async for _ in self._threads.scan(ids, ()):
                left.add(THREADS, 1)
        async for _ in self._bucket.list_belonging(erased.thread_ids):
            left.add("the list of files", 1)
        left.add("the content of files", await self._bucket.count_chunks(erased.file_ids))
        return left

    async def _count_mentions(self, collection: str, person: Person) -> int:
        wanted = [value for value in (person.user_id, person.identifier) if value is not None]
        anyones = {"$or": [{name: {"$in": wanted}} for name in OWNER_FIELDS]}
        return await open_collection(self._database, collection).count_documents(anyones)

    async def _files(self, thread: Document) -> list[StoredFile]:
        """The stored files of a thread.

        An element may point to a file of another thread, which is then not this person's.
        """
        found = self._bucket.list_belonging([thread["_id"]], _object_keys(thread))
        files = {
            file.file_id: file async for file in found if file.thread_id in (None, thread["_id"])
        }
        return list(files.values())

    async def _erase_files(self, thread: Document) -> list[str]:
        ids = [file.file_id for file in await self._files(thread)]
        await self._bucket.erase(ids)
        return ids


def _object_keys(thread: Document) -> list[str]:
    elements = thread.get("elements") or ()
    return [element["objectKey"] for element in elements if element.get("objectKey")]
