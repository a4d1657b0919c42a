"""What the caller changes after a call began is not seen by it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from chainlit.element import CustomElement, Text
from chainlit.types import Feedback

from mongo_datalayer import GridFSStorageClient, MongoDataLayer
from mongo_datalayer.files import FileLinks
from tests.chainlit.order.conftest import Database

Dict = dict[str, Any]


async def begun_then_changed(
    layer: MongoDataLayer,
    thread_id: str,
    call: Coroutine[Any, Any, Any],
    change: Callable[[], object],
) -> Any:
    """Begin ``call`` while another write to its thread is on the way, change, and read."""
    first = asyncio.create_task(layer.update_thread(thread_id=thread_id))
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    assert not first.done()  # the call waits: what it needs it must have taken already
    change()
    await asyncio.gather(first, task)
    return await layer.get_thread(thread_id)


@pytest.mark.parametrize("method", ["create_step", "update_step"])
async def test_a_step(layer: MongoDataLayer, thread_id: str, method: str) -> None:
    step: Dict = {
        "id": "s",
        "threadId": thread_id,
        "type": "tool",
        "output": "before",
        "metadata": {"deep": {"list": [1]}},
        "tags": ["before"],
    }
    before = copy.deepcopy(step)

    def change() -> None:
        step["metadata"]["deep"]["list"].append("after")
        step["metadata"]["new"] = step["new"] = "after"
        step["tags"].append("after")
        step.update({"id": "other", "threadId": "other", "output": "after"})
        del step["type"]

    call = getattr(layer, method)(step_dict=step)
    (stored,) = (await begun_then_changed(layer, thread_id, call, change))["steps"]

    assert {key: stored[key] for key in before} == before
    assert "new" not in stored
    assert await layer.get_thread("other") is None


async def test_values_of_many_parts(layer: MongoDataLayer, thread_id: str) -> None:
    many: Dict = {"messages": [{"number": number} for number in range(10_000)]}
    before = copy.deepcopy(many)
    step: Any = {"id": "s", "threadId": thread_id, "type": "run", "generation": many}
    element = CustomElement(id="e", name="e", props=many, thread_id=thread_id)

    def change() -> None:
        many["messages"][0]["number"] = many["new"] = "after"

    for call in (
        layer.create_step(step),
        layer.create_element(element),
        layer.update_thread(thread_id, metadata=many),
    ):
        thread = await begun_then_changed(layer, thread_id, call, change)
        del many["new"]
        many["messages"][0]["number"] = 0

    assert thread["steps"][0]["generation"] == before
    assert thread["elements"][0]["props"] == before
    assert thread["metadata"] == before


async def test_a_threads_metadata_and_tags(layer: MongoDataLayer, thread_id: str) -> None:
    metadata: Dict = {"deep": {"list": [1]}, "removed": None}
    tags = ["before"]

    def change() -> None:
        metadata["deep"]["list"].append("after")
        metadata.update({"new": 1, "removed": 2})
        tags.append("after")

    call = layer.update_thread(thread_id=thread_id, metadata=metadata, tags=tags)
    thread = await begun_then_changed(layer, thread_id, call, change)

    assert thread["metadata"] == {"deep": {"list": [1]}}
    assert thread["tags"] == ["before"]


async def test_an_element(layer: MongoDataLayer, thread_id: str) -> None:
    props: Dict = {"deep": [1]}
    element = CustomElement(thread_id=thread_id, id="e", for_id="s", name="before", props=props)

    def change() -> None:
        props["deep"].append("after")
        element.name, element.for_id, element.id, element.thread_id = "after", "x", "x", "x"

    call = layer.create_element(element)
    (stored,) = (await begun_then_changed(layer, thread_id, call, change))["elements"]

    assert (stored["id"], stored["name"], stored["forId"]) == ("e", "before", "s")
    assert stored["props"] == {"deep": [1]}


async def test_a_file_that_is_removed_after_the_call_began(
    mongo_uri: str, database: Database, thread_id: str, tmp_path: Path
) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"before")
    links = FileLinks("a secret of the tests, long enough for HS256")
    storage = GridFSStorageClient(database, links=links)
    layer = MongoDataLayer(mongo_uri, database=database.name, storage_client=storage)
    element = Text(thread_id=thread_id, id="e", name="note", path=str(path), mime="text/plain")

    thread = await begun_then_changed(layer, thread_id, layer.create_element(element), path.unlink)

    (stored,) = thread["elements"]
    (file,) = await database.fs.files.find({}).to_list()
    assert (file["length"], stored["objectKey"]) == (6, file["filename"])
    await layer.close()


async def test_feedback(layer: MongoDataLayer, thread_id: str) -> None:
    await layer.create_step({"id": "s", "threadId": thread_id})
    feedback = Feedback(forId="s", value=0, threadId=thread_id, comment="before")

    def change() -> None:
        feedback.value, feedback.comment, feedback.forId, feedback.threadId = 1, "after", "x", "x"

    call = layer.upsert_feedback(feedback)
    (step,) = (await begun_then_changed(layer, thread_id, call, change))["steps"]

    assert (step["feedback"]["value"], step["feedback"]["comment"]) == (0, "before")


async def test_the_arguments_are_never_changed(layer: MongoDataLayer, thread_id: str) -> None:
    step: Any = {"id": "s", "threadId": thread_id, "metadata": {"a": (1,)}, "output": None}
    metadata = {"a": {1}, "name": "n", "gone": None}
    tags = ["t"]
    before = copy.deepcopy((step, metadata, tags))

    await layer.update_thread(thread_id=thread_id, metadata=metadata, tags=tags)
    await layer.create_step(step)
    await layer.update_step(step)
    marked = await layer.set_step_favorite(step, True)

    assert (step, metadata, tags) == before
    assert marked is not step
    assert marked["metadata"]["favorite"] is True


async def test_what_is_read_belongs_to_the_reader(layer: MongoDataLayer, thread_id: str) -> None:
    await layer.create_step({"id": "s", "threadId": thread_id, "metadata": {"a": [1]}})
    first: Any = await layer.get_thread(thread_id)
    before = copy.deepcopy(first)

    first["metadata"]["new"] = first["steps"][0]["metadata"]["new"] = 1
    first["steps"].clear()

    assert await layer.get_thread(thread_id) == before
