"""Every read tells the server how long it may take: no read goes on when its caller gave up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.files import GridFSStorageClient
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import ChatKitStoreContract
from mongo_datalayer.testing.contract import DataLayerContract
from mongo_datalayer.testing.storage_contract import StorageClientContract
from tests.chatkit.conftest import links
from tests.costs.commands import Commands, name

READS = {"find", "aggregate", "count", "distinct"}


@pytest.fixture
async def client(mongo_uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """An app's client, without any bound of its own; all that is sent through it is looked at."""
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](
        mongo_uri, tz_aware=True, event_listeners=[commands]
    ) as client:
        yield client
    reads = [command for command in commands.sent if name(command) in READS]
    assert reads or len(commands.sent) < 60
    unbounded = [command for command in reads if "maxTimeMS" not in command]
    assert not unbounded, unbounded[0]


@pytest.fixture(params=["short", "overflowing"])
def _bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "overflowing":
        small = overflow.Bounds(main=300, kept=100, value=60)
        monkeypatch.setattr(overflow, "BOUNDS", small)


@pytest.mark.usefixtures("_bounds")
class TestChainlit(DataLayerContract):
    @pytest.fixture
    async def layer(
        self, client: AsyncMongoClient[dict[str, Any]], database_name: str
    ) -> AsyncIterator[MongoDataLayer]:
        layer = MongoDataLayer(client=client, database=database_name, search_index=True)
        report = await layer.create_indexes()
        assert report.complete, report.failed
        yield layer
        await layer.close()


@pytest.mark.usefixtures("_bounds")
class TestChatKit(ChatKitStoreContract):
    @pytest.fixture
    async def store(
        self, client: AsyncMongoClient[dict[str, Any]], database_name: str
    ) -> AsyncIterator[MongoChatKitStore[Any]]:
        store = MongoChatKitStore[Any](client=client, database=database_name, links=links())
        yield store
        await store.close()


class TestFiles(StorageClientContract):
    @pytest.fixture
    def storage(
        self, client: AsyncMongoClient[dict[str, Any]], database_name: str
    ) -> GridFSStorageClient:
        return GridFSStorageClient(client[database_name], links=links())
