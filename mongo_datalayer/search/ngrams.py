"""The n-grams of texts: every run of six bytes, numbered. Pure.

A text that contains a search text has all of its n-grams, so a text that lacks one cannot match.
N-grams are taken from the UTF-8 bytes, without regard to case. One rule serves all scripts: two
Chinese characters have six bytes, and so has a number of six digits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from zlib import crc32

NGRAM_BYTES = 6
"""Length of an n-gram.

Shorter ones do not tell common words apart: of ten thousand threads, the n-grams of two common
words left up to 5,000 to read with five bytes, and 1,400 with six. With seven, two Chinese
characters have none.
"""

NGRAMS = 1 << 18
"""How many numbers n-grams have. Two may share one: then a search reads a thread in vain."""

QUERY_NGRAMS = 12
"""How many n-grams of a search text are looked up; more hardly leave fewer threads."""

FORMAT = f"3/{unicodedata.unidata_version}"
"""What the n-grams of a text depend on: this module, and Python's table of cases."""


def ngrams_of(texts: Iterable[str]) -> set[int]:
    """The numbers of all n-grams in these texts."""
    ngrams: set[bytes] = set()
    for text in texts:
        ngrams.update(_ngrams(text))
    # Not hash(), which differs between processes: the numbers are stored.
    return {crc32(ngram) % NGRAMS for ngram in ngrams}


def query_ngrams(search: str) -> set[int]:
    """The numbers of some n-grams of a search text, from all over it; none if it is too short."""
    ngrams = _ngrams(search)
    if not ngrams:
        return set()
    places = (number * len(ngrams) // QUERY_NGRAMS for number in range(QUERY_NGRAMS))
    return {crc32(ngrams[place]) % NGRAMS for place in places}


def _ngrams(text: str) -> list[bytes]:
    # Case folding takes more characters for the same than MongoDB does, and never fewer.
    # A search text may hold half of a surrogate pair, which UTF-8 refuses by itself.
    folded = text.casefold().encode("utf-8", "surrogatepass")
    return [folded[at : at + NGRAM_BYTES] for at in range(len(folded) - NGRAM_BYTES + 1)]
