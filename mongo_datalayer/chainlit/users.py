"""The users of a database, one document each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from typing import Any, cast

from cachetools import LRUCache
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from mongo_datalayer.model.documents import OWN_USER, USERS, Document
from mongo_datalayer.mongodb.client import Database, open_collection

REMEMBERED_USERS = 10_000
"""Of how many users the identifier is remembered."""


class Users:
    """The users.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._users = open_collection(database, USERS)
        self._identifiers: LRUCache[str, str] = LRUCache(REMEMBERED_USERS)

    async def by_identifier(self, identifier: str) -> Document | None:
        """The user with this identifier, or None. One command."""
        return self._remember(await self._users.find_one({"identifier": identifier}))

    async def by_id(self, user_id: str) -> Document | None:
        """The user with this id, or None. One command."""
        return await self._users.find_one({"_id": user_id})

    async def put(
        self, identifier: str, *, display_name: str | None, metadata: Mapping[str, Any]
    ) -> Document:
        """Create a user, or refresh the metadata of an existing one. One command.

        The id and the time of creation of a user never change. A display name of None leaves the
        stored one.
        """
        changes: Document = {"metadata": dict(metadata)}
        if display_name is not None:
            changes["displayName"] = display_name
        update = {
            "$set": changes,
            "$setOnInsert": {"_id": str(uuid.uuid4()), "createdAt": datetime.now(timezone.utc)},
        }
        try:
            user = await self._upsert(identifier, update)
        except DuplicateKeyError:  # another login was quicker, so this time the user is found
            user = await self._upsert(identifier, update)
        self._remember(user)
        return user

    async def identifier_of(self, user_id: str) -> str | None:
        """The identifier of the user with this id, or None. No command for a user seen before."""
        identifier = self._identifiers.get(user_id)
        if identifier is not None:
            return identifier
        user = await self._users.find_one({"_id": user_id}, {"identifier": 1})
        self._remember(user)
        return None if user is None else str(user["identifier"])

    async def scan(self) -> AsyncIterator[Document]:
        """Every user, by id."""
        async for user in self._users.find(dict(OWN_USER)).sort("_id", 1):
            yield user

    async def delete(self, user_id: str) -> bool:
        """Remove a user's document; False when there is none. One command."""
        result = await self._users.delete_one({"_id": user_id})
        return bool(result.deleted_count)

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a whole user. One command.

        Returns:
            False when nothing was stored: another user has the identifier, or one has the id and
            ``replace`` is False.
        """
        try:
            if replace:
                await self._users.replace_one({"_id": stored["_id"]}, stored, upsert=True)
            else:
                await self._users.insert_one(dict(stored))
        except DuplicateKeyError:
            return False
        return True

    async def _upsert(self, identifier: str, update: Document) -> Document:
        user = await self._users.find_one_and_update(
            {"identifier": identifier}, update, upsert=True, return_document=ReturnDocument.AFTER
        )
        return cast(Document, user)  # an upsert always has a document to return

    def _remember(self, user: Document | None) -> Document | None:
        if user is not None:  # for good, as neither an id nor an identifier ever changes
            self._identifiers[user["_id"]] = user["identifier"]
        return user
