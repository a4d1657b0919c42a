"""Asks a user's segments which threads may contain a text."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mongo_datalayer.documents import SEARCH_WORDS, Document
from mongo_datalayer.driver import Database, open_collection
from mongo_datalayer.search_index import segments
from mongo_datalayer.search_index.words import Clues, clues
from mongo_datalayer.values import from_milliseconds, milliseconds

PAGES = 200
"""A text whose clues are in more pages than that is frequent; it is found quickly without them."""

PAGES_AT_ONCE = 32
"""After so many pages a search asks whether the clues are too frequent to tell anything."""

BATCH = 32
"""So many candidates are looked at first; then twice as many, and so on."""

FREQUENT = 2
"""A word that more than one thread of so many has is frequent."""

PLACES = 1 << 32


@dataclass(frozen=True)
class Candidates:
    """Where a text may be.

    Attributes:
        segments: The segments that were asked, each with the count of its numbers.
        threads: Their threads that may contain the text, the newest first. Each is the time, in
            milliseconds since 1970, times ``PLACES``, and its place: that of its segment, times
            ``segments.THREADS``, and its number. There may be thousands, and integers are quick.
    """

    segments: Mapping[str, int]
    threads: Sequence[int]

    @property
    def outside(self) -> Document:
        """The condition on the threads that are in none of the segments."""
        return segments.outside(self.segments)

    def batches(self, before: datetime | None) -> Iterator[tuple[Document, datetime | None]]:
        """Conditions on the threads to look at, the newest first; the first batch is small.

        Args:
            before: Only threads that are not newer.

        Yields:
            A condition, and the time of the newest thread that is in a later batch; None in the
            last one.
        """
        threads = self.threads
        if before is not None:
            end = (milliseconds(before) + 1) * PLACES
            threads = threads[bisect_left(threads, -end, key=operator.neg) :]
        names = list(self.segments)
        size, at = BATCH, 0
        while at < len(threads):
            places = [divmod(each % PLACES, segments.THREADS) for each in threads[at : at + size]]
            chosen = [segments.mark(names[segment], number) for segment, number in places]
            at, size = at + size, 2 * size
            yield (
                {"searchMark": {"$in": chosen}},
                from_milliseconds(threads[at] // PLACES) if at < len(threads) else None,
            )


class SearchWords:
    """The segments of all users.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._pages = open_collection(database, SEARCH_WORDS)

    async def candidates(self, user_id: str, search: str, time_field: str) -> Candidates | None:
        """The threads of a user's segments that may contain a text. One command, seldom two.

        Args:
            user_id: The user.
            search: The text.
            time_field: The time that they are ordered by.

        Returns:
            None when the segments can say nothing of the text, or there are none.
        """
        asked = clues(search)
        found = await self._find(user_id, asked)
        if found is None and asked.inside and (asked.starts or asked.joints):
            asked = asked._replace(inside=())  # many words have it
            found = await self._find(user_id, asked)
        heads = {page["_id"]: page for page in found or () if "form" in page}
        if found is None or not heads:
            return None
        of_segment: dict[str, list[Document]] = {name: [] for name in heads}
        for page in found:
            if page.get("segment") in of_segment:
                of_segment[page["segment"]].append(page)
        numbers = {
            name: segments.numbers_with_all(asked, pages, most=heads[name]["threads"] // FREQUENT)
            for name, pages in of_segment.items()
        }
        if all(each is None for each in numbers.values()):
            return None
        threads: list[int] = []
        for place, (name, each) in enumerate(numbers.items()):
            times = segments.times(heads[name], time_field)
            first = place * segments.THREADS
            among = range(heads[name]["count"]) if each is None else each
            threads += [times[number] * PLACES + first + number for number in among]
        threads.sort(reverse=True)
        return Candidates({name: head["count"] for name, head in heads.items()}, threads)

    async def _find(self, user_id: str, asked: Clues) -> list[Document] | None:
        """The pages with these clues, and all heads; None without clues, or if they are many.

        Nothing, and no heads, if the clues are too frequent to tell anything.
        """
        if not any(asked):
            return None
        condition = {"userId": user_id, **segments.pages_with(asked)}
        cursor = self._pages.find(condition, limit=PAGES, batch_size=PAGES_AT_ONCE)
        found: list[Document] = []
        try:
            async for page in cursor:
                found.append(page)
                if len(found) == PAGES_AT_ONCE and _frequent(asked, found):
                    return []
        finally:
            await cursor.close()
        return None if len(found) == PAGES else found


def _frequent(asked: Clues, pages: Sequence[Document]) -> bool:
    """Whether most threads have the clues, by some of the pages, mostly those of one segment."""
    most = segments.THREADS // FREQUENT
    return segments.numbers_with_all(asked, pages, most=most) is None
