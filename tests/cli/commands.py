"""Runs commands as processes of their own, to their end or until they are killed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from click import Command, Context, Group
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


def subcommands(group: Group) -> dict[str, Command]:
    """The commands of a group by their names."""
    context = Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


async def run(*arguments: str, stdin: str = "", **environment: str) -> Done:
    """Run ``mongo-datalayer`` with the arguments."""
    process = await _start(arguments, environment)
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), DEADLINE_SECONDS)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def run_at_terminal(*arguments: str, columns: int = 80, **environment: str) -> Done:
    """Run ``mongo-datalayer`` with its output on a terminal of so many columns."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {"TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    process = await _start(arguments, plain, stdout=end)
    os.close(end)
    reading = asyncio.create_task(asyncio.to_thread(_read_to_end, terminal))
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    out = await asyncio.wait_for(reading, DEADLINE_SECONDS)
    os.close(terminal)
    return Done(process.returncode or 0, out.decode().replace("\r\n", "\n"), err.decode())


def _read_to_end(terminal: int) -> bytes:
    read = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the other end was closed
            return read
        if not more:
            return read
        read += more


async def run_for_nobody(*arguments: str) -> Done:
    """Run ``mongo-datalayer`` with its output in a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    process = await _start(arguments, {}, stdout=write)
    os.close(write)
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    return Done(process.returncode or 0, "", err.decode())


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
async def slowed(
    database: AsyncDatabase[dict[str, Any]], *commands: str, milliseconds: int = 20
) -> AsyncIterator[str]:
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
                "blockTimeMS": milliseconds,
                "appName": APP,
            },
        }
    )
    try:
        yield APP
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def _start(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    stdout: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mongo_datalayer.cli",
        *arguments,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )
