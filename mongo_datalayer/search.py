"""The regular expression of keyword search. Pure.

The plain form is the escaped text, matched with MongoDB's option ``i``. MongoDB up to 6.0 looks
quickly for the first letter of a pattern when it is ASCII and has one other case. With any other
first letter it tries each position of each text: with all that are not ASCII, and with ``s`` and
``k``, which also match the long s and the Kelvin sign. With a common letter it tries often.

So the same match is written in another form. It begins with a rare letter, and looks behind for
what stands before it; or its first letters are not compared regardless of case, as they have none;
or both cases of the first are named.
"""

from __future__ import annotations

import re

SEARCH_LENGTH = 4096
"""Longest search text, in characters; MongoDB refuses regular expressions of about 32 kB."""

LOOKED_BEHIND = 32
"""A letter to begin with is looked for among so many first characters."""

# By how often they stand in texts, the rarest first. Those from h on are a better beginning than a
# letter that is not found quickly, but not than a common one.
_RANKS = {letter: rank for rank, letter in enumerate("zqxjvwbygfpmucdlhr")}
_COMMON = frozenset("etaoin")
_QUICK = frozenset(map(chr, range(128))) - set("ks") | {""}
# Letters of Western Europe with just one other case, which begins with the same byte in UTF-8:
# those are found quickly when both cases are named. For Greek and Cyrillic it holds as well, but
# there that byte is in every other letter.
_PAIRS = frozenset("àáâãäæçèéêëìíîïðñòóôõöøùúûüýþ")
# Blocks of Unicode in which no character has a case: Hebrew to Myanmar; punctuation and symbols;
# Chinese, Japanese, Yi; Korean; Chinese again; emoji; Chinese again.
_WITHOUT_CASE = re.compile(
    "[\u0590-\u109f\u2000-\u20cf\u2190-\u245f\u2500-\u2bff\u2e80-\ua63f\uac00-\ud7a3\uf900-\ufaff"
    "\U0001f000-\U0001faff\U00020000-\U0003fffd]+"
)


def search_pattern(search: str) -> str:
    """The regular expression that matches ``search`` literally, with the option ``i``.

    It matches in the same texts as ``search`` itself, escaped.

    Raises:
        ValueError: the text is longer than :data:`SEARCH_LENGTH`.
    """
    if len(search) > SEARCH_LENGTH:
        raise ValueError(
            f"The search text has {len(search)} characters; at most {SEARCH_LENGTH} can be "
            "searched for."
        )
    without_case = _WITHOUT_CASE.match(search)
    if without_case is not None:
        end = without_case.end()
        return f"(?-i:{escaped(search[:end])}){escaped(search[end:])}"
    at, begin = _beginning(search)
    before = f"(?<={escaped(search[: at + 1])})" if at else ""
    return begin + before + escaped(search[at + 1 :])


def _beginning(search: str) -> tuple[int, str]:
    """Where the character is that the pattern begins with, and the pattern of that character."""
    head = search[:LOOKED_BEHIND]
    first = head[:1].lower()
    if first in _PAIRS:
        return 0, f"(?-i:{first}|{first.upper()})"
    if first in _COMMON or first not in _QUICK:
        rank, at = min((_RANKS.get(c.lower(), len(_RANKS)), at) for at, c in enumerate(head))
        if rank < (_RANKS["h"] if first in _QUICK else len(_RANKS)):
            return at, search[at]
    return 0, escaped(search[:1])


def escaped(text: str) -> str:
    """The regular expression that matches ``text`` literally."""
    # A regular expression in BSON ends at the first NUL.
    return re.escape(text).replace("\0", r"\x00")
