"""Two processes write to one new thread, each with hundreds of calls at once."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mongo_datalayer import MongoDataLayer
from tests.chainlit.order.conftest import Database
from tests.chainlit.order.writer import LOGINS, NAME, OWN, SHARED

ROOT = Path(__file__).parents[3]
PROCESSES = ("first", "second")
SECONDS = 60


async def run_together(module: str, *arguments: tuple[str, ...]) -> None:
    """Run a module as a process for each of these arguments; all begin to write at once."""
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *given),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for given in arguments
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert await asyncio.wait_for(writer.stdout.readline(), SECONDS) == b"ready\n"
        communication = asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))
        results = await asyncio.wait_for(communication, SECONDS)
    finally:
        for writer in writers:
            if writer.returncode is None:
                writer.kill()
                await writer.wait()
    assert [out for out, _ in results] == [b"done\n"] * len(arguments)


async def test_every_step_once_one_owner_one_user_one_verdict(
    mongo_uri: str, layer: MongoDataLayer, database: Database, thread_id: str
) -> None:
    places = [(mongo_uri, database.name, thread_id, name) for name in PROCESSES]
    await run_together("tests.chainlit.order.writer", *places)

    stored: Any = await database.threads.find_one({"_id": thread_id})
    ids = Counter(step["id"] for step in stored["steps"])
    assert len(ids) == SHARED + OWN * len(PROCESSES)
    assert set(ids.values()) == {1}
    assert not stored.get("pendingFeedback")

    thread: Any = await layer.get_thread(thread_id)
    assert thread["name"] == NAME
    assert thread["userIdentifier"] == "alice"
    assert thread["metadata"] == dict.fromkeys(PROCESSES, True)
    for step in thread["steps"]:
        writers_of = PROCESSES if step["id"].startswith("shared") else (step["id"].split()[0],)
        assert (step["name"], step["output"]) == (step["id"], step["id"])
        assert all(step[f"created by {me}"] and step[f"updated by {me}"] for me in writers_of)
        assert step["feedback"]["value"] == 1
        assert step["feedback"]["comment"] in writers_of

    users = Counter([user["identifier"] async for user in database.users.find({})])
    assert users == Counter(["alice", *(f"user {number}" for number in range(LOGINS))])
    assert await database.threads.count_documents({}) == 1
