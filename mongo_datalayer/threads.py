"""The collection of threads: the only code that talks to it.

One document holds one conversation, and every write is one atomic update of it, guarded so that it
can be repeated. The ordinary case of each operation is one command; only where the guard says no
the document is read to find out why.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from pymongo.errors import DuplicateKeyError

from mongo_datalayer import codec, pipelines
from mongo_datalayer.cursor import Cursor
from mongo_datalayer.documents import THREADS, Document
from mongo_datalayer.driver import Database, aggregate, open_collection
from mongo_datalayer.errors import MongoDataLayerError, NotFoundError
from mongo_datalayer.indexes import TOMBSTONE_SECONDS
from mongo_datalayer.pipelines import Statement

logger = logging.getLogger(__name__)

ATTEMPTS = 10
"""How often a write is tried while other writers change the same step in between."""

PAGE = 100
"""How many threads one command of a scan reads."""

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
    """Threads of one database, one document each.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._threads = open_collection(database, THREADS)

    # Threads ----------------------------------------------------------------------------------

    async def get(self, thread_id: str) -> Document | None:
        """The stored thread, whole; None when there is none or it was deleted. One command."""
        stored: Document | None = await self._threads.find_one({"_id": thread_id})
        return None if stored is None or "deletedAt" in stored else stored

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
        )
        return await aggregate(self._threads, pipeline)

    async def update(
        self, thread_id: str, changes: ThreadChanges, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Change a thread, or make it; False when it was deleted. Ordinarily one command."""
        statement = pipelines.thread_update(
            thread_id,
            _now(),
            values=changes.values,
            metadata=changes.metadata,
            removed_metadata=changes.removed_metadata,
            on_insert=owner,
        )
        for _ in range(ATTEMPTS):
            if await self._upserted(statement):
                return True
            # Another process may just have made the thread: that is no reason to drop the update.
            if await self._threads.find_one({"_id": thread_id, "deletedAt": {"$exists": True}}):
                logger.info("The thread %s was deleted; a late update of it is dropped.", thread_id)
                return False
        raise _contended(thread_id, {"id": thread_id})

    async def delete(self, thread_id: str) -> list[str]:
        """Replace a thread by its tombstone. One command.

        Returns:
            The object keys of its elements' files.
        """
        before = await self._threads.find_one_and_replace(
            {"_id": thread_id},
            {"deletedAt": _now()},
            projection={"elements.objectKey": 1},
            upsert=True,
        )
        return _object_keys((before or {}).get("elements"))

    async def forget_session(self, session_id: str) -> bool:
        """Remove the metadata that a session saved; False when there is none of it."""
        found = False
        async for stored in self._threads.find({"session.id": session_id}, {"session": 1}):
            names = [name for name in stored["session"]["keys"] if name not in codec.SHARING_KEYS]
            removed = {f"metadata.{name}": "" for name in names} | {"session": ""}
            result = await self._threads.update_one(
                {"_id": stored["_id"], "session": stored["session"]}, {"$unset": removed}
            )
            found = found or result.modified_count > 0
        return found

    # Steps ------------------------------------------------------------------------------------

    async def find_step(self, step_id: str) -> str | None:
        """The id of the thread that holds the step. One command."""
        stored = await self._threads.find_one({"steps.id": step_id}, {"_id": 1})
        return None if stored is None else str(stored["_id"])

    async def create_step(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Append a step, or fill in what the one that is there lacks. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        return await self._write_step(thread_id, step, owner, overwrite=False)

    async def update_step(
        self, thread_id: str, step: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> bool:
        """Set fields of a step, or append it. Ordinarily one command.

        Returns:
            False when the thread or the step was deleted.
        """
        return await self._write_step(thread_id, step, owner, overwrite=True)

    async def set_favorite(self, thread_id: str, step_id: str, favorite: bool) -> bool:
        """Mark a step, or take the mark away; False when the step is not there. One command."""
        step = {"id": step_id, "metadata.favorite": favorite}
        return await self._matched(pipelines.step_overwrite(thread_id, step))

    async def favorites(self, user_id: str) -> list[tuple[str, Document]]:
        """Thread id and stored step of each favourite step of a user. One aggregation."""
        threads = await aggregate(self._threads, pipelines.favorites_pipeline(user_id))
        return [(thread["_id"], step) for thread in threads for step in thread["steps"]]

    async def delete_step(self, thread_id: str, step_id: str) -> tuple[bool, list[str]]:
        """Remove a step, all steps below it, their elements and feedback. Two commands.

        A step that is not there yet is remembered as deleted too.

        Returns:
            Whether the step was there, and the object keys of the removed elements' files.
        """
        projection = {
            "steps.id": 1,
            "steps.parentId": 1,
            "elements.forId": 1,
            "elements.objectKey": 1,
            "deletedSteps": 1,
        }
        stored = await self._threads.find_one({"_id": thread_id}, projection) or {}
        steps = stored.get("steps") or ()
        gone = codec.descendants(steps, step_id)
        now = _now()
        await self._threads.update_one(*pipelines.steps_delete(thread_id, sorted(gone), now))
        await self._expire_deleted_steps(thread_id, stored.get("deletedSteps") or (), now)
        elements = [e for e in stored.get("elements") or () if e.get("forId") in gone]
        return any(step["id"] == step_id for step in steps), _object_keys(elements)

    async def _write_step(
        self, thread_id: str, step: Document, owner: Mapping[str, str], *, overwrite: bool
    ) -> bool:
        known = _activity(step)
        for _ in range(ATTEMPTS):
            if overwrite and await self._matched(pipelines.step_overwrite(thread_id, step, known)):
                return True
            activity = known or _now()
            arrived = step if known is not None else {**step, "receivedAt": activity}
            insert = pipelines.step_insert(thread_id, arrived, activity, owner=owner)
            if await self._upserted(insert):
                return True
            state = await self._step_state(thread_id, step["id"])
            if state.deleted:
                return False
            if state.feedback is not None:
                take_along = pipelines.step_insert(
                    thread_id, arrived, activity, owner=owner, feedback=state.feedback
                )
                if await self._matched(take_along):
                    return True
            elif state.step is not None and not overwrite:
                missing = codec.missing_fields(state.step, step)
                fill = pipelines.step_fill(thread_id, step["id"], missing, known)
                if not missing or await self._matched(fill):
                    return True
        raise _contended(thread_id, step)

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
        return _StepState(
            step=next(iter(stored.get("steps") or ()), None),
            feedback=next(iter(stored.get("pendingFeedback") or ()), None),
        )

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
        for _ in range(ATTEMPTS):
            if await self._matched(pipelines.feedback_put(thread_id, feedback)):
                return
            if thread_id is None:
                raise _no_step(feedback["forId"], "in any thread")
            waiting = pipelines.feedback_wait(thread_id, feedback, _now(), owner=owner)
            if await self._upserted(waiting):
                return
            state = await self._step_state(thread_id, feedback["forId"])
            if state.deleted:
                raise _no_step(feedback["forId"], f"in thread {thread_id!r}")
            if state.feedback is not None:  # a newer verdict takes the place of the older
                forget = pipelines.feedback_forget(thread_id, feedback["forId"])
                await self._threads.update_one(*forget)
        raise _contended(thread_id, feedback)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Remove feedback; False when there was none with this id. Ordinarily one command."""
        result = await self._threads.update_one(
            {"steps.feedback.id": feedback_id}, {"$unset": {"steps.$.feedback": ""}}
        )
        if result.matched_count == 0:
            result = await self._threads.update_one(
                {"pendingFeedback.id": feedback_id},
                {"$pull": {"pendingFeedback": {"id": feedback_id}}},
            )
        return bool(result.matched_count)

    # Elements ---------------------------------------------------------------------------------

    async def put_element(
        self, thread_id: str, element: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> tuple[bool, Document | None]:
        """Append an element, or replace the one with its id. Ordinarily one command.

        Returns:
            Whether the element is stored now (not where its step or thread was deleted), and the
            element it replaced.
        """
        for _ in range(ATTEMPTS):
            statement = pipelines.element_insert(thread_id, element, _now(), owner=owner)
            if await self._upserted(statement):
                return True, None
            before = await self._threads.find_one_and_update(
                *pipelines.element_replace(thread_id, element),
                projection={"elements": {"$elemMatch": {"id": element["id"]}}},
            )
            if before is not None:
                return True, before["elements"][0]
            if (await self._step_state(thread_id, element.get("forId", ""))).deleted:
                return False, None
        raise _contended(thread_id, element)

    async def get_element(self, thread_id: str, element_id: str) -> Document | None:
        """One stored element. One command."""
        stored = await self._threads.find_one(
            {"_id": thread_id, "elements.id": element_id},
            {"elements": {"$elemMatch": {"id": element_id}}},
        )
        return None if stored is None else stored["elements"][0]

    async def delete_element(self, thread_id: str | None, element_id: str) -> Document | None:
        """Remove an element. One command.

        Returns:
            The removed element, or None when there was none.
        """
        where = {"elements.id": element_id} | ({} if thread_id is None else {"_id": thread_id})
        before = await self._threads.find_one_and_update(
            where,
            {"$pull": {"elements": {"id": element_id}}},
            projection={"elements": {"$elemMatch": {"id": element_id}}},
        )
        return None if before is None else before["elements"][0]

    async def object_keys(self, thread_ids: Collection[str]) -> set[str]:
        """The object keys that elements of these threads point to. One command."""
        stored = self._threads.find({"_id": {"$in": list(thread_ids)}}, {"elements.objectKey": 1})
        return {key async for thread in stored for key in _object_keys(thread.get("elements"))}

    # Administration ---------------------------------------------------------------------------

    async def scan(
        self, condition: Mapping[str, Any], fields: Iterable[str] | None = None
    ) -> AsyncIterator[Document]:
        """Every thread that fits, in the order of ids, deleted ones left out; page by page.

        The reader may take its time, and may delete what it was given.

        Args:
            condition: A filter.
            fields: The fields to read besides ``_id``; None reads all.
        """
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
            {"_id": thread_id, **condition},
            {"deletedAt": _now()},
            projection={"elements.objectKey": 1},
        )
        return None if before is None else _object_keys(before.get("elements"))

    async def deleted_ids(self) -> AsyncIterator[str]:
        """The ids of the threads that were deleted and whose tombstone is still there."""
        async for stored in self._threads.find({"deletedAt": {"$exists": True}}, {"_id": 1}):
            yield stored["_id"]

    async def exists(self, thread_id: str) -> bool:
        """Whether there is a thread with this id, or what is left of a deleted one."""
        return await self._threads.find_one({"_id": thread_id}, {"_id": 1}) is not None

    async def restore(self, stored: Document, *, replace: bool) -> bool:
        """Store a whole thread as it is. One command.

        Returns:
            False when one with its id is there and ``replace`` is not set; it is left alone.
        """
        if replace:
            await self._threads.replace_one({"_id": stored["_id"]}, stored, upsert=True)
            return True
        try:
            await self._threads.insert_one(dict(stored))
        except DuplicateKeyError:
            return False
        return True

    # Statements -------------------------------------------------------------------------------

    async def _upserted(self, statement: Statement) -> bool:
        """Run an upsert; False when its guard said no."""
        try:
            await self._threads.update_one(*statement, upsert=True)
        except DuplicateKeyError:
            return False
        return True

    async def _matched(self, statement: Statement) -> bool:
        """Run an update; False when its filter found nothing."""
        result = await self._threads.update_one(*statement)
        return bool(result.matched_count)


@dataclass(frozen=True)
class _StepState:
    step: Document | None = None
    feedback: Document | None = None
    deleted: bool = False


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
