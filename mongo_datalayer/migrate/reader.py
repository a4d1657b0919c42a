"""Reads a source in a worker thread, a batch ahead of who uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from mongo_datalayer.migrate.records import Leftover, Record, Source, ThreadRecord

BATCH_THREADS = 200
BATCH_STEPS = 2_000
BATCH_CHARACTERS = 4 * 1024 * 1024
"""A batch ends with the first of these. Two are in memory, and their BSON."""

Result = TypeVar("Result")


class Reader:
    """One source and the thread that reads it: drivers bind a connection to its thread.

    Attributes:
        source: The source.
    """

    def __init__(self, source: Source, executor: ThreadPoolExecutor) -> None:
        self.source = source
        self._executor = executor

    async def batches(self, records: Callable[[], Iterator[Record]]) -> AsyncIterator[list[Record]]:
        """What ``records`` yields, several at a time; the next ones are read meanwhile."""
        iterator: Iterator[Record] = iter(())

        def begin() -> list[Record]:
            nonlocal iterator
            # In the reader's thread, like every statement of the connection.
            iterator = records()
            return self._batch(iterator)

        waiting = self._submit(begin)
        try:
            while batch := await waiting:
                waiting = self._submit(lambda: self._batch(iterator))
                yield batch
        finally:
            if not waiting.done():  # the connection must not be closed while it reads
                await asyncio.wait([waiting])
            if not waiting.cancelled():
                # asyncio logs an exception that nobody asked for.
                waiting.exception()

    def _submit(self, work: Callable[[], list[Record]]) -> asyncio.Future[list[Record]]:
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _batch(self, records: Iterator[Record]) -> list[Record]:
        batch: list[Record] = []
        steps = characters = 0
        for record in records:
            batch.append(record)
            if isinstance(record, Leftover):
                steps += len(record.rows.findings)
            if isinstance(record, ThreadRecord):
                steps += len(record.thread["steps"])
                characters += sum(
                    len(step.get("output", "")) + len(step.get("input", ""))
                    for step in record.thread["steps"]
                )
            if len(batch) >= BATCH_THREADS or steps >= BATCH_STEPS:
                break
            if characters >= BATCH_CHARACTERS:
                break
        return batch


@asynccontextmanager
async def opened(open_source: Callable[[], Source]) -> AsyncIterator[Reader]:
    """Open a source in a thread of its own; its snapshot ends with the context.

    Raises:
        ConfigurationError: it is no source, or cannot be read.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="migrate") as executor:
        source = await loop.run_in_executor(executor, open_source)
        try:
            yield Reader(source, executor)
        finally:
            await loop.run_in_executor(executor, source.close)
