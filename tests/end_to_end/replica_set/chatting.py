"""A steady load of chat turns, as one of several processes makes it.

``python -m tests.end_to_end.replica_set.chatting URI DATABASE NAME JOURNAL`` prints ``ready``,
chats until its standard input ends, and prints ``done``. Each call is written down in the journal
when it has returned: which step or element it wrote, what of it, when it began, and whether it was
acknowledged. A call that stores a file is written down when it begins, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
import uuid
import warnings
from collections.abc import Awaitable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from pymongo.errors import PyMongoError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Chainlit's own imports
    from chainlit.element import File
    from chainlit.types import Feedback

    from mongo_datalayer import MongoDataLayer
    from mongo_datalayer.errors import MongoDataLayerError

CHATS = 4
TURNS_PER_THREAD = 10
PAUSE_SECONDS = 0.02
FILE_BYTES = (100, 600_000)  # of one chunk, and of three
BEGUN = "begun"


class Chat:
    """One user who asks, and reads the answers, thread after thread."""

    def __init__(self, layer: MongoDataLayer, name: str, journal: TextIO) -> None:
        self._layer = layer
        self._name = name
        self._journal = journal

    async def go_on(self, stop: asyncio.Event) -> None:
        """Turn after turn, until it is time to stop."""
        while not stop.is_set():
            thread_id = str(uuid.uuid4())
            for number in range(TURNS_PER_THREAD):
                if stop.is_set():
                    break
                await self._turn(thread_id, number)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _turn(self, thread_id: str, number: int) -> None:
        question, run, tool, answer = (
            f"{thread_id} {number} {kind}" for kind in ("question", "run", "tool", "answer")
        )
        if number == 0:
            await self._written(None, {}, self._layer.update_thread(thread_id, name=self._name))
        await self._create(thread_id, question, "user_message", output=f"Q {question}")
        await self._create(thread_id, run, "run", parentId=question)
        # Chainlit awaits neither, and they are in the air together.
        await asyncio.gather(
            self._create(thread_id, tool, "tool", parentId=run, input="in"),
            self._update(thread_id, tool, "tool", parentId=run, output=f"T {tool}"),
        )
        await self._create(thread_id, answer, "assistant_message", output=f"A {answer}")
        await self._update(thread_id, run, "run", output=f"R {run}")
        if number % 3 == 0:
            feedback = Feedback(forId=run, value=1, threadId=thread_id)
            await self._written(run, {"feedback": 1}, self._layer.upsert_feedback(feedback))
            await self._attach(thread_id, f"{thread_id} file", answer, number)

    async def _create(self, thread_id: str, step_id: str, kind: str, **fields: Any) -> None:
        given = _step(thread_id, step_id, kind, fields)
        await self._written(step_id, fields, self._layer.create_step(given))

    async def _update(self, thread_id: str, step_id: str, kind: str, **fields: Any) -> None:
        given = _step(thread_id, step_id, kind, fields)
        await self._written(step_id, fields, self._layer.update_step(given))

    async def _attach(self, thread_id: str, element_id: str, step_id: str, number: int) -> None:
        """Store an element's file, and the next time another version of it."""
        seed = f"{element_id} {number} ".encode()
        content = (seed * FILE_BYTES[-1])[: FILE_BYTES[number % len(FILE_BYTES)]]
        element = File(
            id=element_id, thread_id=thread_id, for_id=step_id, name="file", content=content
        )
        fields = {"sha256": hashlib.sha256(content).hexdigest()}
        self._note(element_id, fields, BEGUN, time.monotonic())
        await self._written(element_id, fields, self._layer.create_element(element))

    async def _written(
        self, step_id: str | None, fields: dict[str, Any], call: Awaitable[Any]
    ) -> None:
        start = time.monotonic()
        error = None
        try:
            await call
        except (PyMongoError, MongoDataLayerError) as exc:
            error = f"{type(exc).__name__}: {exc}"
        self._note(step_id, fields, error, start)

    def _note(
        self, item_id: str | None, fields: dict[str, Any], error: str | None, start: float
    ) -> None:
        entry = {
            "item": item_id,
            "fields": fields,
            "error": error,
            "began": start,  # the clock is the same in every process
            "seconds": time.monotonic() - start,
        }
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()


def _step(thread_id: str, step_id: str, kind: str, fields: dict[str, Any]) -> Any:
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    return {"id": step_id, "threadId": thread_id, "type": kind, "createdAt": now, **fields}


async def main(uri: str, database: str, name: str, journal: str) -> None:
    """Chat with several users at once until standard input ends."""
    layer = MongoDataLayer(uri, database=database)
    stop = asyncio.Event()
    with Path(journal).open("w") as written:  # noqa: ASYNC230 - a line now and then
        print("ready", flush=True)  # noqa: T201 - the other process waits for it
        chats = [Chat(layer, f"{name} {number}", written) for number in range(CHATS)]
        chatting = [asyncio.create_task(chat.go_on(stop)) for chat in chats]
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await asyncio.gather(*chatting)
    await layer.close()
    print("done", flush=True)  # noqa: T201 - the other process waits for it


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
