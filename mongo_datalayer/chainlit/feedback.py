"""Feedback: on its step, or waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from mongo_datalayer.chainlit import updates
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments, ThreadState
from mongo_datalayer.config import TOMBSTONE_SECONDS, WAITING_FEEDBACK, WAITING_FEEDBACK_BYTES
from mongo_datalayer.errors import NotFoundError
from mongo_datalayer.model.documents import Document, size_of
from mongo_datalayer.model.times import now
from mongo_datalayer.storage.contention import WRITE_ATTEMPTS, Attempts, contended


class StepFeedback:
    """The feedback on steps.

    Args:
        documents: Where it is stored.
    """

    def __init__(self, documents: ThreadDocuments) -> None:
        self._documents = documents
        self._threads = documents.collection
        self._overflow = documents.overflow
        self._values = documents.values

    async def put(self, thread_id: str, feedback: Document) -> None:
        """Put feedback on its step, in place of earlier feedback. Ordinarily one command.

        Feedback for a step that does not exist yet waits in the thread for it, and feedback for a
        thread that does not exist yet in a placeholder: at most 100 and 64 KiB in a
        thread, for a day.

        Raises:
            NotFoundError: the thread or the step was deleted, or the feedback cannot wait.
        """
        step_id = feedback["forId"]
        may_wait = size_of(feedback) <= WAITING_FEEDBACK_BYTES
        # Small enough for an overflow document, as the step may be in one.
        feedback = await self._values.externalize(
            thread_id,
            f"feedback/{step_id}",
            feedback,
            at_least=self._documents.overflow_value_bytes,
        )
        async for _ in Attempts(WRITE_ATTEMPTS):
            overflow_ids = await self._documents.update_item(
                thread_id,
                step_id,
                partial(self._put_in_main, thread_id, feedback),
                partial(self._put_in_overflow, thread_id, feedback),
            )
            if overflow_ids is None:
                return
            state = await self._documents.state(thread_id, step_id)
            if state.deleted or not may_wait or not await self._may_wait(thread_id, step_id, state):
                await self._values.delete_values(feedback)
                raise no_step(step_id, f"in thread {thread_id!r}")
            wait = updates.feedback_wait_for_thread(thread_id, feedback, now())
            if state.is_made:
                room = self._overflow.room(overflow_ids)
                wait = updates.feedback_wait(thread_id, feedback, room=room)
            if await self._documents.update(wait, upsert=not state.is_made):
                return
            if state.is_made:
                await self._documents.make_room(thread_id, state)
        raise contended(thread_id, feedback["id"])

    async def delete(self, feedback_id: str) -> bool:
        """Remove feedback; False when there was none with this id. Ordinarily two commands.

        Browsers choose ids. If somebody else has given feedback the same one, all of it goes: else
        the person's own feedback might stay.
        """
        given = {"steps.feedback.id": feedback_id}
        waiting = {"pendingFeedback.id": feedback_id}
        found = False
        async for _ in Attempts(WRITE_ATTEMPTS):
            # Found first: a write that names no thread is refused by a sharded MongoDB before 7.1.
            cursor = self._threads.find({"$or": [given, waiting]}, {"_id": 1}).limit(2)
            thread_ids = [thread["_id"] async for thread in cursor]
            if thread_ids:
                deleted = await self._delete_in_main(thread_ids[0], given, waiting)
            else:
                thread_ids = sorted(
                    await self._overflow.find_threads("steps.feedback", feedback_id)
                )
                if not thread_ids:
                    return found
                in_thread = {"thread": thread_ids[0], **given}
                before = await self._overflow.find_and_update(in_thread, _UNSET, _given(given))
                deleted = await self._replaced(before)
            found = found or deleted
            if deleted and len(thread_ids) == 1:
                return True
        raise contended(None, feedback_id)

    async def _delete_in_main(self, thread_id: str, given: Document, waiting: Document) -> bool:
        before = await self._threads.find_one_and_update(
            {"_id": thread_id, **given},
            _UNSET,
            projection=_given(given),
            **self._documents.by_id,
        )
        if before is not None:
            return await self._replaced(before)
        (feedback_id,) = waiting.values()
        only = {"id": feedback_id}
        before = await self._threads.find_one_and_update(
            {"_id": thread_id, **waiting},
            {"$pull": {"pendingFeedback": only}},
            projection={"pendingFeedback": {"$elemMatch": only}},
            **self._documents.by_id,
        )
        await self._values.delete_values(*(before or {}).get("pendingFeedback", ()))
        return before is not None

    async def _may_wait(self, thread_id: str, step_id: str, state: ThreadState) -> bool:
        """Remove what waits no more, and the step's older vote; whether there is room to wait."""
        expired = now() - timedelta(seconds=TOMBSTONE_SECONDS)
        kept: list[Document] = []
        removed: list[Document] = []
        for feedback in state.waiting:
            outdated = feedback.get("forId") == step_id or _is_older(feedback, expired)
            (removed if outdated else kept).append(feedback)
        if removed:
            await self._threads.update_one(*updates.waiting_feedback_delete(thread_id, removed))
            await self._values.delete_values(*removed)
        return len(kept) < WAITING_FEEDBACK and size_of(kept) < WAITING_FEEDBACK_BYTES

    async def _put_in_main(self, thread_id: str, feedback: Document) -> bool:
        before = await self._documents.find_and_update(
            updates.feedback_put(thread_id, feedback), _step(feedback)
        )
        return await self._replaced(before)

    async def _put_in_overflow(
        self, thread_id: str, feedback: Document, overflow_ids: Sequence[str]
    ) -> bool:
        put = updates.in_overflow(updates.feedback_put(thread_id, feedback), overflow_ids)
        return await self._replaced(await self._overflow.find_and_update(*put, _step(feedback)))

    async def _replaced(self, before: Document | None) -> bool:
        """Delete the large values of the feedback that a document had before."""
        if before:
            for step in before.get("steps") or ():
                await self._values.delete_values(step.get("feedback"))
        return before is not None


def _is_older(feedback: Document, moment: datetime) -> bool:
    updated = feedback.get("updatedAt")  # an edit by hand may have made it anything
    return not isinstance(updated, datetime) or updated < moment


_UNSET: Document = {"$unset": {"steps.$.feedback": ""}}


def _given(given: Document) -> Document:
    """The step that has the feedback, alone."""
    (feedback_id,) = given.values()
    return {"steps": {"$elemMatch": {"feedback.id": feedback_id}}}


def _step(feedback: Document) -> Document:
    return {"steps": {"$elemMatch": {"id": feedback["forId"]}}}


def no_step(step_id: str, location: str) -> NotFoundError:
    """The error of feedback for a step that is not there."""
    return NotFoundError(
        f"There is no step {step_id!r} {location} that feedback could be given for."
    )
