"""The words of texts, and what a search text says about the words of a text that has it. Pure.

A *word* is a run of letters, digits and underscores, or of signs. In scripts that write without
spaces it is each pair of neighbours. Words are compared without regard to case.

The search is for any part of a text, so the words at the ends of a search text may be parts of
words: ``onfigure the ser`` is in a text that has a word that ends with ``onfigure``, the word
``the``, and a word that begins with ``ser``. Those are its :func:`clues`. A text that has all of
them need not have the search text, but one that lacks one of them does not have it.

Common words are in many texts, but seldom next to each other. So *joints* are kept besides: what
stands at both sides of a space, ``gure the ``, ``figure th`` and ``the ser``. A text has all joints
of each of its parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple
from zlib import crc32

LONGEST = 64
"""Longer words are cut into overlapping pieces of so many characters."""

STRIDE = 40
"""Each of those pieces begins so many characters after the one before."""

SURE = LONGEST - STRIDE + 1
"""Any so many neighbouring characters of a long word are together in one of its pieces."""

END = "\n"
"""Where a word begins and ends: no word has it in it."""

JOINED = ((4, 4), (6, 2), (3, 3), (2, 2))
"""So many characters before a space and behind it make a joint; the most telling kind first.

Other spaces may be among them. A text that is searched for often ends within a word: there the
short kinds help, and the one that is not even.
"""

JOINTS = 1 << 18
"""So many joints are told apart."""

ENOUGH_JOINTS = 2
"""So many joints of a search text tell enough without what is inside of words."""

TELLING = 3
"""A clue of so many characters, and no more, tells little, unless it is a whole word."""

STARTS = 2
JOINTS_FOLLOWED = 4
"""So many clues of a kind are followed."""

FORM = f"2/{unicodedata.unidata_version}"
"""What the words of a text depend on: this module, and Python's knowledge of Unicode."""

# Thai to Lao, Burmese, Khmer, Chinese and Japanese.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3021-\u30ff\u31f0-\u31ff"
    "\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)
_WORD = re.compile(rf"[{_SPACELESS}]+|[^\W{_SPACELESS}]+|[^\w\s{_SPACELESS}]+")
_IS_SPACELESS = re.compile(f"[{_SPACELESS}]")


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of these texts, in the form in which they are compared."""
    words: set[str] = set()
    for text in texts:
        words.update(_WORD.findall(_folded(text)))
    for word in [word for word in words if len(word) > LONGEST or _IS_SPACELESS.match(word)]:
        words.remove(word)
        words.update(_pieces(word))
    return words


def joints_of(texts: Iterable[str]) -> set[int]:
    """The joints of these texts, as numbers; different ones may have the same."""
    joints: set[str] = set()
    for text in texts:
        joints.update(*_joints(_folded(text)))
    return set(_numbers(joints))


class Clues(NamedTuple):
    """What is known of all texts that have a search text in them.

    Attributes:
        starts: What some word begins with, each with :data:`END` before it, and behind it when it
            is the whole word.
        inside: What is in some word, or, with ``END`` behind it, ends one.
        joints: Their joints, as numbers.
    """

    starts: Sequence[str]
    inside: Sequence[str]
    joints: Sequence[int]


def clues(search: str) -> Clues:
    """What is known of all texts with ``search`` in them: what tells the most of it."""
    text = _folded(search)
    words: list[str] = []
    for match in _WORD.finditer(text):
        begins = END if match.start() > 0 else ""
        ends = END if match.end() < len(text) else ""
        words += _clues_of(match.group(), begins, ends)
    joints = list(islice(dict.fromkeys(chain(*_joints(text))), JOINTS_FOLLOWED))
    starts = [clue for clue in words if clue.startswith(END)]
    inside = [clue for clue in words if not clue.startswith(END)]
    # Many words have the same few letters: those are followed only where there is nothing else.
    telling = {clue for clue in words if len(clue) > TELLING or clue.count(END) == 2}
    if telling or joints:
        starts, inside = ([c for c in some if c in telling] for some in (starts, inside))
    return Clues(
        _longest(starts, STARTS),
        # Those are looked for in all words.
        _longest(inside, 1) if len(joints) < ENOUGH_JOINTS else [],
        _numbers(joints),
    )


def _joints(text: str) -> Iterator[list[str]]:
    """The joints of each kind."""
    # Each of the spaces is one, those at the ends as well.
    first, last = text[:1].isspace() * " ", text[-1:].isspace() * " "
    text = f"{first}{' '.join(text.split())}{last}"
    spaces = [match.start() for match in re.finditer(" ", text)]
    for before, behind in JOINED:
        end = len(text) - behind
        yield [text[at - before : at + 1 + behind] for at in spaces if before <= at < end]


def _numbers(joints: Collection[str]) -> list[int]:
    if not joints:
        return []
    # All at once is quicker; no joint has a line end in it.
    encoded = "\n".join(joints).encode("utf-8", "surrogatepass")
    return [number % JOINTS for number in map(crc32, encoded.split(b"\n"))]


def _clues_of(word: str, begins: str, ends: str) -> Iterator[str]:
    if _IS_SPACELESS.match(word):
        if len(word) == 1:
            yield begins + word + ends
        else:
            yield from (END + pair + END for pair in _pieces(word))
    elif len(word) <= SURE or (begins and ends and len(word) <= LONGEST):
        yield begins + word + ends
    elif begins and ends:
        yield from (END + piece + END for piece in _pieces(word))
    else:
        yield begins + word[: LONGEST if begins else SURE]
        yield word[-SURE:] + ends


def _pieces(word: str) -> Iterator[str]:
    """What stands for a word that is long, or of a script without spaces."""
    if _IS_SPACELESS.match(word):
        yield from (word[at : at + 2] for at in range(max(1, len(word) - 1)))
    elif len(word) <= LONGEST:
        yield word
    else:
        yield from (word[at : at + LONGEST] for at in range(0, len(word) - SURE + 1, STRIDE))


def _longest(clues: Iterable[str], count: int) -> list[str]:
    return sorted(dict.fromkeys(clues), key=len, reverse=True)[:count]


def _folded(text: str) -> str:
    return text.casefold()
