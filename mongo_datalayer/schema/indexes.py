"""The indexes the package's queries use: declared once, compared with what is there, created."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from mongo_datalayer.documents import SEARCH_WORDS, Document
from mongo_datalayer.driver import Database, index_information, open_collection

TOMBSTONE_SECONDS = 24 * 3600

BUCKET = "fs"
"""The GridFS bucket of large values, and of files unless the app names another one."""

# What the server adds to an index by itself, or what does not change what the index does.
_NOT_COMPARED = frozenset({"v", "key", "name", "ns", "background"})


@dataclass(frozen=True)
class Index:
    """One index: which query needs it is said where it is declared.

    Attributes:
        collection: Name of the collection.
        name: Name of the index.
        keys: Fields with 1 or -1, in order.
        options: MongoDB's options: ``unique``, ``sparse``, ``expireAfterSeconds``, …
    """

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.collection}.{self.name}"

    @property
    def model(self) -> IndexModel:
        """The index as the driver creates it."""
        return IndexModel(list(self.keys), name=self.name, **self.options)

    def same_as(self, present: Mapping[str, Any]) -> bool:
        """Whether ``present``, as the server lists it, does what this index should do."""
        options = {key: value for key, value in present.items() if key not in _NOT_COMPARED}
        return tuple(present["key"].items()) == self.keys and options == dict(self.options)


DECLARED: tuple[Index, ...] = (
    # get_user and create_user; the uniqueness makes one user of two logins at once.
    Index("users", "identifier", (("identifier", ASCENDING),), {"unique": True}),
    # list_threads: the filter, the order and the cursor in one.
    Index(
        "threads",
        "user_activity",
        (("userId", ASCENDING), ("updatedAt", DESCENDING), ("_id", DESCENDING)),
    ),
    # list_threads of a layer that orders by creation.
    Index(
        "threads",
        "user_creation",
        (("userId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)),
    ),
    # delete_step, and feedback that names no thread: Chainlit gives only the step's id.
    Index("threads", "step", (("steps.id", ASCENDING),)),
    # delete_feedback; sparse, so that threads without feedback pay nothing.
    Index("threads", "feedback", (("steps.feedback.id", ASCENDING),), {"sparse": True}),
    Index("threads", "pending_feedback", (("pendingFeedback.id", ASCENDING),), {"sparse": True}),
    # delete_element without a thread.
    Index("threads", "element", (("elements.id", ASCENDING),), {"sparse": True}),
    # get_favorite_steps.
    Index(
        "threads",
        "user_favorites",
        (("userId", ASCENDING), ("steps.metadata.favorite", ASCENDING)),
        {"partialFilterExpression": {"steps.metadata.favorite": True}},
    ),
    # list_threads with a search, and get_favorite_steps: the long threads of a user.
    Index(
        "threads",
        "user_long",
        (
            ("userId", ASCENDING),
            ("overflow", ASCENDING),
            ("updatedAt", DESCENDING),
            ("_id", DESCENDING),
        ),
        {"partialFilterExpression": {"overflow": True}},
    ),
    # What belongs to a thread, its parts apart from the pieces of its large texts.
    Index("thread_overflow", "thread", (("thread", ASCENDING), ("value", ASCENDING))),
    # The pieces of a large text.
    Index("thread_overflow", "value", (("value", ASCENDING),), {"sparse": True}),
    # The same as of threads: an old step, feedback or element.
    Index("thread_overflow", "step", (("steps.id", ASCENDING),), {"sparse": True}),
    Index("thread_overflow", "feedback", (("steps.feedback.id", ASCENDING),), {"sparse": True}),
    Index("thread_overflow", "element", (("elements.id", ASCENDING),), {"sparse": True}),
    Index(
        "thread_overflow",
        "favorites",
        (("thread", ASCENDING), ("steps.metadata.favorite", ASCENDING)),
        {"partialFilterExpression": {"steps.metadata.favorite": True}},
    ),
    # delete_user_session.
    Index("threads", "session", (("session.id", ASCENDING),), {"sparse": True}),
    # The two of the GridFS specification, under the names every driver gives them.
    Index(
        "fs.files", "filename_1_uploadDate_1", (("filename", ASCENDING), ("uploadDate", ASCENDING))
    ),
    Index(
        "fs.chunks",
        "files_id_1_n_1",
        (("files_id", ASCENDING), ("n", ASCENDING)),
        {"unique": True},
    ),
    # Files of a thread; other applications' files are not in it.
    Index(
        "fs.files",
        "thread",
        (("metadata.threadId", ASCENDING),),
        {"partialFilterExpression": {"metadata.owner": "mongo_datalayer"}},
    ),
    # The server removes what is left of a deleted thread.
    Index(
        "threads",
        "deleted",
        (("deletedAt", ASCENDING),),
        {"sparse": True, "expireAfterSeconds": TOMBSTONE_SECONDS},
    ),
    # ChatKit's load_threads: the owner, the order and the cursor in one.
    Index("chatkit_threads", "owner_order", (("_id.owner", ASCENDING), ("order", ASCENDING))),
    Index(
        "chatkit_threads",
        "deleted",
        (("deletedAt", ASCENDING),),
        {"sparse": True, "expireAfterSeconds": TOMBSTONE_SECONDS},
    ),
    # An old item of a ChatKit thread.
    Index("chatkit_overflow", "item", (("thread", ASCENDING), ("items.id", ASCENDING))),
    # Which parts a page of items is in; the ids make the index answer by itself.
    Index(
        "chatkit_overflow",
        "range",
        (
            ("thread", ASCENDING),
            ("first", ASCENDING),
            ("last", ASCENDING),
            ("_id", ASCENDING),
        ),
    ),
    # ChatKit's delete_thread: the attachments of the thread.
    Index(
        "chatkit_attachments", "owner_thread", (("_id.owner", ASCENDING), ("threadId", ASCENDING))
    ),
    Index(
        "chatkit_attachments",
        "deleted",
        (("deletedAt", ASCENDING),),
        {"sparse": True, "expireAfterSeconds": TOMBSTONE_SECONDS},
    ),
)

SEARCH: tuple[Index, ...] = (
    # Which threads a segment of the search index knows, and which ones none does.
    Index("threads", "user_search", (("userId", ASCENDING), ("searchMark", ASCENDING))),
    # The words and joints of a user's segments.
    Index(SEARCH_WORDS, "user_joints", (("userId", ASCENDING), ("joints", ASCENDING))),
)
"""What the search index needs besides; only where it is used."""


def in_bucket(collection: str, bucket: str) -> str:
    """The collection's name where the files are in ``bucket``; others keep theirs."""
    prefix, dot, rest = collection.partition(".")
    return f"{bucket}.{rest}" if dot and prefix == BUCKET else collection


def declared_indexes(bucket: str = BUCKET, *, search: bool = False) -> tuple[Index, ...]:
    """The indexes to have where the files are in ``bucket``.

    Large values stay in :data:`BUCKET`, so those of its collections are always among them.

    Args:
        bucket: The GridFS bucket of the files.
        search: Whether the search index is used.
    """
    of_files = (
        replace(index, collection=name)
        for index in DECLARED
        if (name := in_bucket(index.collection, bucket)) != index.collection
    )
    return (*DECLARED, *of_files, *(SEARCH if search else ()))


@dataclass(frozen=True)
class IndexReport:
    """The declared indexes against a database.

    Attributes:
        present: Declared, and there before.
        created: Declared, and made just now.
        missing: Declared, and not there.
        different: Declared, but another index has the name, or the keys with other options.
        unknown: Names (``collection.index``) of indexes that are there and not declared.
    """

    present: tuple[Index, ...] = ()
    created: tuple[Index, ...] = ()
    missing: tuple[Index, ...] = ()
    different: tuple[Index, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every declared index is there as declared."""
        return not self.missing and not self.different


def compare_indexes(
    declared: Iterable[Index], present: Mapping[str, list[Document]]
) -> IndexReport:
    """The difference between ``declared`` and what each collection lists in ``present``."""
    claimed: set[str] = set()
    there, missing, different = [], [], []
    for index in declared:
        rivals = [
            listed
            for listed in present.get(index.collection, [])
            if listed["name"] == index.name or tuple(listed["key"].items()) == index.keys
        ]
        claimed.update(f"{index.collection}.{rival['name']}" for rival in rivals)
        if any(index.same_as(rival) for rival in rivals):
            there.append(index)
        elif rivals:
            different.append(index)
        else:
            missing.append(index)
    listed_names = {
        f"{collection}.{index['name']}"
        for collection, indexes in present.items()
        for index in indexes
        if index["name"] != "_id_"
    }
    return IndexReport(
        present=tuple(there),
        missing=tuple(missing),
        different=tuple(different),
        unknown=tuple(sorted(listed_names - claimed)),
    )


async def check_indexes(
    database: Database, *, bucket: str = BUCKET, search: bool = False
) -> IndexReport:
    """Compare the declared indexes with those of ``database``; changes nothing.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        search: Whether the search index is used; it also is where it has been built before.
    """
    there = set(await database.list_collection_names())
    declared = declared_indexes(bucket, search=search or SEARCH_WORDS in there)
    collections = sorted({index.collection for index in declared} & there)
    present = {
        name: await index_information(open_collection(database, name)) for name in collections
    }
    return compare_indexes(declared, present)


async def apply_indexes(
    database: Database,
    *,
    bucket: str = BUCKET,
    search: bool = False,
    replace_different: bool = False,
    on_created: Callable[[Index, float], None] | None = None,
) -> IndexReport:
    """Create the declared indexes that are missing; safe to repeat.

    Those of a collection together, in one pass over its documents; one after the other where
    ``on_created`` wants to be told of each.

    An index that is there under a declared name or with declared keys, but differs, is left alone
    and reported, unless ``replace_different`` is set: then it is dropped and made anew. Indexes
    this package does not know are never touched.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        search: Whether the search index is used; it also is where it has been built before.
        replace_different: Make anew what differs.
        on_created: Called after each index is made, with it and the seconds that took.
    """
    before = await check_indexes(database, bucket=bucket, search=search)
    replaced = before.different if replace_different else ()
    for index in replaced:
        await _drop_rivals(database, index)
    created = (*before.missing, *replaced)
    if on_created is None:
        for name in dict.fromkeys(index.collection for index in created):
            models = [index.model for index in created if index.collection == name]
            await open_collection(database, name).create_indexes(models)
    else:
        await _create_each(database, created, on_created)
    return IndexReport(
        present=before.present,
        created=created,
        different=() if replace_different else before.different,
        unknown=before.unknown,
    )


async def _create_each(
    database: Database, indexes: Iterable[Index], on_created: Callable[[Index, float], None]
) -> None:
    for index in indexes:
        began = time.monotonic()
        await open_collection(database, index.collection).create_indexes([index.model])
        on_created(index, time.monotonic() - began)


async def _drop_rivals(database: Database, index: Index) -> None:
    collection = open_collection(database, index.collection)
    for listed in await index_information(collection):
        if listed["name"] == index.name or tuple(listed["key"].items()) == index.keys:
            await collection.drop_index(listed["name"])
