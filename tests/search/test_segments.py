"""Segments: every thread with all n-grams of a text is found, and hardly another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mongo_datalayer.search import segments
from mongo_datalayer.search.ngrams import NGRAMS, query_ngrams
from mongo_datalayer.search.segments import PAGE_NGRAMS, THREADS, SegmentBuilder
from tests.search.test_ngrams import LENGTHS, TEXTS

Texts = Sequence[str]


def thread(texts: Texts) -> dict[str, Any]:
    """A stored thread with these texts in all places that are searched."""
    name, *said = texts or [""]
    steps = [{"id": "s", "output": output, "input": 3} for output in said[:1]]
    return {"name": name, "steps": [*steps, {"input": said[1:]}]}


def built(threads: Mapping[int, Texts], size: int = THREADS) -> dict[int, bytes]:
    """The pages of a segment of these threads."""
    builder = SegmentBuilder(size)
    for number, texts in threads.items():
        builder.add(number, thread(texts))
    return {page["ngrams"]: page["postings"] for page in builder.pages()}


def found(search: str, pages: Mapping[int, bytes]) -> list[int] | None:
    ngrams = query_ngrams(search)
    wanted = {page: pages[page] for page in segments.pages_of(ngrams) if page in pages}
    return segments.threads_with_all(ngrams, wanted)


@given(st.lists(st.lists(TEXTS, max_size=3), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_every_thread_with_a_text_is_among_those_found(threads: list[Texts], data: Any) -> None:
    pages = built({3 * number: texts for number, texts in enumerate(threads)}, 3 * len(threads))
    text = data.draw(st.sampled_from([text for texts in threads for text in texts] or [""]))
    start = data.draw(st.integers(0, len(text)))
    part = text[start : start + data.draw(LENGTHS)]
    expected = {
        3 * number
        for number, texts in enumerate(threads)
        if any(part.casefold() in text.casefold() for text in texts)
    }
    if query_ngrams(part):
        assert expected <= set(found(part, pages) or ())


def test_a_rare_word_leads_to_its_threads_alone() -> None:
    pages = built(
        {
            number: [f"the usual words, and marker{number % 100:02d} among them"]
            for number in range(1000)
        }
    )
    assert found("MARKER07", pages) == list(range(7, 1000, 100))
    assert found("words, and marker99 am", pages) == list(range(99, 1000, 100))
    assert found("nowhere", pages) == []
    assert found("the usual", pages) == list(range(1000))


def test_numbers_may_be_far_apart() -> None:
    numbers = [0, 1, 7, 8, 255, 1019, 2047]
    pages = built({number: ["yellow submarine"] for number in numbers})
    for search in ("yellow", "submarine", "yellow submarine", "ellow subm"):
        assert found(search, pages) == numbers


def test_a_segment_without_one_of_the_pages_cannot_answer() -> None:
    pages = built({0: ["yellow submarine"]}, 1)
    lost = segments.pages_of(query_ngrams("yellow submarine"))[-1]
    del pages[lost]
    assert found("yellow submarine", pages) is None


def test_there_is_a_page_for_every_ngram() -> None:
    assert sorted(built({}, 1)) == list(range(NGRAMS // PAGE_NGRAMS))


def test_the_head_says_how_many_threads_there_are() -> None:
    builder = SegmentBuilder(9)
    builder.add(5, thread(["one"]))
    assert builder.header()["threads"] == 1


def test_the_references_to_a_segment_are_inside_of_its_bounds() -> None:
    segment = "0123456789abcdef01234567"
    references = [segments.reference(segment, number) for number in (0, THREADS - 1)]
    bounds = segments.inside(segment)
    assert all(bounds["$gte"] <= reference < bounds["$lt"] for reference in references)
