"""What is looked for inside of a user's threads: in their overflow only where they have some."""

from __future__ import annotations

from collections.abc import Callable

from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Collection, aggregate
from mongo_datalayer.recent import Recent

REMEMBERED_USERS = 10_000
"""Of how many users it is remembered that they have long threads."""


class Lists:
    """Reads among the threads of one user.

    Most users have no long thread, and looking into the overflow costs time also where there is
    none. So the first read only notices long threads, and is enough where it meets none.

    Args:
        threads: The collection.
        joins: Whether the server can look into another collection; mongomock cannot.
    """

    def __init__(self, threads: Collection, *, joins: bool) -> None:
        self._threads = threads
        self._joins = joins
        self._have_long: Recent[str, bool] = Recent(REMEMBERED_USERS)

    async def read(self, user_id: str, pipeline: Callable[..., list[Document]]) -> list[Document]:
        """What a pipeline finds, long threads included.

        One command; one more when it is the first that meets a long thread of the user. What is
        remembered of a user may be outdated: then the one command is the slower one.

        Args:
            user_id: The user.
            pipeline: Makes the pipeline; ``overflow`` and ``join`` are those of
                :func:`~mongo_datalayer.pipelines.thread_page_pipeline`.
        """
        if not self._joins:
            return await aggregate(self._threads, pipeline(overflow=False))
        if self._have_long.get(user_id) is None:
            found = await aggregate(self._threads, pipeline(join=False))
            if not any("overflow" in thread for thread in found):
                return found
            self._have_long.put(user_id, True)
        return await aggregate(self._threads, pipeline())
