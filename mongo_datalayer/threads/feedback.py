"""Feedback: on its step, or waiting for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mongo_datalayer import pipelines
from mongo_datalayer.documents import Document
from mongo_datalayer.errors import NotFoundError
from mongo_datalayer.threads.heads import ATTEMPTS, NO_OWNER, Heads, contended, now
from mongo_datalayer.threads.steps import Steps


class StepFeedback:
    """The feedback on steps.

    Args:
        heads: Where it is stored.
        steps: What it is for.
    """

    def __init__(self, heads: Heads, steps: Steps) -> None:
        self._heads = heads
        self._steps = steps
        self._threads = heads.collection
        self._overflow = heads.overflow
        self._values = heads.values

    async def put(
        self, thread_id: str | None, feedback: Document, *, owner: Mapping[str, str] = NO_OWNER
    ) -> None:
        """Put feedback on its step, in place of what was there. Ordinarily one command.

        Feedback for a step that is not there yet waits in the thread for it.

        Raises:
            NotFoundError: the thread or the step was deleted; or no thread is given, and no step
                with this id is stored.
        """
        step_id = feedback["forId"]
        thread_id = thread_id or await self._steps.find(step_id)
        if thread_id is None:
            raise _no_step(step_id, "in any thread")
        feedback = await self._values.take_out(
            thread_id, f"feedback/{step_id}", feedback, at_least=self._heads.part_value_bytes
        )
        for _ in range(ATTEMPTS):
            parts = self._heads.parts(thread_id)
            is_old = self._heads.is_old(thread_id, step_id)
            if is_old and await self._put_on_step_of_part(thread_id, feedback, parts):
                return
            if await self._put_on_step(thread_id, feedback):
                return
            if parts is None:  # never seen: ask, rather than let it wait in vain
                parts = (await self._heads.state(thread_id, step_id)).parts
            if is_old is None and await self._put_on_step_of_part(thread_id, feedback, parts):
                return
            waiting = pipelines.feedback_wait(
                thread_id, feedback, now(), owner=owner, room=self._overflow.room(parts)
            )
            if await self._heads.appended(thread_id, waiting):
                return
            state = await self._heads.state(thread_id, step_id)
            if state.deleted:
                await self._values.discard(feedback)
                raise _no_step(step_id, f"in thread {thread_id!r}")
            if state.feedback is not None:  # a newer verdict takes the place of the older
                forget = pipelines.feedback_forget(thread_id, step_id)
                await self._threads.update_one(*forget)
                await self._values.discard(state.feedback)
            await self._heads.make_room(thread_id, state)
        raise contended(thread_id, feedback)

    async def delete(self, feedback_id: str) -> bool:
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

    async def _put_on_step(self, thread_id: str, feedback: Document) -> bool:
        before = await self._heads.changed(
            thread_id,
            pipelines.feedback_put(thread_id, feedback),
            {"steps": {"$elemMatch": {"id": feedback["forId"]}}},
        )
        if before is None:
            return False
        await self._values.discard(*(step.get("feedback") for step in before.get("steps") or ()))
        return True

    async def _put_on_step_of_part(
        self, thread_id: str, feedback: Document, parts: Sequence[str] | None
    ) -> bool:
        if not parts:
            return False
        statement = pipelines.in_part(pipelines.feedback_put(thread_id, feedback), parts)
        before = await self._overflow.find_and_update(*statement, "steps", feedback["forId"])
        if before is None:
            return False
        await self._values.discard(before.get("feedback"))
        return True


def _no_step(step_id: str, where: str) -> NotFoundError:
    return NotFoundError(f"There is no step {step_id!r} {where} that feedback could be given for.")
