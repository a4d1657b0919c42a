"""This package's data layer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from chainlit.types import Feedback
from chainlit.user import User
from pymongo import AsyncMongoClient

from benchmarks.contenders.contender import Contender, ForgetfulStorage, SeedError
from benchmarks.conversations import Dataset, Thread
from mongo_datalayer import MongoDataLayer

AT_ONCE = 16
JOURNALED = "w=1&journal=true"
UNJOURNALED = "w=1&journal=false"


class Ours(Contender):
    """``MongoDataLayer``.

    Args:
        name: Its name in the results.
        uri: The server.
        database: Its database.
        acknowledgement: The write concern, as options of a URI.
        seed_seconds: How long the seeding of one dataset may take.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        database: str,
        *,
        acknowledgement: str = JOURNALED,
        seed_seconds: float = 60.0,
    ) -> None:
        super().__init__(name)
        self.database = database
        self._uri = uri
        self._acknowledgement = acknowledgement
        self._seed_seconds = seed_seconds
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)

    async def open(self) -> None:
        """Make the layer and its indexes."""
        self.layer = self._layer(self._acknowledgement)
        await self.layer.create_indexes()

    async def clear(self) -> None:
        """Drop the database; a new layer remembers nothing of it."""
        await self.layer.close()
        await self._client.drop_database(self.database)
        self.users = {}
        await self.open()

    async def seed(self, dataset: Dataset) -> None:
        """Store the dataset with the methods of the data layer, several threads at once."""
        layer = self._layer(UNJOURNALED)
        deadline = time.monotonic() + self._seed_seconds
        places = asyncio.Semaphore(AT_ONCE)
        try:
            for identifier in dataset.users:
                user = await layer.create_user(User(identifier=identifier))
                self.users[identifier] = user.id
            await asyncio.gather(
                *(self._seed_thread(layer, thread, places, deadline) for thread in dataset.threads)
            )
        finally:
            await layer.close()

    async def copy(self, other: Contender) -> bool:
        """Let the server copy the collections of another of this kind."""
        if not isinstance(other, Ours):
            return False
        source = self._client[other.database]
        for name in await source.list_collection_names():
            out = {"$out": {"db": self.database, "coll": name}}
            await (await source[name].aggregate([out])).to_list()
        self.users = dict(other.users)
        return True

    async def close(self) -> None:
        """Disconnect."""
        await super().close()
        await self._client.close()

    def _layer(self, acknowledgement: str) -> MongoDataLayer:
        uri = f"{self._uri}/?{acknowledgement}"
        return MongoDataLayer(uri, database=self.database, storage_client=ForgetfulStorage())

    async def _seed_thread(
        self, layer: MongoDataLayer, thread: Thread, places: asyncio.Semaphore, deadline: float
    ) -> None:
        async with places:
            for number, step in enumerate(thread.steps()):
                await layer.create_step(step_dict=step)  # type: ignore[arg-type]  # a plain dict
                if time.monotonic() > deadline:
                    raise SeedError(
                        f"{self._seed_seconds:.0f} s were not enough to store the threads of "
                        f"{thread.length} steps; this one had {number + 1}"
                    )
            # Last: a thread that begins without a step is as young as the call.
            owner = self.users[thread.user]
            await layer.update_thread(thread.id, name=thread.name, user_id=owner)
            for vote in thread.votes():
                given = Feedback(id=vote.id, forId=vote.step_id, value=1, threadId=thread.id)
                await layer.upsert_feedback(given)
