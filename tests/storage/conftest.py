from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from chainlit.user import User
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.storage import overflow
from tests.storage.bench import ROOMY, SMALL

Database = AsyncDatabase[dict[str, Any]]
Make = Callable[..., MongoDataLayer]


@pytest.fixture
async def make(
    mongo_uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """Makes layers that share nothing but the database, as those of several processes."""
    made: list[MongoDataLayer] = []

    def make(bounds: overflow.Bounds | None = None, **options: Any) -> MongoDataLayer:
        with monkeypatch.context() as patch:
            if bounds is not None:
                patch.setattr(overflow, "BOUNDS", bounds)
            made.append(MongoDataLayer(mongo_uri, database=database.name, **options))
        return made[-1]

    await make().create_indexes()
    yield make
    for layer in made:
        await layer.close()


@pytest.fixture
def layers(make: Make) -> list[MongoDataLayer]:
    """Three layers where a few steps fill a document, and where texts are never large."""
    return [make(ROOMY) for _ in range(3)]


@pytest.fixture
def small(make: Make) -> list[MongoDataLayer]:
    """Three layers where next to nothing fits into a document, and where most texts are large."""
    return [make(SMALL) for _ in range(3)]


@pytest.fixture
async def alice(make: Make) -> str:
    return (await make().create_user(User(identifier="alice"))).id
