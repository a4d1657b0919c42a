"""Chainlit's threads with all that belongs to them: of one person, and old ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

from mongo_datalayer.admin.front_data import Belongings, Counts, Erased, FrontData, Person
from mongo_datalayer.admin.thread_scan import BELONGINGS, ThreadScan
from mongo_datalayer.chainlit.queries import owned_by
from mongo_datalayer.chainlit.steps import SEARCHED
from mongo_datalayer.chainlit.thread_contents import maps, object_keys, value_keys
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.model.documents import (
    LONG,
    OVERFLOW,
    OWN_THREAD,
    SEARCH_WORDS,
    THREADS,
    TOMBSTONE,
    UNINDEXED,
    Document,
)
from mongo_datalayer.model.stored_lists import items
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.search.indexer import SearchIndexer
from mongo_datalayer.storage.large_values import holds_value

BATCH = 1000  # ids in one filter, which must stay far below the 16 MB of a command

_COUNTED = ("userId", "steps.id", "steps.feedback.id", "pendingFeedback.id", "elements.id")


class ChainlitThreads(ThreadScan):
    """All of Chainlit's threads of a database.

    Args:
        documents: Where they are stored.
    """

    def __init__(self, documents: ThreadDocuments) -> None:
        super().__init__(documents.collection, documents.overflow, OWN_THREAD, TOMBSTONE)
        self._documents = documents
        self._values = documents.values

    async def object_keys(self, thread_ids: Iterable[str]) -> set[str]:
        """The object keys of the files and large values that these threads refer to."""
        ids = list(thread_ids)
        fields = ("elements", "steps", "metadata", "pendingFeedback")
        main = self.collection.find({"_id": {"$in": ids}}, dict.fromkeys(fields, 1))
        found: set[str] = set()
        # Main documents first: what moves to an overflow document in between has been in them.
        for documents in (main, self.overflow.scan(ids, ("elements", "steps"))):
            async for document in documents:
                found |= value_keys([document]) | element_keys([document])
        return found

    async def _whole(self, main: Document) -> Document | None:
        # None also when a move or a replaced value came in between: get() reads again.
        whole = await self._documents.whole(main, complete=True, strict=True)
        return await self._documents.get(main["_id"], strict=True) if whole is None else whole

    async def _externalize(self, whole: Document) -> Document:
        async def externalize(
            place: str, fields: Document, searched: Collection[str] = ()
        ) -> Document:
            return await self._values.externalize(whole["_id"], place, fields, searched=searched)

        async def feedback_without_values(feedback: Any, step_id: str | None = None) -> Any:
            if not isinstance(feedback, dict):  # edited by hand
                return feedback
            return await externalize(f"feedback/{step_id or feedback.get('forId')}", feedback)

        async def step_without_values(step: Document) -> Document:
            if feedback := step.get("feedback"):
                step = {**step, "feedback": await feedback_without_values(feedback, step["id"])}
            return await externalize(f"steps/{step['id']}", step, SEARCHED)

        # The search index of this database does not know the thread.
        thread = {name: value for name, value in whole.items() if name not in UNINDEXED}
        if steps := whole.get("steps"):
            thread["steps"] = [await step_without_values(step) for step in steps]
        if elements := whole.get("elements"):
            thread["elements"] = [await externalize(f"elements/{e['id']}", e) for e in elements]
        if isinstance(waiting := whole.get("pendingFeedback"), list):
            thread["pendingFeedback"] = [await feedback_without_values(given) for given in waiting]
        if isinstance(metadata := whole.get("metadata"), dict):
            thread["metadata"] = await externalize("metadata", metadata)
        # Marked as long: the texts in files are searched by their pieces in thread_overflow.
        return {**thread, **LONG} if value_keys([thread]) else thread

    async def _delete_values(self, thread: Document) -> None:
        await self._values.delete_values(*maps([thread]))

    async def _delete_other_values(self, thread: Document) -> None:
        await self._values.delete_others(thread["_id"], value_keys([thread]))


def element_keys(stored: Iterable[dict[str, Any]]) -> set[str]:
    """The object keys of the elements in main or overflow documents."""
    return {key for document in stored for key in object_keys(document.get("elements"))}


class ChainlitData(FrontData):
    """The data of Chainlit.

    Args:
        database: The database.
        bucket: Where the files of elements are.
    """

    def __init__(self, database: Database, bucket: FileBucket) -> None:
        super().__init__(database, bucket, ChainlitThreads(ThreadDocuments(database)), "threads")
        self._users = Users(database)
        self._indexer = SearchIndexer(database)
        self._words = open_collection(database, SEARCH_WORDS)

    async def count(self, person: Person) -> Counts:
        """How much there is of a person. Reads all their threads."""
        counts: Counts = Counter()
        user_ids = {person.user_id}
        async for stored in self.threads.scan_with_overflow(_of(person), (*_COUNTED, *BELONGINGS)):
            counts += _item_counts(stored) + Counter(threads=1)
            counts += (await self.belongings(stored[:1])).counts
            # Segments name the id that the identifier had when they were built.
            user_ids.add(await self._earlier_user(stored[0], person))
        words = {"userId": {"$in": list(user_ids - {None})}}
        return counts + Counter(words=await self._words.count_documents(words))

    async def keys_elsewhere(self, person: Person) -> AsyncIterator[str]:
        """Object keys of a person's files under which the bucket has none."""
        async for stored in self.threads.scan_with_overflow(_of(person), BELONGINGS):
            keys = element_keys(stored)
            files = await self._files([stored[0]["_id"]], keys)
            for key in sorted(keys - {file.object_key for file in files}):
                yield key

    async def session_ids(self, person: Person) -> AsyncIterator[str]:
        """Ids of the threads, and of earlier users with the identifier."""
        user_ids: set[str] = set()
        async for thread in self.threads.scan(_of(person), ("userId",)):
            yield thread["_id"]
            user_id = await self._earlier_user(thread, person)
            if user_id is not None and user_id not in user_ids:
                user_ids.add(user_id)
                yield user_id

    async def erase(self, person: Person, on_thread: Callable[[], object]) -> Erased:
        """Delete everything of a person but the user; ``on_thread`` is called per thread."""
        erased = Erased()
        # Main documents only: an interrupted erasure leaves threads that cannot be read whole.
        async for thread in self.threads.scan(_of(person), ("userId", *BELONGINGS)):
            # Only the threads still name an earlier user, whose words so go before them.
            user_id = await self._earlier_user(thread, person)
            if user_id is not None and user_id not in erased.user_ids:
                erased.user_ids.add(user_id)
                erased.counts["words"] += await self._indexer.delete_segments(user_id)
            # Before the thread, through which an interrupted erasure finds the rest again.
            erased.add(await self.delete_belongings([thread]))
            erased.thread_ids.append(thread["_id"])
            latest = await self.threads.expire(thread, {})
            # What was written since.
            erased.add(await self.delete_belongings([latest or thread]))
            on_thread()
        # After the threads: now nothing can index them any more.
        for user_id in {*erased.user_ids, person.user_id} - {None}:
            erased.counts["words"] += await self._indexer.delete_segments(user_id)
        erased.counts["threads"] = len(erased.thread_ids)
        return erased

    async def remaining(self, person: Person, erased: Erased) -> Counts:
        """What is left of a person and names neither id nor identifier: documents by place."""
        words = {"userId": {"$in": list(erased.user_ids)}}
        left = Counter({SEARCH_WORDS: await self._words.count_documents(words)})
        file_ids: set[str] = set()
        for start in range(0, len(erased.thread_ids), BATCH):
            ids = erased.thread_ids[start : start + BATCH]
            left[THREADS] += len(await self.threads.existing(ids))
            left[OVERFLOW] += len([stored async for stored in self.threads.overflow.scan(ids, ())])
            for bucket in (self._bucket, self._values):
                file_ids |= {file.file_id async for file in bucket.list_belonging(ids)}
        left["the list of files"] = len(file_ids)
        left["the content of files"] = await self._count_chunks(erased)
        return left

    async def _earlier_user(self, thread: Document, person: Person) -> str | None:
        """The thread's user, if it is an earlier one of the identifier: its document is gone."""
        user_id = thread.get("userId")
        if not isinstance(user_id, str) or user_id == person.user_id:
            return None
        return user_id if await self._users.identifier_of(user_id) is None else None

    async def belongings(self, threads: Collection[Document]) -> Belongings:
        """What belongs to these threads, by their main documents or tombstones."""
        ids = [thread["_id"] for thread in threads]
        overflow = [stored async for stored in self.threads.overflow.scan(ids, BELONGINGS)]
        files = await self._files(ids, element_keys([*threads, *overflow]))
        values = [file async for file in self._values.list_belonging(ids) if holds_value(file)]
        return Belongings(files, values, len(overflow))

    async def _files(self, thread_ids: list[str], keys: Iterable[str]) -> list[StoredFile]:
        # An element may show a file of another thread, and that file stays.
        owners = {*thread_ids, None}
        files = {
            file.file_id: file
            async for file in self._bucket.list_belonging(thread_ids, keys)
            if file.thread_id in owners and not holds_value(file)
        }
        return list(files.values())


def _of(person: Person) -> Document:
    return owned_by(person.user_id, person.identifier)


def _item_counts(stored: list[Document]) -> Counts:
    """The counts of one thread's items; one that is in two documents counts once."""
    steps = [step for document in stored for step in items(document, "steps")]
    elements = [element for document in stored for element in items(document, "elements")]
    rated = {step["id"] for step in steps if "feedback" in step}
    return Counter(
        steps=len({step["id"] for step in steps}),
        feedback=len(rated) + len(items(stored[0], "pendingFeedback", ())),
        elements=len({element["id"] for element in elements}),
    )
