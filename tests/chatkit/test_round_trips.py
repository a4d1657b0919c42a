"""What each operation of the store costs, counted: commands sent, plans, documents examined."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from chatkit.types import FileAttachment, HiddenContextItem, ThreadMetadata
from pymongo import AsyncMongoClient

from mongo_datalayer.chatkit import MongoChatKitStore, codec, queries
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import at, message, thread
from tests.chatkit.conftest import links
from tests.costs.commands import EXPLAINED, Commands, examined, explain, name, stages

ADA = {"user_id": "ada"}


class Chat(NamedTuple):
    """A store with some threads, one of them with items, and the commands it sends."""

    store: MongoChatKitStore[Any]
    commands: Commands
    client: AsyncMongoClient[dict[str, Any]]
    database: str


@pytest.fixture
async def chat(mongo_uri: str, database_name: str) -> AsyncIterator[Chat]:
    commands = Commands()
    async with AsyncMongoClient[dict[str, Any]](mongo_uri, event_listeners=[commands]) as client:
        store = MongoChatKitStore[Any](client=client, database=database_name, links=links())
        await store.create_indexes()
        for number in range(5):
            await store.save_thread(thread(f"t{number}", number), ADA)
        await store.save_thread(thread(), ADA)
        for number in range(10):
            await store.add_thread_item("t", message(f"i{number}"), ADA)
        await store.delete_thread_item("t", "i3", ADA)
        yield Chat(store, commands, client, database_name)
        await store.close()


Operation = Callable[[MongoChatKitStore[Any]], Awaitable[Any]]


def page(after: str | None, order: str) -> Operation:
    return lambda store: store.load_thread_items("t", after, 3, order, ADA)


def threads(after: str | None, order: str) -> Operation:
    return lambda store: store.load_threads(3, after, order, ADA)


ONE_COMMAND: dict[str, Operation] = {
    "load_thread": lambda s: s.load_thread("t", ADA),
    "save_thread": lambda s: s.save_thread(thread(title="new"), ADA),
    "save_thread, a new one": lambda s: s.save_thread(thread("new"), ADA),
    "load_item": lambda s: s.load_item("t", "i1", ADA),
    "save_item": lambda s: s.save_item("t", message("i1", text="new"), ADA),
    "add_thread_item": lambda s: s.add_thread_item("t", message("new"), ADA),
    "add_feedback": lambda s: s.add_feedback("t", ["i1"], "positive", ADA),
    "load_attachment": lambda s: s.load_attachment("a", ADA),
    **{
        f"load_thread_items {after} {order}": page(after, order)
        for after in (None, "i5", "i3")  # the last one was deleted
        for order in ("asc", "desc")
    },
    **{
        f"load_threads {after} {order}": threads(after, order)
        for after in (None, "t2")
        for order in ("asc", "desc")
    },
}


@pytest.mark.parametrize("operation", ONE_COMMAND)
async def test_one_command(chat: Chat, operation: str) -> None:
    await chat.store.save_attachment(FileAttachment(id="a", name="n", mime_type="x/y"), ADA)
    with chat.commands.counted() as sent:
        await ONE_COMMAND[operation](chat.store)
    assert len(sent) == 1, [name(command) for command in sent]


async def test_a_new_item_is_saved_with_three_commands(chat: Chat) -> None:
    with chat.commands.counted() as sent:
        await chat.store.save_item("t", message("new"), ADA)
    assert len(sent) == 3, [name(command) for command in sent]


async def test_every_query_uses_an_index(chat: Chat) -> None:
    before = len(chat.commands.sent)
    for operation in ONE_COMMAND.values():
        if operation is not ONE_COMMAND["load_attachment"]:
            await operation(chat.store)
    await chat.store.delete_thread_item("t", "i1", ADA)
    await chat.store.delete_thread("t", ADA)

    sent = [each for each in chat.commands.sent[before:] if name(each) in EXPLAINED]
    assert len(sent) > 15
    for command in sent:
        found = stages(await explain(chat.client[chat.database], command))
        assert found & {"IXSCAN", "IDHACK", "EOF", "CLUSTERED_IXSCAN", "EXPRESS_IXSCAN"}, command
        assert "COLLSCAN" not in found, (command, found)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_page_of_threads_examines_only_its_own(chat: Chat, order: str) -> None:
    await chat.client[chat.database]["chatkit_threads"].insert_many(
        {
            "_id": {"owner": owner, "id": f"x{number:05}"},
            "sortKey": f"2026-01-01T00:00:00.{number:06} 0000000000000000 x{number:05}",
            "thread": ThreadMetadata(id=f"x{number:05}", created_at=at()).model_dump(mode="json"),
        }
        for owner in ("ada", "bob")
        for number in range(3000)
    )
    after = "x01500"
    with chat.commands.counted() as sent:
        found = await chat.store.load_threads(20, after, order, ADA)
    step = 1 if order == "asc" else -1
    assert [each.id for each in found.data] == [f"x{1500 + step * n:05}" for n in range(1, 21)]
    (command,) = sent
    inner = command["pipeline"][1]["$lookup"]["pipeline"]
    bound = f"2026-01-01T00:00:00.{1500:06} 0000000000000000 {after}"
    (match, *rest) = inner
    operator = "$gt" if order == "asc" else "$lt"
    conditions = {key: value for key, value in match["$match"].items() if key != "$expr"}
    same = [{"$match": {**conditions, "sortKey": {operator: bound}}}, *rest]
    explained = await explain(
        chat.client[chat.database],
        {"aggregate": "chatkit_threads", "pipeline": same, "cursor": {}},
    )
    assert examined(explained) <= 21
    assert not stages(explained) & {"COLLSCAN", "SORT", "$sort"}
    whole = await explain(chat.client[chat.database], command)
    looked_up = next(stage for stage in whole["stages"] if "$lookup" in stage)
    assert looked_up["totalDocsExamined"] <= 21
    assert looked_up["collectionScans"] == 0


ITEMS = 20_000
PAGE = 20


async def store_long_thread(database: Any, count: int) -> None:
    """A long thread as many appends leave it."""
    created = [at() + timedelta(seconds=number) for number in range(count)]
    items = [
        {
            "id": f"i{number:05}",
            "sortKey": codec.sort_key(created[number], number + 1),
            **codec.take_item(
                HiddenContextItem(
                    id=f"i{number:05}",
                    thread_id="long",
                    created_at=created[number],
                    content="some words " * 10,
                )
            ).finish(),
        }
        for number in range(count)
    ]
    heads, parts = database["chatkit_threads"], database["chatkit_overflow"]
    whole = await heads.find_one({"_id.id": "long"})
    long = overflow.Overflow(heads, parts, ("items",), summary=queries.sort_key_range)
    head = await long.store({**whole, "items": items, "sequence": count})
    await heads.replace_one({"_id": head["_id"]}, head)


async def test_a_page_of_a_long_thread_reads_at_most_two_parts(chat: Chat) -> None:
    store = chat.store
    database = chat.client[chat.database]
    await store.save_thread(thread("long"), ADA)
    await store_long_thread(database, ITEMS)
    head: Any = await database["chatkit_threads"].find_one({"_id.id": "long"})
    assert len(head["overflowIds"]) > 40
    assert head["items"][-1]["id"] == f"i{ITEMS - 1:05}"
    largest = await database["chatkit_overflow"].aggregate(
        [{"$group": {"_id": None, "bytes": {"$max": {"$bsonSize": "$$ROOT"}}}}]
    )
    assert (await largest.to_list(None))[0]["bytes"] < 512 * 1024

    for order, step in (("asc", 1), ("desc", -1)):
        for start in (None, 0, 1, 137, 9_999, 10_000, ITEMS - 2, ITEMS - 30):
            after = None if start is None else f"i{start:05}"
            with chat.commands.counted() as sent:
                found = await store.load_thread_items("long", after, PAGE, order, ADA)
            begin = (start if start is not None else (-1 if step == 1 else ITEMS)) + step
            numbers = [n for n in range(begin, begin + step * PAGE, step) if 0 <= n < ITEMS]
            assert [item.id for item in found.data] == [f"i{n:05}" for n in numbers]
            read = 0
            for command in sent:
                if (
                    command.get("find") == "chatkit_overflow"
                    and "items.id" not in command["filter"]
                ):
                    read += examined(await explain(database, command))
            assert read <= 2, [name(command) for command in sent]
            assert len(sent) <= 6

    with chat.commands.counted() as sent:
        await store.load_thread_items("long", None, PAGE, "desc", ADA)
    assert len(sent) <= 2


async def test_an_append_to_a_long_thread_takes_one_command(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overflow, "BOUNDS", overflow.Bounds(main=20_000, kept=5_000))
    store = MongoChatKitStore[Any](client=chat.client, database=chat.database)
    counts = []
    for number in range(200):
        with chat.commands.counted() as sent:
            await store.add_thread_item("t", message(f"n{number}", number), ADA)
        counts.append(len(sent))
    assert set(counts[:10]) == {1}
    assert max(counts) <= 9  # a move of older items to a part is among them
    assert sorted(counts)[len(counts) // 2] == 1
