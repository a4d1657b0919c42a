"""The n-grams of texts: no text that contains a search text may lack one of its n-grams."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongo_datalayer.search.ngrams import NGRAMS, QUERY_NGRAMS, ngrams_of, query_ngrams

PLACES = st.integers(0, 300)
LENGTHS = st.integers(1, 160)
# Letters with cases and without, signs, spaces of all kinds, a script without spaces.
MIXED = st.text(alphabet="abAB_.-= ßs\u017f\u212ak\n\t\u2003字典かé\u0301", max_size=150)
LONG = st.text(alphabet="abc", min_size=20, max_size=300)
TEXTS = st.one_of(MIXED, LONG, st.text(max_size=80))


@given(TEXTS, PLACES, LENGTHS)
@example("x " + "abc" * 60 + " y", 41, 70)
@example("字典 字", 1, 3)
def test_each_part_of_a_text_has_only_ngrams_that_the_text_has(
    text: str, start: int, length: int
) -> None:
    part = text[start % (len(text) + 1) :][:length]
    assert query_ngrams(part) <= ngrams_of([text])
    other_case = part.swapcase()
    assert query_ngrams(other_case) <= ngrams_of([text]) or (
        other_case.casefold() != part.casefold()
    )


@pytest.mark.parametrize(
    ("search", "count"),
    [("", 0), ("words", 0), ("字", 0), ("server", 1), ("字典", 1), ("servers", 2), ("x" * 4096, 1)],
)
def test_how_many_ngrams_a_search_text_has(search: str, count: int) -> None:
    assert len(query_ngrams(search)) == count


def test_of_a_long_text_a_few_ngrams_from_all_over_it_are_looked_up() -> None:
    text = "".join(f"{number:04d}" for number in range(1000))
    ngrams = query_ngrams(text)
    assert len(ngrams) == QUERY_NGRAMS
    assert ngrams & query_ngrams(text[:6])
    assert all(ngrams & ngrams_of([text[start : start + 500]]) for start in range(0, 4000, 500))


def test_two_common_words_are_known_by_the_ngrams_between_them() -> None:
    assert query_ngrams("yellow sub") <= ngrams_of(["a yellow submarine"])
    assert not query_ngrams("yellow sub") <= ngrams_of(["a submarine, and yellow"])
    assert not query_ngrams("s is the o") <= ngrams_of(["this is it. The one, and is the two"])


def test_ngrams_do_not_cross_from_one_text_to_the_next() -> None:
    assert not query_ngrams("yellow submarine") <= ngrams_of(["a yellow ", "submarine"])


def test_ngrams_are_numbers_in_a_fixed_range() -> None:
    assert ngrams_of(["the usual words", "字典の中"]) <= set(range(NGRAMS))
