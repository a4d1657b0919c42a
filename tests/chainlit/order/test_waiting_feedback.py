"""Feedback before its step and its thread: it waits, within bounds, where nobody sees it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from chainlit.element import Text
from chainlit.types import Feedback

from mongo_datalayer import MongoDataLayer, NotFoundError
from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.config import WAITING_FEEDBACK, WAITING_FEEDBACK_BYTES
from tests.chainlit.order.conftest import Database


def vote(step_id: str = "s", thread_id: str | None = "t", **fields: Any) -> Feedback:
    return Feedback(**{"forId": step_id, "threadId": thread_id, "value": 1, **fields})


def step(step_id: str = "s") -> Any:
    time = "2024-05-06T12:00:00.000000Z"
    return {"id": step_id, "threadId": "t", "type": "run", "output": "o", "createdAt": time}


async def stored(database: Database) -> Any:
    return await database.threads.find_one({"_id": "t"})


async def values(layer: MongoDataLayer) -> dict[str, Any]:
    thread: Any = await layer.get_thread("t")
    return {each["id"]: (each.get("feedback") or {}).get("value") for each in thread["steps"]}


async def test_it_makes_no_thread_that_anybody_sees(
    layers: list[MongoDataLayer], database: Database
) -> None:
    for layer in layers:
        await layer.upsert_feedback(vote())

        assert await layer.get_thread("t") is None
        assert await layer.get_thread_author("t") == ""
    placeholder = await stored(database)
    assert placeholder.keys() == {"_id", "deletedAt", "pendingFeedback"}
    assert len(placeholder["pendingFeedback"]) == 1


@pytest.mark.parametrize("writer", [0, 1], ids=["same process", "other process"])
@pytest.mark.parametrize("first", ["thread", "create", "update", "element"])
async def test_whatever_makes_the_thread_keeps_it(
    layers: list[MongoDataLayer], alice: str, database: Database, first: str, writer: int
) -> None:
    await layers[0].upsert_feedback(vote(value=0))
    layer = layers[writer]
    if first == "thread":
        await layer.update_thread("t", name="n", user_id=alice)
    elif first == "update":
        await layer.update_step(step())
    elif first == "element":
        await layer.create_element(Text(thread_id="t", id="e", for_id="s", content="c"))
    await layer.create_step(step())

    assert await values(layer) == {"s": 0}
    assert await layers[0].get_thread_author("t") == ("alice" if first == "thread" else "")
    thread = await stored(database)
    assert not {"deletedAt", "previousDeletedAt", "stepless"} & set(thread)
    assert (
        thread["updatedAt"] == thread["createdAt"] == datetime(2024, 5, 6, 12, tzinfo=timezone.utc)
    )
    assert thread["pendingFeedback"] == []


async def test_a_session_that_meets_a_placeholder_owns_the_thread(
    layer: MongoDataLayer, database: Database
) -> None:
    await layer.upsert_feedback(vote())
    owner = {"userId": "u", "userIdentifier": "ann"}

    assert await Threads(database).steps.create("t", {"id": "s"}, owner=owner)

    assert await layer.get_thread_author("t") == "ann"


@pytest.mark.parametrize("there", [True, False], ids=["thread", "no thread"])
async def test_so_many_may_wait(layer: MongoDataLayer, database: Database, there: bool) -> None:
    if there:
        await layer.create_step(step("first"))
    for number in range(WAITING_FEEDBACK):
        await layer.upsert_feedback(vote(f"s{number}"))

    with pytest.raises(NotFoundError, match="There is no step 'more'"):
        await layer.upsert_feedback(vote("more"))
    await layer.upsert_feedback(vote("s3", value=0))  # in place of its step's older one

    assert len((await stored(database))["pendingFeedback"]) == WAITING_FEEDBACK
    if there:
        assert (await stored(database))["bytes"] > 90 * WAITING_FEEDBACK
    for number in range(WAITING_FEEDBACK):
        await layer.create_step(step(f"s{number}"))
    assert (await values(layer))["s3"] == 0
    await layer.upsert_feedback(vote("more"))


@pytest.mark.parametrize("there", [True, False], ids=["thread", "no thread"])
async def test_so_much_may_wait(layer: MongoDataLayer, database: Database, there: bool) -> None:
    if there:
        await layer.create_step(step("first"))
    for number in range(WAITING_FEEDBACK):
        with suppress(NotFoundError):
            await layer.upsert_feedback(vote(f"s{number}", comment="c" * 8000))

    waiting = (await stored(database))["pendingFeedback"]
    assert WAITING_FEEDBACK_BYTES <= 8000 * len(waiting) < WAITING_FEEDBACK_BYTES + 8000
    await layer.create_step(step("s0"))
    assert (await values(layer))["s0"] == 1


async def test_so_many_at_once_too(layers: list[MongoDataLayer], database: Database) -> None:
    votes = [vote(f"s{number}") for number in range(3 * WAITING_FEEDBACK)]
    outcomes = await asyncio.gather(
        *(layers[number % 3].upsert_feedback(each) for number, each in enumerate(votes)),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert {type(outcome) for outcome in refused} == {NotFoundError}
    waiting = (await stored(database))["pendingFeedback"]
    assert len(waiting) == WAITING_FEEDBACK == len(votes) - len(refused)


@pytest.mark.parametrize("there", [True, False], ids=["thread", "no thread"])
async def test_a_huge_comment_does_not_wait(
    layer: MongoDataLayer, database: Database, there: bool
) -> None:
    if there:
        await layer.create_step(step("first"))
    huge = vote(comment="c" * WAITING_FEEDBACK_BYTES)
    with pytest.raises(NotFoundError):
        await layer.upsert_feedback(huge)
    assert await database["fs.files"].count_documents({}) == 0

    await layer.create_step(step())
    await layer.upsert_feedback(huge)
    assert (await values(layer))["s"] == 1


async def test_what_waited_for_a_day_makes_room(layer: MongoDataLayer, database: Database) -> None:
    large = 20  # in GridFS
    for number in range(WAITING_FEEDBACK):
        comment = "c" * 9000 if number < large else None
        await layer.upsert_feedback(vote(f"s{number}", comment=comment))
    old = datetime.now(timezone.utc) - timedelta(hours=25)
    await database.threads.update_one({}, {"$set": {"pendingFeedback.$[].updatedAt": old}})
    assert await database["fs.files"].count_documents({}) == large

    await layer.upsert_feedback(vote("new"))

    assert [each["forId"] for each in (await stored(database))["pendingFeedback"]] == ["new"]
    assert await database["fs.files"].count_documents({}) == 0


async def test_a_placeholder_whose_feedback_was_withdrawn_becomes_a_thread(
    layer: MongoDataLayer, alice: str
) -> None:
    feedback_id = await layer.upsert_feedback(vote())
    assert await layer.delete_feedback(feedback_id)
    await layer.update_thread("t", name="n", user_id=alice)
    await layer.create_step(step())

    assert await values(layer) == {"s": None}


async def test_a_placeholder_can_be_deleted(layer: MongoDataLayer, database: Database) -> None:
    await layer.upsert_feedback(vote(comment="c" * 9000))
    await layer.delete_thread("t")

    assert (await stored(database)).keys() == {"_id", "deletedAt"}
    assert await database["fs.files"].count_documents({}) == 0
    with pytest.raises(NotFoundError):
        await layer.upsert_feedback(vote())


# The order of calls -------------------------------------------------------------------------------


@pytest.mark.parametrize("thread_id", ["t", None])
@pytest.mark.parametrize("own_id", ["f", None])
async def test_feedback_and_its_deletion_apply_in_the_order_of_the_calls(
    layers: list[MongoDataLayer], thread_id: str | None, own_id: str | None
) -> None:
    await layers[1].create_step(step())
    layer = layers[0]
    await layer.get_thread("t")
    feedback_id = await layer.upsert_feedback(vote(thread_id=thread_id, id=own_id))
    for number in range(5):
        kept = vote(thread_id=thread_id, id=own_id, value=number % 2)
        deleted: Any = await asyncio.gather(
            layer.upsert_feedback(kept),
            layer.delete_feedback(feedback_id),
            layer.upsert_feedback(kept),
            layer.delete_feedback(feedback_id),
        )
        assert deleted == [feedback_id, True, feedback_id, True]
        assert await values(layer) == {"s": None}
        again: Any = await asyncio.gather(
            layer.delete_feedback(feedback_id), layer.upsert_feedback(kept)
        )
        assert again == [False, feedback_id]
        assert await values(layer) == {"s": number % 2}


@pytest.mark.parametrize("waits", [False, True], ids=["given", "waiting"])
async def test_an_id_that_somebody_else_uses_diverts_no_deletion(
    layers: list[MongoDataLayer], waits: bool
) -> None:
    layer = layers[0]
    for thread_id in ("a", "t", "z"):
        if not waits:
            await layer.create_step(step() | {"threadId": thread_id})
        await layer.upsert_feedback(vote(thread_id=thread_id, id="f"))

    assert await layer.delete_feedback("f") is True
    for thread_id in ("a", "t", "z"):
        await layer.create_step(step() | {"threadId": thread_id})
        thread: Any = await layer.get_thread(thread_id)
        assert thread["steps"][0]["feedback"] is None, thread_id
    assert await layer.delete_feedback("f") is False
