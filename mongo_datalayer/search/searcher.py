"""Searches with the index: asks a user's segments first, and reads only the threads they leave."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping

from pymongo.errors import OperationFailure

from mongo_datalayer.model.documents import SEARCH_WORDS, THREADS, Document
from mongo_datalayer.mongodb.client import Database, aggregate, open_collection
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.search import segments
from mongo_datalayer.search.ngrams import FORMAT, query_ngrams
from mongo_datalayer.search.pattern import unicode_forms

logger = get_logger(__name__)

FREQUENT = 0.15
"""When a larger share of the threads is left, the plain search fills its page about as soon."""

_BAD_HINT = 2  # the server's code for a hint that is no index


class Searcher:
    """The segments of all users.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._threads = open_collection(database, THREADS)
        self._pages = open_collection(database, SEARCH_WORDS)

    async def page(
        self,
        user_id: str,
        search: str,
        pipeline: Callable[..., list[Document]],
        *,
        limit: int,
        time_field: str,
    ) -> list[Document] | None:
        """A page of the user's threads that contain a text. At most three commands.

        Args:
            user_id: The user.
            search: The text.
            pipeline: Makes the pipeline of the page, with ``among`` and ``overflow``.
            limit: At most this many threads.
            time_field: The time they are ordered by, the newest first.

        Returns:
            None when the index cannot help: the text is short or frequent, nothing is indexed, or
            the index on threads is missing.
        """
        candidates = await self._candidates(user_id, search)
        if candidates is None:
            return None
        references, outside = candidates
        pipelines = [pipeline(among=outside, overflow=True)]
        if references:
            # First: a thread that changes meanwhile is outside then, and not missed.
            among = {"searchSegment": {"$in": references}}
            pipelines.insert(0, pipeline(among=among, overflow=False))
        # By id: a thread that changes between the two commands may be in both.
        found: dict[str, Document] = {}
        try:
            for stages in pipelines:
                threads = await aggregate(self._threads, stages, hint="user_search")
                found.update((thread["_id"], thread) for thread in threads)
        except OperationFailure as exc:
            if exc.code != _BAD_HINT:
                raise
            logger.warning("The index threads.user_search is missing: `search-index build`.")
            return None
        order = operator.itemgetter(time_field, "_id")
        return sorted(found.values(), key=order, reverse=True)[:limit]

    async def _candidates(self, user_id: str, search: str) -> tuple[list[str], Document] | None:
        """References of the threads that may match, and the filter on those in no segment."""
        queries = [query_ngrams(form) for form in unicode_forms(search)]
        # A form of fewer than six bytes has no n-gram: any thread might contain it.
        if not all(queries):
            return None
        headers: dict[str, int] = {}
        pages: dict[str, dict[int, bytes]] = defaultdict(dict)
        # Only this format: others cut n-grams differently, and their threads are read directly.
        wanted = [
            {"userId": user_id, "ngrams": None, "format": FORMAT},
            {"userId": user_id, "ngrams": {"$in": segments.pages_of(set().union(*queries))}},
        ]
        async for stored in self._pages.find({"$or": wanted}):
            if "format" in stored:
                headers[stored["_id"]] = stored["threads"]
            else:
                pages[stored["segment"]][stored["ngrams"]] = stored["postings"]
        known: list[str] = []
        references: list[str] = []
        for segment in headers:
            numbers = _threads_with_any(queries, pages[segment])
            if numbers is not None:
                known.append(segment)
                references += [segments.reference(segment, number) for number in numbers]
        if not known or len(references) > FREQUENT * sum(headers.values()):
            return None
        return references, segments.outside(known)


def _threads_with_any(queries: list[set[int]], pages: Mapping[int, bytes]) -> list[int] | None:
    """The threads with all n-grams of one of these queries; None when a page is missing."""
    numbers: set[int] = set()
    for ngrams in queries:
        found = segments.threads_with_all(ngrams, pages)
        if found is None:
            return None
        numbers.update(found)
    return sorted(numbers)
