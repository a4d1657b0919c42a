"""What each operation costs, counted: commands sent, plans, documents examined."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from chainlit.element import Image
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.testing.contract import step
from tests.chainlit.chats import in_chat
from tests.costs.commands import EXPLAINED, Commands, examined, explain, name, stages

IMAGE = "https://example.org/i.png"


class Chat(NamedTuple):
    """A data layer with one user and one ordinary thread, and the commands it sends."""

    layer: MongoDataLayer
    commands: Commands
    client: AsyncMongoClient[dict[str, Any]]
    database: str
    user: PersistedUser


@pytest.fixture
async def chat(mongo_uri: str, database_name: str) -> AsyncIterator[Chat]:
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](mongo_uri, event_listeners=[commands]) as client:
        layer = MongoDataLayer(client=client, database=database_name)
        await layer.create_indexes()
        user = await layer.create_user(User(identifier="ada"))
        await layer.update_thread("t", name="Chat", user_id=user.id)
        for number in range(10):
            await layer.create_step(step_dict=step("t", number, id=f"s{number}", output="words"))
        await layer.create_element(Image(id="e1", name="i", url=IMAGE, thread_id="t", for_id="s1"))
        await layer.set_step_favorite(step("t", id="s3"), True)
        feedback = Feedback(id="f2", forId="s2", value=1, threadId="t")
        await layer.upsert_feedback(feedback)
        yield Chat(layer, commands, client, database_name, user)
        await layer.close()


Operation = Callable[[Chat], Awaitable[Any]]


async def delete_in_its_chat(chat: Chat, step_id: str) -> None:
    with in_chat("t"):
        await chat.layer.delete_step(step_id)


def page(cursor: str | None = None, **filters: Any) -> Operation:
    return lambda c: c.layer.list_threads(
        Pagination(first=20, cursor=cursor),
        ThreadFilter(userId=c.user.id, **filters),
    )


CURSOR = "WzE3NzM0MDk2MDAwMDAsICJ4Il0"  # [1773409600000, "x"]

ONE_COMMAND: dict[str, Operation] = {
    "get_user": lambda c: c.layer.get_user("ada"),
    "create_user": lambda c: c.layer.create_user(User(identifier="ada")),
    "get_thread": lambda c: c.layer.get_thread("t"),
    "get_thread_author": lambda c: c.layer.get_thread_author("t"),
    "get_element": lambda c: c.layer.get_element("t", "e1"),
    "create_element": lambda c: c.layer.create_element(
        Image(id="e2", name="i", url=IMAGE, thread_id="t", for_id="s1")
    ),
    "delete_element": lambda c: c.layer.delete_element("e1", "t"),
    "create_step": lambda c: c.layer.create_step(step_dict=step("t")),
    "create_step in a new thread": lambda c: c.layer.create_step(step_dict=step("new")),
    "update_step": lambda c: c.layer.update_step(step_dict=step("t", id="s4", output="more")),
    "delete_step": lambda c: delete_in_its_chat(c, "s6"),
    "set_step_favorite": lambda c: c.layer.set_step_favorite(step("t", id="s4"), True),
    "get_favorite_steps": lambda c: c.layer.get_favorite_steps(c.user.id),
    "upsert_feedback": lambda c: c.layer.upsert_feedback(
        Feedback(forId="s5", value=0, threadId="t")
    ),
    "update_thread of a known user": lambda c: c.layer.update_thread(
        "t2", name="N", user_id=c.user.id, tags=["x"], metadata={"a": 1, "b": None}
    ),
    "update_thread metadata": lambda c: c.layer.update_thread("t", metadata={"a": 1}),
    "delete_thread": lambda c: c.layer.delete_thread("t"),
    "list_threads": page(),
    "list_threads search": page(search="WORDS"),
    "list_threads feedback": page(feedback=1),
    "list_threads cursor": page(cursor=CURSOR),
    "list_threads everything": page(search="words", feedback=1, cursor=CURSOR),
}

TWO_COMMANDS: dict[str, Operation] = {
    "delete_feedback": lambda c: c.layer.delete_feedback("f2"),
    "delete_element without a thread": lambda c: c.layer.delete_element("e1"),
    "delete_step outside of its chat": lambda c: c.layer.delete_step("s7"),
    "upsert_feedback without a thread": lambda c: c.layer.upsert_feedback(
        Feedback(forId="s5", value=0)
    ),
    "delete_user_session": lambda c: c.layer.delete_user_session("session"),
    "update_thread of an unknown user": lambda c: MongoDataLayer(
        client=c.client, database=c.database
    ).update_thread("t", user_id=c.user.id),
}


LOOKS_INSIDE = (
    *("get_favorite_steps", "list_threads search", "list_threads feedback"),
    "list_threads everything",
)
"""What has to look into the overflow of long threads."""


async def add_long_thread(chat: Chat, thread_id: str = "long", minutes: int = 0) -> None:
    """A thread of the user's with an overflow document, and what is looked for in that."""
    marked = {"id": f"{thread_id} old", "output": "words", "metadata": {"favorite": True}}
    found = {
        **marked,
        "feedback": {"id": f"{thread_id} f", "forId": f"{thread_id} old", "value": 1},
    }
    overflow = {
        "_id": f"{thread_id} overflow",
        "thread": thread_id,
        "steps": [found],
        "elements": [],
    }
    time = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=minutes)
    main = {
        "_id": thread_id,
        "userId": chat.user.id,
        "createdAt": time,
        "updatedAt": time,
        "steps": [{"id": f"{thread_id} new", "output": "nothing"}],
        "overflow": True,
        "overflowIds": [overflow["_id"]],
    }
    await chat.client[chat.database]["thread_overflow"].insert_one(overflow)
    await chat.client[chat.database]["threads"].insert_one(main)


@pytest.mark.parametrize("operation", ONE_COMMAND)
async def test_one_command(chat: Chat, operation: str) -> None:
    with chat.commands.counted() as sent:
        await ONE_COMMAND[operation](chat)
    assert len(sent) == 1, [name(command) for command in sent]


@pytest.mark.parametrize("operation", TWO_COMMANDS)
async def test_two_commands(chat: Chat, operation: str) -> None:
    state = {"client_type": "webapp", "chat_settings": {}, "id": "session"}
    await chat.layer.update_thread("t", metadata=state)
    with chat.commands.counted() as sent:
        await TWO_COMMANDS[operation](chat)
    assert len(sent) == 2, [name(command) for command in sent]


async def test_a_step_with_others_below_it_is_deleted_by_three_commands(chat: Chat) -> None:
    await chat.layer.create_step(step_dict=step("t", id="below", parentId="s6"))
    with chat.commands.counted() as sent:
        await delete_in_its_chat(chat, "s6")
    assert [name(command) for command in sent] == ["findAndModify", "find", "findAndModify"]
    thread: Any = await chat.layer.get_thread("t")
    ids = [each["id"] for each in thread["steps"]]
    assert not {"s6", "below"} & set(ids)


@pytest.mark.parametrize("operation", LOOKS_INSIDE)
async def test_one_command_more_at_the_first_long_thread_of_a_user(
    chat: Chat, operation: str
) -> None:
    await add_long_thread(chat)
    other = await chat.layer.create_user(User(identifier="other"))
    for commands in (2, 1, 1):
        with chat.commands.counted() as sent:
            await ONE_COMMAND[operation](chat)
        assert [name(command) for command in sent] == ["aggregate"] * commands
    with chat.commands.counted() as sent:
        await ONE_COMMAND[operation](chat._replace(user=other))
    assert len(sent) == 1
    assert "$lookup" not in str(sent)


@pytest.mark.parametrize("first", LOOKS_INSIDE)
async def test_what_one_list_learned_of_a_user_all_know(chat: Chat, first: str) -> None:
    await add_long_thread(chat)
    await ONE_COMMAND[first](chat)
    for operation in LOOKS_INSIDE:
        with chat.commands.counted() as sent:
            await ONE_COMMAND[operation](chat)
        assert len(sent) == 1


async def test_a_list_without_filters_is_one_command_for_all_users(chat: Chat) -> None:
    await add_long_thread(chat)
    for operation in ("list_threads", "list_threads cursor"):
        with chat.commands.counted() as sent:
            await ONE_COMMAND[operation](chat)
        assert len(sent) == 1
        assert "$unionWith" not in str(sent)


async def test_every_query_uses_an_index(chat: Chat) -> None:
    """All commands of all operations, the rare paths included, are explained by the server."""
    before = len(chat.commands.sent)
    layer = chat.layer
    await layer.upsert_feedback(Feedback(forId="late", value=0, threadId="t"))
    await layer.upsert_feedback(Feedback(forId="late", value=1, threadId="t"))
    await layer.create_step(step_dict=step("t", id="late"))
    await layer.update_step(step_dict={"id": "u", "threadId": "t", "output": "x"})
    await layer.create_step(step_dict=step("t", id="u", name="filled"))
    await layer.create_element(Image(id="e1", name="i", url=IMAGE, thread_id="t"))
    await layer.delete_feedback("none")
    for operation in (*TWO_COMMANDS.values(), *ONE_COMMAND.values()):
        await operation(chat)
    await add_long_thread(chat)
    for name_of in LOOKS_INSIDE:
        await ONE_COMMAND[name_of](chat)
    assert any("$lookup" in str(each) for each in chat.commands.sent[before:])
    await MongoDataLayer(client=chat.client, database=chat.database).delete_step("s1")
    await layer.create_step(step_dict=step("t", id="s1"))

    sent = [each for each in chat.commands.sent[before:] if name(each) in EXPLAINED]
    assert len(sent) > 30
    for command in sent:
        found = stages(await explain(chat.client[chat.database], command))
        assert found & {"IXSCAN", "IDHACK", "EOF"}, command
        assert not found & {"COLLSCAN", "SORT"}, (command, found)
        if "$unionWith" not in str(command):  # two sorted pages are merged into one
            assert "$sort" not in found, (command, found)


THREADS_OF_ONE_USER = 10_000
PAGE_SIZE = 20


@pytest.mark.parametrize("ties", [False, True], ids=["different times", "one time for all"])
async def test_a_page_examines_only_its_own_documents(chat: Chat, ties: bool) -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    await chat.client[chat.database]["threads"].insert_many(
        {
            "_id": f"{owner}-{number:05d}",
            "userId": owner,
            "createdAt": start,
            "updatedAt": start if ties else start + timedelta(minutes=number),
            "steps": [{"id": f"{owner}-{number}", "output": "hello"}],
        }
        for owner, count in (("ada", THREADS_OF_ONE_USER), ("bob", 500), ("cyd", 500))
        for number in range(count)
    )
    cursor = None
    seen: set[str] = set()
    for number in range(1, 401):
        with chat.commands.counted() as sent:
            found = await chat.layer.list_threads(
                Pagination(first=PAGE_SIZE, cursor=cursor), ThreadFilter(userId="ada")
            )
        seen.update(thread["id"] for thread in found.data)
        cursor = found.pageInfo.endCursor
        if number in (1, 2, 400):
            (command,) = sent
            explained = await explain(chat.client[chat.database], command)
            assert examined(explained) <= PAGE_SIZE + 1
            assert not stages(explained) & {"COLLSCAN", "SORT", "$sort"}
    assert len(seen) == 400 * PAGE_SIZE


@pytest.mark.parametrize("order_by", ["activity", "creation"])
@pytest.mark.parametrize("filters", [{"search": "HELLO"}, {"feedback": 1}], ids=str)
async def test_a_filtered_page_ends_as_soon_as_it_is_full(
    chat: Chat, order_by: Any, filters: dict[str, Any]
) -> None:
    """For a user without long threads, and for one whose long threads are older than the page."""
    layer = MongoDataLayer(client=chat.client, database=chat.database, order_by=order_by)
    start = datetime(2026, 1, 2, tzinfo=timezone.utc)
    rated = {"output": "hello", "feedback": {"value": 1}}
    await chat.client[chat.database]["threads"].insert_many(
        {
            "_id": f"{number:03d}",
            "userId": "ada",
            "createdAt": start + timedelta(minutes=number),
            "updatedAt": start + timedelta(minutes=number),
            "steps": [{"id": str(number), **rated}],
        }
        for number in range(500)
    )
    user = PersistedUser(id="ada", identifier="ada", createdAt="")
    ada = chat._replace(layer=layer, user=user)
    for long in (False, True):
        if long:
            await add_long_thread(ada)
        cursor = None
        for number in range(1, 11):
            with chat.commands.counted() as sent:
                found = await layer.list_threads(
                    Pagination(first=PAGE_SIZE, cursor=cursor),
                    ThreadFilter(userId="ada", **filters),
                )
            assert len(found.data) == PAGE_SIZE
            cursor = found.pageInfo.endCursor
            if number in (1, 2, 10):
                (command,) = sent
                explained = await explain(chat.client[chat.database], command)
                assert examined(explained) == PAGE_SIZE + 1
                assert not stages(explained) & {"COLLSCAN", "SORT", "$sort", "$lookup"}


async def test_favourites_examine_only_the_threads_that_have_some(chat: Chat) -> None:
    await chat.client[chat.database]["threads"].insert_many(
        {"_id": f"other {number}", "userId": chat.user.id, "steps": [{"id": f"other {number}"}]}
        for number in range(100)
    )
    with chat.commands.counted() as sent:
        found = await chat.layer.get_favorite_steps(chat.user.id)
    assert len(found) == 1
    explained = await explain(chat.client[chat.database], sent[0])
    assert examined(explained) == 1
    assert not stages(explained) & {"COLLSCAN", "SORT", "$sort", "$lookup"}


async def test_the_other_order_uses_its_own_index(chat: Chat) -> None:
    layer = MongoDataLayer(client=chat.client, database=chat.database, order_by="creation")
    with chat.commands.counted() as sent:
        await layer.list_threads(Pagination(first=5), ThreadFilter(userId=chat.user.id))
    explained = await explain(chat.client[chat.database], sent[0])
    assert not stages(explained) & {"COLLSCAN", "SORT", "$sort"}
    assert examined(explained) == 1
