"""A segment: which of up to 2048 threads have which n-grams. Pure.

The threads of a segment are numbered from 0. Its postings are a table of bits: a row for each
n-gram, with a bit for each thread. The rows are stored in *pages*, compressed, and next to them a
*header*, which makes the segment count.

A thread names its segment in ``searchSegment``: the segment's id and the thread's number, the
*segment reference*.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise

from mongo_datalayer.model.documents import Document
from mongo_datalayer.search.ngrams import FORMAT, NGRAMS, ngrams_of

THREADS = 2048
"""At most this many threads are in one segment: the table of bits has 64 MiB then."""

PAGE_NGRAMS = 128
"""How many n-grams share a page. A page of a full segment has about 5 kB, compressed."""

_AFTER_ALL = "g"  # greater than any hexadecimal digit


class SegmentBuilder:
    """A segment that is being built, in memory.

    Args:
        size: How many numbers its threads have, from 0 on; not every number needs a thread.
    """

    def __init__(self, size: int) -> None:
        self._row_bytes = (size + 7) // 8
        self._bits = bytearray(NGRAMS * self._row_bytes)
        self._threads = 0

    def add(self, number: int, thread: Document) -> None:
        """Add a thread with its number."""
        place, bit = number // 8, 1 << number % 8
        for ngram in ngrams_of(_texts(thread)):
            self._bits[ngram * self._row_bytes + place] |= bit
        self._threads += 1

    def header(self) -> Document:
        """The fields of the segment's header."""
        return {"format": FORMAT, "threads": self._threads}

    def pages(self) -> Iterator[Document]:
        """The fields of the segment's pages.

        There is one for all n-grams, whether a thread has them or not: so a page that a search
        misses was deleted, and the segment cannot answer.
        """
        page_bytes = PAGE_NGRAMS * self._row_bytes
        for page in range(NGRAMS // PAGE_NGRAMS):
            rows = self._bits[page * page_bytes : (page + 1) * page_bytes]
            yield {"ngrams": page, "postings": zlib.compress(rows)}


def pages_of(ngrams: Collection[int]) -> list[int]:
    """The pages that have these n-grams."""
    return sorted({ngram // PAGE_NGRAMS for ngram in ngrams})


def threads_with_all(ngrams: Collection[int], pages: Mapping[int, bytes]) -> list[int] | None:
    """The numbers of a segment's threads that have all of these n-grams.

    Args:
        ngrams: The n-grams, at least one.
        pages: The postings of the segment's pages.

    Returns:
        None when a page is missing.
    """
    rows = {page: zlib.decompress(postings) for page, postings in pages.items()}
    # All bits are set in -1, so the first row stays as it is.
    common = -1
    for ngram in ngrams:
        page, row = divmod(ngram, PAGE_NGRAMS)
        if page not in rows:
            return None
        size = len(rows[page]) // PAGE_NGRAMS
        common &= int.from_bytes(rows[page][row * size : (row + 1) * size], "little")
    return [number for number, bit in enumerate(reversed(f"{common:b}")) if bit == "1"]


def reference(segment: str, number: int) -> str:
    """The segment reference of a thread."""
    # Of a fixed width, so that the references of a segment are one range of texts.
    return f"{segment}{number:04x}"


def inside(segment: str) -> Document:
    """The filter on references to a segment."""
    return {"$gte": segment, "$lt": segment + _AFTER_ALL}


def outside(segments: Collection[str]) -> Document:
    """The filter on threads that are in none of these segments."""
    if not segments:
        return {}
    # A reference has the thread's number, too: a segment is a range, and the rest are the gaps.
    starts = sorted(segments)
    gaps: list[Document] = [{"$lt": starts[0]}, {"$gte": starts[-1] + _AFTER_ALL}]
    gaps += [{"$gte": start + _AFTER_ALL, "$lt": end} for start, end in pairwise(starts)]
    return {"$or": [{"searchSegment": gap} for gap in (None, *gaps)]}


def _texts(thread: Document) -> Iterator[str]:
    """The texts that keyword search looks through."""
    metadata = thread.get("metadata")
    values = [thread.get("name"), metadata.get("name") if isinstance(metadata, dict) else None]
    for step in thread.get("steps") or ():
        values += (step.get("input"), step.get("output"))
    for value in values:
        # A regular expression looks into a list as well.
        items = value if isinstance(value, list) else [value]
        yield from (item for item in items if isinstance(item, str))
