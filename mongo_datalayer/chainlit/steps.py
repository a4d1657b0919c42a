"""Steps: in the main document, or in an overflow document of a long thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from pymongo import ReturnDocument

from mongo_datalayer.chainlit import codec, updates
from mongo_datalayer.chainlit.thread_contents import elements_of, object_keys
from mongo_datalayer.chainlit.thread_documents import NO_OWNER, ThreadDocuments, ThreadState
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.stored_lists import items, listed_overflow
from mongo_datalayer.model.times import now, parse_time
from mongo_datalayer.mongodb.update import Update
from mongo_datalayer.storage.contention import WRITE_ATTEMPTS, Attempts, contended

SEARCHED = ("input", "output")
"""The texts of a step that keyword search reads."""

_TREE = ("steps.id", "steps.parentId", "elements.id", "elements.forId", "elements.objectKey")


class Steps:
    """The steps of threads.

    Args:
        documents: Where they are stored.
    """

    def __init__(self, documents: ThreadDocuments) -> None:
        self._documents = documents
        self._threads = documents.collection
        self._overflow = documents.overflow
        self._values = documents.values

    async def create(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Append a step, or fill in what the existing one lacks. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        write = await self._begun(thread_id, step, owner)
        async for _ in Attempts(WRITE_ATTEMPTS):
            overflow_ids = self._documents.overflow_ids(thread_id) or ()
            filled = bool(overflow_ids) and await self._fill_in_overflow(write, overflow_ids)
            if filled:
                await self._values.delete_values(write.stored)
                return True
            if filled is None:  # another write was quicker
                continue
            if await self._append(write, overflow_ids):
                return True
            state = await self._documents.state(thread_id, step["id"], created_at=write.activity)
            if state.deleted:
                await self._values.delete_values(write.stored)
                return await self._restart(write) and await self.create(
                    thread_id, step, owner=owner
                )
            if await self._append_with_feedback(write, state):
                return True
            if state.step is not None and await self._fill(write, state.step):
                return True
            await self._documents.make_room(thread_id, state, owner)
        raise contended(thread_id, step["id"])

    async def update(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Set fields of a step, or append it. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        write = await self._begun(thread_id, step, owner, is_update=True)
        async for _ in Attempts(WRITE_ATTEMPTS):
            overflow_ids = await self._documents.update_item(
                thread_id,
                step["id"],
                partial(self._overwrite, write),
                partial(self._overwrite_in_overflow, write),
            )
            if overflow_ids is None or await self._append(write, overflow_ids):
                return True
            state = await self._documents.state(thread_id, step["id"], created_at=write.activity)
            if state.deleted:
                await self._values.delete_values(write.stored)
                return await self._restart(write) and await self.update(
                    thread_id, step, owner=owner
                )
            if await self._append_with_feedback(write, state):
                return True
            await self._documents.make_room(thread_id, state, owner)
        raise contended(thread_id, step["id"])

    async def put_favorite(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Set ``metadata.favorite`` of a stored step, and nothing else; else create the step.

        Returns:
            False when the thread or the step was deleted.
        """
        step_id = step["id"]
        favorite = {"id": step_id, "metadata.favorite": step["metadata"]["favorite"]}
        update = updates.step_overwrite(thread_id, favorite)
        in_overflow = partial(self._update_in_overflow, update)
        overflow_ids = await self._documents.update_item(
            thread_id, step_id, partial(self._documents.update, update), in_overflow
        )
        if overflow_ids is None:
            return True
        # Another process may have moved the step: creating it would leave its metadata unchanged.
        listed = await self._documents.read_overflow_ids(thread_id)
        if listed != overflow_ids and await in_overflow(listed):
            return True
        return await self.create(thread_id, step, owner=owner)

    async def delete(self, thread_id: str, step_id: str) -> tuple[bool, list[str]]:
        """Remove a step, all steps below it, their elements and feedback.

        One command for a step without others below it; three where there are some. A step that
        does not exist yet is remembered as deleted too.

        Returns:
            Whether the step existed, and the object keys of the removed elements' files.
        """
        if not self._documents.is_long(thread_id):
            moment = now()
            projection = ("steps.id", "elements.forId", "elements.objectKey", "deletedSteps.at")
            before = await self._threads.find_one_and_update(
                *updates.childless_step_delete(thread_id, step_id, moment),
                projection=dict.fromkeys(projection, 1),
                **self._documents.by_id,
            )
            if before is not None:
                await self._documents.expire_tombstones(before, "deletedSteps", moment)
                return _removed([before], {step_id}, step_id)
        return await self._delete_tree(thread_id, step_id)

    # The main document ------------------------------------------------------------------------

    async def _append(
        self, write: _StepWrite, overflow_ids: Sequence[str], feedback: Document | None = None
    ) -> bool:
        """Append a step to a thread with these overflow documents; False when the guard failed."""
        stepless = self._documents.is_stepless(write.thread_id)
        step, moment = write.stored, write.activity or now()
        if write.activity is None:
            step = {**step, "receivedAt": moment}
        insert = updates.step_insert(
            write.thread_id,
            step,
            moment,
            owner=write.owner,
            room=self._overflow.room(overflow_ids),
            feedback=feedback,
        )
        activity = write.activity if write.is_update else moment
        insert = updates.with_activity(insert, activity, stepless=stepless)
        if feedback is not None:  # no upsert: the thread with the feedback must be there
            return await self._documents.update(insert)
        return await self._documents.append(insert)

    async def _restart(self, write: _StepWrite) -> bool:
        """Begin a new thread if a person went on writing under the id of a deleted one."""
        step, thread_id = write.step, write.thread_id
        if step.get("type") == "user_message" and write.activity is not None:
            # Chainlit names a thread by the first message of a session, which this need not be.
            named = {"name": codec.stored_name(step["output"])} if step.get("output") else {}
            if await self._documents.restart(thread_id, write.activity, {**write.owner, **named}):
                return True
        self._documents.dropped.log(thread_id, step["id"])
        return False

    async def _append_with_feedback(self, write: _StepWrite, state: ThreadState) -> bool:
        """Append a step with the feedback that waits for it; False when there is none."""
        if state.feedback is None:
            return False
        step_id, overflow_ids = write.step["id"], state.overflow_ids
        if await self._overflow.find(write.thread_id, overflow_ids, "steps", step_id):
            return False
        return await self._append(write, overflow_ids, state.feedback)

    async def _fill(self, write: _StepWrite, step: Document) -> bool:
        """Fill in what a step of the main document lacks; False when another write was quicker."""
        missing = codec.missing_fields(step, write.stored)
        if missing:
            thread_id, step_id = write.thread_id, write.step["id"]
            stepless = self._documents.is_stepless(thread_id)
            fill = updates.step_fill(thread_id, step_id, missing)
            fill = updates.with_activity(fill, write.activity, stepless=stepless)
            if not await self._documents.update(fill):
                return False
        await self._values.delete_values(_without(write.stored, missing))
        return True

    async def _overwrite(self, write: _StepWrite) -> bool:
        """Set fields of a step of the main document; False when it does not hold the step."""
        stepless = self._documents.is_stepless(write.thread_id)
        overwrite = updates.step_overwrite(write.thread_id, write.stored)
        before = await self._documents.find_and_update(
            updates.with_activity(overwrite, write.activity, stepless=stepless),
            {"steps": {"$elemMatch": {"id": write.step["id"]}}},
        )
        if before:
            for step in before.get("steps") or ():
                await self._values.delete_values(_only(step, write.stored))
        return before is not None

    # Overflow documents -----------------------------------------------------------------------

    async def _fill_in_overflow(
        self, write: _StepWrite, overflow_ids: Sequence[str]
    ) -> bool | None:
        """Fill in what a step of an overflow document lacks.

        Returns:
            False when none of these documents holds the step; None when another write was quicker.
        """
        thread_id, step_id = write.thread_id, write.step["id"]
        step = await self._overflow.find(thread_id, overflow_ids, "steps", step_id)
        if step is None:
            return False
        missing = codec.missing_fields(step, write.step)
        if not missing:
            return True
        if "createdAt" in missing:
            await self._extend_activity(write)
        stored = await self._externalize_for_overflow(thread_id, step_id, missing)
        fill = updates.step_fill(thread_id, step_id, stored)
        if await self._update_in_overflow(fill, overflow_ids):
            return True
        await self._values.delete_values(stored)
        return None

    async def _overwrite_in_overflow(self, write: _StepWrite, overflow_ids: Sequence[str]) -> bool:
        """Set fields of a step of an overflow document; False when none of these holds it.

        The values of ``write.stored`` are deleted then, as smaller ones are large here.
        """
        thread_id, step_id, stored = write.thread_id, write.step["id"], write.step
        if self._values.any_large(stored, self._documents.overflow_value_bytes):
            if await self._overflow.find(thread_id, overflow_ids, "steps", step_id) is None:
                return False
            stored = await self._externalize_for_overflow(thread_id, step_id, stored)
        overwrite = updates.step_overwrite(thread_id, stored)
        query_filter, update = updates.in_overflow(overwrite, overflow_ids)
        projection = {"steps": {"$elemMatch": {"id": step_id}}}
        # An update ordinarily repeats the time of the step, and the thread knows it. Where the time
        # is new, the thread learns it before the step changes.
        same_time = _only(write.step, ("id", "createdAt"))
        before = await self._overflow.find_and_update(
            {**_without(query_filter, ("steps.id",)), "steps": {"$elemMatch": same_time}},
            update,
            projection,
        )
        if before is None and await self._overflow.find(thread_id, overflow_ids, "steps", step_id):
            await self._extend_activity(write)
            before = await self._overflow.find_and_update(query_filter, update, projection)
        if before is None:
            await self._values.delete_values(stored)
            return False
        await self._values.delete_values(_only(before["steps"][0], stored), write.stored)
        return True

    async def _update_in_overflow(self, update: Update, overflow_ids: Sequence[str]) -> bool:
        return await self._overflow.update(*updates.in_overflow(update, overflow_ids))

    async def _extend_activity(self, write: _StepWrite) -> None:
        if write.activity is not None:
            update = updates.activity_update(write.thread_id, write.activity)
            await self._threads.update_one(*update)

    # Inside -----------------------------------------------------------------------------------

    async def _begun(
        self, thread_id: str, step: Document, owner: Mapping[str, str], *, is_update: bool = False
    ) -> _StepWrite:
        """A write of a step whose large values are stored."""
        activity = _activity(step)
        stored = await self._values.externalize(
            thread_id, f"steps/{step['id']}", step, searched=SEARCHED
        )
        return _StepWrite(thread_id, step, stored, activity, owner, is_update)

    async def _externalize_for_overflow(
        self, thread_id: str, step_id: str, fields: Document
    ) -> Document:
        at_least = self._documents.overflow_value_bytes
        return await self._values.externalize(
            thread_id, f"steps/{step_id}", fields, at_least=at_least, searched=SEARCHED
        )

    async def _delete_tree(self, thread_id: str, step_id: str) -> tuple[bool, list[str]]:
        """Remove a step with others below it, or of a long thread. Two commands and more."""
        projection = dict.fromkeys((*_TREE, "deletedSteps", "overflowIds"), 1)
        main = await self._threads.find_one({"_id": thread_id}, projection)
        if main is None:
            return False, []
        documents = [main]
        if listed_overflow(main):
            documents += [stored async for stored in self._overflow.scan([thread_id], _TREE)]
        steps = (step for document in documents for step in items(document, "steps"))
        deleted = codec.descendants(steps, step_id)
        step_ids = sorted(deleted)
        moment = now()
        after = await self._threads.find_one_and_update(
            *updates.steps_delete(thread_id, step_ids, moment),
            projection={"overflow": 1},
            return_document=ReturnDocument.AFTER,
        )
        await self._documents.expire_tombstones(main, "deletedSteps", moment)
        if after is not None and after.get("overflow"):
            # Unlisted copies too: nothing of a deleted step stays.
            await self._overflow.update(*updates.steps_delete_in_overflow(thread_id, step_ids))
            locations = [f"{kind}/{item}" for kind in ("steps", "feedback") for item in step_ids]
            elements = _elements_of(documents, deleted)
            locations += [f"elements/{element['id']}" for element in elements]
            await self._values.delete(thread_id, locations)
        return _removed(documents, deleted, step_id)


class _StepWrite(NamedTuple):
    """A step to write.

    Attributes:
        thread_id: Its thread.
        step: The step as it was given.
        stored: The step with references in place of large values.
        activity: The time that it means for its thread; None when it has no time.
        owner: Owner fields of a new thread.
        is_update: Whether a creation may follow, with the step's time.
    """

    thread_id: str
    step: Document
    stored: Document
    activity: datetime | None
    owner: Mapping[str, str]
    is_update: bool = False


def _activity(step: Document) -> datetime | None:
    """The time that a step means for its thread's activity; None when it has no time."""
    # The step's own time, so that an import keeps its history. But never the future: the thread
    # would stay on top of the list.
    created = parse_time(step.get("createdAt"))
    return None if created is None else min(created, now())


def _only(fields: Mapping[str, Any], names: Iterable[str]) -> Document:
    return {name: fields[name] for name in names if name in fields}


def _without(fields: Mapping[str, Any], names: Iterable[str]) -> Document:
    return {name: value for name, value in fields.items() if name not in names}


def _elements_of(documents: Iterable[Document], step_ids: set[str]) -> list[Document]:
    return elements_of((e for document in documents for e in items(document, "elements")), step_ids)


def _removed(documents: list[Document], deleted: set[str], step_id: str) -> tuple[bool, list[str]]:
    """Whether a step was in these documents, and the object keys of the deleted steps' files."""
    steps = (step for document in documents for step in items(document, "steps"))
    exists = any(step["id"] == step_id for step in steps)
    return exists, object_keys(_elements_of(documents, deleted))
