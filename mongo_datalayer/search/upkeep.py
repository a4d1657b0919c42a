"""Builds the segments of users who search, beside the app."""

from __future__ import annotations

import asyncio
import logging
import time

from mongo_datalayer.recent import Recent
from mongo_datalayer.search_index.building import SearchIndexer

logger = logging.getLogger(__name__)

WORTH_A_SEGMENT = 200
"""So many threads of a user that are in no segment are searched without one."""

SECONDS = 600.0
"""A user's segments are looked at again after so long at the earliest."""

REMEMBERED_USERS = 10_000


class SearchUpkeep:
    """Keeps the segments of users who search up to date.

    Args:
        indexer: What builds them.
    """

    def __init__(self, indexer: SearchIndexer) -> None:
        self._indexer = indexer
        self._looked: Recent[str, float] = Recent(REMEMBERED_USERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    def begin(self, user_id: str) -> None:
        """Build what is worth it, in a task of its own, unless that was looked at just before."""
        looked = self._looked.get(user_id)
        if looked is not None and time.monotonic() - looked < SECONDS:
            return
        self._looked.put(user_id, time.monotonic())
        task = asyncio.create_task(self._build(user_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what is being built: it counts for nothing, and is built another time."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, user_id: str) -> None:
        try:
            async with self._one_at_a_time:
                built = await self._indexer.build(user_id, at_least=WORTH_A_SEGMENT)
        except Exception as exc:  # noqa: BLE001 - nobody awaits this; searches work without it
            logger.warning("The search index of user %s could not be built: %s", user_id, exc)
        else:
            if built.segments:
                logger.info("The search index of user %s: %s", user_id, built)
