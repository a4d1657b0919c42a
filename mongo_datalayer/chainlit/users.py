"""The collection of users: the only code that talks to it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timezone
from typing import Any, cast

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from mongo_datalayer.documents import USERS, Document
from mongo_datalayer.driver import Database, find_one, open_collection
from mongo_datalayer.recent import Recent

REMEMBERED = 10_000


class Users:
    """Users of one database, one document each.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._users = open_collection(database, USERS)
        self._identifiers: Recent[str, str] = Recent(REMEMBERED)

    async def get(self, identifier: str) -> Document | None:
        """The user with this identifier, or None. One command."""
        return self._remember(await find_one(self._users, {"identifier": identifier}))

    async def put(
        self, identifier: str, *, display_name: str | None, metadata: Mapping[str, Any]
    ) -> Document:
        """Make the user, or refresh the metadata of the one that is there. One command.

        The id and the time of creation of a user never change; a display name of None leaves the
        one that is there.
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
        except DuplicateKeyError:  # another login was quicker, now the user is there
            user = await self._upsert(identifier, update)
        self._remember(user)
        return user

    async def identifier_of(self, user_id: str) -> str | None:
        """The identifier of the user with this id; no command when the user was seen before."""
        known = self._identifiers.get(user_id)
        if known is not None:
            return known
        user = await self._users.find_one({"_id": user_id}, {"identifier": 1})
        self._remember(user)
        return None if user is None else str(user["identifier"])

    async def scan(self) -> AsyncIterator[Document]:
        """Every user, in the order of ids."""
        async for user in self._users.find({}).sort("_id", 1):
            yield user

    async def delete(self, user_id: str) -> bool:
        """Remove a user's document; False when there is none. One command."""
        result = await self._users.delete_one({"_id": user_id})
        return bool(result.deleted_count)

    async def find(self, user_id: str) -> Document | None:
        """The user with this id, or None. One command."""
        return await self._users.find_one({"_id": user_id})

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a whole user as it is. Ordinarily one command.

        Returns:
            False when the user is left as it is: one with its identifier is there under another
            id, or one with its id and ``replace`` is not set.
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
        """Keep which identifier belongs to an id: neither ever changes."""
        if user is not None:
            self._identifiers.put(user["_id"], user["identifier"])
        return user
