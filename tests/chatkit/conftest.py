from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.files import FileLinks

ADDRESS = "http://chat.test"


def links() -> FileLinks:
    return FileLinks("a long random text for tests", url=ADDRESS)


@pytest.fixture
async def stores(mongo_uri: str, database_name: str) -> AsyncIterator[list[MongoChatKitStore[Any]]]:
    """Stores that share nothing but the database, as those of several processes."""
    stores = [
        MongoChatKitStore[Any](mongo_uri, database=database_name, links=links()) for _ in range(3)
    ]
    await stores[0].create_indexes()
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
def store(stores: list[MongoChatKitStore[Any]]) -> MongoChatKitStore[Any]:
    return stores[0]


@pytest.fixture
def ada() -> dict[str, str]:
    return {"user_id": "ada"}
