"""Steps: in the head, or in a part of a long thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from pymongo import ReturnDocument
from pymongo.errors import OperationFailure

from mongo_datalayer import codec, pipelines
from mongo_datalayer.documents import Document
from mongo_datalayer.driver import find_one
from mongo_datalayer.indexes import TOMBSTONE_SECONDS
from mongo_datalayer.threads.heads import (
    ATTEMPTS,
    NO_OWNER,
    Heads,
    State,
    contended,
    maps,
    now,
    object_keys,
)
from mongo_datalayer.values import size_of

SEARCHED = ("input", "output")
"""The texts of a step that keyword search looks through."""

_TREE = ("steps.id", "steps.parentId", "elements.id", "elements.forId", "elements.objectKey")


AT_ONCE = 100
"""How many steps are appended by one command, at most."""

AT_ONCE_BYTES = 256 * 1024
"""How large these are together."""


class NewStep(NamedTuple):
    """A step that is to be appended to a thread, and the thread's owner if that is to be made."""

    step: Document
    owner: Mapping[str, str] = NO_OWNER


class Steps:
    """The steps of threads.

    Args:
        heads: Where they are stored.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._threads = heads.collection
        self._overflow = heads.overflow
        self._values = heads.values

    async def create(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Append a step, or fill in what the one that is there lacks. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        taken = await self._take_out(thread_id, step)
        write = _StepWrite(thread_id, step, taken, _activity(step), owner)
        for _ in range(ATTEMPTS):
            parts = self._heads.parts(thread_id) or ()
            filled = await self._fill_in_part(write, parts)
            if filled:
                await self._values.discard(taken)
                return True
            if filled is False:
                continue
            if await self._append(write, parts):
                return True
            state = await self._heads.state(thread_id, step["id"])
            if state.deleted:
                await self._values.discard(taken)
                return False
            if await self._take_along(write, state):
                return True
            if state.step is not None and await self._fill(write, state.step):
                return True
            await self._heads.make_room(thread_id, state)
        raise contended(thread_id, step)

    async def create_together(self, thread_id: str, new: Sequence[NewStep]) -> bool:
        """Append several steps with one command, if that is all there is to do.

        Returns:
            False when it is not known that all were appended. Then each is to be created by itself.
        """
        parts = self._heads.parts(thread_id) or ()
        if not self._are_alike(thread_id, new, parts):
            return False
        stored = [_received(each.step, _activity(each.step)) for each in new]
        statement = pipelines.steps_insert(
            thread_id,
            [step for step, _ in stored],
            [activity for _, activity in stored],
            owner=new[0].owner,
            room=self._overflow.room(parts),
        )
        try:
            return await self._heads.appended(thread_id, statement)
        except OperationFailure:  # perhaps of one step alone: who writes it will be told
            return False

    async def update(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Set fields of a step, or append it. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        taken = await self._take_out(thread_id, step)
        write = _StepWrite(thread_id, step, taken, _activity(step), owner)
        for _ in range(ATTEMPTS):
            parts = self._heads.parts(thread_id)
            is_old = self._heads.is_old(thread_id, step["id"])
            if is_old and await self._overwrite_in_part(write, parts or ()):
                return True
            if await self._overwrite(write):
                return True
            if parts is None:  # never seen: ask, rather than fail to append
                parts = (await self._heads.state(thread_id, step["id"])).parts
            if is_old is None and await self._overwrite_in_part(write, parts):
                return True
            if await self._append(write, parts):
                return True
            state = await self._heads.state(thread_id, step["id"])
            if state.deleted:
                await self._values.discard(taken)
                return False
            if await self._take_along(write, state):
                return True
            await self._heads.make_room(thread_id, state)
        raise contended(thread_id, step)

    async def set_favorite(self, thread_id: str, step_id: str, favorite: bool) -> bool:
        """Mark a step, or take the mark away; False when the step is not there."""
        step = {"id": step_id, "metadata.favorite": favorite}
        statement = pipelines.step_overwrite(thread_id, step)
        is_old = self._heads.is_old(thread_id, step_id)
        if is_old and await self._matched_in_part(statement, self._heads.parts(thread_id)):
            return True
        if await self._heads.matched(statement):
            return True
        parts = (await self._heads.state(thread_id, step_id)).parts
        return await self._matched_in_part(statement, parts)

    async def favorites(self, user_id: str) -> list[tuple[str, Document]]:
        """Thread id and stored step of each favourite step of a user.

        One aggregation; one more the first time that the user has a long thread.
        """
        pipeline = partial(pipelines.favorites_pipeline, user_id)
        threads = await self._heads.lists.read(user_id, pipeline)
        await self._values.put_back(maps(threads))
        deleted = {
            (thread["_id"], step["id"])
            for thread in threads
            for step in thread.get("deletedSteps") or ()
        }
        # A step that moves just now may be found in the head and in the part.
        steps = {
            (thread["_id"], step["id"]): (thread["_id"], step)
            for thread in threads
            for step in thread["steps"]
        }
        return [found for key, found in steps.items() if key not in deleted]

    async def find(self, step_id: str) -> str | None:
        """The id of the thread that holds the step. One command, two for an old step."""
        stored = await find_one(self._threads, {"steps.id": step_id}, {"_id": 1})
        if stored is not None:
            return str(stored["_id"])
        holder: str | None = await self._overflow.holder({"steps.id": step_id})
        return holder

    async def delete(self, thread_id: str, step_id: str) -> tuple[bool, list[str]]:
        """Remove a step, all steps below it, their elements and feedback.

        One command for a step without others below it; three where there are some. A step that is
        not there yet is remembered as deleted too.

        Returns:
            Whether the step was there, and the object keys of the removed elements' files.
        """
        if not self._heads.is_long(thread_id):
            moment = now()
            shown = ("steps.id", "elements.forId", "elements.objectKey", "deletedSteps.at")
            before = await self._threads.find_one_and_update(
                *pipelines.childless_step_delete(thread_id, step_id, moment),
                projection=dict.fromkeys(shown, 1),
                **self._heads.by_id,
            )
            if before is not None:
                deleted = before.get("deletedSteps") or ()
                await self._expire_deleted_steps(thread_id, deleted, moment)
                return _held(before, step_id)
        return await self._delete_tree(thread_id, step_id)

    def _are_alike(self, thread_id: str, new: Sequence[NewStep], parts: Sequence[str]) -> bool:
        """Whether these are different steps of one owner's thread, all small and all new to it."""
        ids = {each.step["id"] for each in new}
        return (
            len(ids) == len(new)
            and all(each.owner == new[0].owner for each in new)
            and sum(size_of(each.step) for each in new) <= AT_ONCE_BYTES
            and not any(self._values.any_large(each.step) for each in new)
            and all(self._overflow.may_hold(thread_id, parts, step_id) is False for step_id in ids)
        )

    async def _append(
        self, write: _StepWrite, parts: Sequence[str], feedback: Document | None = None
    ) -> bool:
        """Append a step to a head that has these parts; False when its guard said no."""
        step, activity = _received(write.taken, write.known)
        statement = pipelines.step_insert(
            write.thread_id,
            step,
            activity,
            owner=write.owner,
            room=self._overflow.room(parts),
            feedback=feedback,
        )
        if feedback is not None:
            return await self._heads.matched(statement)
        return await self._heads.appended(write.thread_id, statement)

    async def _take_along(self, write: _StepWrite, state: State) -> bool:
        """Append a step with the feedback that waits for it; False when there is none."""
        if state.feedback is None:
            return False
        if await self._overflow.find(write.thread_id, state.parts, "steps", write.step["id"]):
            return False
        return await self._append(write, state.parts, state.feedback)

    async def _fill(self, write: _StepWrite, stored: Document) -> bool:
        """Fill in what a step of the head lacks; False when somebody was quicker."""
        missing = codec.missing_fields(stored, write.taken)
        if missing:
            fill = pipelines.step_fill(write.thread_id, write.step["id"], missing, write.known)
            if not await self._heads.matched(fill):
                return False
        unneeded = {name: of for name, of in write.taken.items() if name not in missing}
        await self._values.discard(unneeded)
        return True

    async def _fill_in_part(self, write: _StepWrite, parts: Sequence[str]) -> bool | None:
        """Fill in what a step of a part lacks.

        Returns:
            None when none of the parts holds the step; False when somebody was quicker.
        """
        step_id = write.step["id"]
        stored = await self._overflow.find(write.thread_id, parts, "steps", step_id, new=True)
        if stored is None:
            return None
        missing = codec.missing_fields(stored, write.step)
        if not missing:
            return True
        if write.known is not None and "createdAt" in missing:
            await self._be_active(write)
        taken = await self._take_out_for_part(write.thread_id, missing, step_id)
        fill = pipelines.step_fill(write.thread_id, step_id, taken)
        done = await self._overflow.update(*pipelines.in_part(fill, parts))
        if not done:
            await self._values.discard(taken)
        return done

    async def _overwrite(self, write: _StepWrite) -> bool:
        """Set fields of a step of the head; False when it does not hold it."""
        before = await self._heads.changed(
            write.thread_id,
            pipelines.step_overwrite(write.thread_id, write.taken, write.known),
            {"steps": {"$elemMatch": {"id": write.step["id"]}}},
        )
        if before is None:
            return False
        await self._values.discard(*(_replaced(step, write.taken) for step in _steps(before)))
        return True

    async def _overwrite_in_part(self, write: _StepWrite, parts: Sequence[str]) -> bool:
        """Set fields of a step that a part holds; False when none does.

        The values of ``write.taken`` are deleted then: a part has its own.

        Ordinarily one command, as an update says again when its step was made. Where that is new,
        the thread learns it first.
        """
        step_id = write.step["id"]
        taken = write.step
        if not parts:
            return False
        if self._values.any_large(write.step, self._heads.part_value_bytes):
            if await self._overflow.find(write.thread_id, parts, "steps", step_id) is None:
                return False
            taken = await self._take_out_for_part(write.thread_id, write.step, step_id)
        statement = pipelines.in_part(pipelines.step_overwrite(write.thread_id, taken), parts)
        same = {name: write.step[name] for name in ("id", "createdAt") if name in write.step}
        others = {name: of for name, of in statement.filter.items() if name != "steps.id"}
        before = await self._overflow.find_and_update(
            {**others, "steps": {"$elemMatch": same}}, statement.update, "steps", step_id
        )
        if before is None and await self._overflow.find(write.thread_id, parts, "steps", step_id):
            await self._be_active(write)
            before = await self._overflow.find_and_update(*statement, "steps", step_id)
        if before is None:
            await self._values.discard(taken)
            return False
        await self._values.discard(_replaced(before, taken), write.taken)
        return True

    async def _matched_in_part(
        self, statement: pipelines.Statement, parts: Sequence[str] | None
    ) -> bool:
        if not parts:
            return False
        return await self._overflow.update(*pipelines.in_part(statement, parts))

    async def _be_active(self, write: _StepWrite) -> None:
        if write.known is not None:
            await self._threads.update_one(*pipelines.activity_update(write.thread_id, write.known))

    async def _take_out(self, thread_id: str, step: Document) -> Document:
        return await self._values.take_out(
            thread_id, f"steps/{step['id']}", step, searched=SEARCHED
        )

    async def _take_out_for_part(self, thread_id: str, fields: Document, step_id: str) -> Document:
        return await self._values.take_out(
            thread_id,
            f"steps/{step_id}",
            fields,
            at_least=self._heads.part_value_bytes,
            searched=SEARCHED,
        )

    async def _delete_tree(self, thread_id: str, step_id: str) -> tuple[bool, list[str]]:
        """Remove a step that others are below, or of a long thread. Two commands and more."""
        projection = dict.fromkeys((*_TREE, "deletedSteps", "parts"), 1)
        head = await find_one(self._threads, {"_id": thread_id}, projection) or {}
        stored = [head]
        if head.get("parts"):
            stored += [part async for part in self._overflow.scan([thread_id], _TREE)]
        steps = [step for document in stored for step in document.get("steps") or ()]
        gone = sorted(codec.descendants(steps, step_id))
        moment = now()
        after = await self._threads.find_one_and_update(
            *pipelines.steps_delete(thread_id, gone, moment),
            projection={"overflow": 1},
            return_document=ReturnDocument.AFTER,
        )
        await self._expire_deleted_steps(thread_id, head.get("deletedSteps") or (), moment)
        elements = [
            element
            for document in stored
            for element in document.get("elements") or ()
            if element.get("forId") in gone
        ]
        if after is not None and after.get("overflow"):
            # In every copy: nothing of a deleted step stays.
            await self._overflow.update(*pipelines.steps_delete_in_parts(thread_id, gone))
            places = [f"{kind}/{gone_id}" for kind in ("steps", "feedback") for gone_id in gone]
            places += [f"elements/{element['id']}" for element in elements]
            await self._values.delete(thread_id, places)
        return any(step["id"] == step_id for step in steps), object_keys(elements)

    async def _expire_deleted_steps(
        self, thread_id: str, deleted: Iterable[Document], moment: datetime
    ) -> None:
        """Drop memories of deleted steps that are older than any late write."""
        expired = moment - timedelta(seconds=TOMBSTONE_SECONDS)
        if any(step["at"] < expired for step in deleted):
            await self._threads.update_one(
                {"_id": thread_id}, {"$pull": {"deletedSteps": {"at": {"$lt": expired}}}}
            )


class _StepWrite(NamedTuple):
    """A step that is written: as it came, and without its large values."""

    thread_id: str
    step: Document
    taken: Document
    known: datetime | None
    owner: Mapping[str, str]


def _received(step: Document, known: datetime | None) -> tuple[Document, datetime]:
    """A step as it is appended, and its time: one without a time is of now."""
    if known is not None:
        return step, known
    moment = now()
    return {**step, "receivedAt": moment}, moment


def _replaced(before: Document, fields: Iterable[str]) -> Document:
    """What a step had in the fields that were set."""
    return {name: before[name] for name in fields if name in before}


def _steps(head: Mapping[str, Any]) -> Iterable[Document]:
    return head.get("steps") or ()


def _held(head: Mapping[str, Any], step_id: str) -> tuple[bool, list[str]]:
    """Whether a head held a step, and the object keys of its elements' files."""
    elements = [each for each in head.get("elements") or () if each.get("forId") == step_id]
    return any(step["id"] == step_id for step in _steps(head)), object_keys(elements)


def _activity(step: Document) -> datetime | None:
    """The time of activity that a step means for its thread; None when it has no time.

    That is the step's own time, so that an import keeps its history, but never the future.
    """
    created = codec.parse_time(step.get("createdAt"))
    return None if created is None else min(created, now())
