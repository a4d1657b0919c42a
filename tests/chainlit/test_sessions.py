"""The layer inside Chainlit's own sessions: queues, owners, sharing, and whose elements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from chainlit.context import ChainlitContext, context_var
from chainlit.element import CustomElement, File
from chainlit.session import HTTPSession, WebsocketSession, ws_sessions_id, ws_sessions_sid
from chainlit.types import Feedback
from chainlit.user import PersistedUser, User
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from mongo_datalayer import MongoDataLayer, MongoDataLayerError
from mongo_datalayer.testing.contract import new_id, step
from tests.chainlit.chats import websocket

OPERATION_FAILED = 96  # the server's error code
SAVED: dict[str, Any] = {"client_type": "webapp", "chat_settings": {"t": 0.5}, "chat_profile": None}


@pytest.fixture
async def layer(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name)
    await layer.create_indexes()
    yield layer
    context_var.set(cast("Any", None))
    await layer.close()


@pytest.fixture
async def ada(layer: MongoDataLayer) -> PersistedUser:
    return await layer.create_user(User(identifier="ada"))


def chat(user: PersistedUser, thread_id: str | None = None) -> WebsocketSession:
    """A browser's session after the person's first message."""
    session = websocket(user, thread_id)
    session.has_first_interaction = True
    return session


def http(user: User | PersistedUser | None, client_type: Any = "slack") -> HTTPSession:
    """The session of a message from Slack, Discord or Teams."""
    session = HTTPSession(id=new_id(), client_type=client_type, user=user)
    context_var.set(ChainlitContext(session))
    return session


@pytest.fixture(autouse=True)
def _no_sessions_left() -> Iterator[None]:
    yield
    ws_sessions_id.clear()
    ws_sessions_sid.clear()


async def test_a_visit_without_a_message_stores_nothing(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    session = websocket(ada)
    await layer.create_step(step_dict=step(session.thread_id, output="welcome"))
    await layer.create_element(CustomElement(name="Card", props={}, thread_id=session.thread_id))
    assert await layer.get_thread(session.thread_id) is None


async def test_the_first_message_stores_what_waited(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    session = websocket(ada)
    welcome = step(session.thread_id, 1, output="welcome")
    await layer.create_step(step_dict=welcome)
    await layer.update_step(step_dict={**welcome, "output": "welcome, Ada"})
    session.has_first_interaction = True
    await layer.update_thread(thread_id=session.thread_id, name="Hi", user_id=ada.id)
    await layer.create_step(step_dict=step(session.thread_id, 2, output="Hi"))
    await cast("Any", session).flush_method_queue()
    thread = await layer.get_thread(session.thread_id)
    assert thread is not None
    assert [s["output"] for s in thread["steps"]] == ["welcome, Ada", "Hi"]
    assert (thread["name"], thread["userIdentifier"]) == ("Hi", "ada")


async def test_a_thread_that_begins_with_a_step_has_the_sessions_user(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    session = http(ada)
    await layer.create_step(step_dict=step(session.thread_id))
    assert await layer.get_thread_author(session.thread_id) == "ada"


async def test_a_step_of_another_thread_does_not_take_the_sessions_user(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    http(ada)
    await layer.create_step(step_dict=step("another thread"))
    assert await layer.get_thread_author("another thread") == ""


async def test_a_user_the_login_could_not_store_owns_the_thread_all_the_same(
    layer: MongoDataLayer,
) -> None:
    session = websocket(User(identifier="eve"))
    session.has_first_interaction = True
    await layer.update_thread(thread_id=session.thread_id, name="Hi", user_id=None)
    eve = await layer.get_user("eve")
    thread = await layer.get_thread(session.thread_id)
    assert eve is not None
    assert thread is not None
    assert (thread["userId"], thread["userIdentifier"]) == (eve.id, "eve")


async def test_a_session_resumed_while_shared_does_not_share_again(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    await layer.update_thread("t", name="N", user_id=ada.id, metadata=SAVED)
    # Chainlit's HTTP routes write the whole metadata, outside of any session.
    shared = {**SAVED, "is_shared": True, "shared_at": "2026-03-01T10:00:00Z"}
    await layer.update_thread("t", metadata=shared)
    await layer.update_thread("t", metadata={**SAVED, "is_shared": False})
    websocket(ada, "t")
    await layer.update_thread("t", metadata={**shared, "note": "from the session"})
    thread = await layer.get_thread("t")
    assert thread is not None
    metadata = thread["metadata"] or {}
    assert metadata["is_shared"] is False
    assert "shared_at" not in metadata
    assert metadata["note"] == "from the session"


async def test_a_session_keeps_a_thread_shared_that_is(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    await layer.update_thread("t", user_id=ada.id, metadata={**SAVED, "is_shared": True})
    websocket(ada, "t")
    await layer.update_thread("t", metadata=SAVED)
    thread = await layer.get_thread("t")
    assert thread is not None
    assert (thread["metadata"] or {})["is_shared"] is True


async def test_a_session_neither_pins_nor_unpins(layer: MongoDataLayer, ada: PersistedUser) -> None:
    await layer.update_thread("t", user_id=ada.id, metadata=SAVED)
    for pinned in (True, False):
        await layer.update_pinned_state("t", pinned)
        websocket(ada, "t")
        await layer.update_thread("t", metadata={**SAVED, "pinned": not pinned})
        thread = await layer.get_thread("t")
        assert thread is not None
        assert (thread["metadata"] or {})["pinned"] is pinned


async def test_an_element_is_written_under_the_sessions_thread_whatever_the_browser_sent(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    victims = CustomElement(id="e", name="Card", props={"mine": True}, thread_id="victim")
    await layer.create_element(victims)
    session = websocket(ada)
    session.has_first_interaction = True
    forged = CustomElement(id="e", name="Card", props={"mine": False}, thread_id="victim")
    await layer.create_element(forged)
    await layer.delete_element("e", "victim")
    kept = await layer.get_element("victim", "e")
    assert kept is not None
    assert kept["props"] == {"mine": True}


async def test_an_element_without_a_thread_goes_to_the_sessions(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    session = websocket(ada)
    session.has_first_interaction = True
    await layer.create_element(CustomElement(id="e", name="C", props={"n": 1}, thread_id=""))
    stored = await layer.get_element(session.thread_id, "e")
    assert stored is not None
    assert stored["props"] == {"n": 1}


async def test_a_step_without_a_thread_goes_to_the_sessions(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    session = http(ada)
    await layer.create_step(step_dict={"id": "s", "type": "run"})
    assert await layer.get_thread(session.thread_id) is not None


async def test_a_step_without_any_thread_is_an_error(layer: MongoDataLayer) -> None:
    context_var.set(cast("Any", None))
    with pytest.raises(ValueError, match="'threadId'"):
        await layer.create_step(step_dict={"id": "s", "type": "run"})


async def step_ids(layer: MongoDataLayer, thread_id: str) -> list[str]:
    thread = await layer.get_thread(thread_id)
    assert thread is not None
    return [stored["id"] for stored in thread["steps"]]


async def test_a_chat_deletes_no_step_of_another_thread(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    await layer.create_step(step_dict=step("victim", id="s"))
    await layer.create_step(step_dict=step("victim", id="child", parentId="s"))
    chat(ada)
    await layer.delete_step("s")  # the browser chose the id of its own message
    assert await step_ids(layer, "victim") == ["s", "child"]


async def test_server_code_in_an_http_context_deletes_a_step_of_any_thread(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    await layer.create_step(step_dict=step("other", id="s"))
    http(ada)
    await layer.delete_step("s")
    assert await step_ids(layer, "other") == []


async def test_server_code_in_an_http_context_gives_feedback_for_a_step_of_any_thread(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    await layer.create_step(step_dict=step("other", id="s"))
    session = http(ada)
    await layer.upsert_feedback(Feedback(forId="s", value=0))
    thread: Any = await layer.get_thread("other")
    assert thread["steps"][0]["feedback"]["value"] == 0
    assert await layer.get_thread(session.thread_id) is None


async def test_a_copy_under_the_same_id_diverts_nothing_in_a_chat(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    own = chat(ada).thread_id
    for thread_id in (own, "copy"):
        await layer.create_step(step_dict=step(thread_id, id="s"))
    given = await layer.upsert_feedback(Feedback(forId="s", value=0))
    copied = await layer.get_thread("copy")
    assert copied is not None
    assert copied["steps"][0]["feedback"] is None
    context_var.set(cast("Any", None))
    assert await layer.upsert_feedback(Feedback(forId="s", value=1, threadId="copy")) != given
    chat(ada, own)
    await layer.delete_step("s")
    assert await step_ids(layer, own) == []
    assert await step_ids(layer, "copy") == ["s"]


async def test_outside_of_a_chat_an_ambiguous_id_is_refused(layer: MongoDataLayer) -> None:
    context_var.set(cast("Any", None))
    for thread_id in ("t", "copy"):
        await layer.create_step(step_dict=step(thread_id, id="s"))
        await layer.create_element(CustomElement(id="e", name="C", props={}, thread_id=thread_id))
    for call in (
        lambda: layer.delete_step("s"),
        lambda: layer.upsert_feedback(Feedback(forId="s", value=1)),
        lambda: layer.delete_element("e"),
    ):
        with pytest.raises(MongoDataLayerError, match=r"Several threads have '[se]'"):
            await call()
    for thread_id in ("t", "copy"):
        thread = await layer.get_thread(thread_id)
        assert thread is not None
        assert [s["feedback"] for s in thread["steps"]] == [None]
        assert len(thread["elements"] or ()) == 1


async def test_an_element_of_an_http_context_goes_to_the_thread_that_it_names(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    session = http(ada)
    for thread_id in ("", "other"):
        element = CustomElement(id=f"e{thread_id}", name="C", props={})
        element.thread_id = thread_id
        await layer.create_element(element)
    assert await layer.get_element(session.thread_id, "e") is not None
    assert await layer.get_element("other", "eother") is not None
    await layer.delete_element("eother", "other")
    assert await layer.get_element("other", "eother") is None


async def test_metadata_may_be_json_text(layer: MongoDataLayer) -> None:
    await layer.update_thread("t", metadata=cast("Any", '{"a": {"b": [1]}}'))
    await layer.update_thread("t", metadata=cast("Any", "null"))
    thread = await layer.get_thread("t")
    assert thread is not None
    assert thread["metadata"] == {"a": {"b": [1]}}


@pytest.mark.parametrize("metadata", ["{", "[1]", "", [1], 5])
async def test_metadata_that_is_no_map_is_refused_in_words(
    layer: MongoDataLayer, metadata: Any
) -> None:
    with pytest.raises(ValueError, match="metadata is a map"):
        await layer.update_thread("t", metadata=metadata)
    assert await layer.get_thread("t") is None


async def test_session_state_can_be_deleted_and_nothing_else_goes(
    layer: MongoDataLayer, ada: PersistedUser
) -> None:
    await layer.update_thread("t", user_id=ada.id, metadata={"topic": "billing", "is_shared": True})
    session = websocket(ada, "t")
    await layer.update_thread("t", metadata={**SAVED, "env": {}, "my.key": 1})
    assert await layer.delete_user_session(session.id) is True
    assert await layer.delete_user_session(session.id) is False
    thread = await layer.get_thread("t")
    assert thread is not None
    assert thread["metadata"] == {"topic": "billing", "is_shared": True}


async def test_a_failure_at_disconnect_is_logged_and_lets_chainlit_clean_up(
    layer: MongoDataLayer,
    ada: PersistedUser,
    database: AsyncDatabase[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = websocket(ada, "t")
    fail = {
        "configureFailPoint": "failCommand",
        "mode": {"times": 2},
        "data": {
            "failCommands": ["update", "findAndModify"],
            "errorCode": OPERATION_FAILED,
        },
    }
    await database.client.admin.command(fail)
    await layer.update_thread(thread_id=session.thread_id, metadata=SAVED)
    assert "update_thread in thread t failed" in caplog.text
    with pytest.raises(OperationFailure):
        await layer.update_thread(thread_id=session.thread_id, name="N", user_id=ada.id)


async def test_a_file_is_read_although_it_is_removed_at_once(
    layer: MongoDataLayer,
    ada: PersistedUser,
    tmp_path: Path,
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    session = http(ada)
    path = tmp_path / "report.txt"
    path.write_text("numbers")
    element = File(name="report.txt", path=str(path), thread_id=session.thread_id)
    writing = asyncio.ensure_future(cast("Any", layer.create_element(element)))
    await asyncio.sleep(0)
    path.unlink()
    await writing
    stored = await layer.get_element(session.thread_id, element.id)
    assert stored is not None
    assert stored["objectKey"]
    assert [bytes(c["data"]) async for c in database["fs.chunks"].find()] == [b"numbers"]


async def test_a_queued_file_that_moved_is_found_in_the_session(
    layer: MongoDataLayer,
    ada: PersistedUser,
    tmp_path: Path,
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    session = http(ada)
    copy = tmp_path / "copy.txt"
    copy.write_text("numbers")
    session.files["key"] = {
        "id": "key",
        "name": "report.txt",
        "path": copy,
        "size": 7,
        "type": "text/plain",
    }
    gone = str(tmp_path / "gone.txt")
    element = File(name="r", path=gone, chainlit_key="key", thread_id=session.thread_id)
    await layer.create_element(element)
    assert await database["fs.chunks"].count_documents({}) == 1
