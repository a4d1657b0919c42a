"""The model of what every contender must hold: the same calls, on plain dicts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User

from benchmarks.contenders.contender import Contender
from benchmarks.conversations import Dataset, made_id

Dict = dict[str, Any]


class ReferenceLayer:
    """The methods of a data layer that change something, and those that read it back."""

    def __init__(self) -> None:
        self.threads: dict[str, Dict] = {}
        self.users: dict[str, PersistedUser] = {}
        self.deleted: set[str] = set()

    async def create_user(self, user: User) -> PersistedUser:
        """Make the user, or refresh the metadata."""
        made = self.users.setdefault(
            user.identifier,
            PersistedUser(
                id=made_id("user", user.identifier), identifier=user.identifier, createdAt=""
            ),
        )
        made.metadata = user.metadata
        return made

    async def get_user(self, identifier: str) -> PersistedUser | None:
        """The user."""
        return self.users.get(identifier)

    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: Dict | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """Change a thread, or make it."""
        thread = self._thread(thread_id)
        given = {"name": name, "userId": user_id, "tags": tags}
        thread.update({key: value for key, value in given.items() if value is not None})
        thread["metadata"].update(metadata or {})

    async def delete_thread(self, thread_id: str) -> None:
        """Remove a thread."""
        self.threads.pop(thread_id, None)
        self.deleted.add(thread_id)

    async def create_step(self, step_dict: Mapping[str, Any]) -> None:
        """Add a step."""
        await self.update_step(step_dict)

    async def update_step(self, step_dict: Mapping[str, Any]) -> None:
        """Set fields of a step."""
        steps = self._thread(step_dict["threadId"])["steps"]
        step = steps.setdefault(step_dict["id"], {"feedback": None})
        step.update(
            {key: copy.copy(value) for key, value in step_dict.items() if value is not None}
        )

    async def set_step_favorite(self, step_dict: Mapping[str, Any], favorite: bool) -> None:
        """Mark a step."""
        await self.update_step({**step_dict, "metadata": {"favorite": favorite}})

    async def delete_step(self, step_id: str) -> None:
        """Remove a step and its elements."""
        for thread in self.threads.values():
            if thread["steps"].pop(step_id, None) is not None:
                gone = [k for k, e in thread["elements"].items() if e["forId"] == step_id]
                for element_id in gone:
                    del thread["elements"][element_id]

    async def upsert_feedback(self, feedback: Feedback) -> str:
        """Put feedback on a step."""
        step = self.threads[feedback.threadId or ""]["steps"][feedback.forId]
        step["feedback"] = {"id": feedback.id, "value": feedback.value}
        return feedback.id or ""

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Take feedback away."""
        for thread in self.threads.values():
            for step in thread["steps"].values():
                if step["feedback"] is not None and step["feedback"]["id"] == feedback_id:
                    step["feedback"] = None
        return True

    async def create_element(self, element: Any) -> None:
        """Add an element."""
        stored = {**element.to_dict()}
        self._thread(element.thread_id)["elements"][element.id] = stored

    async def get_element(self, thread_id: str, element_id: str) -> Dict | None:
        """An element."""
        found: Dict | None = self.threads[thread_id]["elements"].get(element_id)
        return found

    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        """Remove an element."""
        self.threads[thread_id or ""]["elements"].pop(element_id, None)

    async def get_thread_author(self, thread_id: str) -> str:
        """The owner's identifier."""
        owner = self.threads[thread_id]["userId"]
        return next(user.identifier for user in self.users.values() if user.id == owner)

    async def get_thread(self, thread_id: str) -> Dict | None:
        """The whole thread."""
        thread = self.threads.get(thread_id)
        if thread is None:
            return None
        steps = [*thread["steps"].values()]
        return {**thread, "steps": steps, "elements": [*thread["elements"].values()]}

    async def list_threads(
        self, pagination: Pagination, filters: ThreadFilter
    ) -> PaginatedResponse[Any]:
        """A page of a user's threads."""
        page = PageInfo(hasNextPage=False, startCursor=None, endCursor=None)
        return PaginatedResponse(pageInfo=page, data=[])

    async def get_favorite_steps(self, user_id: str) -> list[Dict]:
        """The steps of a user's threads that are marked."""
        return [
            step
            for thread in self.threads.values()
            if thread.get("userId") == user_id
            for step in thread["steps"].values()
            if step["metadata"].get("favorite")
        ]

    async def close(self) -> None:
        """Nothing to close."""

    def _thread(self, thread_id: str) -> Dict:
        new: Dict = {"id": thread_id, "metadata": {}, "steps": {}, "elements": {}}
        return self.threads.setdefault(thread_id, new)


class Reference(Contender):
    """The model; it is never timed."""

    def __init__(self) -> None:
        super().__init__("reference")

    async def open(self) -> None:
        """An empty model."""
        await self.clear()

    async def clear(self) -> None:
        """An empty model."""
        self.layer = ReferenceLayer()
        self.users = {}

    async def seed(self, dataset: Dataset) -> None:
        """Take the dataset over."""
        await seed_by_calls(self, dataset)


async def seed_by_calls(contender: Contender, dataset: Dataset) -> None:
    """Store a dataset with the methods of the data layer, one call after the other."""
    layer = contender.layer
    for identifier in dataset.users:
        contender.users[identifier] = (await layer.create_user(User(identifier=identifier))).id
    for thread in dataset.threads:
        owner = contender.users[thread.user]
        await layer.update_thread(thread_id=thread.id, name=thread.name, user_id=owner)
        for step in thread.steps():
            await layer.create_step(step_dict=step)
        for vote in thread.votes():
            given = Feedback(id=vote.id, forId=vote.step_id, value=1, threadId=thread.id)
            await layer.upsert_feedback(feedback=given)
