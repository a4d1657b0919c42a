"""One page of the list of conversations, newest first."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from mongo_datalayer.chainlit.queries import after_cursor, content_filters
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import LONG, Document
from mongo_datalayer.model.stored_lists import array, listed_overflow
from mongo_datalayer.mongodb.client import Database, aggregate, bounded_search
from mongo_datalayer.search.pattern import search_patterns, unicode_forms

PAGE = 25
FIRST_WINDOW = 200
"""How many threads the first query of a filtered page looks at; each next one takes twice that."""

MOST_WINDOW = 3200
BUDGET_SECONDS = 2.0
"""After so long a page shows what it found, and where it goes on."""

AROUND = 80
"""How many characters are shown before and after a hit."""

INDEXED = frozenset({"user", "since", "until"})
"""The filters that an index serves."""

_NEWEST_FIRST = {"updatedAt": -1, "_id": -1}
# Texts and nothing at all sort outside of it.
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=timezone.utc)
_ENTRY: Document = {
    **dict.fromkeys(("name", "userId", "userIdentifier", "tags", "createdAt", "updatedAt"), 1),
    **dict.fromkeys(("metadata.name", "metadata.is_shared", "metadata.chat_profile"), 1),
    "overflow": 1,
    "steps": {"$size": "$steps"},
    "votes": "$steps.feedback.value",
    "errors": {"$in": [True, "$steps.isError"]},
}


@dataclass
class Page:
    """A page of the list.

    Attributes:
        threads: The threads, reduced to what the list shows.
        following: The cursor of the next page; None when there is none.
        searched_to: How far back a page looked that ran out of time.
        hits: For each thread that a search found: text before, the hit, text after.
    """

    threads: list[Document] = field(default_factory=list)
    following: str | None = None
    searched_to: datetime | None = None
    hits: dict[str, tuple[str, str, str]] = field(default_factory=dict)


class Listing:
    """Pages of conversations of all users.

    Args:
        database: The database.
        documents: Where threads are stored.
    """

    def __init__(self, database: Database, documents: ThreadDocuments) -> None:
        self._threads = documents.collection
        self._overflow = documents.overflow
        self._users = Users(database)

    async def page(self, filters: Filters, cursor: Cursor | None, limit: int = PAGE) -> Page:
        """The first ``limit`` conversations after the cursor.

        One query on an index. With filters that no index serves there are several, each on a window
        of the newest threads.

        Raises:
            SearchTimeoutError: a single window took too long.
            ValueError: the search text is too long.
        """
        user = await self._users.by_identifier(filters.user) if filters.user else None
        main = filters.main_filter(None if user is None else user["_id"])
        if filters.given.keys() <= INDEXED:
            threads = await self._read(after_cursor(cursor, "updatedAt", main), limit + 1)
            page = _cut(Page(threads), limit)
        else:
            page = await self._windows(filters, main, cursor, limit)
        if filters.search and page.threads:
            ids = [thread["_id"] for thread in page.threads]
            page.hits = await self._hits(ids, filters)
        return page

    async def _read(self, filter: Document, limit: int) -> list[Document]:
        stages: list[Document] = [{"$match": filter}, {"$sort": _NEWEST_FIRST}, {"$limit": limit}]
        return await aggregate(self._threads, [*stages, {"$project": _ENTRY}])

    async def _windows(
        self, filters: Filters, main: Document, cursor: Cursor | None, limit: int
    ) -> Page:
        contents, times = filters.contents(), filters.selection.times
        page, size, began = Page(), FIRST_WINDOW, time.monotonic()
        with bounded_search("A longer text, a user or a range of days makes it quicker."):
            while True:
                end = await self._window_end(main, times, cursor, size)
                window = {"$and": [main, *_between(cursor, end)]}
                matching = await self._matching(window, filters, contents)
                wanted = limit + 1 - len(page.threads)
                found = await self._read(matching, wanted)
                # Of those of the same millisecond, some are behind the end of the window.
                page.threads += [thread for thread in found if _is_before(thread, end)]
                if len(page.threads) > limit or end is None:
                    return _cut(page, limit)
                if time.monotonic() - began > BUDGET_SECONDS:
                    page.following, page.searched_to = end.encode(), end.time
                    return page
                cursor, size = end, min(2 * size, MOST_WINDOW)

    async def _window_end(
        self, main: Document, times: Document, cursor: Cursor | None, size: int
    ) -> Cursor | None:
        """The position of about the thread ``size`` after the cursor; None when there are fewer."""
        if cursor is None:
            return await self._position(main, times, [], size)
        # The index alone answers for the time, and not for the id of the cursor as well. So the
        # threads of its millisecond before it count, unless they take all of the window.
        end = await self._position(main, times, _between(cursor)[:1], size)
        if end is None or (end.time, end.id) < (cursor.time, cursor.id):
            return end
        return await self._position(main, times, _between(cursor), size)

    async def _position(
        self, main: Document, times: Document, after: list[Document], size: int
    ) -> Cursor | None:
        # Without the filter on other fields, which the index does not have.
        only = {name: main[name] for name in ("userId",) if name in main}
        filter = {**only, "$and": [{"updatedAt": {"$lt": _END_OF_TIME}}, times, *after]}
        sort = list(_NEWEST_FIRST.items())
        found = self._threads.find(filter, {"updatedAt": 1}).sort(sort).skip(size - 1).limit(1)
        last: Document | None = next(iter(await found.to_list(None)), None)
        return None if last is None else Cursor(last["updatedAt"], last["_id"])

    async def _matching(
        self, window: Document, filters: Filters, contents: Sequence[tuple[Document, Document]]
    ) -> Document:
        """The filter on threads of a window whose main document, or overflow, matches."""
        if not contents and not filters.asks_for_length:
            return window
        shown = {"overflowIds": 1, "steps": {"$size": array("$steps")}}
        long = await self._threads.find({"$and": [window, dict(LONG)]}, shown).to_list(None)
        listed = {thread["_id"]: listed_overflow(thread) for thread in long}
        conditions: list[Document] = [window]
        for in_main, in_overflow in contents:
            either = [in_main]
            if listed:
                filter = {"thread": {"$in": list(listed)}, **in_overflow}
                ids = await self._overflow.find_matching(filter, listed)
                either.append({"_id": {"$in": ids}})
            conditions.append({"$or": either})
        if filters.asks_for_length:
            lengths = await self._lengths(long)
            ids = [thread_id for thread_id in lengths if filters.has_length(lengths[thread_id])]
            short = {"overflow": None, **filters.length_filter()}
            conditions.append({"$or": [short, {"_id": {"$in": ids}}]})
        return {"$and": conditions}

    async def _lengths(self, long: Sequence[Document]) -> Counter[str]:
        """How many steps long threads have, those in their overflow documents included."""
        lengths = Counter({thread["_id"]: int(thread["steps"]) for thread in long})
        listed = [stored for thread in long for stored in listed_overflow(thread)]
        steps = {"$sum": {"$size": array("$steps")}}
        pipeline: list[Document] = [
            {"$match": {"_id": {"$in": listed}}},
            {"$group": {"_id": "$thread", "steps": steps}},
        ]
        for row in await self._overflow.aggregate(pipeline) if listed else ():
            lengths[row["_id"]] += row["steps"]
        return lengths

    async def _hits(self, ids: list[str], filters: Filters) -> dict[str, tuple[str, str, str]]:
        """Where the text that is searched for stands in these threads."""
        search = filters.search
        fields = ("name", "steps.input", "steps.output")
        main = self._threads.find({"_id": {"$in": ids}}, dict.fromkeys(fields, 1))
        hits: dict[str, tuple[str, str, str]] = {}
        async for thread in main:
            if hit := first_hit(_texts(thread), search):
                hits[thread["_id"]] = hit
        missing = [thread_id for thread_id in ids if thread_id not in hits]
        if missing:
            texts = content_filters(search_patterns(search), None)
            pipeline: list[Document] = [
                {"$match": {"thread": {"$in": missing}, **texts[0][1]}},
                {"$limit": PAGE},
                {"$project": {"thread": 1, "text": 1, "steps.input": 1, "steps.output": 1}},
            ]
            for stored in await self._overflow.aggregate(pipeline):
                if hit := first_hit(_texts(stored), search):
                    hits.setdefault(stored["thread"], hit)
        return hits


def first_hit(texts: Iterable[str], search: str) -> tuple[str, str, str] | None:
    """Where ``search`` stands in the first text that has it: before, the hit, after. Pure."""
    expression = re.compile("|".join(map(re.escape, unicode_forms(search))), re.IGNORECASE)
    for text in texts:
        if found := expression.search(text):
            start, end = found.span()
            before = text[max(0, start - AROUND) : start]
            after = text[end : end + AROUND]
            return (
                f"{'…' if start > AROUND else ''}{before}",
                found[0],
                f"{after}{'…' if len(text) > end + AROUND else ''}",
            )
    return None


def _texts(stored: Document) -> Iterator[str]:
    values: list[Any] = [stored.get("text")]
    for step in stored.get("steps") or ():
        if isinstance(step, dict):
            values += [step.get("output"), step.get("input")]
    values.append(stored.get("name"))
    return (value for value in values if isinstance(value, str))


def _between(cursor: Cursor | None, end: Cursor | None = None) -> list[Document]:
    """Conditions on what comes after a cursor, up to the time of another one."""
    conditions: list[Document] = []
    if cursor is not None:
        # The bound on the time alone is what the index scan begins with.
        conditions = [{"updatedAt": {"$lte": cursor.time}}, after_cursor(cursor, "updatedAt", {})]
    return conditions if end is None else [*conditions, {"updatedAt": {"$gte": end.time}}]


def _is_before(thread: Document, end: Cursor | None) -> bool:
    return end is None or (thread["updatedAt"], thread["_id"]) >= (end.time, end.id)


def _cut(page: Page, limit: int) -> Page:
    """The page without the thread too many, which only tells that there is a next page."""
    if len(page.threads) > limit:
        del page.threads[limit:]
        last = page.threads[-1]
        # A time that was edited by hand and is no date sorts behind all dates.
        if isinstance(last.get("updatedAt"), datetime):
            page.following = Cursor(last["updatedAt"], last["_id"]).encode()
    return page
