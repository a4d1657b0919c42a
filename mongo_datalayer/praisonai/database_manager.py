"""PraisonAI's ``DatabaseManager`` on MongoDB: the data layer with the app's settings."""

from __future__ import annotations

import os
from typing import NoReturn

from mongo_datalayer.config import Settings
from mongo_datalayer.errors import ConfigurationError, MongoDataLayerError
from mongo_datalayer.model.bson_values import to_id, to_text
from mongo_datalayer.model.documents import PRAISONAI_SETTINGS
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.retries import Retries
from mongo_datalayer.praisonai.data_layer import SQLAlchemyDataLayer

# Where PraisonAI looks, the stronger one first.
_SQL_VARIABLES = ("SUPABASE_DATABASE_URL", "DATABASE_URL")


class DatabaseManager(SQLAlchemyDataLayer):
    """PraisonAI's data layer and its settings, at ``MONGODB_URI``.

    Without ``MONGODB_URI`` PraisonAI's own ``SUPABASE_DATABASE_URL`` and ``DATABASE_URL`` may hold
    the MongoDB URI. ``MONGODB_DATABASE`` and the variables of the timeout and of the Stable API
    count as everywhere. Files of elements are in GridFS.

    Attributes:
        conninfo: The MongoDB URI.
        database_url: The same.

    Raises:
        ConfigurationError: no variable is set, or it names a SQL database; the message says how to
            move it.
    """

    def __init__(self) -> None:
        settings = Settings.load()
        self.conninfo = self.database_url = _address(settings)
        super().__init__(
            self.conninfo,
            database=settings.database_name(),
            timeout_ms=settings.timeout_ms,
            server_api=settings.server_api,
        )

    def _open(self, database: Database, retries: Retries) -> None:
        super()._open(database, retries)
        self._settings = open_collection(database, PRAISONAI_SETTINGS)

    def initialize(self) -> None:
        """Does nothing: MongoDB makes a collection with its first document.

        ``mongo-datalayer setup apply`` makes the indexes, as does :meth:`create_schema_async`.
        """

    async def create_schema_async(self) -> None:
        """Create missing indexes. Safe to repeat."""
        await self.create_indexes()

    def create_schema_sqlite(self) -> NoReturn:
        """Always raises: there is no SQLite file.

        Raises:
            MongoDataLayerError: with what to use in its place.
        """
        raise MongoDataLayerError(
            "There is no SQLite file. create_schema_async() makes MongoDB's indexes."
        )

    async def save_setting(self, key: str, value: str) -> None:
        """Store a setting of the app, in place of the earlier one. One command."""
        setting = to_id(key)
        stored = None if value is None else to_text(value)
        await self._connection.write(
            ("setting", setting),
            lambda: self._settings.update_one(
                {"_id": setting}, {"$set": {"value": stored}}, upsert=True
            ),
            name=f"save_setting of {setting}",
        )

    async def load_setting(self, key: str) -> str | None:
        """A setting of the app; None when it was never saved. One command."""
        setting = to_id(key)
        stored = await self._connection.read(lambda: self._settings.find_one({"_id": setting}))
        return None if stored is None else stored.get("value")


def _address(settings: Settings) -> str:
    """The MongoDB URI, or a SQL URL, which the data layer refuses."""
    if settings.uri is not None:
        return settings.uri.strip()
    found = next(filter(None, map(os.environ.get, _SQL_VARIABLES)), None)
    if found is not None:
        return found
    raise ConfigurationError(
        "MONGODB_URI is not set. Set it to the address of your MongoDB, for example "
        "MONGODB_URI=mongodb://localhost:27017. Conversations of PraisonAI's SQLite file come "
        "along with: mongo-datalayer migrate run ~/.praison/database.sqlite --files ~/.praison"
    )
