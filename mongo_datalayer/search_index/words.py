"""The words of texts, and what a search text says about the words of a text that has it. Pure.

A *word* is a run of letters, digits and underscores, or of signs. In scripts that write without
spaces it is each pair of neighbours. Words are compared without regard to case.

The search is for any part of a text, so the words at the ends of a search text may be parts of
words: ``onfigure the ser`` is in a text that has a word that ends with ``onfigure``, the word
``the``, and a word that begins with ``ser``. Those are its :func:`clues`. A text that has all of
them need not have the search text, but one that lacks one of them does not have it.

Two common words are in many texts, but seldom next to each other. So *joints* are kept besides:
what stands just before a space and just after it, ``ure the`` and ``the ser``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
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

JOINED = (3, 2)
"""So many characters on either side of a space make a joint, and so many another one."""

JOINTS = 1 << 18
"""So many joints are told apart."""

TELLING = 3
"""A clue of so many characters, and no more, tells little, unless it is a whole word."""

STARTS = 2
JOINTS_FOLLOWED = 3
"""So many clues of a kind are followed."""

FORM = f"1/{unicodedata.unidata_version}"
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
        parts = _folded(text).split()
        for size in JOINED:
            joints.update([f"{one[-size:]} {other[:size]}" for one, other in pairwise(parts)])
    return set(map(_number, joints))


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
    joints = _longest(_joint_clues(text), JOINTS_FOLLOWED)
    starts = [clue for clue in words if clue.startswith(END)]
    inside = [clue for clue in words if not clue.startswith(END)]
    # Many words have the same few letters: those are followed only where there is nothing else.
    telling = {clue for clue in words if len(clue) > TELLING or clue.count(END) == 2}
    if telling or joints:
        starts, inside = ([c for c in some if c in telling] for some in (starts, inside))
    return Clues(
        _longest(starts, STARTS),
        _longest(inside, 1),  # those are looked for in all words
        [_number(joint) for joint in joints],
    )


def _joint_clues(text: str) -> Iterator[str]:
    parts = text.split()
    for at in range(1, len(parts)):
        begins = at > 1 or text[0].isspace()
        ends = at < len(parts) - 1 or text[-1].isspace()
        for size in JOINED:
            one, other = parts[at - 1][-size:], parts[at][:size]
            if (begins or len(one) == size) and (ends or len(other) == size):
                yield f"{one} {other}"
                break


def _number(joint: str) -> int:
    return crc32(joint.encode("utf-8", "surrogatepass")) % JOINTS


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
