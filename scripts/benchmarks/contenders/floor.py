"""The floor: the leanest PyMongo code for the same operations on the same documents.

One statement for each operation, without guards: a step that comes twice is stored twice, a late
write makes a deleted thread again, nothing is tried again, values are stored as they come, and the
documents are returned as they are stored. The indexes are those of the data layer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import User
from pymongo import AsyncMongoClient, ReturnDocument, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DocumentTooLarge, PyMongoError

from benchmarks.contenders.contender import Contender, SeedError
from benchmarks.conversations import Dataset, Thread, made_id
from mongo_datalayer.schema.indexes import apply_indexes

Dict = dict[str, Any]

_HEADER = dict.fromkeys(
    ("name", "userId", "userIdentifier", "tags", "metadata", "createdAt", "updatedAt"), 1
)
_NOT_STORED = frozenset({"threadId", "streaming"})
_BATCH_STEPS = 5000


class FloorLayer:
    """The methods of a data layer, one command each."""

    def __init__(self, database: AsyncDatabase[Dict], concern: WriteConcern) -> None:
        self._threads = database.get_collection("threads", write_concern=concern)
        self._users = database.get_collection("users", write_concern=concern)

    async def get_user(self, identifier: str) -> Dict | None:
        """The stored user."""
        return await self._users.find_one({"identifier": identifier})

    async def create_user(self, user: User) -> Dict | None:
        """The stored user, made or refreshed."""
        return await self._users.find_one_and_update(
            {"identifier": user.identifier},
            {
                "$set": {"metadata": user.metadata},
                "$setOnInsert": {
                    "_id": made_id("user", user.identifier),
                    "createdAt": _now(),
                },
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )

    async def get_thread(self, thread_id: str) -> Dict | None:
        """The stored thread."""
        return await self._threads.find_one({"_id": thread_id})

    async def get_thread_author(self, thread_id: str) -> str:
        """The owner's identifier."""
        stored = await self._threads.find_one({"_id": thread_id}, {"userIdentifier": 1})
        author: str = (stored or {})["userIdentifier"]
        return author

    async def list_threads(self, pagination: Pagination, filters: ThreadFilter) -> list[Dict]:
        """The stored threads of a page, and one more if there is one, without steps.

        The cursor is the last thread of the page before.
        """
        where: Dict = {"userId": filters.userId}
        if filters.feedback is not None:
            where["steps.feedback.value"] = filters.feedback
        if filters.search:
            needle = {"$regex": filters.search, "$options": "i"}
            where["$or"] = [
                {"name": needle},
                {"steps.output": needle},
                {"steps.input": needle},
            ]
        if pagination.cursor is not None:
            last: Any = pagination.cursor
            where = {
                "$or": [
                    {**where, "updatedAt": {"$lt": last["updatedAt"]}},
                    {**where, "updatedAt": last["updatedAt"], "_id": {"$lt": last["_id"]}},
                ]
            }
        found = self._threads.find(where, _HEADER).sort([("updatedAt", -1), ("_id", -1)])
        return await found.limit(pagination.first + 1).to_list()

    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: Dict | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """Set what is given."""
        values: Dict = {f"metadata.{key}": value for key, value in (metadata or {}).items()}
        if name is not None:
            values["name"] = name
        if user_id is not None:
            values["userId"] = user_id
        if tags is not None:
            values["tags"] = tags
        made = {"createdAt": _now(), "updatedAt": _now()}
        await self._threads.update_one(
            {"_id": thread_id}, {"$set": values, "$setOnInsert": made}, upsert=True
        )

    async def delete_thread(self, thread_id: str) -> None:
        """Remove the document."""
        await self._threads.delete_one({"_id": thread_id})

    async def create_step(self, step_dict: Dict) -> None:
        """Append the step."""
        await self._threads.update_one(
            {"_id": step_dict["threadId"]},
            {"$push": {"steps": stored_step(step_dict)}, "$max": {"updatedAt": _now()}},
        )

    async def update_step(self, step_dict: Dict) -> None:
        """Set the given fields of the step."""
        values = {f"steps.$.{key}": value for key, value in stored_step(step_dict).items()}
        await self._threads.update_one(
            {"_id": step_dict["threadId"], "steps.id": step_dict["id"]},
            {"$set": values},
        )

    async def delete_step(self, step_id: str) -> None:
        """Remove the step and its elements."""
        await self._threads.update_one(
            {"steps.id": step_id},
            {"$pull": {"steps": {"id": step_id}, "elements": {"forId": step_id}}},
        )

    async def set_step_favorite(self, step_dict: Dict, favorite: bool) -> None:
        """Mark the step."""
        await self._threads.update_one(
            {"_id": step_dict["threadId"], "steps.id": step_dict["id"]},
            {"$set": {"steps.$.metadata.favorite": favorite}},
        )

    async def get_favorite_steps(self, user_id: str) -> list[Dict]:
        """The stored steps that are marked."""
        marked = {"$eq": ["$$step.metadata.favorite", True]}
        steps = {"$filter": {"input": "$steps", "as": "step", "cond": marked}}
        found = await self._threads.aggregate(
            [
                {"$match": {"userId": user_id, "steps.metadata.favorite": True}},
                {"$project": {"steps": steps}},
            ]
        )
        return [step for thread in await found.to_list() for step in thread["steps"]]

    async def upsert_feedback(self, feedback: Feedback) -> str:
        """Put feedback on the step."""
        stored = {"id": feedback.id, "forId": feedback.forId, "value": feedback.value}
        await self._threads.update_one(
            {"_id": feedback.threadId, "steps.id": feedback.forId},
            {"$set": {"steps.$.feedback": stored}},
        )
        return feedback.id or ""

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Take the feedback away."""
        await self._threads.update_one(
            {"steps.feedback.id": feedback_id}, {"$unset": {"steps.$.feedback": ""}}
        )
        return True

    async def create_element(self, element: Any) -> None:
        """Append the element."""
        stored = {key: value for key, value in element.to_dict().items() if value is not None}
        await self._threads.update_one({"_id": element.thread_id}, {"$push": {"elements": stored}})

    async def get_element(self, thread_id: str, element_id: str) -> Dict | None:
        """The stored element."""
        stored = await self._threads.find_one(
            {"_id": thread_id, "elements.id": element_id}, {"elements.$": 1}
        )
        return None if stored is None else stored["elements"][0]

    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        """Remove the element."""
        await self._threads.update_one(
            {"_id": thread_id}, {"$pull": {"elements": {"id": element_id}}}
        )


class Floor(Contender):
    """The floor.

    Args:
        name: Its name in the results.
        uri: The server.
        database: Its database.
        journal: Whether a write is acknowledged only when it is in the journal.
    """

    def __init__(self, name: str, uri: str, database: str, *, journal: bool) -> None:
        super().__init__(name)
        self._concern = WriteConcern(w=1, j=journal)
        self._client: AsyncMongoClient[Dict] = AsyncMongoClient(uri)
        self._database = self._client[database]

    async def open(self) -> None:
        """Make the indexes."""
        self.layer = FloorLayer(self._database, self._concern)
        await apply_indexes(self._database)

    async def clear(self) -> None:
        """Drop the database."""
        await self._client.drop_database(self._database.name)
        self.users = {}
        await self.open()

    async def seed(self, dataset: Dataset) -> None:
        """Insert the documents whole."""
        self.users |= {identifier: made_id("user", identifier) for identifier in dataset.users}
        if dataset.users:
            users = [_user_document(identifier) for identifier in dataset.users]
            await self._database["users"].insert_many(users)
        batch: list[Dict] = []
        weight = 0
        for thread in dataset.threads:
            batch.append(_thread_document(thread, self.users[thread.user]))
            weight += thread.length
            if weight >= _BATCH_STEPS:
                await self._insert(batch)
                batch, weight = [], 0
        await self._insert(batch)

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def _insert(self, batch: list[Dict]) -> None:
        try:
            if batch:
                await self._database["threads"].insert_many(batch)
        except DocumentTooLarge as exc:
            raise SeedError("a document holds 16 MB at most") from exc
        except PyMongoError as exc:
            raise SeedError(str(exc)[:160]) from exc
        await asyncio.sleep(0)


def stored_step(step: Mapping[str, Any]) -> Dict:
    """A step as it is stored: without what is None."""
    return {k: v for k, v in step.items() if v is not None and k not in _NOT_STORED}


def _user_document(identifier: str) -> Dict:
    user_id = made_id("user", identifier)
    return {"_id": user_id, "identifier": identifier, "metadata": {}, "createdAt": _now()}


def _thread_document(thread: Thread, owner: str) -> Dict:
    steps = [stored_step(step) for step in thread.steps()]
    by_id = {step["id"]: step for step in steps}
    for vote in thread.votes():
        by_id[vote.step_id]["feedback"] = {"id": vote.id, "forId": vote.step_id, "value": 1}
    return {
        "_id": thread.id,
        "name": thread.name,
        "userId": owner,
        "userIdentifier": thread.user,
        "tags": [],
        "metadata": {},
        "createdAt": thread.begin,
        "updatedAt": thread.end,
        "steps": steps,
        "elements": [],
    }


def _now() -> datetime:
    return datetime.now(timezone.utc)
