"""Elements: in the head, or in a part of a long thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mongo_datalayer import pipelines
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import find_one
from mongo_datalayer.threads.heads import ATTEMPTS, NO_OWNER, Heads, contended, now


class Elements:
    """The elements of threads.

    Args:
        heads: Where they are stored.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._threads = heads.collection
        self._overflow = heads.overflow
        self._values = heads.values

    async def put(
        self, thread_id: str, element: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> tuple[bool, Document | None]:
        """Append an element, or replace the one with its id. Ordinarily one command.

        Returns:
            Whether the element is stored now (not where its step or thread was deleted), and the
            element it replaced.
        """
        place = f"elements/{element['id']}"
        taken = await self._values.take_out(thread_id, place, element)
        for _ in range(ATTEMPTS):
            parts = self._heads.parts(thread_id) or ()
            before = await self._replace_in_part(thread_id, element, parts)
            if before is not None:
                await self._values.discard(taken, before)
                return True, before
            statement = pipelines.element_insert(
                thread_id, taken, now(), owner=owner, room=self._overflow.room(parts)
            )
            if await self._heads.appended(thread_id, statement):
                return True, None
            stored = await self._threads.find_one_and_update(
                *pipelines.element_replace(thread_id, taken),
                projection={"elements": {"$elemMatch": {"id": element["id"]}}},
            )
            if stored is not None:
                await self._values.discard(stored["elements"][0])
                return True, stored["elements"][0]
            state = await self._heads.state(thread_id, element.get("forId", ""))
            if state.deleted:
                await self._values.discard(taken)
                return False, None
            await self._heads.make_room(thread_id, state)
        raise contended(thread_id, element)

    async def get(self, thread_id: str, element_id: str) -> Document | None:
        """One stored element. One command, two where the head does not hold it."""
        element = {"elements": {"$elemMatch": {"id": element_id}}}
        head = await find_one(
            self._threads, {"_id": thread_id}, {**element, "parts": 1, "deletedSteps.id": 1}
        )
        if head is None:
            return None
        found: Document | None = next(iter(head.get("elements") or ()), None)
        if found is None and head.get("parts"):
            found = await self._overflow.find(thread_id, head["parts"], "elements", element_id)
        deleted = {step["id"] for step in head.get("deletedSteps") or ()}
        if found is None or found.get("forId") in deleted:
            return None
        await self._values.put_back([found])
        return found

    async def delete(self, thread_id: str | None, element_id: str) -> Document | None:
        """Remove an element. One command, more where the head does not hold it.

        Returns:
            The removed element, or None when there was none.
        """
        where = {"elements.id": element_id} | ({} if thread_id is None else {"_id": thread_id})
        pull = {"$pull": {"elements": {"id": element_id}}}
        shown = {"elements": {"$elemMatch": {"id": element_id}}}
        before = await self._threads.find_one_and_update(where, pull, projection=shown)
        if before is None:
            thread_id = thread_id or await self._overflow.holder({"elements.id": element_id})
            parts = () if thread_id is None else await self._heads.listed(thread_id)
            held = {"thread": thread_id, "_id": {"$in": list(parts)}, "elements.id": element_id}
            before = await self._overflow.remove(held, pull, shown) if parts else None
        if before is None:
            return None
        removed: Document = before["elements"][0]
        await self._values.discard(removed)
        return removed

    async def _replace_in_part(
        self, thread_id: str, element: Document, parts: Sequence[str]
    ) -> Document | None:
        """Replace an element that a part holds; None when none does."""
        held = await self._overflow.find(thread_id, parts, "elements", element["id"], new=True)
        if held is None:
            return None
        place = f"elements/{element['id']}"
        taken = await self._values.take_out(
            thread_id, place, element, at_least=self._heads.part_value_bytes
        )
        statement = pipelines.in_part(pipelines.element_replace(thread_id, taken), parts)
        before = await self._overflow.find_and_update(*statement, "elements", element["id"])
        if before is None:
            await self._values.discard(taken)
        return before
