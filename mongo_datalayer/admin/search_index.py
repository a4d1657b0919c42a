"""The search index as a whole: how much of each user's threads it knows, and how it is removed."""

from __future__ import annotations

from dataclasses import dataclass

from pymongo.errors import OperationFailure

from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.model.documents import SEARCH_WORDS, THREADS, UNINDEXED, Document
from mongo_datalayer.mongodb.client import Database, aggregate, index_information, open_collection
from mongo_datalayer.mongodb.error_reason import is_unauthorized
from mongo_datalayer.schema.indexes import SEARCH, apply_indexes
from mongo_datalayer.search.indexer import Built, SearchIndexer
from mongo_datalayer.search.ngrams import FORMAT
from mongo_datalayer.search.upkeep import WORTH_A_SEGMENT

TOLERATED = 0.1
"""A search is still quick when no greater share of a user's threads is not indexed."""

# As a range: MongoDB uses a partial index only where a query implies its filter.
_OWNED: Document = {"userId": {"$gt": ""}}
_INDEXED: Document = {**_OWNED, "searchSegment": {"$gt": ""}}


@dataclass(frozen=True)
class Coverage:
    """How much the search index knows of a user's threads; long ones are not counted.

    Attributes:
        user_id: The user's id.
        identifier: What the user logs in with; None when the user was deleted.
        segments: How many segments there are.
        stale: How many of them the next build replaces.
        indexed: Threads that a search finds through them.
        missing: Threads that a search has to read.
        waiting: Threads in no segment or in a stale one. The next build indexes them, except those
            that another process may be indexing.
    """

    user_id: str
    identifier: str | None
    segments: int
    stale: int
    indexed: int
    missing: int
    waiting: int

    @property
    def poor(self) -> bool:
        """Whether so much is not indexed that searches are slow."""
        threads = self.indexed + self.missing
        return threads >= WORTH_A_SEGMENT and self.missing > TOLERATED * threads


@dataclass(frozen=True)
class Footprint:
    """How many segment documents there are, and threads with a segment reference."""

    documents: int = 0
    threads: int = 0


class SearchIndex:
    """The search index of one database.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexer = SearchIndexer(database)
        self._threads = open_collection(database, THREADS)
        self._pages = open_collection(database, SEARCH_WORDS)
        self._users = Users(database)

    async def user_ids(self) -> list[str]:
        """The users with threads worth a segment, or with one, sorted by id. Two commands."""
        by_user: list[Document] = [
            {"$match": _OWNED},
            {"$group": {"_id": "$userId", "count": {"$sum": 1}}},
        ]
        enough: Document = {"$match": {"count": {"$gte": WORTH_A_SEGMENT}}}
        active = await aggregate(self._threads, [*by_user, enough])
        indexed = await aggregate(self._pages, by_user)
        return sorted({row["_id"] for row in (*active, *indexed)})

    async def user_id(self, identifier: str) -> str | None:
        """The id of the user with this identifier; None if there is none. One command."""
        user = await self._users.by_identifier(identifier)
        return None if user is None else str(user["_id"])

    async def coverage(self, user_id: str) -> Coverage:
        """What the index knows of one user's threads; changes nothing. A few commands."""
        present = await self._indexer.segments(user_id)
        # A stale segment still answers searches, unless it is of another format.
        used = [segment for segment in present if segment.format == FORMAT]
        kept = [segment for segment in present if not segment.stale]
        return Coverage(
            user_id,
            await self._users.identifier_of(user_id),
            segments=len(present),
            stale=len(present) - len(kept),
            indexed=sum(segment.live for segment in used),
            missing=await self._indexer.count_missing(user_id, used),
            waiting=await self._indexer.count_missing(user_id, kept),
        )

    async def prepare(self) -> None:
        """Create the MongoDB indexes that are missing.

        Raises:
            MongoDataLayerError: one that the search index needs exists, but differs.
        """
        report = await apply_indexes(self._database, search=True)
        wrong = [str(index) for index in (*report.different, *report.failed) if index in SEARCH]
        if wrong:
            raise MongoDataLayerError(
                f"These indexes are not as they should be: {', '.join(wrong)}. "
                "Run `mongo-datalayer indexes apply --replace`."
            )

    async def build(self, user_id: str) -> Built:
        """Index all threads of a user that are not; remove the n-grams of deleted ones."""
        if await self._indexer.count_missing(user_id, ()):
            return await self._indexer.build(user_id)
        # Nothing to index. What a killed build left goes too, and what outlived an erasure.
        segments = await self._indexer.segments(user_id)
        await self._indexer.delete_segments(user_id)
        return Built(removed=len(segments))

    async def footprint(self) -> Footprint:
        """What :meth:`delete` would remove; changes nothing. Two commands."""
        documents = await self._pages.count_documents({})
        return Footprint(documents, await self._threads.count_documents(_INDEXED))

    async def delete(self) -> Footprint:
        """Remove all segments and references; safe to repeat. Three commands.

        In this order: a segment without its header counts for nothing, and one that is being built
        now and loses pages finds its threads without their references.
        """
        documents = await self._indexer.delete_segments()
        threads = await self._threads.update_many(_INDEXED, {"$unset": dict(UNINDEXED)})
        return Footprint(documents, threads.modified_count)

    async def drop_indexes(self) -> bool:
        """Drop the empty collection, and the index on threads; safe to repeat.

        Returns:
            False when the login may not drop anything.
        """
        try:
            await self._pages.drop()
            present = {index["name"] for index in await index_information(self._threads)}
            for index in SEARCH:
                if index.collection == THREADS and index.name in present:
                    await self._threads.drop_index(index.name)
        except OperationFailure as exc:
            if not is_unauthorized(exc):
                raise
            return False
        return True
