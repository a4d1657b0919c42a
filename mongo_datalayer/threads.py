"""The collections of threads and their overflow: the only code that knows how a thread is stored.

One document, the head, holds one conversation, and every write is one atomic update of it, guarded
so that it can be repeated. The ordinary case of each operation is one command; only where the guard
says no the document is read to find out why.

Of a long conversation the head holds the newest part: new steps are appended to it as ever, after a
look whether they are in a part already. What is not found in the head is looked for in the parts.
Above this module nobody knows.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, WriteError

from mongo_datalayer import codec, pipelines
from mongo_datalayer.cursor import Cursor
from mongo_datalayer.documents import LONG, OVERFLOW, THREADS, Document, is_reference
from mongo_datalayer.driver import Database, aggregate, is_mongomock, open_collection
from mongo_datalayer.errors import MongoDataLayerError, NotFoundError, StorageError
from mongo_datalayer.indexes import TOMBSTONE_SECONDS
from mongo_datalayer.large_values import LargeValues
from mongo_datalayer.overflow import UNBOUNDED, Bounds, Overflow
from mongo_datalayer.pipelines import Statement
from mongo_datalayer.recent import Recent

logger = logging.getLogger(__name__)

ATTEMPTS = 10
"""How often a write is tried while other writers change the same step in between."""

PAGE = 100
"""How many threads one command of a scan reads."""

REMEMBERED_THREADS = 10_000
"""Of how many threads it is remembered whether they are long, and which parts they have."""

PART_VALUE_BYTES = 8 * 1024
"""Values of this size go to GridFS when a step of a part gets them: parts must not grow."""

METADATA_VALUE_BYTES = 64 * 1024
"""Values of this size in a thread's metadata go to GridFS: metadata stays in the head for ever."""

SEARCHED = ("input", "output")
"""The texts of a step that keyword search looks through."""

NO_OWNER: Mapping[str, str] = {}


@dataclass(frozen=True)
class ThreadChanges:
    """What an update changes of a thread; everything else stays.

    Attributes:
        values: Fields of the thread: name, owner, tags, session.
        metadata: Top-level metadata to set, by stored field name.
        removed_metadata: Top-level metadata to remove, by stored field name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    removed_metadata: tuple[str, ...] = ()


class Threads:
    """Threads of one database.

    Args:
        database: The database.
        bounds: How much one document holds.
    """

    def __init__(self, database: Database, *, bounds: Bounds | None = None) -> None:
        self._threads = open_collection(database, THREADS)
        parts = open_collection(database, OVERFLOW)
        self._joins = not is_mongomock(database)
        # Else the server weighs the other indexes that the guards could use, for each new shape.
        self._by_id: dict[str, Any] = {"hint": "_id_"} if self._joins else {}
        if not self._joins:
            bounds = UNBOUNDED
        self._overflow = Overflow(self._threads, parts, ("steps", "elements"), bounds=bounds)
        self._values = LargeValues(database, parts, at_least=self._overflow.bounds.value)
        self._known: Recent[str, _Known] = Recent(REMEMBERED_THREADS)

    # Threads ----------------------------------------------------------------------------------

    async def get(self, thread_id: str) -> Document | None:
        """The stored thread, whole; None when there is none or it was deleted.

        One command; for a long thread one more, and those for its large values.
        """
        for _ in range(ATTEMPTS):
            stored: Document | None = await self._threads.find_one({"_id": thread_id})
            if stored is None or "deletedAt" in stored:
                return None
            self._learn(thread_id, stored)
            whole = await self._whole(stored)
            if whole is not None:
                return whole
        raise StorageError(f"Parts of the thread {thread_id!r} are missing in {OVERFLOW}.")

    async def author(self, thread_id: str) -> str | None:
        """The identifier of the thread's owner, if there is one. One command."""
        stored = await self._threads.find_one({"_id": thread_id}, {"userIdentifier": 1})
        return None if stored is None else stored.get("userIdentifier")

    async def page(
        self,
        user_id: str,
        *,
        limit: int,
        time_field: str,
        cursor: Cursor | None,
        search: str | None,
        feedback: int | None,
    ) -> list[Document]:
        """A page of a user's threads without their steps. One aggregation."""
        pipeline = pipelines.thread_page_pipeline(
            user_id,
            limit=limit,
            time_field=time_field,
            cursor=cursor,
            search=search,
            feedback=feedback,
            overflow=self._joins,
        )
        found = await aggregate(self._threads, pipeline)
        # A thread that becomes long just now may be found among the short and the long ones.
        threads = list({thread["_id"]: thread for thread in found}.values())
        await self._values.put_back(_maps(threads))
        return threads

    async def update(
        self, thread_id: str, changes: ThreadChanges, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Change a thread, or make it; False when it was deleted. Ordinarily one command."""
        metadata = await self._values.take_out(
            thread_id,
            "metadata",
            dict(changes.metadata),
            at_least=min(METADATA_VALUE_BYTES, self._overflow.bounds.value),
        )
        statement = pipelines.thread_update(
            thread_id,
            _now(),
            values=changes.values,
            metadata=metadata,
            removed_metadata=changes.removed_metadata,
            on_insert=owner,
        )
        touched = (*metadata, *changes.removed_metadata)
        for _ in range(ATTEMPTS):
            before = await self._thread_updated(thread_id, statement, touched)
            if before is not None:
                await self._values.discard(before)
                return True
            # Another process may just have made the thread: that is no reason to drop the update.
            if await self._threads.find_one({"_id": thread_id, "deletedAt": {"$exists": True}}):
                logger.info("The thread %s was deleted; a late update of it is dropped.", thread_id)
                await self._values.discard(metadata)
                return False
        raise _contended(thread_id, {"id": thread_id})

    async def _thread_updated(
        self, thread_id: str, statement: Statement, touched: Iterable[str]
    ) -> Document | None:
        """Upsert a thread; None when its guard said no.

        Returns:
            The metadata that it had under the ``touched`` names, as far as it may be large.
        """
        names = {f"metadata.{name}": 1 for name in touched}
        if not names or self._is_short(thread_id, statement):
            return {} if await self._upserted(statement) else None
        try:
            before = await self._threads.find_one_and_update(
                *statement, projection={"_id": 1, **names}, upsert=True
            )
        except DuplicateKeyError:
            return None
        found: Document = (before or {}).get("metadata") or {}
        return found

    async def delete(self, thread_id: str) -> list[str]:
        """Replace a thread by its tombstone, and delete its overflow. Ordinarily one command.

        Returns:
            The object keys of its elements' files.
        """
        before = await self._threads.find_one_and_replace(
            {"_id": thread_id}, {"deletedAt": _now()}, projection=_LEFT_BEHIND, upsert=True
        )
        return await self._clear(thread_id, before or {})

    async def forget_session(self, session_id: str) -> bool:
        """Remove the metadata that a session saved; False when there is none of it."""
        found = False
        async for stored in self._threads.find({"session.id": session_id}, {"session": 1}):
            names = [name for name in stored["session"]["keys"] if name not in codec.SHARING_KEYS]
            removed = {f"metadata.{name}": "" for name in names} | {"session": ""}
            before = await self._threads.find_one_and_update(
                {"_id": stored["_id"], "session": stored["session"]},
                {"$unset": removed},
                projection=dict.fromkeys(removed, 1),
            )
            if before is not None:
                await self._values.discard(before.get("metadata"))
                found = True
        return found

    # Steps ------------------------------------------------------------------------------------

    async def find_step(self, step_id: str) -> str | None:
        """The id of the thread that holds the step. One command, two for an old step."""
        stored = await self._threads.find_one({"steps.id": step_id}, {"_id": 1})
        if stored is not None:
            return str(stored["_id"])
        holder: str | None = await self._overflow.holder({"steps.id": step_id})
        return holder

    async def create_step(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Append a step, or fill in what the one that is there lacks. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        taken = await self._take_out(thread_id, step)
        write = _StepWrite(thread_id, step, taken, _activity(step), owner)
        for _ in range(ATTEMPTS):
            parts = self._parts(thread_id) or ()
            filled = await self._fill_in_part(write, parts)
            if filled is not None:
                await self._values.discard(taken)
                if filled:
                    return True
                continue
            if await self._append(write, parts):
                return True
            state = await self._step_state(thread_id, step["id"])
            if state.deleted:
                await self._values.discard(taken)
                return False
            if await self._take_along(write, state):
                return True
            if state.step is not None and await self._fill(write, state.step):
                return True
            await self._make_room(thread_id, state)
        raise _contended(thread_id, step)

    async def update_step(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Set fields of a step, or append it. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        taken = await self._take_out(thread_id, step)
        write = _StepWrite(thread_id, step, taken, _activity(step), owner)
        for _ in range(ATTEMPTS):
            parts = self._parts(thread_id)
            if await self._overwrite(write):
                return True
            if parts is None:  # never seen: ask, rather than fail to append
                parts = (await self._step_state(thread_id, step["id"])).parts
            if await self._overwrite_in_part(write, parts):
                await self._values.discard(taken)
                return True
            if await self._append(write, parts):
                return True
            state = await self._step_state(thread_id, step["id"])
            if state.deleted:
                await self._values.discard(taken)
                return False
            if await self._take_along(write, state):
                return True
            await self._make_room(thread_id, state)
        raise _contended(thread_id, step)

    async def set_favorite(self, thread_id: str, step_id: str, favorite: bool) -> bool:
        """Mark a step, or take the mark away; False when the step is not there."""
        step = {"id": step_id, "metadata.favorite": favorite}
        statement = pipelines.step_overwrite(thread_id, step)
        if await self._matched(statement):
            return True
        parts = (await self._step_state(thread_id, step_id)).parts
        return bool(parts) and await self._overflow.update(*pipelines.in_part(statement, parts))

    async def favorites(self, user_id: str) -> list[tuple[str, Document]]:
        """Thread id and stored step of each favourite step of a user. One aggregation."""
        pipeline = pipelines.favorites_pipeline(user_id, overflow=self._joins)
        threads = await aggregate(self._threads, pipeline)
        await self._values.put_back(_maps(threads))
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

    async def delete_step(self, thread_id: str, step_id: str) -> tuple[bool, list[str]]:
        """Remove a step, all steps below it, their elements and feedback. Two commands.

        A step that is not there yet is remembered as deleted too.

        Returns:
            Whether the step was there, and the object keys of the removed elements' files.
        """
        projection = dict.fromkeys((*_TREE, "deletedSteps", "parts"), 1)
        head = await self._threads.find_one({"_id": thread_id}, projection) or {}
        stored = [head]
        if head.get("parts"):
            stored += [part async for part in self._overflow.scan([thread_id], _TREE)]
        steps = [step for document in stored for step in document.get("steps") or ()]
        gone = sorted(codec.descendants(steps, step_id))
        now = _now()
        after = await self._threads.find_one_and_update(
            *pipelines.steps_delete(thread_id, gone, now),
            projection={"overflow": 1},
            return_document=ReturnDocument.AFTER,
        )
        await self._expire_deleted_steps(thread_id, head.get("deletedSteps") or (), now)
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
        return any(step["id"] == step_id for step in steps), _object_keys(elements)

    async def _append(
        self, write: _StepWrite, parts: Sequence[str], feedback: Document | None = None
    ) -> bool:
        """Append a step to a head that has these parts; False when its guard said no."""
        activity = write.known or _now()
        taken = write.taken
        statement = pipelines.step_insert(
            write.thread_id,
            taken if write.known is not None else {**taken, "receivedAt": activity},
            activity,
            owner=write.owner,
            room=self._overflow.room(parts),
            feedback=feedback,
        )
        if feedback is not None:
            return await self._matched(statement)
        return await self._appended(write.thread_id, statement)

    async def _take_along(self, write: _StepWrite, state: _StepState) -> bool:
        """Append a step with the feedback that waits for it; False when there is none."""
        if state.feedback is None:
            return False
        if state.parts and await self._overflow.find(state.parts, "steps", write.step["id"]):
            return False
        return await self._append(write, state.parts, state.feedback)

    async def _fill(self, write: _StepWrite, stored: Document) -> bool:
        """Fill in what a step of the head lacks; False when somebody was quicker."""
        missing = codec.missing_fields(stored, write.taken)
        if missing:
            fill = pipelines.step_fill(write.thread_id, write.step["id"], missing, write.known)
            if not await self._matched(fill):
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
        stored = await self._overflow.find(parts, "steps", step_id) if parts else None
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
        statement = pipelines.step_overwrite(write.thread_id, write.taken, write.known)
        if self._is_short(write.thread_id, statement):
            return await self._matched(statement)
        shown = {"steps": {"$elemMatch": {"id": write.step["id"]}}}
        before = await self._threads.find_one_and_update(
            *statement, projection=shown, **self._by_id
        )
        if before is None:
            return False
        await self._values.discard(_replaced(before["steps"][0], write.taken))
        return True

    async def _overwrite_in_part(self, write: _StepWrite, parts: Sequence[str]) -> bool:
        """Set fields of a step that a part holds; False when none does.

        Ordinarily one command, as an update says again when its step was made. Where that is new,
        the thread learns it first.
        """
        step_id = write.step["id"]
        taken = write.step
        if not parts:
            return False
        if self._values.any_large(write.step, self._part_value_bytes):
            if await self._overflow.find(parts, "steps", step_id) is None:
                return False
            taken = await self._take_out_for_part(write.thread_id, write.step, step_id)
        statement = pipelines.in_part(pipelines.step_overwrite(write.thread_id, taken), parts)
        conditions = [statement.filter]
        if write.known is not None:
            same = {"id": step_id, "createdAt": write.step["createdAt"]}
            conditions.insert(0, {"_id": statement.filter["_id"], "steps": {"$elemMatch": same}})
        for number, condition in enumerate(conditions):
            if number:
                if await self._overflow.find(parts, "steps", step_id) is None:
                    break
                await self._be_active(write)
            before = await self._overflow.find_and_update(
                condition, statement.update, "steps", step_id
            )
            if before is not None:
                await self._values.discard(_replaced(before, taken))
                return True
        await self._values.discard(taken)
        return False

    async def _be_active(self, write: _StepWrite) -> None:
        if write.known is not None:
            await self._threads.update_one(*pipelines.activity_update(write.thread_id, write.known))

    async def _take_out(self, thread_id: str, step: Document) -> Document:
        return await self._values.take_out(thread_id, f"steps/{step['id']}", step, **_SEARCHED)

    async def _take_out_for_part(self, thread_id: str, fields: Document, step_id: str) -> Document:
        return await self._values.take_out(
            thread_id, f"steps/{step_id}", fields, at_least=self._part_value_bytes, **_SEARCHED
        )

    @property
    def _part_value_bytes(self) -> int:
        return min(PART_VALUE_BYTES, self._overflow.bounds.value)

    # What is known of a thread ----------------------------------------------------------------

    def _parts(self, thread_id: str) -> Sequence[str] | None:
        """The parts that the thread had when it was seen last; None when it never was."""
        known = self._known.get(thread_id)
        return None if known is None else known.parts

    def _is_short(self, thread_id: str, statement: Statement) -> bool:
        """Whether neither the thread, as it was seen last, nor the update has large values.

        Then what the update replaces need not be looked at.
        """
        known = self._known.get(thread_id)
        if known is not None and "overflow" in statement.update.get("$set", ()):
            self._known.put(thread_id, replace(known, long=True))
            return False
        return known is not None and not known.long

    def _learn(self, thread_id: str, head: Mapping[str, Any]) -> None:
        self._known.put(thread_id, _Known(tuple(head.get("parts") or ()), "overflow" in head))

    async def _step_state(self, thread_id: str, step_id: str) -> _StepState:
        """Why something for this step could not be inserted."""
        stored = await self._threads.find_one(
            {"_id": thread_id}, pipelines.step_state_projection(step_id)
        )
        if stored is None:
            return _StepState()
        if "deletedAt" in stored or stored.get("deletedSteps"):
            logger.info(
                "The step %s or its thread %s was deleted; a late write is dropped.",
                step_id,
                thread_id,
            )
            return _StepState(deleted=True)
        self._learn(thread_id, stored)
        return _StepState(
            step=next(iter(stored.get("steps") or ()), None),
            feedback=next(iter(stored.get("pendingFeedback") or ()), None),
            parts=tuple(stored.get("parts") or ()),
            full=(stored.get("bytes") or 0) >= self._overflow.bounds.head,
        )

    async def _make_room(self, thread_id: str, state: _StepState) -> None:
        if state.full:
            await self._overflow.make_room(thread_id)
            head = await self._threads.find_one({"_id": thread_id}, {"parts": 1, "overflow": 1})
            self._learn(thread_id, head or {})

    async def _expire_deleted_steps(
        self, thread_id: str, deleted: Iterable[Document], now: datetime
    ) -> None:
        """Drop memories of deleted steps that are older than any late write."""
        expired = now - timedelta(seconds=TOMBSTONE_SECONDS)
        if any(step["at"] < expired for step in deleted):
            await self._threads.update_one(
                {"_id": thread_id}, {"$pull": {"deletedSteps": {"at": {"$lt": expired}}}}
            )

    # Feedback ---------------------------------------------------------------------------------

    async def put_feedback(
        self, thread_id: str | None, feedback: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> None:
        """Put feedback on its step, in place of what was there. Ordinarily one command.

        Feedback for a step that is not there yet waits in the thread for it.

        Raises:
            NotFoundError: the thread or the step was deleted; or no thread is given, and no step
                with this id is stored.
        """
        step_id = feedback["forId"]
        thread_id = thread_id or await self.find_step(step_id)
        if thread_id is None:
            raise _no_step(step_id, "in any thread")
        feedback = await self._values.take_out(
            thread_id, f"feedback/{step_id}", feedback, at_least=self._part_value_bytes
        )
        for _ in range(ATTEMPTS):
            parts = self._parts(thread_id)
            if await self._put_on_step(thread_id, feedback):
                return
            if parts is None:  # never seen: ask, rather than let it wait in vain
                parts = (await self._step_state(thread_id, step_id)).parts
            if parts and await self._put_on_step_of_part(thread_id, feedback, parts):
                return
            waiting = pipelines.feedback_wait(
                thread_id, feedback, _now(), owner=owner, room=self._overflow.room(parts)
            )
            if await self._appended(thread_id, waiting):
                return
            state = await self._step_state(thread_id, step_id)
            if state.deleted:
                await self._values.discard(feedback)
                raise _no_step(step_id, f"in thread {thread_id!r}")
            if state.feedback is not None:  # a newer verdict takes the place of the older
                forget = pipelines.feedback_forget(thread_id, step_id)
                await self._threads.update_one(*forget)
                await self._values.discard(state.feedback)
            await self._make_room(thread_id, state)
        raise _contended(thread_id, feedback)

    async def _put_on_step(self, thread_id: str, feedback: Document) -> bool:
        statement = pipelines.feedback_put(thread_id, feedback)
        if self._is_short(thread_id, statement):
            return await self._matched(statement)
        before = await self._threads.find_one_and_update(
            *statement, projection={"steps": {"$elemMatch": {"id": feedback["forId"]}}}
        )
        if before is None:
            return False
        await self._values.discard(before["steps"][0].get("feedback"))
        return True

    async def _put_on_step_of_part(
        self, thread_id: str, feedback: Document, parts: Sequence[str]
    ) -> bool:
        statement = pipelines.in_part(pipelines.feedback_put(thread_id, feedback), parts)
        before = await self._overflow.find_and_update(*statement, "steps", feedback["forId"])
        if before is None:
            return False
        await self._values.discard(before.get("feedback"))
        return True

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Remove feedback; False when there was none with this id. Ordinarily one command."""
        where = {"steps.feedback.id": feedback_id}
        remove = {"$unset": {"steps.$.feedback": ""}}
        shown = {"steps": {"$elemMatch": {"feedback.id": feedback_id}}}
        before = await self._threads.find_one_and_update(where, remove, projection=shown)
        if before is not None:
            await self._values.discard(before["steps"][0]["feedback"])
            return True
        if (value := await self._overflow.remove(where, remove, shown)) is not None:
            await self._values.discard(value["steps"][0]["feedback"])
            return True
        before = await self._threads.find_one_and_update(
            {"pendingFeedback.id": feedback_id},
            {"$pull": {"pendingFeedback": {"id": feedback_id}}},
            projection={"pendingFeedback": {"$elemMatch": {"id": feedback_id}}},
        )
        await self._values.discard(*(before or {}).get("pendingFeedback", ()))
        return before is not None

    # Elements ---------------------------------------------------------------------------------

    async def put_element(
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
            parts = self._parts(thread_id) or ()
            before = await self._replace_in_part(thread_id, element, parts)
            if before is not None:
                await self._values.discard(taken, before)
                return True, before
            statement = pipelines.element_insert(
                thread_id, taken, _now(), owner=owner, room=self._overflow.room(parts)
            )
            if await self._appended(thread_id, statement):
                return True, None
            stored = await self._threads.find_one_and_update(
                *pipelines.element_replace(thread_id, taken),
                projection={"elements": {"$elemMatch": {"id": element["id"]}}},
            )
            if stored is not None:
                await self._values.discard(stored["elements"][0])
                return True, stored["elements"][0]
            state = await self._step_state(thread_id, element.get("forId", ""))
            if state.deleted:
                await self._values.discard(taken)
                return False, None
            await self._make_room(thread_id, state)
        raise _contended(thread_id, element)

    async def _replace_in_part(
        self, thread_id: str, element: Document, parts: Sequence[str]
    ) -> Document | None:
        """Replace an element that a part holds; None when none does."""
        if not parts or await self._overflow.find(parts, "elements", element["id"]) is None:
            return None
        place = f"elements/{element['id']}"
        taken = await self._values.take_out(
            thread_id, place, element, at_least=self._part_value_bytes
        )
        statement = pipelines.in_part(pipelines.element_replace(thread_id, taken), parts)
        before = await self._overflow.find_and_update(*statement, "elements", element["id"])
        if before is None:
            await self._values.discard(taken)
        return before

    async def get_element(self, thread_id: str, element_id: str) -> Document | None:
        """One stored element. One command, two where the head does not hold it."""
        element = {"elements": {"$elemMatch": {"id": element_id}}}
        head = await self._threads.find_one(
            {"_id": thread_id}, {**element, "parts": 1, "deletedSteps.id": 1}
        )
        if head is None:
            return None
        found: Document | None = next(iter(head.get("elements") or ()), None)
        if found is None and head.get("parts"):
            found = await self._overflow.find(head["parts"], "elements", element_id)
        deleted = {step["id"] for step in head.get("deletedSteps") or ()}
        if found is None or found.get("forId") in deleted:
            return None
        await self._values.put_back([found])
        return found

    async def delete_element(self, thread_id: str | None, element_id: str) -> Document | None:
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
            parts = () if thread_id is None else await self._listed(thread_id)
            held = {"_id": {"$in": list(parts)}, "elements.id": element_id}
            before = await self._overflow.remove(held, pull, shown) if parts else None
        if before is None:
            return None
        removed: Document = before["elements"][0]
        await self._values.discard(removed)
        return removed

    async def _listed(self, thread_id: str) -> Sequence[str]:
        """The parts that a thread has now."""
        stored = await self._threads.find_one({"_id": thread_id}, {"parts": 1, "overflow": 1})
        self._learn(thread_id, stored or {})
        return self._parts(thread_id) or ()

    async def object_keys(self, thread_ids: Collection[str]) -> set[str]:
        """The object keys that these threads point to: files of elements, and large values."""
        found: set[str] = set()
        fields = ("elements", "steps", "metadata", "pendingFeedback")
        heads = self._threads.find({"_id": {"$in": list(thread_ids)}}, dict.fromkeys(fields, 1))
        async for head in heads:
            found.update(_object_keys(head.get("elements")), _value_keys([head]))
        async for part in self._overflow.scan(thread_ids, ("elements", "steps")):
            found.update(_object_keys(part.get("elements")), _value_keys([part]))
        return found

    # Administration ---------------------------------------------------------------------------

    async def scan(
        self, condition: Mapping[str, Any], fields: Iterable[str] | None = None
    ) -> AsyncIterator[Document]:
        """Every thread that fits, in the order of ids, deleted ones left out; page by page.

        Each is whole, however long it is. The reader may take its time, and may delete what it was
        given.

        Args:
            condition: A filter.
            fields: The fields to read besides ``_id``; None reads all, large values included.
        """
        read = None if fields is None else tuple(fields)
        async for stored in self._heads(condition, None if read is None else (*_PARTED, *read)):
            whole = await self._whole(stored, read)
            if whole is None:  # it was deleted meanwhile, or its parts are missing
                whole = await self.get(stored["_id"])
            if whole is not None:
                yield whole

    async def scan_heads(
        self, condition: Mapping[str, Any], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """The same, but of a long thread only what its head holds: also where parts are missing."""
        async for stored in self._heads(condition, tuple(fields)):
            yield stored

    async def scan_overflow(
        self, thread_ids: Iterable[str], fields: Iterable[str]
    ) -> AsyncIterator[Document]:
        """What there is besides the heads of threads, ``thread`` among the fields.

        Parts, also those that no head lists, and the pieces of large texts.
        """
        async for stored in self._overflow.scan(thread_ids, fields):
            yield stored

    async def delete_overflow(self, thread_ids: Iterable[str]) -> int:
        """Delete all that :meth:`scan_overflow` gives; returns how many documents. One command."""
        return await self._overflow.delete(thread_ids)

    async def _heads(
        self, condition: Mapping[str, Any], fields: tuple[str, ...] | None
    ) -> AsyncIterator[Document]:
        projection = None if fields is None else dict.fromkeys(("_id", *fields), 1)
        place: Document = {}
        while True:
            where = {"$and": [{"deletedAt": {"$exists": False}}, dict(condition), place]}
            page = self._threads.find(where, projection).sort("_id", 1).limit(PAGE)
            count = 0
            async for stored in page:
                count += 1
                place = {"_id": {"$gt": stored["_id"]}}
                yield stored
            if count < PAGE:
                return

    async def expire(self, thread_id: str, condition: Mapping[str, Any]) -> list[str] | None:
        """Replace a thread by its tombstone if it still fits ``condition``. One command.

        Returns:
            The object keys of its elements' files; None when it does not fit any more.
        """
        before = await self._threads.find_one_and_replace(
            {"_id": thread_id, **condition}, {"deletedAt": _now()}, projection=_LEFT_BEHIND
        )
        return None if before is None else await self._clear(thread_id, before)

    async def deleted_ids(self) -> AsyncIterator[str]:
        """The ids of the threads that were deleted and whose tombstone is still there."""
        async for stored in self._threads.find({"deletedAt": {"$exists": True}}, {"_id": 1}):
            yield stored["_id"]

    async def exists(self, thread_id: str) -> bool:
        """Whether there is a thread with this id, or what is left of a deleted one."""
        return await self._threads.find_one({"_id": thread_id}, {"_id": 1}) is not None

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a whole thread as it is. One command, more for a long one.

        Returns:
            False when one with its id is there and ``replace`` is not set; it is left alone.
        """
        thread_id = stored["_id"]
        if not replace and await self.exists(thread_id):
            return False
        taken = await self._taken_out(stored)
        head = await self._overflow.store(taken)
        parts = head.get("parts") or ()
        self._learn(thread_id, head)
        if replace:
            before = await self._threads.find_one_and_replace(
                {"_id": thread_id}, head, projection={"overflow": 1}, upsert=True
            )
            if before is not None and "overflow" in before:
                await self._overflow.delete_others(thread_id, parts)
                await self._values.delete_others(thread_id, _value_keys([taken]))
            return True
        try:
            await self._threads.insert_one(head)
        except DuplicateKeyError:
            await self._overflow.discard(parts)
            await self._values.discard(*_maps([taken]))
            return False
        return True

    # Overflow ---------------------------------------------------------------------------------

    async def _whole(
        self, stored: Document, fields: tuple[str, ...] | None = None
    ) -> Document | None:
        """The thread that a head stands for; None when parts of it are missing."""
        if "overflow" not in stored:
            stored.pop("bytes", None)
            return stored
        whole = await self._overflow.whole(stored, fields)
        if whole is None:
            return None
        deleted = {step["id"] for step in whole.get("deletedSteps") or ()}
        if deleted:  # a deletion that was killed may have left them in a part
            steps, elements = whole.get("steps") or (), whole.get("elements") or ()
            whole["steps"] = [step for step in steps if step["id"] not in deleted]
            whole["elements"] = [each for each in elements if each.get("forId") not in deleted]
        if fields is None:
            await self._values.put_back(_maps([whole]))
        return whole

    async def _taken_out(self, whole: Document) -> Document:
        """A whole thread without its large values."""
        thread_id = whole["_id"]
        taken = {**whole}
        if steps := whole.get("steps"):
            taken["steps"] = [await self._step_taken_out(thread_id, step) for step in steps]
        if elements := whole.get("elements"):
            taken["elements"] = [
                await self._values.take_out(thread_id, f"elements/{element['id']}", element)
                for element in elements
            ]
        if waiting := whole.get("pendingFeedback"):
            taken["pendingFeedback"] = [
                await self._values.take_out(thread_id, f"feedback/{feedback['forId']}", feedback)
                for feedback in waiting
            ]
        metadata = whole.get("metadata")
        if isinstance(metadata, dict):
            taken["metadata"] = await self._values.take_out(thread_id, "metadata", metadata)
        return taken | dict(LONG if any(map(pipelines.marks, _maps([taken]))) else {})

    async def _step_taken_out(self, thread_id: str, step: Document) -> Document:
        feedback = step.get("feedback")
        if feedback is not None:
            place = f"feedback/{step['id']}"
            step = {**step, "feedback": await self._values.take_out(thread_id, place, feedback)}
        return await self._values.take_out(thread_id, f"steps/{step['id']}", step, **_SEARCHED)

    async def _clear(self, thread_id: str, before: Mapping[str, Any]) -> list[str]:
        """Delete the overflow of a thread that was deleted.

        Returns:
            The object keys of its elements' files.
        """
        keys = _object_keys(before.get("elements"))
        # Where the deletion is repeated nobody knows any more what the thread had.
        if before.get("overflow") or "deletedAt" in before:
            async for part in self._overflow.scan([thread_id], ("elements.objectKey",)):
                keys += _object_keys(part.get("elements"))
            await self._overflow.delete([thread_id])
            await self._values.delete(thread_id)
        return keys

    # Statements -------------------------------------------------------------------------------

    async def _upserted(self, statement: Statement) -> bool:
        """Run an upsert; False when its guard said no."""
        try:
            await self._threads.update_one(*statement, upsert=True, **self._by_id)
        except DuplicateKeyError:
            return False
        except WriteError as exc:
            await self._shrink(statement.filter["_id"], exc)
            return False
        return True

    async def _appended(self, thread_id: str, statement: Statement) -> bool:
        """Run an upsert that needs room; False when its guard said no."""
        done = await self._upserted(statement)
        long = "overflow" in statement.update.get("$set", ())
        if done and (long or self._known.get(thread_id) is None):
            # The guard was that the thread has the parts that are known of it.
            self._known.put(thread_id, _Known(tuple(self._parts(thread_id) or ()), long))
        return done

    async def _matched(self, statement: Statement) -> bool:
        """Run an update; False when its filter found nothing."""
        try:
            result = await self._threads.update_one(*statement, **self._by_id)
        except WriteError as exc:
            await self._shrink(statement.filter["_id"], exc)
            return False
        return bool(result.matched_count)

    async def _shrink(self, thread_id: str, error: WriteError) -> None:
        """Make room in a document that an update would make too large for MongoDB."""
        if error.code not in _TOO_LARGE:
            raise error
        await self._overflow.make_room(thread_id)


@dataclass(frozen=True)
class _Known:
    """What is remembered of a thread: its parts, and whether it may have large values."""

    parts: tuple[str, ...] = ()
    long: bool = False


@dataclass(frozen=True)
class _StepWrite:
    """A step that is written: as it came, and without its large values."""

    thread_id: str
    step: Document
    taken: Document
    known: datetime | None
    owner: Mapping[str, str]


@dataclass(frozen=True)
class _StepState:
    step: Document | None = None
    feedback: Document | None = None
    parts: tuple[str, ...] = ()
    deleted: bool = False
    full: bool = False


# What the server says when an update would make a document larger than 16 MB.
_TOO_LARGE = frozenset({10334, 17419, 17420})
_SEARCHED: Mapping[str, Any] = {"searched": SEARCHED}
_TREE = ("steps.id", "steps.parentId", "elements.id", "elements.forId", "elements.objectKey")
_PARTED = ("parts", "overflow", "deletedSteps")
_LEFT_BEHIND = {"elements.objectKey": 1, "overflow": 1, "deletedAt": 1}


def _replaced(before: Document, fields: Iterable[str]) -> Document:
    """What a step had in the fields that were set."""
    return {name: before[name] for name in fields if name in before}


def _maps(threads: Iterable[Document]) -> list[Document]:
    """The maps of threads whose values may be references."""
    found: list[Document] = []
    for thread in threads:
        if isinstance(thread.get("metadata"), dict):
            found.append(thread["metadata"])
        steps = thread.get("steps") or ()
        found.extend(steps)
        found.extend(step["feedback"] for step in steps if step.get("feedback"))
        found.extend(thread.get("pendingFeedback") or ())
        found.extend(thread.get("elements") or ())
    return found


def _value_keys(threads: Iterable[Document]) -> set[str]:
    """The object keys of the large values that threads, or parts, refer to."""
    return {
        value["gridfs"]
        for fields in _maps(threads)
        for value in fields.values()
        if is_reference(value)
    }


def _activity(step: Document) -> datetime | None:
    """The time of activity that a step means for its thread; None when it has no time.

    That is the step's own time, so that an import keeps its history, but never the future.
    """
    created = codec.parse_time(step.get("createdAt"))
    return None if created is None else min(created, _now())


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _object_keys(elements: Iterable[Mapping[str, Any]] | None) -> list[str]:
    return [element["objectKey"] for element in elements or () if element.get("objectKey")]


def _no_step(step_id: str, where: str) -> NotFoundError:
    return NotFoundError(f"There is no step {step_id!r} {where} that feedback could be given for.")


def _contended(thread_id: str | None, item: Document) -> MongoDataLayerError:
    return MongoDataLayerError(
        f"{item['id']!r} in thread {thread_id!r} could not be written: other writers changed it "
        f"each of {ATTEMPTS} times."
    )
