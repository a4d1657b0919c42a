"""Writes a thread until its steps overflow, and is killed between the two writes of the move."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from pymongo import AsyncMongoClient

from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.storage import overflow


def killed(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(uri: str, database: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        threads = Threads(client[database], bounds=overflow.Bounds(main=300, kept=100))
        added = threads._overflow._add
        moves = 0

        async def add(*arguments: Any) -> str:
            nonlocal moves
            moves += 1
            part_id = await added(*arguments)
            if moves == 2:
                killed()
            return part_id

        threads._overflow._add = add  # type: ignore[method-assign,assignment]
        for number in range(100):
            await threads.steps.create("t", {"id": f"{number:03}", "output": "x" * 20})


asyncio.run(main(*sys.argv[1:]))
