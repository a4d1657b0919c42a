"""What is counted, and what counting it costs."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from sample_conversations import Samples, fill

from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.console import usage
from mongo_datalayer.console.charts import tool_chart
from mongo_datalayer.console.usage import (
    Period,
    read_activity,
    read_models,
    read_span,
    read_tools,
)
from mongo_datalayer.storage.overflow import Bounds
from tests.console import hostile
from tests.console.served_page import ServedPage
from tests.costs.commands import Commands, examined, explain

Dict = dict[str, Any]
Database = AsyncDatabase[Dict]
TODAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)


def text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def step(number: int, kind: str, days_ago: int = 0, **fields: Any) -> Dict:
    return {**hostile.step(number, kind, **fields), "createdAt": text(NOON - days(days_ago))}


def days(number: int) -> timedelta:
    return timedelta(days=number)


def vote(value: int) -> Dict:
    return {"id": f"vote {value}", "forId": "s", "value": value, "updatedAt": NOON}


def thread(number: int, steps: list[Dict], days_ago: int = 0, **fields: Any) -> Dict:
    at = NOON - days(days_ago)
    return {**hostile.thread(number, steps=steps), "createdAt": at, "updatedAt": at, **fields}


async def span(database: Database, days: int = 7, most: int | None = None) -> usage.Span:
    return await read_span(database, days=days, today=TODAY, most=most)


def rows(html: str) -> list[list[str]]:
    """The cells of the first table."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>"))
    return [[re.sub("<.*?>", "", cell) for cell in row] for row in cells if row]


async def test_people_and_what_they_said_by_day_and_week(database: Database) -> None:
    asked = [step(n, "user_message", n) for n in (0, 0, 3)]
    rated = step(9, "run", 3, feedback=vote(1))
    by_hand: list[Any] = [{}, 7, "2026-13"]
    await database.threads.insert_many(
        [
            thread(1, [*asked, rated, step(4, "assistant_message")]),
            thread(2, [step(5, "user_message", 1, feedback=vote(0))], 1, userId="u2"),
            thread(3, [step(6, "user_message", 30)], 30),
            # Written by hand: they are left out, and nothing fails.
            thread(4, [{**step(7, "user_message"), "createdAt": at} for at in by_hand]),
            thread(5, [{"id": "x", "type": {"a": 1}, "feedback": {"value": {}}}]),
        ]
    )
    activity, chatkit = await read_activity(database, await span(database))

    assert chatkit.is_empty
    by_day = {day.begins.day: day for day in activity.days}
    assert list(by_day) == [26, 27, 28, 1, 2, 3, 4]
    assert by_day[4] == Period(TODAY, conversations=1, messages=2, people=1)
    assert by_day[3] == Period(date(2026, 3, 3), 1, messages=1, people=1, down=1)
    assert by_day[1] == Period(date(2026, 3, 1), 1, messages=1, people=1, up=1)
    assert activity.weeks == [
        Period(date(2026, 2, 23), 1, messages=1, people=1, up=1),
        Period(date(2026, 3, 2), 2, messages=3, people=2, down=1),
    ]


async def test_tools_by_calls_time_and_errors(database: Database) -> None:
    def call(name: str, start: str, end: Any, **fields: Any) -> Dict:
        return step(1, "tool", name=name, start=f"2026-03-04T{start}", end=end, **fields)

    day = "2026-03-04T"
    await database.threads.insert_one(
        thread(
            1,
            [
                call("often", "10:00:01.500000Z", f"{day}10:00:02.000000Z"),
                call("often", "10:00:01Z", f"{day}10:00:01Z"),
                call("often", "10:00:01Z", None),
                call("slow", "23:59:50Z", "2026-03-05T00:01:00Z"),
                call("slow", "10:00:00.5Z", f"{day}10:00:01.25Z"),
                call("failing", "10:00:00Z", {"by": "hand"}, isError=True),
                step(2, "tool", name={"by": "hand"}),
                step(3, "run", name="no tool"),
            ],
        )
    )
    listed = {
        order: await read_tools(database, await span(database), order)
        for order in usage.TOOL_ORDERS
    }

    assert [[tool["name"] for tool in tools] for tools in listed.values()] == [
        ["often", "slow", "failing"],
        ["slow", "often", "failing"],
        ["failing", "often", "slow"],
    ]
    often, slow, failing = listed["busiest"]
    assert often == {"name": "often", "calls": 3, "errors": 0, "mean": 0.25, "slowest": 0.5}
    assert (slow["mean"], slow["slowest"]) == (35.375, 70)
    assert failing == {"name": "failing", "calls": 1, "errors": 1, "mean": None, "slowest": None}


async def test_models_and_their_tokens(database: Database) -> None:
    def generated(days_ago: int, **generation: Any) -> Dict:
        return step(1, "llm", days_ago, generation={"model": "m-1", **generation})

    await database.threads.insert_one(
        thread(
            1,
            [
                generated(0, inputTokenCount=30, outputTokenCount=4),
                generated(2, tokenCount=100),
                step(2, "llm", generation={"model": 7}),
            ],
        )
    )
    models = await read_models(database, await span(database))

    assert models.models == [
        {"name": "m-1", "calls": 2, "input": 30, "output": 4, "total": 134},
    ]
    assert models.days[-1] == {"begins": TODAY, "input": 30, "output": 4}
    assert len(models.days) == 7


async def test_long_threads_count_their_older_steps_once(database: Database) -> None:
    documents = ThreadDocuments(database, bounds=Bounds(main=2000, kept=200, long=1000))
    steps = [step(n, "user_message", n % 3, output="x" * 100) for n in range(40)]
    main = await documents.overflow.store(thread(1, steps))
    copy = {"_id": "of a killed move", "thread": main["_id"], "steps": steps[:9]}
    await database.threads.insert_one(main)
    await database.thread_overflow.insert_one(copy)
    assert main["overflowIds"]

    activity, _ = await read_activity(database, await span(database))

    assert [day.messages for day in activity.days[-3:]] == [13, 13, 14]
    assert [day.conversations for day in activity.days[-3:]] == [1, 1, 1]


async def test_chatkit_is_counted_too(http: httpx.AsyncClient, database: Database) -> None:
    now = datetime.now(timezone.utc)

    def item(number: int, kind: str = "user_message", **fields: Any) -> Dict:
        return {"id": f"i{number}", "type": kind, "createdAt": now, **fields}

    rated = item(3, "assistant_message", feedback={"kind": "negative", "at": now})
    await database.chatkit_threads.insert_many(
        [
            {"_id": {"owner": "ann", "id": "t1"}, "updatedAt": now, "items": [item(1), rated]},
            {"_id": {"owner": "ann", "id": "t2"}, "updatedAt": now, "items": [item(2)]}
            | {"overflow": True, "overflowIds": ["o"]},
            {"_id": {"owner": "bob", "id": "t3"}, "updatedAt": now, "deletedAt": now},
        ]
    )
    await database.chatkit_overflow.insert_one({"_id": "o", "items": [item(4), item(5)]})
    page = (await http.get("/usage?days=7")).text

    assert "<h2>ChatKit</h2>" in page
    assert rows(page.partition("<h2>ChatKit</h2>")[2])[0][1:] == ["2", "4", "1", "0", "1"]


async def test_the_pages_show_their_topic(http: httpx.AsyncClient, database: Database) -> None:
    now = datetime.now(timezone.utc)
    at, later = text(now), text(now + timedelta(seconds=3))
    steps = [
        {**hostile.step(0), "createdAt": at},
        {**hostile.step(1, "tool", name="calculator", isError=True), "createdAt": at}
        | {"start": at, "end": later},
        {**hostile.step(2, "llm"), "createdAt": at}
        | {"generation": {"model": "m-1", "inputTokenCount": 3000, "outputTokenCount": 4}},
    ]
    await database.threads.insert_one(hostile.thread(7, steps=steps, createdAt=now, updatedAt=now))

    activity = (await http.get("/usage?days=7")).text
    tools = (await http.get("/usage?days=7&show=tools&order=slowest")).text
    models = (await http.get("/usage?days=7&show=models")).text
    storage = (await http.get("/usage?days=7&show=storage")).text

    conversations, *_, feedback = ServedPage(activity).charts
    assert conversations["title"] == "Conversations per day"
    assert conversations["labels"][-1] == f"{now:%d %b}"
    assert conversations["series"] == [["conversations", [0, 0, 0, 0, 0, 0, 1], "accent"]]
    assert [name for name, *_ in feedback["series"]] == ["thumbs up", "thumbs down"]
    assert rows(activity)[0] == [str(now.date() - days(now.weekday())), "1", "1", "1", "0", "0"]
    assert rows(tools) == [["calculator", "1", "1", "100.0 %", "3.0 s", "3.0 s"]]
    (chart,) = ServedPage(tools).charts
    assert (chart["labels"], chart["series"]) == (["calculator"], [["seconds", [3], "accent"]])
    assert 'order=slowest" aria-current="true"' in tools
    assert 'href="?show=tools&amp;days=90&amp;order=slowest"' in tools
    assert rows(models) == [["m-1", "1", "3,000", "4", "3,004"]]
    (chart,) = ServedPage(models).charts
    assert [(name, values[-1]) for name, values, _ in chart["series"]] == [
        ("input tokens", 3000),
        ("output tokens", 4),
    ]
    assert "threads" in [row[0] for row in rows(storage)]


async def test_too_many_conversations_are_counted_back_to_a_day(
    http: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(timezone.utc)
    today = now.replace(hour=0, minute=0, second=1)
    await database.threads.delete_many({})
    await database.threads.insert_many(
        hostile.thread(n, updatedAt=at, steps=[{**hostile.step(0), "createdAt": text(at)}])
        for n, at in ((n, today - days(n // 2)) for n in range(20))
    )
    monkeypatch.setattr("mongo_datalayer.console.pages.MOST", 7)
    page = (await http.get("/usage?days=30")).text
    (link,) = re.findall(r'<a href="([^"]+)">Count all 30 days</a>', page)
    whole = (await http.get("/usage" + link.replace("&amp;", "&"))).text

    # The fourth day has more than the one conversation that was looked at.
    assert f"only the days since {(now - days(2)).date()} were counted" in page
    assert sum(int(row[2]) for row in rows(page)) == 6
    assert sum(int(row[2]) for row in rows(whole)) == 20
    assert "Count all" not in whole


async def test_each_conversation_of_the_days_is_read_once(
    mongo_uri: str, database_name: str
) -> None:
    commands = Commands()
    async with AsyncMongoClient[Dict](mongo_uri, event_listeners=[commands]) as client:
        database = client[database_name]
        await fill(database, Samples(NOON, weeks=4), 400)
        since = {"updatedAt": {"$gte": NOON.replace(hour=0) - days(6)}}
        threads = await database.threads.count_documents(since)
        chatkit = await database.chatkit_threads.count_documents(since)
        assert 50 < threads < 300

        with commands.counted() as sent:
            found = await span(database)
        assert [examined(await explain(database, command)) for command in sent] == [0]
        with commands.counted() as sent:
            await read_activity(database, found)
        documents = [examined(await explain(database, command)) for command in sent]
        assert sum(documents) == threads + chatkit
        assert max(documents) < 0.75 * threads  # in halves
        for counting in (read_models(database, found), read_tools(database, found, "busiest")):
            with commands.counted() as sent:
                await counting
            assert sum([examined(await explain(database, c)) for c in sent]) == threads


async def test_the_samples_have_something_on_every_page(database: Database) -> None:
    await fill(database, Samples(NOON, weeks=4), 300)
    found = await span(database, 30)
    activity, chatkit = await read_activity(database, found)
    tools = {tool["name"]: tool for tool in await read_tools(database, found, "busiest")}
    models = await read_models(database, found)

    assert sum(day.messages for day in activity.days) > 300
    assert sum(day.up for day in activity.days) > sum(day.down for day in activity.days) > 0
    assert not chatkit.is_empty
    assert tools["query_warehouse"]["mean"] > tools["find_order"]["mean"] > 0
    assert tools["issue_refund"]["errors"] > 0
    assert len(models.models) == 3


def test_tools_are_drawn_by_what_they_are_listed_by() -> None:
    tools = [
        {"name": "often", "calls": 30, "errors": 10, "mean": 0.5, "slowest": 2.0},
        {"name": "slow", "calls": 15, "errors": 0, "mean": 5.0, "slowest": 70.0},
        {"name": "unknown", "calls": 1, "errors": 0, "mean": None, "slowest": None},
    ]
    drawn = {order: tool_chart(tools, order).series for order in usage.TOOL_ORDERS}

    assert drawn == {
        "busiest": [("without an error", [20, 15, 1], "accent"), ("failed", [10, 0, 0], "bad")],
        "slowest": [("seconds", [0.5, 5.0, 0], "accent")],
        "failing": [("failed", [10, 0, 0], "bad")],
    }
