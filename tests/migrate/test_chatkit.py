"""ChatKit's sample store goes into the ChatKit collections, and MongoChatKitStore reads it."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    FileAttachment,
    ThreadMetadata,
)
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import migrate
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.migrate import Options

Documents = AsyncDatabase[dict[str, Any]]
NOON = datetime(2026, 9, 9, 12)  # noqa: DTZ001 - ChatKit's times have no zone


class SampleStore:
    """The tables of the samples' store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        columns = "id TEXT PRIMARY KEY, user_id TEXT NOT NULL"
        times = "created_at TEXT NOT NULL, data TEXT NOT NULL"
        self.connection.executescript(f"""
            CREATE TABLE threads ({columns}, {times});
            CREATE TABLE items ({columns}, thread_id TEXT NOT NULL, {times});
            CREATE TABLE files ({columns}, data TEXT NOT NULL);
        """)

    def thread(self, thread_id: str, *texts: str, owner: str = "ada") -> None:
        thread = ThreadMetadata(id=thread_id, title="Chat", created_at=NOON, metadata={"k": 1})
        self.add("threads", thread_id, owner, NOON, {"thread": thread.model_dump(mode="json")})
        for number, text in enumerate(texts):
            self.item(f"{thread_id}-{number}", thread_id, text, owner)

    def item(self, item_id: str, thread_id: str, text: str, owner: str = "ada") -> None:
        content = [AssistantMessageContent(text=text)]
        item = AssistantMessageItem(
            id=item_id, thread_id=thread_id, created_at=NOON, content=content
        )
        row = (item_id, owner, thread_id, NOON.isoformat(), _json("item", item))
        self.connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", row)

    def add(self, table: str, row_id: str, owner: str, created: datetime, data: Any) -> None:
        row = (row_id, owner, created.isoformat(), json.dumps(data))
        self.connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", row)  # noqa: S608

    def file(self, file_id: str, owner: str = "ada") -> None:
        attachment = FileAttachment(id=file_id, name="a.txt", mime_type="text/plain")
        row = (file_id, owner, _json("attachment", attachment))
        self.connection.execute("INSERT INTO files VALUES (?, ?, ?)", row)


def _json(name: str, model: Any) -> str:
    return json.dumps({name: model.model_dump(mode="json")})


@pytest.fixture
def sample(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "chatkit.db")


async def test_threads_items_and_attachments(sample: SampleStore, database: Documents) -> None:
    sample.thread("t1", "first", "second", "x" * 400_000, *("y" * 30_000 for _ in range(6)))
    sample.thread("t0", "of bob", owner="bob")
    sample.thread("t2")
    sample.file("f1")
    sample.item("lost", "nowhere", "whose?")
    sample.add("threads", "broken", "ada", NOON, None)

    for outcome in ("stored", "already there"):
        with await migrate.run(str(sample.path), database) as report:
            assert report.balanced, report.counts
            assert report.counts["threads"][outcome] == 3
            assert report.counts["items"][outcome] == 10
            assert report.counts["attachments"][outcome] == 1
            left_out = {each["id"] for each in report.findings()}
            assert left_out == {"lost", "broken"}
    with await migrate.verify(str(sample.path), database) as report:
        assert not report.counts["threads"]["differs"]

    store = MongoChatKitStore(client=database.client, database=database.name, user_id=str)
    page = await store.load_thread_items("t1", None, 20, "asc", "ada")
    texts = [item.content[0].text for item in page.data]  # type: ignore[union-attr]
    assert [text[:6] for text in texts] == ["first", "second", "xxxxxx", *["yyyyyy"] * 6]
    assert len(texts[2]) == 400_000
    thread = await store.load_thread("t1", "ada")
    assert (thread.title, thread.created_at, thread.metadata) == ("Chat", NOON, {"k": 1})
    threads = await store.load_threads(20, None, "asc", "ada")
    assert [each.id for each in threads.data] == ["t1", "t2"]
    assert (await store.load_attachment("f1", "ada")).name == "a.txt"
    await store.add_thread_item("t1", page.data[0].model_copy(update={"id": "new"}), "ada")
    await store.close()


async def test_what_was_deleted_stays_deleted(sample: SampleStore, database: Documents) -> None:
    sample.thread("t1", "first")
    with await migrate.run(str(sample.path), database):
        pass
    store = MongoChatKitStore(client=database.client, database=database.name, user_id=str)
    await store.delete_thread("t1", "ada")
    await store.close()

    with await migrate.run(str(sample.path), database, Options(on_conflict="replace")) as report:
        assert report.complete
        assert report.counts["threads"]["skipped"] == 1


async def test_only_one_owner(sample: SampleStore, database: Documents) -> None:
    sample.thread("t1", "first")
    sample.thread("t2", "first", owner="bob")

    with await migrate.run(str(sample.path), database, Options(user="bob")) as report:
        assert report.complete

    assert await database.chatkit_threads.distinct("_id.owner") == ["bob"]


async def test_rows_that_the_sample_never_made(tmp_path: Path, database: Documents) -> None:
    """Tables without keys take NULL, numbers and the same id twice."""
    path = tmp_path / "loose.db"
    source = sqlite3.connect(path, isolation_level=None)
    source.executescript("""
        CREATE TABLE threads (id, user_id, created_at, data);
        CREATE TABLE items (id, user_id, thread_id, created_at, data);
        CREATE TABLE files (id, user_id, data);
    """)
    data, noon = '{"title": "x"}', NOON.isoformat()
    threads = [(9, "ada"), (10, "ada"), (10, "ada"), ("t", "ada"), ("t", "bob"), (None, "ada")]
    rows = [(*each, noon, data) for each in (*threads, ("x" * 2000, "ada"))]
    source.executemany("INSERT INTO threads VALUES (?, ?, ?, ?)", rows)
    items: list[tuple[Any, ...]] = [
        (1, "ada", 9),
        (2, "ada", 10),
        (2, "ada", 10),
        (None, "ada", 10),
        (3, "ada", None),
    ]
    items += [(4, "ada", "t"), (5, "bob", "t"), (6, "carl", "t"), (7, "ada", 1)]
    item_rows = [(*each, noon, data) for each in items]
    source.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", item_rows)
    files = [(None, "ada", data), ("f", "ada", None)]
    source.executemany("INSERT INTO files VALUES (?, ?, ?)", files)
    source.close()

    for _ in range(2):
        with await migrate.run(str(path), database) as report:
            assert report.balanced
            lost = {(each["table"], each["id"]) for each in report.findings()}
        assert report.counts["threads"]["merged"] == report.counts["items"]["merged"] == 1
        assert lost >= {("items", each) for each in ("", "3", "6", "7")}
        assert lost >= {("threads", ""), ("attachments", ""), ("attachments", "f")}
    with await migrate.verify(str(path), database) as report:
        assert not report.counts["threads"]["differs"]

    found = {
        (thread["_id"]["owner"], thread["_id"]["id"]): [item["id"] for item in thread["items"]]
        async for thread in database.chatkit_threads.find({})
    }
    assert found == {
        ("ada", "9"): ["1"],
        ("ada", "10"): ["2"],
        ("ada", "t"): ["4"],
        ("bob", "t"): ["5"],
    }
