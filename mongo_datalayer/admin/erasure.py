"""Erases a person: what agent libraries, Chainlit and ChatKit keep of them, and last the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from pymongo.errors import OperationFailure

from mongo_datalayer.admin.agent_memory import AgentMemory
from mongo_datalayer.admin.chainlit_data import ChainlitData
from mongo_datalayer.admin.chatkit_data import ChatKitData
from mongo_datalayer.admin.front_data import Counts, Erased, FrontData, Person
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.error_reason import is_unauthorized
from mongo_datalayer.schema.agent_collections import AgentCollections

OWNER_FIELDS = (
    *("_id", "id", "identifier", "user", "userId", "user_id"),
    *("userIdentifier", "user_identifier", "email"),
    *("metadata.userId", "metadata.user_id", "metadata.userIdentifier"),
    *("_id.owner", "thread.owner"),
    *("session_id", "thread_id", "namespace"),
)
"""Where applications keep whose a document is; searched in every collection afterwards."""


@dataclass
class Remains:
    """What is left of a person.

    Attributes:
        documents: How many documents are left in each place that has some.
        unread: The collections that the login may not read.
    """

    documents: Counts = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)


class Erasure:
    """Everything of one person in a database.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.
        identifier: What the person logs in with.
        also: Agent libraries whose collections lose the person's sessions too.

    Attributes:
        database: The database.
        memory: What those libraries keep.
    """

    def __init__(
        self,
        database: Database,
        bucket: FileBucket,
        identifier: str,
        also: Sequence[AgentCollections] = (),
    ) -> None:
        self.database = database
        self._users = Users(database)
        fronts = (ChainlitData, ChatKitData)
        self._fronts: list[FrontData] = [front(database, bucket) for front in fronts]
        self.memory = AgentMemory(database, also, self._fronts)
        self._identifier = identifier

    async def person(self) -> Person:
        """The person as the database knows them now. One command."""
        user = await self._users.by_identifier(self._identifier)
        return Person(self._identifier, None if user is None else str(user["_id"]))

    async def count(self, person: Person) -> Counts:
        """How much there is of the person; changes nothing. Reads all threads once."""
        counts = Counter(users=int(person.user_id is not None))
        for front in self._fronts:
            counts += await front.count(person)
        return counts

    async def keys_elsewhere(self, person: Person) -> AsyncIterator[str]:
        """Object keys of the person's files under which the bucket has none.

        These files are in another file store, or were removed before.
        """
        for front in self._fronts:
            async for key in front.keys_elsewhere(person):
                yield key

    async def erase(self, person: Person, on_thread: Callable[[], object]) -> list[Erased]:
        """Delete everything; ``on_thread`` is called after each thread.

        May be interrupted at any moment and repeated: what is left is found again.

        Returns:
            What was erased of the agent libraries and in each front, and the user.
        """
        # Before the threads, whose ids are all that names them.
        erased = [await self.memory.erase(person)]
        erased += [await front.erase(person, on_thread) for front in self._fronts]
        # Last: through it an interrupted erasure finds the id that everything else names.
        if person.user_id is not None:
            users = int(await self._users.delete(person.user_id))
            erased.append(Erased(Counter(users=users)))
        return erased

    async def remaining(self, person: Person, erased: Sequence[Erased] = ()) -> Remains:
        """What can still be found of the person.

        Every collection of the database is searched for the person's id and identifier in
        :data:`OWNER_FIELDS`, and each front for what it erased. Views show only what is in the
        collections, so they are left out.
        """
        left = Remains()
        no_views = {"type": {"$ne": "view"}}
        for name in sorted(await self.database.list_collection_names(filter=no_views)):
            # Chunks name their file only; each front counts those of the files that it erased.
            if name.startswith("system.") or name.endswith(".chunks"):
                continue
            try:
                left.documents += Counter({name: await self._count_mentions(name, person)})
            except OperationFailure as exc:
                if not is_unauthorized(exc):
                    raise
                left.unread.append(name)
        # The user is the last part and in no front; before an erasure there are no parts.
        parts = [*erased, Erased(), Erased(), Erased()]
        left.documents += await self.memory.remaining(person, parts[0])
        for front, part in zip(self._fronts, parts[1:], strict=False):
            left.documents += await front.remaining(person, part)
        return left

    async def _count_mentions(self, collection: str, person: Person) -> int:
        mentions = {"$or": [{field: {"$in": person.names}} for field in OWNER_FIELDS]}
        return await open_collection(self.database, collection).count_documents(mentions)
