from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.search.pattern import SEARCH_LENGTH, search_patterns


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_the_pattern_matches_its_text_and_holds_no_nul(text: str) -> None:
    pattern, *others = search_patterns(text)

    assert not any("\0" in each for each in (pattern, *others))
    assert re.search(pattern, f"<{text}>", re.IGNORECASE)
    assert not text or not re.search(pattern, text[1:])


@pytest.mark.parametrize("character", ["\0", "\u1f82", "😀"])  # alpha with three accents
@pytest.mark.parametrize("end", ["", "!"])
def test_what_mongodb_cannot_compile_is_never_made(character: str, end: str) -> None:
    longest = (character * SEARCH_LENGTH)[: SEARCH_LENGTH - len(end)] + end
    for pattern in search_patterns(longest):
        assert len(pattern.encode()) < 32_000


def test_a_text_that_mongodb_would_take_too_long_for_is_refused() -> None:
    assert search_patterns("x" * SEARCH_LENGTH)
    with pytest.raises(
        ValueError, match=f"{SEARCH_LENGTH + 1} characters; at most {SEARCH_LENGTH}"
    ):
        search_patterns("x" * (SEARCH_LENGTH + 1))
