"""The regular expressions of keyword search. Pure.

The plain form is the escaped text, matched with MongoDB's option ``i``. Where that is slow, the
same match is written in another way. Each rewriting stands alone, with its constants: to drop one,
delete it and its name in :func:`_pattern`.
"""

from __future__ import annotations

import re
from unicodedata import normalize

SEARCH_LENGTH = 256
"""Longest search text, in characters: it may be compared at every position of every text."""

FORM_LENGTH = 4 * SEARCH_LENGTH
"""Longest form of a search text: Unicode decomposes no character into more than four."""


def search_patterns(search: str) -> list[str]:
    """The regular expressions for a text, one of which matches with the option ``i`` where it is.

    Each matches in the same texts as one of the :func:`unicode_forms`, escaped. They are not one
    expression with ``|``, as that would be ten times as slow where they begin differently.

    Raises:
        ValueError: the text is longer than :data:`SEARCH_LENGTH`.
    """
    if len(search) > SEARCH_LENGTH:
        raise ValueError(
            f"The search text has {len(search)} characters; at most {SEARCH_LENGTH} can be "
            "searched for."
        )
    return [_pattern(form) for form in unicode_forms(search)]


def unicode_forms(search: str) -> list[str]:
    """The text as it is, composed (NFC), and decomposed (NFD); ASCII has just one form.

    A keyboard types ``é`` as one character, and file names of macOS have ``e`` and an accent.
    """
    forms = (search, normalize("NFC", search), normalize("NFD", search))
    return list(dict.fromkeys(forms))


def escaped(text: str) -> str:
    """The regular expression that matches ``text`` literally."""
    # A regular expression in BSON ends at the first NUL.
    return re.escape(text).replace("\0", r"\x00")


def _pattern(search: str) -> str:
    for rewritten in (_repetition, _without_case, _rare_letter_first):
        pattern = rewritten(search)
        if pattern is not None:
            return pattern
    return escaped(search)


REPEATS = 32
"""A text that begins with something this many times is rewritten."""

# Up to here the server's table of cases is Python's; it knows no case of some newer letters.
_SAME_CASES = "\u0530"


def _repetition(search: str) -> str | None:
    """``=====`` is ``(?<!=)=====``, and ``=====>`` is ``=>(?<======>)``.

    Inside of a longer repetition the text nearly matches at each position, and 256 characters are
    compared there. So it is looked for only where a repetition begins, or where one ends.
    """
    folded = [c.casefold() if c < _SAME_CASES else c for c in search]
    # Nothing longer can stand in the text 32 times.
    for size in range(1, len(search) // REPEATS + 1):
        places = range(size, len(search))
        end = next((at for at in places if folded[at] != folded[at - size]), len(search))
        if end == len(search):
            return f"(?<!{escaped(search[:size])}){escaped(search)}"
        if end >= REPEATS * size:
            start, rest = search[: end + 1], search[end + 1 :]
            return f"{escaped(start[-size - 1 :])}(?<={escaped(start)}){escaped(rest)}"
    return None


# Blocks of Unicode in which no character has a case: Hebrew to Myanmar; Korean letters;
# punctuation and symbols; Chinese, Japanese, Yi; Korean; Chinese again; emoji; Chinese again.
_WITHOUT_CASE = re.compile(
    "[\u0590-\u109f\u1100-\u11ff\u2000-\u20cf\u2190-\u245f\u2500-\u2bff\u2e80-\ua63f\uac00-\ud7a3"
    "\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003fffd]+"
)


def _without_case(search: str) -> str | None:
    """``字典`` is ``(?-i:字典)``: characters without a case are compared as they are.

    On MongoDB 6.0 (PCRE 8) the plain form takes 1.1 to 4 times as long.
    """
    start = _WITHOUT_CASE.match(search)
    if start is None:
        return None
    return f"(?-i:{escaped(start.group())}){escaped(search[start.end() :])}"


LOOKED_BEHIND = 32
"""A letter to begin with is looked for among so many first characters."""

# By how often they stand in texts, the rarest first. Those from h on are a better beginning than a
# letter that is not found quickly, but not than a common one.
_RANKS = {letter: rank for rank, letter in enumerate("zqxjvwbygfpmucdlhr")}
_COMMON = frozenset("etaoin")
_QUICK = frozenset(map(chr, range(128))) - set("ks") | {""}


def _rare_letter_first(search: str) -> str | None:
    """``separated`` is ``p(?<=sep)arated``: a rare letter, and behind it what precedes it.

    MongoDB 6.0 (PCRE 8) skips quickly to the first letter only when that is ASCII and has one
    other case; ``s`` and ``k`` also match the long s and the Kelvin sign. With any other first
    letter, and with a common one, the plain form takes 1.1 to 5 times as long.
    """
    start = search[:LOOKED_BEHIND]
    first = start[:1].lower()
    if first in _QUICK - _COMMON:
        return None
    rank, at = min((_RANKS.get(c.lower(), len(_RANKS)), at) for at, c in enumerate(start))
    if at == 0 or rank >= (_RANKS["h"] if first in _QUICK else len(_RANKS)):
        return None
    return f"{search[at]}(?<={escaped(search[: at + 1])}){escaped(search[at + 1 :])}"
