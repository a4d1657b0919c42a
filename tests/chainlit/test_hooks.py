"""What an app's functions may do before content is stored, and after feedback is."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chainlit.element import Text
from chainlit.types import Feedback

from mongo_datalayer import ConfigurationError, GridFSStorageClient, MongoDataLayer
from mongo_datalayer.storage.hooks import StoredFeedback
from mongo_datalayer.testing.contract import step

SECRET = "4111 1111 1111 1111"


@pytest.fixture
async def layer(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    yield layer
    await layer.close()


def redacted(_kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.replace(SECRET, "[card]") if isinstance(value, str) else value
        for name, value in fields.items()
    }


async def stored_texts(layer: MongoDataLayer) -> str:
    """All that MongoDB has, as text."""
    database = layer._database
    names = await database.list_collection_names()
    return str([await database[name].find().to_list() for name in names])


async def test_texts_are_redacted_wherever_they_come_from(layer: MongoDataLayer) -> None:
    layer.before_store(redacted)
    given = step("t", 1, output=f"My card is {SECRET}.")
    await layer.create_step(given)
    await layer.update_step({**given, "input": SECRET})
    await layer.set_step_favorite({**given, "name": SECRET}, favorite=True)
    text = Text(id="e", thread_id="t", for_id=given["id"], name=SECRET, content=SECRET)
    await layer.create_element(text)
    await layer.upsert_feedback(
        Feedback(forId=given["id"], threadId="t", value=0, comment=f"No {SECRET}!")
    )

    assert SECRET not in await stored_texts(layer)
    assert given["output"] == f"My card is {SECRET}."  # the app goes on with its own
    thread: Any = await layer.get_thread("t")
    (kept,) = thread["steps"]
    assert kept["output"] == "My card is [card]."
    assert kept["feedback"]["comment"] == "No [card]!"
    assert isinstance(layer.storage_client, GridFSStorageClient)
    (element,) = thread["elements"]
    assert element["name"] == "[card]"
    assert await layer.storage_client.bucket.read(element["objectKey"]) == b"[card]"


async def test_what_is_refused_is_not_stored(layer: MongoDataLayer) -> None:
    @layer.before_store
    def refuse(_kind: str, _fields: dict[str, Any]) -> None:
        return None

    await layer.create_step(step("t", 1))
    await layer.create_element(Text(id="e", thread_id="t", for_id="s", name="n", content="c"))
    assert await layer.upsert_feedback(Feedback(forId="s", threadId="t", value=1)) == ""
    assert await layer.get_thread("t") is None


async def test_a_redaction_that_fails_lets_nothing_through(layer: MongoDataLayer) -> None:
    @layer.before_store
    def fail(_kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no rules loaded")

    with pytest.raises(RuntimeError, match="no rules loaded"):
        await layer.create_step(step("t", 1))
    assert await layer.get_thread("t") is None


@pytest.mark.parametrize("name", ["id", "threadId", "type"])
async def test_a_step_stays_where_it_belongs(layer: MongoDataLayer, name: str) -> None:
    layer.before_store(lambda _kind, fields: {**fields, name: "other"})
    with pytest.raises(ConfigurationError, match=f"may not change '{name}' of the step"):
        await layer.create_step(step("t", 1))


class Async:
    async def __call__(self, _kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        return fields


@pytest.mark.parametrize("callback", [lambda *_: "fields", lambda *_: True, Async()], ids=type)
async def test_what_is_no_fields_is_named(layer: MongoDataLayer, callback: Any) -> None:
    layer.before_store(callback)
    with pytest.raises(ConfigurationError, match="the fields of the step or None from its functi"):
        await layer.create_step(step("t", 1))
    assert await layer.get_thread("t") is None


async def test_an_element_keeps_no_content_that_is_no_text(layer: MongoDataLayer) -> None:
    layer.before_store(lambda _kind, fields: {**fields, "content": 1})
    with pytest.raises(ConfigurationError, match="text as the 'content' of an element"):
        await layer.create_element(Text(id="e", thread_id="t", for_id="s", name="n", content="c"))
    assert await layer.get_thread("t") is None


async def test_what_cannot_be_copied_comes_as_text(layer: MongoDataLayer) -> None:
    seen: list[Any] = []

    @layer.before_store
    def note(_kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        seen.append(fields["metadata"])
        return fields

    lock = threading.Lock()
    await layer.create_step({**step("t", 1), "metadata": {"lock": lock, "n": 1}})

    thread: Any = await layer.get_thread("t")
    assert seen == [thread["steps"][0]["metadata"]] == [{"lock": str(lock), "n": 1}]


async def test_feedback_is_told_once_it_is_stored(
    layer: MongoDataLayer, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[StoredFeedback] = []

    @layer.on_feedback
    async def note(feedback: StoredFeedback) -> None:
        thread: Any = await layer.get_thread(feedback.thread_id)
        assert thread["steps"][0]["feedback"]["value"] == 0
        await layer.update_thread(feedback.thread_id, tags=["disliked"])
        told.append(feedback)

    @layer.on_feedback
    def fail(_feedback: StoredFeedback) -> None:
        raise RuntimeError("the tracker is down")

    given = step("t", 1)
    await layer.create_step(given)
    # Without the thread's id, the step is looked up in a queue that the callback must not wait for.
    with caplog.at_level(logging.ERROR, "mongo_datalayer"):
        await layer.upsert_feedback(Feedback(forId=given["id"], value=0, comment="Wrong."))

    assert told == [StoredFeedback("t", (given["id"],), positive=False, comment="Wrong.")]
    thread: Any = await layer.get_thread("t")
    assert thread["tags"] == ["disliked"]
    assert "on_feedback failed for thread t" in caplog.text


async def test_callbacks_that_cannot_work_are_refused(layer: MongoDataLayer) -> None:
    async def slow(_kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        return fields

    with pytest.raises(ConfigurationError, match="before_store takes a plain function"):
        layer.before_store(slow)
    with pytest.raises(ConfigurationError, match="on_feedback takes a function, not 1"):
        layer.on_feedback(1)  # type: ignore[type-var]
