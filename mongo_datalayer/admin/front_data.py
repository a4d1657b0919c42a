"""What administration can do to the data of Chainlit and of ChatKit alike.

Counts are a ``collections.Counter`` with these names:

======================= =========================================================================
``users``               users
``threads``             Chainlit's threads
``steps``               their steps
``elements``            their elements
``feedback``            feedback, also what waits for its step, and that on ChatKit's items
``chatkit_threads``     ChatKit's threads
``chatkit_items``       their items
``chatkit_attachments`` ChatKit's attachments, also those of no thread
``chatkit_deleted``     tombstones of ChatKit's threads and attachments
``files``               files of elements and attachments
``file_bytes``          their size
``large_values``        texts, items and other values too large for a document, in files
``large_value_bytes``   their size
``overflow``            documents with older steps or items of threads, or pieces of large texts
``words``               documents of the search index
======================= =========================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from mongo_datalayer.admin.thread_scan import ThreadScan
from mongo_datalayer.chainlit.queries import untouched_since
from mongo_datalayer.config import BUCKET
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.paging import batches

BATCH = 100

Counts: TypeAlias = Counter[str]


@dataclass(frozen=True)
class Person:
    """A person as the database knows them.

    Attributes:
        identifier: What the person logs in with. It is also ChatKit's owner.
        user_id: Id of the user's document; None when there is none.
    """

    identifier: str
    user_id: str | None

    @property
    def names(self) -> list[str]:
        """What other documents may call the person."""
        return [name for name in (self.identifier, self.user_id) if name is not None]


@dataclass(frozen=True)
class Rule:
    """Which threads are old enough to be removed.

    Attributes:
        before: Those whose newest step is older. Of ChatKit's, those last written before.
        keep_pinned: Not those with ``metadata.pinned: true``.
        keep_shared: Not those with ``metadata.is_shared: true``.
    """

    before: datetime
    keep_pinned: bool = False
    keep_shared: bool = False


@dataclass
class Belongings:
    """What belongs to some threads besides their main documents.

    Attributes:
        files: Files of elements or attachments.
        values: Files of large values.
        overflow: How many overflow documents.
        attachments: ChatKit's attachments.
    """

    files: list[StoredFile]
    values: list[StoredFile]
    overflow: int = 0
    attachments: list[Document] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """How much that is."""
        return Counter(
            files=len(self.files),
            file_bytes=sum(file.size for file in self.files),
            large_values=len(self.values),
            large_value_bytes=sum(file.size for file in self.values),
            overflow=self.overflow,
            chatkit_attachments=len(self.attachments),
        )


@dataclass
class Erased:
    """What was erased of a person in one front, or in the collections of agent libraries.

    Attributes:
        counts: How much that is.
        documents: How many documents of agent libraries, by collection.
        thread_ids: The threads, where only their ids would find what is left of them.
        user_ids: Earlier users with the person's identifier.
        file_ids: The files, by revision.
        value_ids: The files of large values, by revision.
    """

    counts: Counts = field(default_factory=Counter)
    documents: Counts = field(default_factory=Counter)
    thread_ids: list[str] = field(default_factory=list)
    user_ids: set[str] = field(default_factory=set)
    file_ids: list[str] = field(default_factory=list)
    value_ids: list[str] = field(default_factory=list)

    def add(self, belongings: Belongings) -> None:
        """Count in what was deleted."""
        self.counts += belongings.counts
        self.file_ids += [file.file_id for file in belongings.files]
        self.value_ids += [file.file_id for file in belongings.values]


class FrontData(ABC):
    """What can be done to the data of one front.

    All of it may be interrupted at any moment and repeated: what is left is found again.

    Args:
        database: The database.
        bucket: Where the files of elements or attachments are.
        threads: Its threads.
        counted_as: Their name among the counts.
    """

    def __init__(
        self, database: Database, bucket: FileBucket, threads: ThreadScan, counted_as: str
    ) -> None:
        self.threads = threads
        self.counted_as = counted_as
        self._bucket = bucket
        self._values = FileBucket(database, BUCKET)

    @abstractmethod
    async def count(self, person: Person) -> Counts:
        """How much there is of a person. Reads all their threads."""

    @abstractmethod
    def keys_elsewhere(self, person: Person) -> AsyncIterator[str]:
        """Object keys of a person's files under which the bucket has none."""

    @abstractmethod
    def session_ids(self, person: Person) -> AsyncIterator[str]:
        """Ids under which an app may keep more of a person's conversations elsewhere."""

    @abstractmethod
    async def erase(self, person: Person, on_thread: Callable[[], object]) -> Erased:
        """Delete everything of a person but the user; ``on_thread`` is called per thread."""

    @abstractmethod
    async def remaining(self, person: Person, erased: Erased) -> Counts:
        """What is left of a person and names neither id nor identifier: documents by place."""

    def old_threads(self, rule: Rule) -> Document:
        """The filter on the threads that a rule removes."""
        return untouched_since(
            rule.before, keep_pinned=rule.keep_pinned, keep_shared=rule.keep_shared
        )

    @abstractmethod
    async def belongings(self, threads: Collection[Document]) -> Belongings:
        """What belongs to these threads, by their main documents or tombstones."""

    async def delete_belongings(self, threads: Collection[Document]) -> Belongings:
        """Delete what belongs to these threads; returns what that was."""
        found = await self.belongings(threads)
        # The files first: the keys of some are in overflow documents.
        await self._delete_files(found)
        await self.threads.overflow.delete([thread["_id"] for thread in threads])
        return found

    async def delete_remnants(self) -> Counts:
        """Delete what belongs to tombstones: an interrupted run may have left it."""
        counts: Counts = Counter()
        async for tombstones in batches(self.threads.tombstones(), BATCH):
            counts += (await self.delete_belongings(tombstones)).counts
        return counts

    async def _delete_files(self, belongings: Belongings) -> None:
        # Content first, so that an interrupted run finds the files again.
        for bucket, files in ((self._bucket, belongings.files), (self._values, belongings.values)):
            await bucket.delete_revisions([file.file_id for file in files], content_first=True)

    async def _count_chunks(self, erased: Erased) -> int:
        chunks = await self._bucket.count_chunks(erased.file_ids)
        return chunks + await self._values.count_chunks(erased.value_ids)
