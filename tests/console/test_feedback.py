"""Feedback by tool, profile and week: found, counted, and what that costs."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from sample_conversations import Samples, fill

from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.console.feedback import count_feedback, read_queue
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.storage.overflow import Bounds
from tests.console import hostile
from tests.console.served_page import ServedPage
from tests.costs.commands import Commands, examined, explain, name, stages

Dict = dict[str, Any]
Database = AsyncDatabase[Dict]
MONDAY = datetime(2026, 3, 2, tzinfo=timezone.utc)


def rated(number: int, value: int, days: int = 0) -> Dict:
    at = MONDAY + timedelta(days=days, hours=1)
    vote = {"id": f"vote {number}", "forId": f"step {number}", "value": value, "updatedAt": at}
    return hostile.step(number, "run", feedback=vote)


def conversation() -> Dict:
    """Three turns: the first is rated and called two tools, the second neither, the third both."""
    asked = [hostile.step(number, output=f"Question {number}") for number in (0, 10, 20)]
    tools = [
        hostile.step(2, "tool", name="search"),
        hostile.step(3, "tool", name="search"),
        hostile.step(4, "tool", name="<calculator>"),
        hostile.step(11, "tool", name="unrated"),
        hostile.step(22, "tool", name="search"),
        hostile.step(23, "tool", name={"by": "hand"}),
    ]
    return hostile.thread(
        7,
        name="Rated",
        steps=[*asked, *tools, rated(1, 0), rated(21, 1, days=-3)],
        metadata={"chat_profile": "Expert"},
    )


async def votes(documents: ThreadDocuments, **query: str) -> list[str]:
    filters = Filters.parse(query)
    verdicts, _ = await read_queue(documents, filters, open_only=False, cursor=None)
    return [verdict.id for verdict in verdicts]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["vote 1", "vote 21"]),
        ({"feedback": "up"}, ["vote 21"]),
        ({"tool": "search"}, ["vote 1", "vote 21"]),
        ({"tool": "<calculator>"}, ["vote 1"]),
        ({"tool": "unrated"}, []),
        ({"profile": "Expert", "feedback": "down"}, ["vote 1"]),
        ({"profile": "expert"}, []),
        ({"since": "2026-03-02"}, ["vote 1"]),
        ({"since": "2026-02-23", "until": "2026-03-01"}, ["vote 21"]),
    ],
)
@pytest.mark.parametrize("is_long", [False, True])
async def test_the_queue_is_filtered(
    database: Database, query: dict[str, str], found: list[str], *, is_long: bool
) -> None:
    bounds = Bounds(main=4000, kept=10, long=4000) if is_long else None
    documents = ThreadDocuments(database, bounds=bounds)
    stored = conversation()
    stored["steps"].append(hostile.step(30, output="x" * 5000))
    main = await documents.overflow.store(stored)
    assert ("overflowIds" in main) is is_long
    await database.threads.insert_one(main)

    assert await votes(documents, **query) == found


async def test_counts_by_tool_profile_and_week(database: Database) -> None:
    await database.threads.insert_many(
        [
            conversation(),
            hostile.thread(8, steps=[hostile.step(0), rated(1, 1, days=-15)], metadata=[7]),
            hostile.thread(9, steps=[hostile.step(0), rated(1, 1, days=-7000)]),
        ]
    )
    counts = await count_feedback(ThreadDocuments(database), Filters())
    narrowed = await count_feedback(ThreadDocuments(database), Filters(tool="<calculator>"))

    assert counts.tools == [
        {"name": "search", "up": 1, "down": 1},
        {"name": "<calculator>", "up": 0, "down": 1},
    ]
    assert counts.profiles == [{"name": "Expert", "up": 1, "down": 1}]
    assert len(counts.weeks) == 53
    assert counts.weeks[-3:] == [
        {"name": (MONDAY - timedelta(weeks=2)).date(), "up": 0, "down": 0},
        {"name": (MONDAY - timedelta(weeks=1)).date(), "up": 1, "down": 0},
        {"name": MONDAY.date(), "up": 0, "down": 1},
    ]
    assert counts.weeks[-4]["up"] == 1
    assert [week["name"] for week in narrowed.weeks] == [MONDAY.date()]


async def test_counts_lead_to_the_feedback(http: httpx.AsyncClient, database: Database) -> None:
    await database.threads.insert_one(conversation())
    page = (await http.get("/feedback/counts?profile=Expert")).text
    links = re.findall(r'<th scope="row"><a href="([^"]+)', page.replace("&amp;", "&"))
    queues = [(await http.get(link)).text for link in links]

    assert links == [
        "/feedback?profile=Expert&tool=search",
        "/feedback?profile=Expert&tool=%3Ccalculator%3E",
        "/feedback?profile=Expert",
        "/feedback?since=2026-03-02&until=2026-03-08&profile=Expert",
        "/feedback?since=2026-02-23&until=2026-03-01&profile=Expert",
    ]
    assert [queue.count('name="looked_at"') for queue in queues] == [2, 1, 2, 1, 1]
    (chart,) = ServedPage(page).charts
    assert chart["labels"] == ["23 Feb", "02 Mar"]
    assert chart["series"] == [["thumbs up", [1, 0], "accent"], ["thumbs down", [0, 1], "bad"]]
    assert "&lt;calculator&gt;" in queues[1]


async def test_only_threads_with_feedback_are_read(mongo_uri: str, database_name: str) -> None:
    commands = Commands()
    async with AsyncMongoClient[Dict](
        mongo_uri, event_listeners=[commands], tz_aware=True
    ) as client:
        database = client[database_name]
        await fill(database, Samples(hostile.NOW, weeks=4), 400)
        with_feedback = {"steps.feedback.id": {"$gte": ""}}
        rated_threads = await database.threads.count_documents(with_feedback)
        assert 20 < rated_threads < 100
        documents = ThreadDocuments(database)

        with commands.counted() as sent:
            counts = await count_feedback(documents, Filters())
        (explained,) = [await explain(database, command) for command in sent]
        assert examined(explained) == rated_threads
        assert "COLLSCAN" not in stages(explained)
        with commands.counted() as sent:
            found = await votes(documents, tool="find_order")
        explained = await explain(database, sent[0])

    assert examined(explained) == rated_threads
    assert [name(command) for command in sent][:2] == ["aggregate", "find"]
    assert len(found) == 20
    assert {"Support", "Sales", "Expert"} == {row["name"] for row in counts.profiles}
    assert {"find_order", "track_parcel"} < {row["name"] for row in counts.tools}
