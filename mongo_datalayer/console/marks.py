"""The console's only writes: who opened which conversation, and which feedback was looked at."""

from __future__ import annotations

from collections.abc import Iterable

from pymongo.errors import OperationFailure

from mongo_datalayer.model.documents import CONSOLE_AUDIT, CONSOLE_REVIEWS, Document
from mongo_datalayer.model.times import now
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.error_reason import is_unauthorized
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)


class Marks:
    """The audit log, and the marks on feedback.

    Args:
        database: The database.

    Attributes:
        audited: False once the login was refused to write the audit log.
    """

    def __init__(self, database: Database) -> None:
        self._audit = open_collection(database, CONSOLE_AUDIT)
        self._reviews = open_collection(database, CONSOLE_REVIEWS)
        self.audited = True

    async def opened(self, who: str, thread_id: str) -> None:
        """Record that a person opened a conversation.

        A login that may only read goes on without a record; the log and the page say so.
        """
        entry = {"who": who, "at": now(), "threadId": thread_id}
        try:
            await self._audit.insert_one(entry)
        except OperationFailure as exc:
            if not is_unauthorized(exc):
                raise
            if self.audited:
                logger.warning(
                    "Opened conversations are not recorded: the login may not insert into %s.",
                    CONSOLE_AUDIT,
                )
            self.audited = False
        else:
            self.audited = True

    async def looked_at(self, feedback_ids: Iterable[str]) -> dict[str, Document]:
        """The marks on some feedback, by its id. One query."""
        try:
            found = self._reviews.find({"_id": {"$in": list(feedback_ids)}})
            return {mark["_id"]: mark async for mark in found}
        except OperationFailure as exc:
            if not is_unauthorized(exc):
                raise
            return {}

    async def mark(self, who: str, feedback_id: str, *, looked_at: bool) -> bool:
        """Mark feedback as looked at, or not; False when the login may not write."""
        try:
            if looked_at:
                seen = {"$setOnInsert": {"who": who, "at": now()}}
                await self._reviews.update_one({"_id": feedback_id}, seen, upsert=True)
            else:
                await self._reviews.delete_one({"_id": feedback_id})
        except OperationFailure as exc:
            if not is_unauthorized(exc):
                raise
            return False
        return True
