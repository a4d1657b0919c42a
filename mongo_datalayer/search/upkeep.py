"""Builds the segments of users who search, in the background of the app."""

from __future__ import annotations

import asyncio
from contextvars import Context

from cachetools import TTLCache

from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.search.indexer import SearchIndexer

logger = get_logger(__name__)

WORTH_A_SEGMENT = 200
"""Fewer threads of a user than that are searched without a segment."""

SECONDS = 600.0
"""How long it takes until a user's segments are checked again."""

_REMEMBERED_USERS = 10_000


class SearchUpkeep:
    """Keeps the segments of users who search up to date.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._indexer = SearchIndexer(database)
        self._checked: TTLCache[str, bool] = TTLCache(_REMEMBERED_USERS, SECONDS)
        # The event loop holds tasks weakly; stop() needs them as well.
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    def begin(self, user_id: str) -> None:
        """Build what is worth it, in a task of its own, unless that was checked just before."""
        if user_id in self._checked:
            return
        # Before the task runs: the next search of this user must not begin a second build.
        self._checked[user_id] = True
        # In an empty context: this one has the deadline of the search, and a build takes longer.
        task = Context().run(asyncio.create_task, self._build(user_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel what is being built: it counts for nothing, and is built another time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _build(self, user_id: str) -> None:
        try:
            # A build takes 64 MiB: users who search at the same moment must not add theirs up.
            async with self._one_at_a_time:
                built = await self._indexer.build(user_id, at_least=WORTH_A_SEGMENT)
        except Exception as exc:  # noqa: BLE001 - nobody awaits this; searches work without it
            logger.warning("The search index of user %s could not be built: %s", user_id, exc)
        else:
            if built.segments:
                logger.info("The search index of user %s: %s", user_id, built)
