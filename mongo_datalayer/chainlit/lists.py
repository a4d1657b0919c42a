"""Lists of a user: the threads of the sidebar, and favourite steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from cachetools import LRUCache

from mongo_datalayer.chainlit import queries
from mongo_datalayer.chainlit.thread_contents import maps
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import LONG, OWN_THREAD, Document
from mongo_datalayer.model.stored_lists import ids, items, listed_overflow
from mongo_datalayer.mongodb.client import Database, aggregate, bounded_search, is_mongomock
from mongo_datalayer.search.pattern import search_patterns
from mongo_datalayer.storage.contention import READ_ATTEMPTS, Attempts

if TYPE_CHECKING:
    from mongo_datalayer.search.searcher import Searcher
    from mongo_datalayer.search.upkeep import SearchUpkeep

REMEMBERED_USERS = 10_000
"""Of how many users it is remembered that they have long threads."""


class Lists:
    """Reads among all threads of one user.

    Args:
        documents: Where threads are stored.
        database: The database.
        search_index: Whether to use the search index, and keep it up to date.

    Raises:
        ConfigurationError: there is to be a search index in mongomock.
    """

    def __init__(
        self, documents: ThreadDocuments, database: Database, *, search_index: bool
    ) -> None:
        self._threads = documents.collection
        self._values = documents.values
        self._overflow = documents.overflow
        self._joins = documents.joins
        self._fallback = documents.fallback
        self._have_long: LRUCache[str, bool] = LRUCache(REMEMBERED_USERS)
        self._searcher: Searcher | None = None
        self._upkeep: SearchUpkeep | None = None
        if search_index:
            if is_mongomock(database):
                raise ConfigurationError("search_index=True needs MongoDB; mongomock cannot do it.")
            # Here, so that an app without the search index does not load it.
            from mongo_datalayer.search.searcher import Searcher
            from mongo_datalayer.search.upkeep import SearchUpkeep

            self._searcher = Searcher(database)
            self._upkeep = SearchUpkeep(database)

    async def page(
        self,
        user_id: str,
        *,
        limit: int,
        time_field: str,
        cursor: Cursor | None,
        search: str | None,
        feedback: int | None,
    ) -> list[Document]:
        """A page of a user's threads without their steps.

        One aggregation; with a filter one more the first time that it meets a long thread of the
        user. More with the search index, and where the server joins no collections.
        """
        patterns = search_patterns(search) if search else ()
        pipeline = partial(
            queries.thread_page_pipeline,
            user_id,
            limit=limit,
            time_field=time_field,
            cursor=cursor,
            patterns=patterns,
            feedback=feedback,
        )
        if search and self._upkeep is not None:
            self._upkeep.begin(user_id)
        if search or feedback is not None:
            reading = self._fallback.read(
                lambda: self._page_joined(user_id, pipeline, search),
                lambda: self._page_apart(user_id, pipeline, patterns, feedback),
            )
            bound = bounded_search("A longer or a rarer text is found sooner.")
            with bound if search else nullcontext():
                threads = await reading
        else:
            threads = await aggregate(self._threads, pipeline())
        # By id: a thread that becomes long just now may be among both.
        page = list({thread["_id"]: thread for thread in threads}.values())
        long = [thread for thread in page if "overflow" in thread]
        if long:
            await self._values.resolve(maps(long))
        return page

    async def favorites(self, user_id: str) -> list[tuple[str, Document]]:
        """Thread id and stored step of each favourite step of a user.

        One aggregation; one more the first time that the user has a long thread. Two or three
        commands where the server joins no collections.
        """
        threads = await self._fallback.read(
            lambda: self._read(user_id, partial(queries.favorites_pipeline, user_id)),
            lambda: self._favorites_apart(user_id),
        )
        await self._values.resolve(maps(threads))
        deleted = {
            (thread["_id"], step_id)
            for thread in threads
            for step_id in ids(thread, "deletedSteps")
        }
        # By id, as a step that is moving may be found in both documents.
        steps = {
            (thread["_id"], step["id"]): (thread["_id"], step)
            for thread in threads
            for step in items(thread, "steps")
        }
        return [found for key, found in steps.items() if key not in deleted]

    async def newest(self, user_id: str | None, *, limit: int | None, time_field: str) -> list[str]:
        """The ids of a user's threads, or of everybody's, newest first. One command."""
        if limit is not None and limit < 1:
            return []
        owned = OWN_THREAD if user_id is None else {"userId": user_id}
        found = self._threads.find(dict(owned), {"_id": 1}).sort([(time_field, -1), ("_id", -1)])
        return [thread["_id"] async for thread in found.limit(limit or 0)]

    async def cursor_after(self, user_id: str, thread_id: str, *, time_field: str) -> Cursor | None:
        """The cursor of the page after a thread; None unless it is the user's. One command."""
        thread = await self._threads.find_one(
            {"_id": thread_id, "userId": user_id}, {time_field: 1}
        )
        time = None if thread is None else thread.get(time_field)
        return Cursor(time, thread_id) if isinstance(time, datetime) else None

    async def close(self) -> None:
        """Stop the upkeep of the search index."""
        if self._upkeep is not None:
            await self._upkeep.stop()

    async def _page_joined(
        self, user_id: str, pipeline: partial[list[Document]], search: str | None
    ) -> list[Document]:
        if search and self._searcher is not None:
            order = {name: pipeline.keywords[name] for name in ("limit", "time_field")}
            threads = await self._searcher.page(user_id, search, pipeline, **order)
            if threads is not None:
                return threads
        return await self._read(user_id, pipeline)

    async def _read(self, user_id: str, pipeline: Callable[..., list[Document]]) -> list[Document]:
        """The threads that a pipeline finds, long ones included."""
        if not self._joins:
            return await aggregate(self._threads, pipeline(overflow=False))
        # Two passes, as most users have no long thread, and the join costs time all the same: a
        # search takes 26 % less without it. A remembered user may have none any more; then the
        # search is slower, and still right.
        if self._have_long.get(user_id) is None:
            threads = await aggregate(self._threads, pipeline(join=False))
            if not any("overflow" in thread for thread in threads):
                return threads
            self._have_long[user_id] = True
        return await aggregate(self._threads, pipeline())

    # Where the server joins no collections ----------------------------------------------------

    async def _page_apart(
        self,
        user_id: str,
        pipeline: Callable[..., list[Document]],
        patterns: Sequence[str],
        feedback: int | None,
    ) -> list[Document]:
        threads = await aggregate(self._threads, pipeline(join=False))
        if not any("overflow" in thread for thread in threads):
            return threads
        listed = await self._listed_overflow(user_id)
        async for _ in Attempts(READ_ATTEMPTS):
            found = [
                await self._overflow.find_matching(overflow_filter, listed)
                for overflow_filter in queries.overflow_filters(list(listed), patterns, feedback)
            ]
            threads = await aggregate(self._threads, pipeline(found_in_overflow=found))
            # What moved from a main document in between was in neither.
            before, listed = listed, await self._listed_overflow(user_id)
            if listed == before:
                break
        return threads

    async def _favorites_apart(self, user_id: str) -> list[Document]:
        pipeline = queries.favorites_pipeline(user_id, overflow=False)
        threads = await aggregate(self._threads, pipeline)
        # After the main documents: a favourite that has just left one is in overflow now.
        long = {thread["_id"]: thread for thread in await self._long(user_id)}
        if not long:
            return threads
        pipeline = queries.overflow_favorites_pipeline(list(long))
        for stored in await self._overflow.aggregate(pipeline):
            main = long[stored["thread"]]
            if stored["_id"] in main["overflowIds"]:
                threads.append({**main, "steps": stored["steps"]})
        return threads

    async def _listed_overflow(self, user_id: str) -> dict[str, Sequence[str]]:
        """The overflow documents of each of the user's long threads."""
        return {thread["_id"]: thread["overflowIds"] for thread in await self._long(user_id)}

    async def _long(self, user_id: str) -> list[Document]:
        """The user's long threads, with what tells which of their overflow counts."""
        fields = {"overflowIds": 1, "deletedSteps.id": 1}
        found = await self._threads.find({"userId": user_id, **LONG}, fields).to_list(None)
        return [{**thread, "overflowIds": listed_overflow(thread)} for thread in found]
