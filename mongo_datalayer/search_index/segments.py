"""A segment: which of some threads have which words. Pure.

The threads of a segment have numbers from 0 on. Its words are stored in *pages*: documents with
some hundreds of words each, in one text that MongoDB looks through, and beside it the numbers of
the threads that have each of them, packed.
"""

from __future__ import annotations

import operator
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, compress
from typing import Any

from mongo_datalayer.documents import Document
from mongo_datalayer.search_index.words import (
    END,
    FORM,
    JOINTS,
    LONGEST,
    Clues,
    joints_of,
    words_of,
)
from mongo_datalayer.values import milliseconds

THREADS = 4096
"""At most so many threads are in one segment."""

PAGE_WORDS = 512
"""So many words are in one page."""

PAGE_JOINTS = 256
"""So many joints are in one page."""

TIMES = ("updatedAt", "createdAt")
"""What lists of threads are ordered by."""

_AFTER_ALL = "\U0010ffff" * LONGEST
_NUMBER = "H"  # 16 bits without a sign
_NUMBER_DIGITS = 4
_PLACE = "I"  # 32 bits without a sign
_TIME = "q"  # milliseconds, 64 bits

_STEP = 254
_ON = b"\xff"
_BETWEEN = b"\0"
_STEPS = bytes([*range(255), _STEP])
_ARRIVED = bytes([*range(255), 0])


class Draft:
    """A segment that is being built.

    Attributes:
        size: The characters of the threads' texts.
    """

    def __init__(self) -> None:
        self.size = 0
        self._threads = 0
        # By how they begin, so that no large list is ever sorted at once.
        self._words: dict[str, dict[str, array[int]]] = {}
        # By their pages: the joint, times THREADS, and the thread's number.
        self._joints = [array(_PLACE) for _ in range(JOINTS // PAGE_JOINTS)]
        self._times: dict[str, array[int]] = {field: array(_TIME) for field in TIMES}

    def __len__(self) -> int:
        return self._threads

    @property
    def count(self) -> int:
        """The number after the last thread's."""
        return len(self._times[TIMES[0]])

    def add(self, number: int, thread: Document) -> None:
        """Add a thread. Their numbers must rise; some may be left out."""
        texts = list(_texts(thread))
        for word in words_of(texts):
            group = self._words.setdefault(word[:2], {})
            if word in group:
                group[word].append(number)
            else:
                group[word] = array(_NUMBER, (number,))
        pages = self._joints
        for joint in joints_of(texts):
            pages[joint // PAGE_JOINTS].append(joint * THREADS + number)
        for field, times in self._times.items():
            times.extend([0] * (number - len(times)))
            moment = thread.get(field)
            times.append(0 if moment is None else milliseconds(moment))
        self.size += sum(map(len, texts))
        self._threads += 1

    def head(self) -> Document:
        """The fields of the segment's head."""
        times = {field: _little(times).tobytes() for field, times in self._times.items()}
        return {"form": FORM, "threads": self._threads, "count": self.count, **times}

    def pages(self) -> Iterator[Document]:
        """The fields of the segment's pages."""
        chosen: dict[str, array[int]] = {}
        for start in sorted(self._words):
            group = self._words[start]
            for word in sorted(group):
                chosen[word] = group[word]
                if len(chosen) == PAGE_WORDS:
                    yield _page_of_words(chosen)
                    chosen = {}
        if chosen:
            yield _page_of_words(chosen)
        for number, joints in enumerate(self._joints):
            if joints:
                yield {"joints": number, "threads": _packed(_by_joint(joints))}


def _page_of_words(words: dict[str, array[int]]) -> Document:
    return {
        "first": next(iter(words)),
        "last": next(reversed(words)),
        "words": END + END.join(words) + END,
        "threads": _packed(words.values()),
    }


def _by_joint(joints: Iterable[int]) -> list[list[int]]:
    """The numbers of the threads that have each joint of a page."""
    lists: list[list[int]] = [[] for _ in range(PAGE_JOINTS)]
    for each in joints:
        lists[each // THREADS % PAGE_JOINTS].append(each % THREADS)
    return lists


def _packed(lists: Iterable[Sequence[int]]) -> bytes:
    """Lists of rising numbers, each number as a byte, mostly: how much it is more than the last.

    That is 1 to 254; 255 goes on by 254, to no number. No byte is 0: those stand between lists.
    """
    return _BETWEEN.join([_steps(numbers) for numbers in lists])


def _steps(numbers: Sequence[int]) -> bytes:
    steps = list(map(operator.sub, numbers, chain((-1,), numbers)))
    if max(steps, default=0) <= _STEP:
        return bytes(steps)
    far = (divmod(step - 1, _STEP) for step in steps)
    return b"".join([_ON * times + bytes((rest + 1,)) for times, rest in far])


def _numbers(steps: bytes) -> Iterator[int]:
    """The numbers of a list."""
    reached = accumulate(steps.translate(_STEPS), initial=-1)
    return compress(reached, _BETWEEN + steps.translate(_ARRIVED))


def _texts(thread: Document) -> Iterator[str]:
    """What keyword search looks through."""
    metadata = thread.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    steps = thread.get("steps") or ()
    said = (step.get(field) for step in steps for field in ("input", "output"))
    for value in (thread.get("name"), name, *said):
        # A regular expression looks into a list as well.
        each = value if isinstance(value, list) else [value]
        yield from (text for text in each if isinstance(text, str))


def pages_with(clues: Clues) -> Document:
    """The condition on the pages that the clues are in, and on the heads of segments.

    The joints tell their pages. How a word begins is found by the first and last words of a page;
    for what is inside of a word all words are looked through: ``$indexOfBytes`` does that several
    times as quickly as a regular expression.
    """
    joints = sorted({joint // PAGE_JOINTS for joint in clues.joints})
    either: list[Document] = [{"form": FORM}, {"joints": {"$in": joints}}]
    for clue in clues.starts:
        start = clue.strip(END)
        either.append({"first": {"$lte": start + _AFTER_ALL}, "last": {"$gte": start}})
    for clue in clues.inside:
        at = {"$indexOfBytes": ["$words", {"$literal": clue}]}
        either.append({"words": {"$exists": True}, "$expr": {"$gte": [at, 0]}})
    # The pages of form 1 have counts, and other lists.
    return {"joints": {"$in": [None, *joints]}, "counts": None, "$or": either}


def numbers_with_all(
    clues: Clues, pages: Sequence[Document], *, most: int = THREADS
) -> set[int] | None:
    """The numbers of the threads of a segment that have all the clues.

    Args:
        clues: The clues.
        pages: Those of its pages that the clues are in.
        most: A word that more threads have tells nothing.

    Returns:
        None when they tell nothing.
    """
    common: set[int] | None = None
    of_joints = {page["joints"]: page for page in pages if "joints" in page}
    of_words = [page for page in pages if "words" in page]
    for joint in clues.joints:
        numbers = _numbers_with_joint(joint, of_joints)
        common = numbers if common is None else common & numbers
    for clue in (*clues.starts, *clues.inside):
        if common is not None and not common:
            break
        found = _numbers_with(clue, of_words, most)
        if found is not None:
            common = found if common is None else common & found
    return common


def _numbers_with_joint(joint: int, pages: Mapping[int, Document]) -> set[int]:
    page = pages.get(joint // PAGE_JOINTS)
    if page is None:
        return set()
    return set(_numbers(page["threads"].split(_BETWEEN)[joint % PAGE_JOINTS]))


def _numbers_with(clue: str, pages: Sequence[Document], most: int) -> set[int] | None:
    """The numbers of the threads that have a word with the clue in it; None if they are many."""
    found: set[int] = set()
    for page in pages:
        for numbers in _lists_with(clue, page):
            found.update(_numbers(numbers))
            if len(found) > most:
                return None
    return found


def _lists_with(clue: str, page: Mapping[str, Any]) -> Iterator[bytes]:
    """The lists of the words of this page with the clue in them."""
    words: str = page["words"]
    at = words.find(clue)
    if at < 0:
        return
    lists: list[bytes] = page["threads"].split(_BETWEEN)
    word = counted = 0
    while at >= 0:
        # A clue may begin with the end of the word before.
        begins = at + clue.startswith(END)
        word += words.count(END, counted, begins)
        counted = begins
        yield lists[word - 1]
        at = words.find(clue, words.index(END, begins))


def mark(segment: str, number: int) -> str:
    """What a thread of a segment carries."""
    return f"{segment}{number:0{_NUMBER_DIGITS}x}"


def number(mark: str) -> int:
    """The number of the thread that carries a mark."""
    return int(mark[-_NUMBER_DIGITS:], 16)


def marks(segment: str, *, first: int = 0, end: int | None = None) -> Document:
    """The condition on the marks of a segment's threads, those with numbers from ``first`` on.

    Args:
        segment: The segment.
        first: The first number.
        end: The number after the last; None for all.
    """
    after = segment + "g" if end is None else mark(segment, end)
    return {"$gte": mark(segment, first), "$lt": after}


def outside(segments: Mapping[str, int]) -> Document:
    """The condition on threads that none of these segments knows.

    Args:
        segments: The segments, each with the count of its numbers.
    """
    ends = [mark(segment, segments[segment]) for segment in sorted(segments)]
    between = zip([None, *ends], [*sorted(segments), None], strict=True)
    gaps = [{"$gte": end, "$lt": start} for end, start in between]
    either = [{name: of for name, of in gap.items() if of is not None} for gap in gaps]
    return {"$or": [{"searchMark": gap} for gap in (None, *filter(None, either))]} if ends else {}


def times(head: Mapping[str, Any], field: str) -> Sequence[int]:
    """The times of a segment's threads by their numbers, in milliseconds since 1970."""
    values: array[int] = array(_TIME)
    values.frombytes(head[field])
    return _little(values)


def _little(values: array[int]) -> array[int]:
    """The same numbers in the byte order that is stored."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
