"""A thread that is too long for one document, read by the real mongo shell through the views."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.schema.views import apply_views
from tests.programs import require_mongosh

STEPS = 170
STEP_BYTES = 100_000

SCRIPT = """
const shown = db.conversations.find({_id: {$in: ["long", "short"]}}).sort({_id: 1}).toArray()
const steps = db.conversation_steps.find({thread: "long"})
steps.sort({at: 1, "step.createdAt": 1, arrival: 1})
const ids = steps.toArray().map(row => row.step.id)
JSON.stringify({
  names: shown.map(thread => thread.name),
  lengths: shown.map(thread => thread.steps.length),
  incomplete: shown.map(thread => thread.incomplete ?? null),
  newest: shown[0].steps.at(-1).id,
  ids: ids
})
"""


async def test_every_step_of_a_thread_beyond_16_mb_can_be_read(
    mongo_uri: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    layer = MongoDataLayer(client=database.client, database=database.name)
    await layer.create_indexes()
    await apply_views(database)
    for thread_id, count in (("short", 1), ("long", STEPS)):
        for number in range(count):
            await layer.create_step(
                {
                    "id": f"{thread_id}/{number}",
                    "threadId": thread_id,
                    "type": "user_message",
                    "output": "x" * STEP_BYTES,
                    "createdAt": f"2026-01-02T03:{number // 60:02}:{number % 60:02}Z",
                }
            )
        await layer.update_thread(thread_id, name=thread_id)

    process = await asyncio.create_subprocess_exec(
        require_mongosh(),
        *("--quiet", "--norc", f"{mongo_uri}/{database.name}", "--eval", SCRIPT),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output
    shown = json.loads(output)
    assert shown["names"] == ["long", "short"]
    assert shown["lengths"][1] == 1
    assert 0 < shown["lengths"][0] < STEPS
    assert shown["newest"] == f"long/{STEPS - 1}"
    assert shown["incomplete"][1] is None
    assert shown["incomplete"][0]["steps"] == STEPS
    assert shown["incomplete"][0]["bytes"] > 16 * 1024 * 1024
    assert shown["ids"] == [f"long/{number}" for number in range(STEPS)]
