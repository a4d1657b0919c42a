from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.search import SEARCH_LENGTH, search_pattern


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_the_pattern_matches_its_text_and_holds_no_nul(text: str) -> None:
    pattern = search_pattern(text)

    assert "\0" not in pattern
    assert re.search(pattern, f"<{text}>", re.IGNORECASE)
    assert not text or not re.search(pattern, text[1:])


def test_a_text_that_mongodb_cannot_search_for_is_refused() -> None:
    longest = "\0" * SEARCH_LENGTH
    assert len(search_pattern(longest)) < 32_000

    with pytest.raises(
        ValueError, match=f"{SEARCH_LENGTH + 1} characters; at most {SEARCH_LENGTH}"
    ):
        search_pattern("x" * (SEARCH_LENGTH + 1))
