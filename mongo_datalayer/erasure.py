"""Erases a person: threads with everything in them, files, and the user's document last.

What the person logs in with is ChatKit's owner too; of that :mod:`mongo_datalayer.chatkit.erasure`
says more. Of Chainlit's threads:

Each thread's files and its overflow go before its head, and the user's document goes last: so
whatever is still there can be found by the person's id or identifier, and an erasure that was
interrupted is completed by another one. So heads are read here, and never whole threads: of those
that an interrupted erasure left, parts are missing.

The words in the search index go after the threads, which nobody can index any more then. Those of
an earlier user with the identifier are known by that user's threads alone, and go before them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from pymongo.errors import OperationFailure

from mongo_datalayer.chatkit.erasure import OwnerErased, OwnerErasure
from mongo_datalayer.documents import OVERFLOW, SEARCH_WORDS, THREADS, Document
from mongo_datalayer.driver import Database, open_collection
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.indexes import BUCKET
from mongo_datalayer.large_values import holds_value
from mongo_datalayer.pipelines import owned_by
from mongo_datalayer.search_index import SearchIndexer
from mongo_datalayer.threads import Threads, object_keys
from mongo_datalayer.users import Users
from mongo_datalayer.values import plain_text

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
    "_id.owner",
    "thread.owner",
)
BATCH = 1000

_CHUNKS = ".chunks"
_SYSTEM = "system."
_UNAUTHORIZED = 13
_COUNTED = (
    "userId",
    "steps.id",
    "steps.feedback.id",
    "pendingFeedback.id",
    "elements.id",
    "elements.objectKey",
)


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
class _IndexedUsers:
    """The users whose words in the search index are a person's.

    Attributes:
        user_id: The person's user.
        earlier: Earlier users with the identifier, who are no more.
        others: Users who are there; their words stay.
    """

    user_id: str | None
    earlier: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)

    @property
    def ids(self) -> list[str]:
        return [*self.earlier, *([] if self.user_id is None else [self.user_id])]

    @property
    def condition(self) -> Document:
        """The filter that finds their words."""
        return {"userId": {"$in": self.ids}}


@dataclass
class Belongings:
    """How much there is of a person.

    Attributes:
        users: 1 when there is a user's document.
        threads: Threads.
        steps: Their steps.
        feedback: Feedback, also what waits for its step, and that on ChatKit's items.
        elements: Their elements.
        chatkit_threads: ChatKit's threads.
        chatkit_items: Their items.
        chatkit_attachments: ChatKit's attachments.
        chatkit_deleted: What is left of deleted threads and attachments of ChatKit.
        files: Files of elements and attachments.
        size: Their bytes.
        large_values: Texts, items and other values that are too large for a document.
        large_value_bytes: Their bytes.
        overflow: Documents with older steps or items of long threads, or pieces of large texts.
        words: Documents of the search index.
    """

    users: int = 0
    threads: int = 0
    steps: int = 0
    feedback: int = 0
    elements: int = 0
    chatkit_threads: int = 0
    chatkit_items: int = 0
    chatkit_attachments: int = 0
    chatkit_deleted: int = 0
    files: int = 0
    size: int = 0
    large_values: int = 0
    large_value_bytes: int = 0
    overflow: int = 0
    words: int = 0


@dataclass
class Erased:
    """What an erasure removed.

    Attributes:
        thread_ids: The threads.
        file_ids: The files of elements, by revision.
        value_ids: The files of large values, by revision.
        words: Documents of the search index.
        users: 1 when the user's document was removed.
        chatkit: What was removed of ChatKit's.
        indexed: Whose words those were.
    """

    thread_ids: list[str] = field(default_factory=list)
    file_ids: list[str] = field(default_factory=list)
    value_ids: list[str] = field(default_factory=list)
    words: int = 0
    users: int = 0
    chatkit: OwnerErased = field(default_factory=OwnerErased)
    indexed: _IndexedUsers = field(default_factory=lambda: _IndexedUsers(None))

    @property
    def files(self) -> int:
        """How many files were removed, large values not among them."""
        return len(self.file_ids) + len(self.chatkit.file_ids)

    @property
    def values(self) -> int:
        """How many large values and items were removed."""
        return len(self.value_ids) + len(self.chatkit.item_file_ids)


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

    def at_least(self, place: str, count: int) -> None:
        """The same, where what was found before may be among it."""
        if count:
            self.documents[place] = max(self.documents.get(place, 0), count)


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
        self._values = FileBucket(database, BUCKET)
        self._threads = Threads(database)
        self._users = Users(database)
        self._indexer = SearchIndexer(database)
        self._words = open_collection(database, SEARCH_WORDS)
        self._owner = OwnerErasure(database, bucket, self._values, plain_text(identifier))
        self._identifier = identifier

    async def person(self) -> Person:
        """The person as the database knows them now. One command."""
        user = await self._users.get(self._identifier)
        return Person(self._identifier, None if user is None else str(user["_id"]))

    async def count(self, person: Person) -> Belongings:
        """How much there is of the person; changes nothing. Reads all threads once."""
        found = Belongings(users=int(person.user_id is not None))
        indexed = _IndexedUsers(person.user_id)
        async for thread in self._stored_threads(person):
            await self._is_earlier(thread, indexed)
            found.threads += 1
            found.steps += len(thread.steps)
            found.feedback += thread.feedback
            found.elements += len(thread.elements)
            found.overflow += thread.overflow
            for file in await self._files(thread.id, thread.object_keys):
                found.files += 1
                found.size += file.size
            for file in await self._large_values(thread.id):
                found.large_values += 1
                found.large_value_bytes += file.size
        found.words = await self._words.count_documents(indexed.condition)
        await self._count_owner(found)
        return found

    async def _count_owner(self, found: Belongings) -> None:
        owner = await self._owner.count()
        found.chatkit_threads = owner.threads
        found.chatkit_items = owner.items
        found.chatkit_attachments = owner.attachments
        found.chatkit_deleted = owner.deleted
        found.feedback += owner.feedback
        found.files += owner.files
        found.size += owner.size
        found.large_values += owner.large_items
        found.large_value_bytes += owner.large_item_bytes
        found.overflow += owner.parts

    async def keys_elsewhere(self, person: Person) -> AsyncIterator[str]:
        """Object keys of the person's files under which the bucket has none.

        These files are in another file store, or were removed before.
        """
        async for thread in self._stored_threads(person):
            files = await self._files(thread.id, thread.object_keys)
            here = {file.object_key for file in files}
            for key in thread.object_keys:
                if key not in here:
                    yield key
        async for key in self._owner.keys_elsewhere():
            yield key

    async def erase(self, person: Person, on_thread: Callable[[], object]) -> Erased:
        """Remove everything; ``on_thread`` is called after each thread.

        May be interrupted at any moment and repeated: what is left is found again.
        """
        erased = Erased(indexed=_IndexedUsers(person.user_id))
        async for thread in self._stored_threads(person):
            if await self._is_earlier(thread, erased.indexed):
                await self._forget_words(erased)
            await self._erase_beside(thread.id, thread.object_keys, erased)
            erased.thread_ids.append(thread.id)
            late = await self._threads.delete(thread.id)
            # What was written between the two.
            await self._erase_beside(thread.id, late, erased)
            on_thread()
        erased.chatkit = await self._owner.erase(on_thread)
        await self._forget_words(erased)
        if person.user_id is not None:
            erased.users = int(await self._users.delete(person.user_id))
        return erased

    async def remains(self, person: Person, erased: Erased) -> Remains:
        """What can still be found of the person.

        Every collection of the database is searched for the person's id and identifier in
        :data:`OWNER_FIELDS`; threads, their overflow and files besides for the ids of what was
        erased, and files for what ChatKit's owner has. Views are not searched: they hold nothing
        but what is in the collections.
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
        earlier = {"userId": {"$in": list(erased.indexed.earlier)}}
        left.add(SEARCH_WORDS, await self._words.count_documents(earlier))
        for start in range(0, len(erased.thread_ids), BATCH):
            ids = {"_id": {"$in": erased.thread_ids[start : start + BATCH]}}
            async for _ in self._threads.archive.scan_heads(ids, ()):
                left.add(THREADS, 1)
            async for _ in self._threads.archive.scan_overflow(ids["_id"]["$in"], ()):
                left.add(OVERFLOW, 1)
        for bucket, file_ids in (
            (self._bucket, erased.file_ids),
            (self._values, erased.value_ids),
        ):
            found = {file.file_id async for file in bucket.list_belonging(erased.thread_ids)}
            left.at_least("the list of files", len(found))
            left.at_least("the content of files", await bucket.count_chunks(file_ids))
        await self._add_owners_files(left, erased.chatkit)
        return left

    async def _add_owners_files(self, left: Remains, erased: OwnerErased) -> None:
        for bucket, files, file_ids in (
            (self._bucket, self._owner.files(), erased.file_ids),
            (self._values, self._owner.item_files(), erased.item_file_ids),
        ):
            left.add("the list of ChatKit's files", len([file async for file in files]))
            left.add("the content of ChatKit's files", await bucket.count_chunks(file_ids))

    async def _count_mentions(self, collection: str, person: Person) -> int:
        wanted = [value for value in (person.user_id, person.identifier) if value is not None]
        anyones = {"$or": [{name: {"$in": wanted}} for name in OWNER_FIELDS]}
        return await open_collection(self._database, collection).count_documents(anyones)

    async def _stored_threads(self, person: Person) -> AsyncIterator[_StoredThread]:
        async for head in self._threads.archive.scan_heads(person.threads, _COUNTED):
            thread = _StoredThread(head["_id"], head.get("userId"))
            thread.add(head)
            async for stored in self._threads.archive.scan_overflow([thread.id], _COUNTED):
                thread.overflow += 1
                thread.add(stored)
            yield thread

    async def _is_earlier(self, thread: _StoredThread, users: _IndexedUsers) -> bool:
        """Whether its user is an earlier one that was not met before."""
        user_id = thread.user_id
        if user_id in (None, users.user_id) or user_id in users.earlier | users.others:
            return False
        is_there = await self._users.find(user_id) is not None
        (users.others if is_there else users.earlier).add(user_id)
        return not is_there

    async def _forget_words(self, erased: Erased) -> None:
        for user_id in erased.indexed.ids:
            erased.words += await self._indexer.forget(user_id)

    async def _files(self, thread_id: str, object_keys: Iterable[str]) -> list[StoredFile]:
        """The stored files of a thread's elements.

        An element may point to a file of another thread, which is then not this person's.
        """
        found = self._bucket.list_belonging([thread_id], object_keys)
        files = {
            file.file_id: file
            async for file in found
            if file.thread_id in (None, thread_id) and not holds_value(file)
        }
        return list(files.values())

    async def _large_values(self, thread_id: str) -> list[StoredFile]:
        found = self._values.list_belonging([thread_id])
        return [file async for file in found if holds_value(file)]

    async def _erase_beside(
        self, thread_id: str, object_keys: Iterable[str], erased: Erased
    ) -> None:
        """Erase what belongs to a thread besides its head; the keys of its elements' files."""
        file_ids = [file.file_id for file in await self._files(thread_id, object_keys)]
        await self._bucket.erase(file_ids)
        erased.file_ids += file_ids
        value_ids = [file.file_id for file in await self._large_values(thread_id)]
        await self._values.erase(value_ids)
        erased.value_ids += value_ids
        await self._threads.archive.delete_overflow([thread_id])


@dataclass
class _StoredThread:
    """What a thread's head and its overflow hold; an item that is in two of them counts once."""

    id: str
    user_id: str | None
    steps: set[str] = field(default_factory=set)
    rated: set[str] = field(default_factory=set)
    waiting: int = 0
    elements: set[str] = field(default_factory=set)
    object_keys: set[str] = field(default_factory=set)
    overflow: int = 0

    @property
    def feedback(self) -> int:
        return len(self.rated) + self.waiting

    def add(self, stored: Document) -> None:
        """Count in what is in a head, or in a document of overflow."""
        steps = stored.get("steps") or ()
        self.steps.update(step["id"] for step in steps)
        self.rated.update(step["id"] for step in steps if "feedback" in step)
        self.waiting += len(stored.get("pendingFeedback") or ())
        elements = stored.get("elements") or ()
        self.elements.update(element["id"] for element in elements)
        self.object_keys.update(object_keys(elements))
