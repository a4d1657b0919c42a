"""The contract on every client that the layer accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from mongomock_motor import AsyncMongoMockClient
from motor.motor_asyncio import AsyncIOMotorClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.contract import DataLayerContract

SMALL = overflow.Bounds(main=300, kept=100, value=60)


class TestPyMongo(DataLayerContract):
    """A URI: the layer's own client."""

    @pytest.fixture
    async def layer(self, mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
        layer = MongoDataLayer(mongo_uri, database=database_name)
        await layer.create_indexes()
        yield layer
        await layer.close()


class TestPyMongoOverflowing(DataLayerContract):
    """The same where next to nothing fits into one document, in MongoDB's strict Stable API."""

    @pytest.fixture
    async def layer(
        self, mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[MongoDataLayer]:
        monkeypatch.setattr(overflow, "BOUNDS", SMALL)
        layer = MongoDataLayer(mongo_uri, database=database_name, server_api="1-strict")
        await layer.create_indexes()
        yield layer
        await layer.close()


class TestMotor(DataLayerContract):
    """The user's Motor client."""

    @pytest.fixture
    async def layer(self, mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
        client: Any = AsyncIOMotorClient(mongo_uri)
        layer = MongoDataLayer(client=client, database=database_name)
        await layer.create_indexes()
        yield layer
        await layer.close()
        client.close()


class TestMongomock(DataLayerContract):
    """mongomock-motor's client, which users run their own fast tests on."""

    lacks: ClassVar[dict[str, str]] = {
        "test_favorites_are_listed_newest_first_and_only_the_users_own": (
            "mongomock sets steps.$.metadata.favorite one level too high"
        ),
        "test_a_listed_favorite_can_be_taken_back": (
            "mongomock sets steps.$.metadata.favorite one level too high"
        ),
        "test_the_oldest_step_may_be_a_favorite": (
            "mongomock sets steps.$.metadata.favorite one level too high"
        ),
    }

    @pytest.fixture
    async def layer(self, database_name: str) -> AsyncIterator[MongoDataLayer]:
        layer = MongoDataLayer(client=AsyncMongoMockClient(), database=database_name)
        await layer.create_indexes()
        yield layer
        await layer.close()
