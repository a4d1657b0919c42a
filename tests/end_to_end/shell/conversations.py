"""Conversations for the shell recipes to find, written through the data layer itself.

The names and ids are those the recipes on the page use, so the page runs as it is printed.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from chainlit.element import CustomElement, File
from chainlit.step import StepDict
from chainlit.types import Feedback
from chainlit.user import PersistedUser, User
from pymongo import AsyncMongoClient

from mongo_datalayer import GridFSStorageClient, MongoDataLayer, StorageError
from mongo_datalayer.chainlit.codec import read_time
from mongo_datalayer.files import FileLinks
from mongo_datalayer.schema.views import apply_views
from mongo_datalayer.storage import overflow

ALICE = "alice@example.com"
BOB = "bob@example.com"
THREAD = "5f0c8f6e-2f4b-4f0e-9a59-6a1f3f1b2c10"
RUN = "c41b7a0e-0d7e-4a53-8d0f-2b6a3f0f9d11"


@dataclass(frozen=True)
class Tool:
    """One call of a tool inside an answer."""

    name: str
    seconds: float
    output: str = "done"
    failed: bool = False


@dataclass(frozen=True)
class Turn:
    """A question, the run that answers it, the tools it calls and the answer."""

    at: datetime
    question: str
    answer: str
    tools: Sequence[Tool] = ()
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    tokens: tuple[int, int] | None = None
    asked: bool = True


@dataclass(frozen=True)
class Written:
    """What the assertions need to know of what was written."""

    now: datetime
    alice: str
    bob: str
    hours: str = field(default_factory=lambda: str(uuid.uuid4()))
    address: str = field(default_factory=lambda: str(uuid.uuid4()))
    shared: str = field(default_factory=lambda: str(uuid.uuid4()))
    ownerless: str = field(default_factory=lambda: str(uuid.uuid4()))
    deleted: str = field(default_factory=lambda: str(uuid.uuid4()))
    lost_parent: str = field(default_factory=lambda: str(uuid.uuid4()))

    def days_ago(self, days: float) -> datetime:
        return self.now - timedelta(days=days)


LONG = overflow.Bounds(main=1500, kept=500, value=60_000)
"""With these a conversation of a few steps is a long one."""


async def write_conversations(
    uri: str, name: str, folder: Path, bounds: overflow.Bounds
) -> Written:
    """Fill the database ``name``; nothing is written past the layer but one old date.

    ``bounds`` say how much one document holds.
    """
    async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        storage = GridFSStorageClient(client[name], links=FileLinks("a secret for the tests"))
        async with opened_layer(client, name, storage, bounds) as layer:
            alice, bob = await _users(layer)
            written = Written(datetime.now(timezone.utc), alice.id, bob.id)
            await _alices_threads(layer, written)
            await _bobs_threads(layer, written)
            await _nobodys_thread(layer, written)
            await _files(layer, storage, written, folder)
        await apply_views(client[name])
        # The layer dates feedback with the time it is given: only so can there be an old one.
        old = {"$set": {"steps.$.feedback.updatedAt": written.days_ago(20)}}
        for collection, of in (("threads", "_id"), ("thread_overflow", "thread")):
            condition = {of: written.address, "steps.feedback.value": 0}
            await client[name][collection].update_one(condition, old)
    return written


@asynccontextmanager
async def opened_layer(
    client: AsyncMongoClient[dict[str, Any]],
    name: str,
    storage: GridFSStorageClient,
    bounds: overflow.Bounds = overflow.BOUNDS,
) -> AsyncIterator[MongoDataLayer]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(overflow, "BOUNDS", bounds)
        layer = MongoDataLayer(client=client, database=name, storage_client=storage)
    await layer.create_indexes()
    yield layer
    await layer.close()


async def _users(layer: MongoDataLayer) -> tuple[PersistedUser, PersistedUser]:
    alice = await layer.create_user(User(identifier=ALICE, display_name="Alice"))
    bob = await layer.create_user(User(identifier=BOB, display_name="Bob"))
    return alice, bob


async def _alices_threads(layer: MongoDataLayer, written: Written) -> None:
    first = Turn(
        written.days_ago(0.1),
        "Where is my order 1007?",
        "Order 1006 was delivered.",
        [Tool("search_orders", 0.2, "Order 1006: delivered"), Tool("read_policy", 1.5)],
        run_id=RUN,
        tokens=(900, 100),
    )
    second = Turn(
        written.days_ago(0.1) + timedelta(minutes=2),
        "No, 1007. And the refund?",
        "The refund is on its way.",
        [
            Tool("search_orders", 0.4, "Order 1007: returned"),
            Tool("refund_status", 3.0, "TimeoutError: no answer after 3 s", failed=True),
        ],
        tokens=(1500, 250),
    )
    await _write_thread(layer, THREAD, [first, second], "Order 1007", written.alice)
    await layer.upsert_feedback(
        feedback=Feedback(forId=RUN, value=0, threadId=THREAD, comment="That is another order.")
    )
    await layer.set_step_favorite(_step(second.answer_id, THREAD), favorite=True)

    hours = Turn(written.days_ago(3), "When do you open?", "At nine.", [Tool("read_policy", 2.5)])
    await _write_thread(layer, written.hours, [hours], "Opening hours", written.alice)
    await layer.upsert_feedback(
        feedback=Feedback(forId=hours.run_id, value=1, threadId=written.hours)
    )

    gone = Turn(written.days_ago(2), "Forget this.", "Forgotten.")
    await _write_thread(layer, written.deleted, [gone], "To be deleted", written.alice)
    await layer.delete_thread(written.deleted)


async def _bobs_threads(layer: MongoDataLayer, written: Written) -> None:
    address = Turn(written.days_ago(20), "Change my address", "I cannot do that.")
    await _write_thread(layer, written.address, [address], "Change my address", written.bob)
    await layer.upsert_feedback(
        feedback=Feedback(forId=address.run_id, value=0, threadId=written.address)
    )

    long = Turn(
        written.days_ago(3), "Print the refund policy", "All of it. " * 5000, tokens=(200, 9000)
    )
    await _write_thread(layer, written.shared, [long], "The policy", written.bob)
    await layer.update_thread(
        written.shared,
        metadata={"is_shared": True, "shared_at": read_time(written.days_ago(1))},
    )


async def _nobodys_thread(layer: MongoDataLayer, written: Written) -> None:
    """As Slack's: the user's message is never sent, nor is an owner."""
    turn = Turn(written.days_ago(40), "", "Hello from Slack.", run_id=written.lost_parent)
    await _write_turn(layer, written.ownerless, turn, asked=False)


async def _files(
    layer: MongoDataLayer, storage: GridFSStorageClient, written: Written, folder: Path
) -> None:
    pdf, png = "application/pdf", "image/png"
    for element in (
        File(thread_id=THREAD, name="invoice.pdf", content=b"%PDF-1.7 " * 100, mime=pdf),
        File(thread_id=THREAD, name="terms", url="https://example.com/terms.pdf", mime=pdf),
        CustomElement(thread_id=THREAD, name="map"),
    ):
        await layer.create_element(element)

    gone = str(folder / "gone.png")
    unreadable = File(thread_id=written.hours, name="photo.png", path=gone, mime=png)
    with pytest.raises(StorageError):
        await layer.create_element(unreadable)
    removed = File(thread_id=written.hours, name="scan.png", content=b"PNG", mime=png)
    await layer.create_element(removed)
    assert await storage.delete_file(f"{written.hours}/{removed.id}")

    # What is left when a process is killed between the upload and the write of the element.
    await storage.upload_file(
        f"{THREAD}/lost", b"nobody's", "text/plain", thread_id=THREAD, element_id="lost"
    )


async def _write_thread(
    layer: MongoDataLayer, thread_id: str, turns: Sequence[Turn], name: str, user_id: str
) -> None:
    # The steps first: the thread is then as old as its first step, not as old as this test.
    for turn in turns:
        await _write_turn(layer, thread_id, turn)
    await layer.update_thread(thread_id, name=name, user_id=user_id, metadata={"env": {}})


async def _write_turn(
    layer: MongoDataLayer, thread_id: str, turn: Turn, *, asked: bool = True
) -> None:
    question_id = str(uuid.uuid4())
    clock = turn.at

    def step(step_id: str, type_: str, name: str, parent: str | None, **fields: Any) -> StepDict:
        at = read_time(clock)
        times = {"createdAt": at, "start": at, "end": at}
        identity = {"threadId": thread_id, "type": type_, "name": name, "parentId": parent}
        return _step(step_id, **{**identity, "streaming": False, **times, **fields})

    if asked:
        await layer.create_step(
            step(question_id, "user_message", "user", None, output=turn.question)
        )
    clock += timedelta(milliseconds=5)
    run = step(turn.run_id, "run", "on_message", question_id, input=turn.question, output="")
    await layer.create_step({**run, "end": None})
    for tool in turn.tools:
        clock += timedelta(milliseconds=5)
        call = step(str(uuid.uuid4()), "tool", tool.name, turn.run_id, input=turn.question)
        await layer.create_step({**call, "end": None})
        clock += timedelta(seconds=tool.seconds)
        call |= {"end": read_time(clock), "output": tool.output, "isError": tool.failed}
        await layer.update_step(call)
    if turn.tokens is not None:
        await layer.create_step(
            step(
                str(uuid.uuid4()),
                "llm",
                "model",
                turn.run_id,
                output=turn.answer,
                generation=_generation(*turn.tokens),
            )
        )
    clock += timedelta(milliseconds=5)
    answer = step(turn.answer_id, "assistant_message", "Assistant", turn.run_id)
    await layer.create_step({**answer, "output": turn.answer})
    await layer.update_step({**run, "end": read_time(clock)})


def _generation(tokens_in: int, tokens_out: int) -> dict[str, Any]:
    """As LiteralAI's ``BaseGeneration`` writes it, which Chainlit's integrations use."""
    return {
        "type": "CHAT",
        "provider": "example",
        "model": "example-small",
        "inputTokenCount": tokens_in,
        "outputTokenCount": tokens_out,
        "tokenCount": tokens_in + tokens_out,
    }


def _step(step_id: str, thread_id: str | None = None, **fields: Any) -> StepDict:
    named = {"id": step_id} | ({} if thread_id is None else {"threadId": thread_id})
    return cast(StepDict, {**named, **fields})
