from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chainlit.user import User
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def layers(mongo_uri: str, database: Database) -> AsyncIterator[list[MongoDataLayer]]:
    """Layers that share nothing but the database, as those of several processes."""
    layers = [MongoDataLayer(mongo_uri, database=database.name) for _ in range(3)]
    await layers[0].create_indexes()
    yield layers
    for layer in layers:
        await layer.close()


@pytest.fixture
def layer(layers: list[MongoDataLayer]) -> MongoDataLayer:
    return layers[0]


@pytest.fixture
async def alice(layer: MongoDataLayer) -> str:
    """The id of the user alice."""
    return (await layer.create_user(User(identifier="alice"))).id


@pytest.fixture
def thread_id() -> str:
    return str(uuid.uuid4())
