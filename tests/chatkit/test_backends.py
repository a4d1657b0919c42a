"""The contract on every client that the store accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import ChatKitStoreContract
from tests.chatkit.conftest import links


class TestPyMongo(ChatKitStoreContract):
    """A URI: the store's own client."""

    @pytest.fixture
    async def store(
        self, mongo_uri: str, database_name: str
    ) -> AsyncIterator[MongoChatKitStore[Any]]:
        store = MongoChatKitStore[Any](mongo_uri, database=database_name, links=links())
        await store.create_indexes()
        yield store
        await store.close()


class TestPyMongoOverflowing(ChatKitStoreContract):
    """The same where few items fit into one document, and large ones go to GridFS.

    In MongoDB's strict Stable API.
    """

    bounds = overflow.Bounds(main=1500, kept=400, value=700)

    @pytest.fixture
    async def store(
        self, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[MongoChatKitStore[Any]]:
        monkeypatch.setattr(overflow, "BOUNDS", self.bounds)
        store = MongoChatKitStore[Any](
            mongo_uri, database=database_name, links=links(), server_api="1-strict"
        )
        await store.create_indexes()
        yield store
        await store.close()


class TestPyMongoAllInGridFS(TestPyMongoOverflowing):
    """The same where no item fits into a document, and next to nothing into the head."""

    bounds = overflow.Bounds(main=300, kept=100, value=60)


class TestMotor(ChatKitStoreContract):
    """The user's Motor client."""

    @pytest.fixture
    async def store(
        self, mongo_uri: str, database_name: str
    ) -> AsyncIterator[MongoChatKitStore[Any]]:
        client: Any = AsyncIOMotorClient(mongo_uri)
        store = MongoChatKitStore[Any](client=client, database=database_name, links=links())
        await store.create_indexes()
        yield store
        await store.close()
        client.close()
