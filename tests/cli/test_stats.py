from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.stats import count_everything, week_starts
from mongo_datalayer.model.printable import readable_size
from tests.cli.commands import NOBODY, run
from tests.cli.people import LARGE, put_long_thread, put_person, storage_of

Documents = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def filled(database: Documents) -> Documents:
    """Two people; one thread was deleted, one vote is down, one thread is longer."""
    await put_person(database, "alice", threads=3)
    await put_person(database, "bob", threads=1)
    layer = MongoDataLayer(
        client=database.client, database=database.name, storage_client=storage_of(database)
    )
    await layer.delete_thread("alice/2")
    await layer.create_step({"id": "more", "threadId": "bob/0", "output": "x"})
    vote = {"steps.$.feedback.value": 0}
    await database.threads.update_one({"_id": "alice/0", "steps.feedback.value": 1}, {"$set": vote})
    return database


async def test_everything_is_counted(where: tuple[str, ...], filled: Documents) -> None:
    await filled["fs.files"].insert_one({"_id": "of another application", "length": 99})

    done = await run("stats", "--json", *where)

    counted = json.loads(done.out)
    sizes = [len(f"file of {thread}") for thread in ("alice/0", "alice/1", "bob/0")]
    assert (done.code, done.err) == (0, "")
    assert counted["totals"] == {
        "users": 2,
        "threads": 3,
        "deleted_threads": 1,
        "steps": 7,
        "elements": 3,
        "thumbs_up": 2,
        "thumbs_down": 1,
        "files": 3,
        "file_bytes": sum(sizes),
        "long_threads": 0,
        "large_values": 0,
        "large_value_bytes": 0,
        "chatkit_threads": 0,
        "chatkit_deleted_threads": 0,
        "chatkit_items": 0,
        "chatkit_positive": 0,
        "chatkit_negative": 0,
        "chatkit_long_threads": 0,
        "chatkit_attachments": 0,
        "chatkit_attachment_bytes": 0,
    }
    by_name = {collection["name"]: collection for collection in counted["collections"]}
    assert by_name.keys() == {"users", "threads", "fs.files", "fs.chunks"}
    assert by_name["threads"]["documents"] == 4
    assert by_name["threads"]["bytes"] > 1000
    assert by_name["threads"]["index_bytes"] > 0
    assert [thread["id"] for thread in counted["longest"]] == ["bob/0", "alice/0", "alice/1"]
    assert counted["longest"][0]["steps"] == 3
    assert counted["longest"][0]["user"] == "bob"
    stored = await filled.threads.find_one({"_id": "bob/0"})
    assert stored is not None
    assert 0 < counted["longest"][0]["bytes"] < 4000


async def test_a_user_and_a_name_that_are_no_texts(
    where: tuple[str, ...], database: Documents
) -> None:
    thread = {"_id": "t", "userIdentifier": 7, "name": 8, "steps": [{"id": "s"}]}
    await database.threads.insert_one(thread)

    done = await run("stats", *where)

    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("  7\n8\n\n")


async def test_long_threads_are_counted_with_their_parts_and_values(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, "bob", threads=1)
    await put_long_thread(database, "t", steps=12)
    part = await database.thread_overflow.find_one({"steps.id": "t/step2"})
    assert part is not None
    await database.thread_overflow.insert_one({**part, "_id": "nobody lists it"})
    head = await database.threads.find_one({"_id": "t"})
    assert head is not None
    documents = [
        head,
        *await database.thread_overflow.find({"_id": {"$in": head["overflowIds"]}}).to_list(),
    ]

    done = await run("stats", "--json", *where)

    counted = json.loads(done.out)
    totals = counted["totals"]
    assert (totals["threads"], totals["long_threads"]) == (2, 1)
    assert (totals["steps"], totals["elements"], totals["thumbs_up"]) == (14, 2, 2)
    assert (totals["files"], totals["large_values"]) == (2, 1)
    assert totals["file_bytes"] == len("of a long thread") + len("file of bob/0")
    assert totals["large_value_bytes"] == len(LARGE)
    week = counted["weeks"][-1]
    assert (week["files"], week["large_values"]) == (2, 1)
    assert week["large_value_bytes"] == len(LARGE)
    assert "thread_overflow" in {collection["name"] for collection in counted["collections"]}
    assert [(thread["id"], thread["steps"]) for thread in counted["longest"]] == [
        ("t", 12),
        ("bob/0", 2),
    ]
    assert counted["longest"][0]["bytes"] == sum(len(bson.encode(one)) for one in documents)
    assert counted["longest"][0]["large_value_bytes"] == len(LARGE)
    assert counted["longest"][1]["large_value_bytes"] == 0


async def test_growth_goes_into_the_week_it_was_in(database: Documents) -> None:
    now = datetime(2026, 1, 7, 23, 0, tzinfo=timezone.utc)  # a Wednesday
    monday = datetime(2026, 1, 5, tzinfo=timezone.utc)
    moment = timedelta(milliseconds=1)
    times = [monday, monday - moment, monday - timedelta(weeks=2), now, monday + timedelta(weeks=1)]
    await database.threads.insert_many(
        {"_id": str(n), "createdAt": time, "steps": []} for n, time in enumerate(times)
    )
    file = {"metadata": {"owner": "mongo_datalayer"}, "uploadDate": now, "length": 7}
    await database["fs.files"].insert_many([{**file, "_id": "a"}, {**file, "_id": "b"}])

    counted = await count_everything(database, weeks=2, longest=0, now=now)

    assert [(week["begins"], week["threads"]) for week in counted.weeks] == [
        (date(2025, 12, 29), 1),
        (date(2026, 1, 5), 2),
    ]
    assert (counted.weeks[1]["files"], counted.weeks[1]["file_bytes"]) == (2, 14)
    assert counted.longest == []


async def test_an_empty_database_has_nothing(where: tuple[str, ...]) -> None:
    done = await run("stats", "--json", "--weeks", "0", *where)

    counted = json.loads(done.out)
    assert set(counted["totals"].values()) == {0}
    assert (counted["collections"], counted["weeks"], counted["longest"]) == ([], [], [])


async def test_the_tables_show_the_same_numbers(where: tuple[str, ...], filled: Documents) -> None:
    await filled.threads.update_one({"_id": "bob/0"}, {"$set": {"name": "[red]:smile: [/]"}})

    done = await run("stats", *where)

    cells = [re.split(r"\s{2,}", line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert ["steps", "7"] in cells
    assert ["large value bytes", "0 B"] in cells
    assert ["thumbs down", "1"] in cells
    place = next(number for number, row in enumerate(cells) if row[:2] == ["bob/0", "3"])
    assert (cells[place][-1], cells[place + 1]) == ("bob", ["[red]:smile: [/]"])
    monday = week_starts(datetime.now(timezone.utc), 1)[0].isoformat()
    assert any(row[:2] == [monday, "2"] for row in cells)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (3 * 1024**3, "3.0 GB"), (2**50, "1024.0 TB")],
)
def test_sizes_are_readable_size(size: int, text: str) -> None:
    assert readable_size(size) == text


async def test_a_server_that_does_not_answer() -> None:
    done = await run("stats", "--uri", NOBODY)

    assert "No MongoDB answered" in done.failed_with_one_line()


async def test_the_files_are_those_of_the_named_bucket(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, "alice", threads=2, bucket="docs")

    counted = json.loads((await run("stats", "--json", "--bucket", "docs", *where)).out)
    default = json.loads((await run("stats", "--json", *where)).out)

    names = [collection["name"] for collection in counted["collections"]]
    assert sorted(names) == ["docs.chunks", "docs.files", "threads", "users"]
    assert (counted["totals"]["files"], counted["weeks"][-1]["files"]) == (2, 2)
    assert counted["totals"]["file_bytes"] == counted["weeks"][-1]["file_bytes"] > 0
    assert (default["totals"]["files"], default["weeks"][-1]["files"]) == (0, 0)
