"""Writes to one item apply in the order in which they were called, however many there are."""

from __future__ import annotations

import asyncio
from typing import Any

from chainlit.element import CustomElement
from chainlit.types import Feedback

from mongo_datalayer import MongoDataLayer

MANY = 300


def step(thread_id: str, **fields: Any) -> Any:
    return {"id": "s", "threadId": thread_id, "type": "tool", "name": "n", **fields}


async def read(layer: MongoDataLayer, thread_id: str) -> Any:
    return await layer.get_thread(thread_id)


async def test_the_last_of_many_updates_is_the_truth(layer: MongoDataLayer, thread_id: str) -> None:
    tasks = []
    for number in range(MANY):
        fields = {"output": str(number), "end": str(number)} | {f"field {number % 7}": number}
        method = layer.create_step if number == MANY // 2 else layer.update_step
        tasks.append(asyncio.create_task(method(step_dict=step(thread_id, **fields))))
    await asyncio.gather(*tasks)

    (stored,) = (await read(layer, thread_id))["steps"]
    assert (stored["output"], stored["end"]) == (str(MANY - 1), str(MANY - 1))
    last = {f"field {n % 7}": n for n in range(MANY)}
    assert {key: stored[key] for key in last} == last


async def test_the_last_of_many_thread_updates_is_the_truth(
    layer: MongoDataLayer, thread_id: str
) -> None:
    tasks = [
        asyncio.create_task(
            layer.update_thread(
                thread_id=thread_id,
                name=str(number),
                metadata={"last": number, "odd": number if number % 2 else None},
                tags=[str(number)],
            )
        )
        for number in range(MANY)
    ]
    await asyncio.gather(*tasks)

    thread = await read(layer, thread_id)
    assert (thread["name"], thread["tags"]) == (str(MANY - 1), [str(MANY - 1)])
    assert thread["metadata"] == {"last": MANY - 1, "odd": MANY - 1}


async def test_the_last_of_many_verdicts_is_the_truth(
    layer: MongoDataLayer, thread_id: str
) -> None:
    def verdict(number: int) -> Feedback:
        value: Any = number % 2
        return Feedback(forId="s", value=value, threadId=thread_id, comment=str(number))

    tasks = [asyncio.create_task(layer.upsert_feedback(verdict(n))) for n in range(MANY // 2)]
    tasks.append(asyncio.create_task(layer.create_step(step(thread_id))))  # type: ignore[arg-type]  # gathered alike
    tasks += [asyncio.create_task(layer.upsert_feedback(verdict(n))) for n in range(MANY)]
    ids = await asyncio.gather(*tasks)

    (stored,) = (await read(layer, thread_id))["steps"]
    assert len({given for given in ids if given is not None}) == 1
    assert stored["feedback"]["comment"] == str(MANY - 1)
    assert stored["feedback"]["value"] == (MANY - 1) % 2


async def test_the_last_version_of_an_element_is_the_truth(
    layer: MongoDataLayer, thread_id: str
) -> None:
    tasks = [
        asyncio.create_task(
            layer.create_element(
                CustomElement(thread_id=thread_id, id="e", name="n", props={"number": number})
            )
        )
        for number in range(MANY)
    ]
    await asyncio.gather(*tasks)

    (element,) = (await read(layer, thread_id))["elements"]
    assert element["props"] == {"number": MANY - 1}


async def test_a_step_that_was_deleted_before_later_writes_stays_deleted(
    layer: MongoDataLayer, thread_id: str
) -> None:
    tasks = []
    for number in range(50):
        identified = {**step(thread_id), "id": f"s{number}"}
        tasks += [
            asyncio.create_task(layer.create_step(dict(identified))),  # type: ignore[arg-type]  # a StepDict
            asyncio.create_task(layer.delete_step(step_id=identified["id"])),
            asyncio.create_task(layer.update_step(dict(identified))),  # type: ignore[arg-type]  # a StepDict
        ]
    await asyncio.gather(*tasks)

    assert (await read(layer, thread_id))["steps"] == []


async def test_feedback_that_names_no_thread_and_its_deletion_do_not_wait_for_each_other(
    layer: MongoDataLayer, thread_id: str
) -> None:
    await layer.create_step(step(thread_id))
    verdict = Feedback(forId="s", value=1)
    given = await layer.upsert_feedback(verdict)
    for _ in range(5):
        calls = asyncio.gather(layer.upsert_feedback(verdict), layer.delete_feedback(given))
        assert tuple(await asyncio.wait_for(calls, timeout=10)) == (given, True)


async def test_threads_do_not_wait_for_each_other(layer: MongoDataLayer) -> None:
    tasks = [
        asyncio.create_task(layer.update_step(step(f"thread {number % 20}", output=str(number))))
        for number in range(MANY)
    ]
    await asyncio.gather(*tasks)

    for thread in range(20):
        (stored,) = (await read(layer, f"thread {thread}"))["steps"]
        assert stored["output"] == str(MANY - 20 + thread)
