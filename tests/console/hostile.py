"""A conversation whose every text attacks the page that shows it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

SCRIPT = "<script>alert(1)</script>"
ATTRIBUTE = "\"'><img src=x onerror=alert(1)>"
LINK = "[click](javascript:alert(1)) ![](https://evil.test/p.png) <a href='javascript:x'>y</a>"
CHART = f"\"}}]'</script>{SCRIPT}<!--{ATTRIBUTE}"
NAME = f"{SCRIPT}{ATTRIBUTE}"
THREAD_ID = "../thread?a=1&b=<script>#x/{{7*7}}"
STEP_ID = '"><script>alert(2)</script>'
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


def step(number: int, kind: str = "user_message", **fields: Any) -> dict[str, Any]:
    at = (NOW + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return {"id": f"step {number}", "type": kind, "name": "alice", "createdAt": at, **fields}


def thread(number: int, **fields: Any) -> dict[str, Any]:
    """A small conversation, one minute older than the one before."""
    at = NOW - timedelta(minutes=number)
    return {
        "_id": f"thread {number}",
        "name": f"Name {number}",
        "userId": "u1",
        "userIdentifier": "alice",
        "metadata": {},
        "createdAt": at,
        "updatedAt": at,
        "steps": [step(0, output=f"Question {number}"), step(1, "assistant_message", output="Yes")],
        "bytes": 100,
        **fields,
    }


def hostile_thread() -> dict[str, Any]:
    run = {
        "start": "2026-03-04T05:06:07.000000Z",
        "end": "2026-03-04T05:06:09.500000Z",
        "feedback": {"id": ATTRIBUTE, "forId": STEP_ID, "value": 0, "comment": NAME}
        | {"updatedAt": NOW},
    }
    elements = [
        {"id": "e1", "forId": STEP_ID, "type": "image", "name": NAME, "url": "javascript:alert(3)"},
        {"id": "e2", "forId": STEP_ID, "type": "file", "name": NAME, "objectKey": "a/<script>"},
        {"id": "e3", "type": "custom", "name": "C", "props": {"x": NAME}},
    ]
    return thread(
        0,
        _id=THREAD_ID,
        name=NAME,
        userIdentifier=NAME,
        tags=[NAME, 7],
        metadata={"chat_profile": NAME, "is_shared": True},
        steps=[
            step(0, output=f"{SCRIPT} {LINK} {ATTRIBUTE}", name=NAME),
            {**step(1, "tool", name=NAME, isError=True, input='{"a": "<script>"}'), **run}
            | {"id": STEP_ID, "generation": {"model": NAME, "tokenCount": 7, "inputTokenCount": 5}},
            step(2, "assistant_message", output=f"{LINK}\n\n**bold** [fine](https://example.org/)"),
        ],
        elements=elements,
    )


def hostile_usage(now: datetime) -> dict[str, Any]:
    """A conversation of this day, whose tool and model attack charts and tables."""
    at = now.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    steps = [
        step(0, output="Asked"),
        step(1, "tool", name=CHART, start=at, end=at, isError=True),
        step(2, "llm", generation={"model": CHART, "inputTokenCount": 5}),
    ]
    return thread(
        0,
        _id="of this day",
        createdAt=now,
        updatedAt=now,
        steps=[{**each, "createdAt": at} for each in steps],
    )


async def store(database: AsyncDatabase[dict[str, Any]], count: int = 3) -> None:
    await database.users.insert_one({"_id": "u1", "identifier": "alice", "metadata": {}})
    threads = [hostile_thread(), *(thread(number) for number in range(1, count))]
    await database.threads.insert_many(threads)
