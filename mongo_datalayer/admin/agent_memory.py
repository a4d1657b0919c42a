"""What agent libraries keep of a person's conversations, in collections of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager

from pymongo.errors import OperationFailure

from mongo_datalayer.admin.front_data import BATCH, Counts, Erased, FrontData, Person
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Collection as MongoCollection
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.error_reason import is_unauthorized
from mongo_datalayer.mongodb.paging import batches
from mongo_datalayer.schema.agent_collections import LIBRARIES, AgentCollections


class AgentMemory:
    """The documents whose session or thread id is the person's, or that of one of their threads.

    Args:
        database: The database.
        libraries: Whose collections to look into.
        fronts: Know the ids of the person's threads.
    """

    def __init__(
        self,
        database: Database,
        libraries: Sequence[AgentCollections],
        fronts: Sequence[FrontData],
    ) -> None:
        self._database = database
        self._libraries = libraries
        self._fronts = fronts

    async def count(self, person: Person) -> Counts:
        """How many documents there are, by collection. Reads the ids of all threads."""
        counts: Counts = Counter({place.name: 0 for place, _ in self._places()})
        async for ids in self._batches(person):
            for place, library in self._places():
                with _explained(place, library):
                    counts[place.name] += await place.count_documents(_of(library, ids))
        return counts

    async def erase(self, person: Person) -> Erased:
        """Delete them. Call it before the threads go: their ids are known from nowhere else."""
        erased = Erased()
        async for ids in self._batches(person):
            for place, library in self._places():
                with _explained(place, library):
                    result = await place.delete_many(_of(library, ids))
                erased.documents[place.name] += result.deleted_count
            erased.thread_ids += ids
        return erased

    async def remaining(self, person: Person, erased: Erased) -> Counts:
        """How many documents still have the ids of threads, by collection."""
        left: Counts = Counter()
        # What names the person is found in every collection of the database.
        ids = [each for each in erased.thread_ids if each not in person.names]
        for start in range(0, len(ids), BATCH):
            for place, library in self._places():
                others = {"$nin": person.names, "$in": ids[start : start + BATCH]}
                left[place.name] += await place.count_documents({library.field: others})
        return left

    def missing(self, existing: Collection[str]) -> list[str]:
        """Collections that do not exist, of each library that has none or was renamed."""
        missing = []
        for library in self._libraries:
            names = [name for name in library.collections if name not in existing]
            if library.renamed or len(names) == len(library.collections):
                missing += names
        return missing

    def left_out(self, existing: Collection[str]) -> list[AgentCollections]:
        """The libraries that have their collections in the database and were not asked for."""
        asked = {library.library for library in self._libraries}
        return [
            library
            for name, library in LIBRARIES.items()
            if name not in asked and not set(library.collections).isdisjoint(existing)
        ]

    def _places(self) -> Iterator[tuple[MongoCollection, AgentCollections]]:
        for library in self._libraries:
            for name in library.collections:
                yield open_collection(self._database, name), library

    async def _batches(self, person: Person) -> AsyncIterator[list[str]]:
        if self._libraries:
            async for ids in batches(self._ids(person), BATCH):
                yield ids

    async def _ids(self, person: Person) -> AsyncIterator[str]:
        for name in person.names:
            yield name
        for front in self._fronts:
            async for session_id in front.session_ids(person):
                yield session_id


def _of(library: AgentCollections, ids: Sequence[str]) -> Document:
    return {library.field: {"$in": list(ids)}}


@contextmanager
def _explained(place: MongoCollection, library: AgentCollections) -> Iterator[None]:
    """Name the collection that the login may not use."""
    try:
        yield
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        raise ConfigurationError(
            f"The login may not read and delete in the collection {place.name!r}. The threads "
            "stay until it may, because their ids find what is in there. `mongo-datalayer role "
            f"app --also {library.library}` prints a role that may."
        ) from exc
