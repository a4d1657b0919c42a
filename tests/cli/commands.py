"""Runs commands as processes of their own, to their end or until they are killed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

NOBODY = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
APP = "slowed"
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Done:
    """How a process ended and what it wrote."""

    code: int
    out: str
    err: str

    def failed_with_one_line(self) -> str:
        """The one line of an error that is not a bug."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("Error: ")
        assert self.err.count("\n") == 1, self.err
        return self.err


async def run(*arguments: str, stdin: str = "", **environment: str) -> Done:
    """Run ``mongo-datalayer`` with the arguments."""
    process = await _start(arguments, environment)
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), DEADLINE_SECONDS)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def kill_when(condition: Callable[[], Awaitable[bool]], *arguments: str) -> int:
    """Run ``mongo-datalayer``, and kill it as soon as the condition holds; the exit code."""
    process = await _start(arguments, {})
    while process.returncode is None and not await condition():  # noqa: ASYNC110 - a database tells
        await asyncio.sleep(0.01)
    if process.returncode is None:
        process.kill()
    await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode is not None
    return process.returncode


@asynccontextmanager
async def slowed(database: AsyncDatabase[dict[str, Any]], *commands: str) -> AsyncIterator[str]:
    """Make the server wait before these commands of a client with the yielded application name.

    So that a process can be killed in the middle of its work and not after it.
    """
    admin = database.client.admin
    await admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": "alwaysOn",
            "data": {
                "failCommands": list(commands),
                "blockConnection": True,
                "blockTimeMS": 20,
                "appName": APP,
            },
        }
    )
    try:
        yield APP
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def _start(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mongo_datalayer.cli",
        *arguments,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
