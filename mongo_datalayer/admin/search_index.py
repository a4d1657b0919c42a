"""The search index as a whole: how much of each user's threads it knows, and how it is removed."""

from __future__ import annotations

from dataclasses import dataclass

from pymongo.errors import OperationFailure

from mongo_datalayer.documents import SEARCH_WORDS, THREADS, Document
from mongo_datalayer.driver import Database, aggregate, index_information, open_collection
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.indexes import SEARCH, apply_indexes
from mongo_datalayer.pipelines import UNINDEXED
from mongo_datalayer.search_index import Built, SearchIndexer
from mongo_datalayer.search_index.upkeep import WORTH_A_SEGMENT
from mongo_datalayer.search_index.words import FORM
from mongo_datalayer.users import Users

TOLERATED = 0.1
"""A search is still quick when no greater share of a user's threads is not indexed."""

_SOMEBODYS: Document = {"userId": {"$gt": ""}}
_MARKED: Document = {**_SOMEBODYS, "searchMark": {"$gt": ""}}
_UNAUTHORIZED = 13


@dataclass(frozen=True)
class Coverage:
    """How much the search index knows of a user's threads; long ones are none of it.

    Attributes:
        user_id: The user's id.
        identifier: What the user logs in with; None when there is no such user any more.
        segments: How many segments there are.
        worn: How many of them a build makes anew.
        indexed: Threads that a search finds through them.
        missing: Threads that a search has to read.
        waiting: Threads that are in no segment, or in a worn one: what a build indexes, but for
            those that another process may be indexing.
    """

    user_id: str
    identifier: str | None
    segments: int
    worn: int
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
    """What there is of the search index.

    Attributes:
        documents: Documents with words.
        threads: Threads that carry a mark.
    """

    documents: int = 0
    threads: int = 0


class SearchCoverage:
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
        """Whose threads are worth a segment or are in one, in the order of ids. Two commands."""
        by_user: Document = {"$group": {"_id": "$userId", "count": {"$sum": 1}}}
        enough: Document = {"$match": {"count": {"$gte": WORTH_A_SEGMENT}}}
        somebodys: Document = {"$match": _SOMEBODYS}
        many = await aggregate(self._threads, [somebodys, by_user, enough])
        indexed = await aggregate(self._pages, [somebodys, by_user])
        return sorted({row["_id"] for row in (*many, *indexed)})

    async def user_id(self, identifier: str) -> str | None:
        """The id of the user with this identifier; None when there is none. One command."""
        user = await self._users.get(identifier)
        return None if user is None else str(user["_id"])

    async def of(self, user_id: str) -> Coverage:
        """What is known of one user's threads; changes nothing. A few commands."""
        present = await self._indexer.segments(user_id)
        used = [segment for segment in present if segment.form == FORM]
        kept = [segment for segment in present if not segment.worn]
        missing = await self._indexer.missing(user_id, used)
        return Coverage(
            user_id,
            await self._users.identifier_of(user_id),
            segments=len(present),
            worn=len(present) - len(kept),
            indexed=sum(segment.live for segment in used),
            missing=missing,
            waiting=missing if kept == used else await self._indexer.missing(user_id, kept),
        )

    async def prepare(self) -> None:
        """Make the indexes that are missing.

        Raises:
            MongoDataLayerError: one that the search index needs is there and differs.
        """
        report = await apply_indexes(self._database, search=True)
        wrong = [str(index) for index in report.different if index in SEARCH]
        if wrong:
            raise MongoDataLayerError(
                f"These indexes are not as they should be: {', '.join(wrong)}. "
                "Run `mongo-datalayer indexes apply --replace`."
            )

    async def build(self, user_id: str) -> Built:
        """Index all threads of a user that are not; remove the words of those that are gone."""
        if await self._indexer.missing(user_id, ()):
            return await self._indexer.build(user_id)
        # Nothing to index. Also what a killed build left goes, or one that outlived an erasure.
        segments = await self._indexer.segments(user_id)
        await self._indexer.forget(user_id)
        return Built(removed=len(segments))

    async def footprint(self) -> Footprint:
        """What :meth:`drop` would remove; changes nothing. Two commands."""
        return Footprint(
            await self._pages.count_documents({}), await self._threads.count_documents(_MARKED)
        )

    async def drop(self) -> Footprint:
        """Remove all words and marks; safe to repeat. Three commands.

        In this order: a segment without its head counts for nothing, and one that is just being
        built, and loses pages, finds its threads without their marks.
        """
        documents = await self._indexer.forget()
        marks = await self._threads.update_many(_MARKED, {"$unset": dict(UNINDEXED)})
        return Footprint(documents, marks.modified_count)

    async def drop_indexes(self) -> bool:
        """Drop the empty collection, and the index on threads; safe to repeat.

        Returns:
            False when the login may not drop anything.
        """
        try:
            await self._pages.drop()
            for index in SEARCH:
                if index.collection == THREADS:
                    await self._drop_index(index.name)
        except OperationFailure as exc:
            if exc.code != _UNAUTHORIZED:
                raise
            return False
        return True

    async def _drop_index(self, name: str) -> None:
        if THREADS not in await self._database.list_collection_names():
            return
        if name in {listed["name"] for listed in await index_information(self._threads)}:
            await self._threads.drop_index(name)
