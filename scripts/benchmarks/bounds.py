"""How large a thread's document should be: what a chat costs with different bounds.

Run by ``scripts/bench_bounds``. For each bound one thread of each length is filled, and then the
same operations are made in all of them, in turn, so that the machine's noise hits all alike.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from rich.console import Console
from rich.table import Table

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.server import LocalServer
from mongo_datalayer.storage import overflow
from mongo_datalayer.storage.overflow import Bounds

KIB = 1024
HEADS = (32, 64, 128, 256, 512, 1024)
"""The bounds that are compared, in KiB; a quarter of it stays in the document."""

LENGTHS = (12, 100, 1000, 5000)
"""Steps of the threads; a step takes about 1.2 KB."""

ROUNDS = 60
DATABASE = "bounds"
TEXT = "What a tool or a model may have answered, with some words more. " * 14


def step(thread_id: str, number: int, step_id: str | None = None) -> Any:
    """A step as Chainlit makes it."""
    moment = f"2026-03-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000001Z"
    return {
        "id": step_id or str(uuid.uuid4()),
        "threadId": thread_id,
        "parentId": None,
        "type": "assistant_message",
        "name": "Assistant",
        "input": "",
        "output": TEXT,
        "createdAt": moment,
        "start": moment,
        "end": moment,
        "metadata": {},
        "showInput": "json",
        "defaultOpen": False,
        "isError": False,
    }


@asynccontextmanager
async def layers(uri: str) -> AsyncIterator[dict[int, MongoDataLayer]]:
    """A data layer for each bound, on one client."""
    async with AsyncMongoClient[dict[str, Any]](uri, w=1, journal=True) as client:
        made = {}
        for head in HEADS:
            overflow.BOUNDS = Bounds(head * KIB, kept=head * KIB // 4, long=head * KIB)
            made[head] = MongoDataLayer(client=client, database=f"{DATABASE}_{head}")
            await made[head].create_indexes()
        yield made


async def main() -> None:
    """Measure and print."""
    table = Table("steps", "operation", *(f"{head} KiB" for head in HEADS), title="p50, ms")
    with LocalServer() as server:
        async with layers(server.uri) as made:
            for length in LENGTHS:
                for name, medians in (await measured(made, length)).items():
                    table.add_row(str(length), name, *(f"{value:.2f}" for value in medians))
    Console().print(table)


async def measured(made: dict[int, MongoDataLayer], length: int) -> dict[str, list[float]]:
    """Medians in milliseconds of each operation, one for each bound."""
    thread_id = f"{length} steps"
    for layer in made.values():
        for number in range(length):
            await layer.create_step(step(thread_id, number, f"{length}-{number}"))
    times: dict[str, dict[int, list[float]]] = {}
    for number in range(ROUNDS):
        for head, layer in made.items():
            for name, operation in operations(layer, thread_id, length, number).items():
                began = time.perf_counter()
                await operation()
                spent = 1000 * (time.perf_counter() - began)
                times.setdefault(name, {}).setdefault(head, []).append(spent)
    return {
        name: [statistics.median(values) for values in of_bounds.values()]
        for name, of_bounds in times.items()
    }


def operations(
    layer: MongoDataLayer, thread_id: str, length: int, number: int
) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What is measured in a round."""
    new = f"{length}-{uuid.uuid4()}"
    return {
        "create_step": lambda: layer.create_step(step(thread_id, length + number, new)),
        "update_step, new": lambda: layer.update_step(step(thread_id, length + number, new)),
        "update_step, old": lambda: layer.update_step(step(thread_id, 1, f"{length}-1")),
        "get_thread": lambda: layer.get_thread(thread_id),
    }


if __name__ == "__main__":
    asyncio.run(main())
