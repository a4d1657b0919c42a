"""Elements: in the main document, or in an overflow document of a long thread."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mongo_datalayer.chainlit import updates
from mongo_datalayer.chainlit.thread_contents import elements_of, object_keys
from mongo_datalayer.chainlit.thread_documents import NO_OWNER, ThreadDocuments
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.stored_lists import ids, listed_overflow
from mongo_datalayer.model.times import now
from mongo_datalayer.storage.contention import WRITE_ATTEMPTS, Attempts, contended


class Elements:
    """The elements of threads.

    Args:
        documents: Where they are stored.
    """

    def __init__(self, documents: ThreadDocuments) -> None:
        self._documents = documents
        self._last_sequence = 0
        self._threads = documents.collection
        self._overflow = documents.overflow
        self._values = documents.values

    def take_place(self, element: Document) -> None:
        """Set where an element created now stands in the order: microseconds since 1970."""
        # Ever higher, whatever the clock and its resolution.
        self._last_sequence = max(self._last_sequence + 1, time.time_ns() // 1000)
        element["sequence"] = self._last_sequence

    async def put(
        self, thread_id: str, element: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> list[str]:
        """Append an element, or replace the one with its id. Ordinarily one command.

        Nothing is stored where it, its thread or its step was deleted.

        Returns:
            The object keys of files that are not needed any more.
        """
        element_id = element["id"]
        stored = await self._values.externalize(thread_id, f"elements/{element_id}", element)
        async for _ in Attempts(WRITE_ATTEMPTS):
            overflow_ids = self._documents.overflow_ids(thread_id) or ()
            if overflow_ids:
                before = await self._replace_in_overflow(thread_id, element, overflow_ids)
                if before is not None:
                    await self._values.delete_values(stored, before)
                    return _replaced_keys(before, element)
            room = self._overflow.room(overflow_ids)
            insert = updates.element_insert(thread_id, stored, now(), owner=owner, room=room)
            if await self._documents.append(insert):
                return []
            main = await self._threads.find_one_and_update(
                *updates.element_replace(thread_id, stored), projection=_only(element_id)
            )
            if main is not None:
                await self._values.delete_values(main["elements"][0])
                return _replaced_keys(main["elements"][0], element)
            state = await self._documents.state(thread_id, element.get("forId", ""), element_id)
            if state.deleted:
                await self._values.delete_values(stored)
                self._documents.dropped.log(thread_id, element_id)
                return object_keys([element])
            await self._documents.make_room(thread_id, state, owner)
        raise contended(thread_id, element_id)

    async def get(self, thread_id: str, element_id: str) -> Document | None:
        """One stored element. One command, two where the main document does not hold it."""
        only = {"$elemMatch": {"id": element_id}}
        tombstones = {"deletedSteps.id": 1, "deletedElements": only}
        projection = {"elements": only, "overflowIds": 1, **tombstones}
        main = await self._threads.find_one({"_id": thread_id}, projection)
        if main is None:
            return None
        element: Document | None = next(iter(main.get("elements") or ()), None)
        overflow_ids = listed_overflow(main)
        if element is None and overflow_ids:
            element = await self._overflow.find(thread_id, overflow_ids, "elements", element_id)
        # An interrupted deletion may have left it in an overflow document.
        if element is None or main.get("deletedElements"):
            return None
        if elements_of([element], ids(main, "deletedSteps")):
            return None
        await self._values.resolve([element])
        return element

    async def delete(self, thread_id: str, element_id: str) -> list[str]:
        """Remove an element. One command, more where the main document does not hold it.

        An element that does not exist yet is remembered as deleted too: Chainlit creates what it
        queued in the background, and a removal may overtake that.

        Returns:
            The object key of its file, if it had one.
        """
        moment = now()
        only = _only(element_id)
        main = await self._threads.find_one_and_update(
            *updates.element_delete(thread_id, element_id, moment),
            projection={**only, "overflowIds": 1, "deletedElements.at": 1},
            **self._documents.by_id,
        )
        if main is None:
            return []
        await self._documents.expire_tombstones(main, "deletedElements", moment)
        overflow_ids = listed_overflow(main)
        before: Document | None = main
        if not main.get("elements") and overflow_ids:
            listed = {
                "thread": thread_id,
                "_id": {"$in": list(overflow_ids)},
                "elements.id": element_id,
            }
            pull = {"$pull": {"elements": {"id": element_id}}}
            before = await self._overflow.find_and_update(listed, pull, only)
        elements = (before or {}).get("elements") or ()
        await self._values.delete_values(*elements)
        return object_keys(elements)

    async def _replace_in_overflow(
        self, thread_id: str, element: Document, overflow_ids: Sequence[str]
    ) -> Document | None:
        """Replace an element of an overflow document and return it; None when none holds it."""
        element_id = element["id"]
        if await self._overflow.find(thread_id, overflow_ids, "elements", element_id) is None:
            return None
        stored = await self._values.externalize(
            thread_id,
            f"elements/{element_id}",
            element,
            at_least=self._documents.overflow_value_bytes,
        )
        replace = updates.in_overflow(updates.element_replace(thread_id, stored), overflow_ids)
        before = await self._overflow.find_and_update(*replace, _only(element_id))
        if before is None:
            await self._values.delete_values(stored)
            return None
        replaced: Document = before["elements"][0]
        return replaced


def _replaced_keys(before: Document, element: Document) -> list[str]:
    return [key for key in object_keys([before]) if key != element.get("objectKey")]


def _only(element_id: str) -> Document:
    return {"elements": {"$elemMatch": {"id": element_id}}}
