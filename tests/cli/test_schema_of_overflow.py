"""Everything that the layer writes fits the validators, where next to nothing fits a document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.schema.validators import MODELS, apply_validators, find_misfits
from mongo_datalayer.testing.contract import DataLayerContract
from tests.cli.people import small_documents


class TestRefusingWhatDoesNotFit(DataLayerContract):
    """The contract: a write that the server refuses fails its test."""

    @pytest.fixture
    async def layer(
        self, mongo_uri: str, database: AsyncDatabase[dict[str, Any]]
    ) -> AsyncIterator[MongoDataLayer]:
        await apply_validators(database, "error")
        with small_documents():
            layer = MongoDataLayer(mongo_uri, database=database.name)
        await layer.create_indexes()
        yield layer
        await layer.close()
        for name in MODELS:
            assert [misfit async for misfit in find_misfits(database, name)] == []
