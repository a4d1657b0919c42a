"""Threads with a field that another program filled oddly: no command and no page stumbles."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from mongo_datalayer.console import console_app
from tests.cli.commands import run
from tests.cli.people import Documents
from tests.console.conftest import browser

MOMENT = datetime(2026, 1, 2, tzinfo=timezone.utc)
TIMES = {"createdAt": "2026-01-02T00:00:00Z", "start": "2026-01-02T00:00:00Z"}
THREAD: dict[str, Any] = {
    "name": "n",
    "tags": ["t"],
    "metadata": {"chat_profile": "P"},
    "userIdentifier": "ada",
    "userId": "gone",
    "createdAt": MOMENT,
    "updatedAt": MOMENT,
    "steps": [
        {"id": "s", "type": "user_message", "name": "ada", "output": "hello", **TIMES},
        {
            "id": "t",
            "type": "tool",
            "name": "search",
            "input": "{}",
            "output": "r",
            "parentId": "s",
            "generation": {"model": "m", "inputTokenCount": 3},
            **TIMES,
        },
        {
            "id": "a",
            "type": "assistant_message",
            "output": "hi",
            **TIMES,
            "feedback": {"id": "f", "value": 1, "comment": "c", "updatedAt": MOMENT},
        },
    ],
    "elements": [
        {"id": "e", "forId": "a", "name": "file", "url": "http://x", "objectKey": "k"},
    ],
    "pendingFeedback": [{"id": "g", "forId": "later", "value": 0, "updatedAt": MOMENT}],
    "deletedSteps": [],
}
ODD = [5, "text", [1], {"a": 1}, float("inf")]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a thread has fields and items."""
    pairs = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else pairs:
        yield (*path, key)
        yield from places(part, (*path, key))


def odd_threads() -> Iterator[dict[str, Any]]:
    for path in places(THREAD):
        for number, value in enumerate(ODD):
            thread = copy.deepcopy(THREAD)
            *above, last = path
            fields: Any = thread
            for name in above:
                fields = fields[name]
            fields[last] = value
            yield {"_id": f"{'.'.join(map(str, path))}={number}", **thread}


@pytest.fixture
async def threads(database: Documents) -> list[str]:
    """The ids of threads that each have one odd field."""
    stored = list(odd_threads())
    assert len(stored) > 200
    await database.threads.insert_many(stored)
    return [thread["_id"] for thread in stored]


@pytest.mark.usefixtures("threads")
async def test_commands(where: tuple[str, ...], tmp_path: Any) -> None:
    datasets = [
        ("dataset", "--format", format, "--output", str(tmp_path / format))
        for format in ("openai-jsonl", "markdown", "parquet")
    ]
    for command in (
        *datasets,
        ("threads", "list", "--limit", "1000"),
        ("threads", "search", "hello"),
        ("stats",),
        ("erase-user", "ada", "--yes"),
        ("prune", "--days", "1", "--yes"),
    ):
        done = await run(*command, *where)
        assert done.code in (0, 1), (command, done)
        assert "Traceback" not in done.err, (command, done)


async def test_an_export_can_be_imported(
    where: tuple[str, ...],
    there: tuple[str, ...],
    other: Documents,
    threads: list[str],
    tmp_path: Any,
) -> None:
    file = str(tmp_path / "export.jsonl")
    done = await run("export", *where, "--output", file)
    assert done.code == 1, done
    left_out = [line for line in done.err.splitlines() if "is damaged; left out" in line]

    done = await run("import", *there, file)
    assert (done.code, done.err) == (0, "")
    assert await other.threads.count_documents({}) >= len(threads) - len(left_out) - len(ODD)


async def test_the_console(database: Documents, threads: list[str]) -> None:
    app = console_app(database, user=lambda _request: "zoe")
    async with browser(app) as http:
        for thread_id in threads:
            answer = await http.get("/conversation", params={"id": thread_id})
            # Without a list of steps it counts as the document of another application.
            expected = 404 if thread_id.startswith("steps=") and thread_id[-1] != "2" else 200
            assert answer.status_code == expected, thread_id
