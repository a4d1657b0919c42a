"""The indexes that the package's queries use: declared once, compared with a database, created."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import OperationFailure

from mongo_datalayer.config import BUCKET, TOMBSTONE_SECONDS
from mongo_datalayer.model.documents import (
    CHATKIT_TOMBSTONE,
    SEARCH_WORDS,
    TEXT,
    TOMBSTONE,
    Document,
)
from mongo_datalayer.mongodb.client import Database, index_information, open_collection
from mongo_datalayer.mongodb.error_reason import error_reason
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.schema.plan import SchemaObject, State, apply_plan

# What the server adds to an index by itself, or what does not change what the index does.
_NOT_COMPARED = frozenset({"v", "key", "name", "ns", "background"})

# Unauthorized, AuthenticationFailed, MaxTimeMSExpired: no other index would fare better.
_NO_FAULT_OF_AN_INDEX = frozenset({13, 18, 50})

logger = get_logger(__name__)


@dataclass(frozen=True)
class Index(SchemaObject):
    """One index. The comment above its declaration names the query that needs it.

    Attributes:
        collection: Name of the collection.
        name: Name of the index.
        keys: Fields with 1 or -1, in order.
        options: MongoDB's options: ``unique``, ``sparse``, ``expireAfterSeconds``, …
        state: What a database has in its place; ``missing`` until it is compared with one.
        problem: Why the server could not create it.
    """

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    state: State = field(default="missing", compare=False)
    problem: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.collection}.{self.name}"

    @property
    def model(self) -> IndexModel:
        """The index as the driver creates it."""
        return IndexModel(list(self.keys), name=self.name, **self.options)

    def same_as(self, listed: Mapping[str, Any]) -> bool:
        """Whether ``listed``, an index as the server lists it, does what this one should do."""
        options = {key: value for key, value in listed.items() if key not in _NOT_COMPARED}
        # The order of keys counts: an index on (a, b) does not serve the queries of (b, a).
        return tuple(listed["key"].items()) == self.keys and options == dict(self.options)

    def rivals(self, listed: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The indexes of the collection that have its name or its keys: MongoDB allows one."""
        return [
            other
            for other in listed
            if other["name"] == self.name or tuple(other["key"].items()) == self.keys
        ]

    @classmethod
    async def apply(cls, database: Database, objects: Sequence[Index]) -> list[Index]:
        """Create indexes of one collection, in place of those that differ.

        One that the stored documents do not allow does not stop the others.
        """
        collection = open_collection(database, objects[0].collection)
        if any(index.state == "different" for index in objects):
            listed = await index_information(collection)
            rivals = [rival["name"] for index in objects for rival in index.rivals(listed)]
            # First, as MongoDB refuses a second index with the same name or the same keys.
            for name in dict.fromkeys(rivals):
                await collection.drop_index(name)
        try:
            await collection.create_indexes([index.model for index in objects])
        except OperationFailure as exc:
            if exc.code in _NO_FAULT_OF_AN_INDEX:
                raise
            if len(objects) == 1:
                return [replace(objects[0], state="failed", problem=error_reason(exc))]
            # One command creates all or none.
            return [result for index in objects for result in await cls.apply(database, [index])]
        return [replace(index, state="created") for index in objects]


def _index(collection: str, name: str, *fields: str, **options: Any) -> Index:
    """An index; a field with a leading ``-`` is in descending order."""
    keys = ((f[1:], DESCENDING) if f.startswith("-") else (f, ASCENDING) for f in fields)
    return Index(collection, name, tuple(keys), options)


def _expiring(filter: Mapping[str, Any]) -> dict[str, Any]:
    return {"expireAfterSeconds": TOMBSTONE_SECONDS, "partialFilterExpression": dict(filter)}


# Documents of other applications in collections of these names are in none of the indexes.
_OWNED: Mapping[str, Any] = {"partialFilterExpression": {"userId": dict(TEXT)}}
_FAVORITE = "steps.metadata.favorite"

DECLARED: tuple[Index, ...] = (
    # get_user and create_user; the uniqueness makes one user of two logins at once.
    _index(
        *("users", "identifier", "identifier"),
        unique=True,
        partialFilterExpression={"identifier": dict(TEXT)},
    ),
    # list_threads: the filter, the order and the cursor in one.
    _index("threads", "user_activity", "userId", "-updatedAt", "-_id", **_OWNED),
    # list_threads of a layer that orders by creation.
    _index("threads", "user_creation", "userId", "-createdAt", "-_id", **_OWNED),
    # delete_step, and feedback that names no thread: Chainlit gives only the step's id.
    _index("threads", "step", "steps.id", sparse=True),
    # delete_feedback; sparse, so that threads without feedback pay nothing.
    _index("threads", "feedback", "steps.feedback.id", sparse=True),
    _index("threads", "pending_feedback", "pendingFeedback.id", sparse=True),
    # delete_element without a thread.
    _index("threads", "element", "elements.id", sparse=True),
    # get_favorite_steps.
    _index(
        *("threads", "user_favorites", "userId", _FAVORITE),
        partialFilterExpression={_FAVORITE: True},
    ),
    # list_threads with a search, and get_favorite_steps: the long threads of a user.
    _index(
        *("threads", "user_long", "userId", "overflow", "-updatedAt", "-_id"),
        partialFilterExpression={"overflow": True},
    ),
    # A thread's overflow documents, apart from the pieces of its large texts.
    _index("thread_overflow", "thread", "thread", "value"),
    # The pieces of a large text.
    _index("thread_overflow", "value", "value", sparse=True),
    # The same as of threads: an old step, feedback or element.
    _index("thread_overflow", "step", "steps.id", sparse=True),
    _index("thread_overflow", "feedback", "steps.feedback.id", sparse=True),
    _index("thread_overflow", "element", "elements.id", sparse=True),
    _index(
        *("thread_overflow", "favorites", "thread", _FAVORITE),
        partialFilterExpression={_FAVORITE: True},
    ),
    # delete_user_session.
    _index("threads", "session", "session.id", sparse=True),
    # The two of the GridFS specification, under the names every driver gives them.
    _index("fs.files", "filename_1_uploadDate_1", "filename", "uploadDate"),
    _index("fs.chunks", "files_id_1_n_1", "files_id", "n", unique=True),
    # Files of a thread; other applications' files are not in it.
    _index(
        *("fs.files", "thread", "metadata.threadId"),
        partialFilterExpression={"metadata.owner": "mongo_datalayer"},
    ),
    # The server removes the tombstone of a deleted thread.
    _index("threads", "deleted", "deletedAt", **_expiring(TOMBSTONE)),
    # ChatKit's load_threads: the owner, the sort key and the cursor in one.
    _index("chatkit_threads", "owner_sort_key", "_id.owner", "sortKey"),
    _index("chatkit_threads", "deleted", "deletedAt", **_expiring(CHATKIT_TOMBSTONE)),
    # An old item of a ChatKit thread.
    _index("chatkit_overflow", "item", "thread", "items.id"),
    # Which overflow documents a page of items is in; with the ids the index alone answers.
    _index("chatkit_overflow", "range", "thread", "first", "last", "_id"),
    # ChatKit's delete_thread: the attachments of the thread.
    _index("chatkit_attachments", "owner_threads", "_id.owner", "threadIds"),
    _index("chatkit_attachments", "deleted", "deletedAt", **_expiring(CHATKIT_TOMBSTONE)),
)

SEARCH: tuple[Index, ...] = (
    # Which threads a segment of the search index knows, and which ones none does.
    _index("threads", "user_search", "userId", "searchSegment", **_OWNED),
    # The headers of a user's segments, and their pages by n-grams.
    _index(SEARCH_WORDS, "user_ngrams", "userId", "ngrams"),
)
"""What the search index needs besides; only where it is used."""


CONSOLE: tuple[Index, ...] = (
    # The console's list: the newest conversations of all users. Apps themselves do not need it.
    _index("threads", "console_activity", "-updatedAt", "-_id"),
    # The long ones among them, whose overflow documents are read too.
    _index(
        *("threads", "console_long", "overflow", "-updatedAt", "-_id"),
        partialFilterExpression={"overflow": True},
    ),
    # The same of ChatKit's threads, for usage.
    _index("chatkit_threads", "console_activity", "-updatedAt"),
    _index(
        *("chatkit_threads", "console_long", "overflow", "-updatedAt"),
        partialFilterExpression={"overflow": True},
    ),
)
"""What the console needs besides; `mongo-datalayer console --create-index` makes them."""


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
        indexes: The declared indexes with their state.
        unknown: Names (``collection.index``) of indexes that are there and not declared.
    """

    indexes: tuple[Index, ...]
    unknown: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[Index, ...]:
        """Declared, and there before."""
        return self._in("present")

    @property
    def created(self) -> tuple[Index, ...]:
        """Declared, and created just now."""
        return self._in("created")

    @property
    def missing(self) -> tuple[Index, ...]:
        """Declared, and not there."""
        return self._in("missing")

    @property
    def different(self) -> tuple[Index, ...]:
        """Declared, but another index has the name, or the keys with other options."""
        return self._in("different")

    @property
    def failed(self) -> tuple[Index, ...]:
        """Declared, and the server could not create it; ``problem`` says why."""
        return self._in("failed")

    @property
    def complete(self) -> bool:
        """True when every declared index is there as declared."""
        return not (self.missing or self.different or self.failed)

    def _in(self, state: State) -> tuple[Index, ...]:
        return tuple(index for index in self.indexes if index.state == state)


def compare_indexes(declared: Iterable[Index], listed: Mapping[str, list[Document]]) -> IndexReport:
    """The declared indexes against what the server lists of each collection. Pure."""
    unknown = {
        f"{collection}.{index['name']}"
        for collection, indexes in listed.items()
        for index in indexes
        if index["name"] != "_id_"
    }
    unknown -= {str(index) for index in CONSOLE}
    compared = []
    for index in declared:
        rivals = index.rivals(listed.get(index.collection, ()))
        unknown -= {f"{index.collection}.{rival['name']}" for rival in rivals}
        state: State = "different" if rivals else "missing"
        if any(index.same_as(rival) for rival in rivals):
            state = "present"
        compared.append(replace(index, state=state))
    return IndexReport(tuple(compared), tuple(sorted(unknown)))


async def check_indexes(
    database: Database, *, bucket: str = BUCKET, search: bool = False
) -> IndexReport:
    """Compare the declared indexes with those of ``database``; changes nothing.

    The arguments are those of :func:`apply_indexes`.
    """
    collections = set(await database.list_collection_names())
    # The command line cannot see the app's options; the collection tells that it searches so.
    declared = declared_indexes(bucket, search=search or SEARCH_WORDS in collections)
    return await _compared(database, declared, collections)


async def _compared(
    database: Database, declared: Sequence[Index], collections: set[str]
) -> IndexReport:
    listed = {
        name: await index_information(open_collection(database, name))
        for name in sorted({index.collection for index in declared} & collections)
    }
    return compare_indexes(declared, listed)


async def apply_console_indexes(database: Database, *, create: bool = True) -> IndexReport:
    """Create what the console needs besides and is missing; safe to repeat.

    Args:
        database: The database.
        create: Unset it to compare only.
    """
    collections = set(await database.list_collection_names())
    report = await _compared(database, CONSOLE, collections)
    if not create:
        return report
    return IndexReport(tuple(await apply_plan(database, report.indexes)), report.unknown)


async def apply_indexes(
    database: Database,
    *,
    bucket: str = BUCKET,
    search: bool = False,
    replace_different: bool = False,
    on_created: Callable[[Index, float], None] | None = None,
) -> IndexReport:
    """Create the declared indexes that are missing; safe to repeat.

    An index that is there under a declared name or with declared keys, but differs, is left alone
    and reported, unless ``replace_different`` is set. Then it is dropped and created again. Indexes
    that this package does not know are never touched.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        search: Whether the search index is used; it also is where it has been built before.
        replace_different: Replace what differs.
        on_created: Called after each index, with it and the seconds it took. Without it the indexes
            that cannot be created are logged as errors.
    """
    before = await check_indexes(database, bucket=bucket, search=search)
    indexes = await apply_plan(
        database, before.indexes, replace=replace_different, on_applied=on_created
    )
    report = IndexReport(tuple(indexes), before.unknown)
    for index in () if on_created else report.failed:
        logger.error("The index %s cannot be created: %s", index, index.problem)
    return report
