"""One of several processes that write to one new thread at the same time.

``python -m tests.chainlit.order.writer URI DATABASE THREAD NAME`` prints ``ready``, waits for a
line, writes, and prints ``done``.
"""

from __future__ import annotations

import asyncio
import random
import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Chainlit's own imports
    from chainlit.types import Feedback
    from chainlit.user import User

    from mongo_datalayer import MongoDataLayer

SHARED = 60
OWN = 60
LOGINS = 30
NAME = "one thread, several processes"


def writes(layer: MongoDataLayer, thread_id: str, me: str, user_id: str) -> list[Any]:
    """Hundreds of calls, in no order: steps of one's own, and steps that everybody writes."""
    owned = [f"{me} {number}" for number in range(OWN)]
    shared = [f"shared {number}" for number in range(SHARED)]
    calls: list[Any] = [
        layer.update_thread(thread_id=thread_id, name=NAME, user_id=user_id),
        layer.update_thread(thread_id=thread_id, metadata={me: True}),
    ]
    for step_id in owned + shared:
        step = {"id": step_id, "threadId": thread_id, "type": "tool"}
        created: Any = {**step, "name": step_id, f"created by {me}": True}
        updated: Any = {**step, "output": step_id, f"updated by {me}": True}
        vote = Feedback(forId=step_id, value=1, threadId=thread_id, comment=me)
        calls += [
            layer.create_step(created),
            layer.update_step(updated),
            layer.upsert_feedback(vote),
        ]
    calls += [layer.create_user(User(identifier=f"user {n}")) for n in range(LOGINS)]
    random.shuffle(calls)
    return calls


async def main(uri: str, database: str, thread_id: str, me: str) -> None:
    layer = MongoDataLayer(uri, database=database)
    print("ready", flush=True)  # noqa: T201 - the other process waits for it
    await asyncio.to_thread(sys.stdin.readline)
    user = await layer.create_user(User(identifier="alice"))
    await asyncio.gather(*writes(layer, thread_id, me, user.id))
    await layer.close()
    print("done", flush=True)  # noqa: T201 - the other process waits for it


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
