"""The words of texts: no text that has a search text in it may lack one of its clues."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongo_datalayer.search_index.segments import THREADS, Draft, numbers_with_all, pages_with
from mongo_datalayer.search_index.words import (
    END,
    LONGEST,
    Clues,
    clues,
    joints_of,
    words_of,
)

PLACES = st.integers(0, 300)
LENGTHS = st.integers(1, 160)
# Letters with cases and without, signs, spaces of all kinds, a script without spaces.
MIXED = st.text(alphabet="abAB_.-= ßs\u017f\u212ak\n\t\u2003字典かé\u0301", max_size=150)
LONG = st.text(alphabet="abc", min_size=20, max_size=300)
TEXTS = st.one_of(MIXED, LONG, st.text(max_size=80))


def holds(text: str, asked: Clues) -> bool:
    words = [END + word + END for word in words_of([text])]
    of_words = (*asked.starts, *asked.inside)
    return all(any(clue in word for word in words) for clue in of_words) and set(
        asked.joints
    ) <= joints_of([text])


@given(TEXTS, PLACES, LENGTHS)
@example("x " + "abc" * 60 + " y", 41, 70)
@example("字典 字", 1, 3)
def test_each_part_of_a_text_has_only_clues_that_the_text_has(
    text: str, start: int, length: int
) -> None:
    part = text[start % (len(text) + 1) :][:length]
    assert holds(text, clues(part))
    assert holds(text, clues(part.swapcase())) or part.swapcase().casefold() != part.casefold()


@pytest.mark.parametrize(
    ("search", "starts", "inside"),
    [
        ("onfigure the ser", ["\nthe\n", "\nser"], []),
        ("onfigure the se", ["\nthe\n"], []),
        ("öde to", [], ["öde\n"]),
        ("server", [], ["server"]),
        (" server ", ["\nserver\n"], []),
        ("see main.py", ["\nmain\n", "\n.\n"], []),
        ("e of", ["\nof"], ["e\n"]),
        ("字典", ["\n字典\n"], []),
        ("字", [], ["字"]),
        ("x" * (LONGEST + 9), [], ["x" * 25]),
        ("  ", [], []),
        ("", [], []),
    ],
)
def test_the_clues_are_those_that_tell_the_most(
    search: str, starts: list[str], inside: list[str]
) -> None:
    asked = clues(search)
    assert (asked.starts, asked.inside) == (starts, inside)


def test_two_words_are_known_by_what_stands_at_the_space_between_them() -> None:
    assert holds("a yellow submarine", clues("yellow sub"))
    assert not holds("a submarine, and yellow", clues("yellow sub"))
    assert holds("yellow  \n submarine", clues("yellow submarine"))  # the search itself decides
    assert not holds("mellow summer, and a yellow one, and subs", clues("yellow sub"))


def test_many_words_are_known_by_what_stands_at_two_spaces() -> None:
    assert holds("this is the one", clues("s is the o"))
    assert not holds("this is it. The one, and is the two", clues("s is the o"))


def test_random_letters_and_digits_of_any_length_take_less_than_twice_their_size() -> None:
    text = "".join(f"{number * 2654435761 % 2**32:08x}" for number in range(2000))
    words = words_of([text])
    assert max(map(len, words)) <= LONGEST
    assert sum(len(word) + len(END) for word in words) < 1.7 * len(text)


class TestSegment:
    @given(st.lists(st.lists(TEXTS, max_size=3), min_size=1, max_size=6), st.data())
    def test_every_thread_with_a_text_is_among_those_found(
        self, threads: list[list[str]], data: Any
    ) -> None:
        draft = Draft()
        for number, texts in enumerate(threads):
            draft.add(3 * number, thread(texts))
        pages = list(draft.pages())
        text = data.draw(st.sampled_from([text for texts in threads for text in texts] or [""]))
        start = data.draw(st.integers(0, len(text)))
        part = text[start : start + data.draw(LENGTHS)]
        asked = clues(part)
        expected = {
            3 * number
            for number, texts in enumerate(threads)
            if any(part.casefold() in each.casefold() for each in texts)
        }
        found = numbers_with_all(asked, pages)
        assert not any(asked) or (found is not None and expected <= found)

    def test_a_rare_word_leads_to_its_threads_alone(self) -> None:
        draft = Draft()
        for number in range(1000):
            draft.add(number, thread([f"the usual words, and marker{number % 100:02d} among them"]))
        pages = list(draft.pages())
        assert numbers_with_all(clues("MARKER07"), pages) == set(range(7, 1000, 100))
        assert numbers_with_all(clues("words, and marker99 am"), pages) == set(range(99, 1000, 100))
        assert numbers_with_all(clues("nowhere"), pages) == set()

    def test_numbers_may_be_far_apart(self) -> None:
        draft = Draft()
        has = {0, 1, 254, 255, 509, 510, 1019, 1274, 4090}
        for number in range(THREADS):
            draft.add(number, thread(["yellow submarine" if number in has else "nothing else"]))
        pages = list(draft.pages())
        for search in ("yellow", "submarine", "yellow submarine", "ellow subm"):
            assert numbers_with_all(clues(search), pages) == has

    def test_a_word_that_most_threads_have_tells_nothing(self) -> None:
        draft = Draft()
        for number in range(100):
            draft.add(number, thread([f"the usual marker{number:02d}"]))
        pages = list(draft.pages())
        assert numbers_with_all(clues("usual"), pages, most=99) is None
        assert numbers_with_all(clues("usual"), pages, most=100) == set(range(100))
        assert numbers_with_all(clues(" usual marker07"), pages, most=50) == {7}
        assert numbers_with_all(clues("nowhere"), pages, most=0) == set()

    def test_a_page_may_begin_with_the_last_character_of_unicode(self) -> None:
        draft = Draft()
        draft.add(0, thread([":" + "\U0010ffff" * 9]))
        (page,) = (page for page in draft.pages() if "words" in page)
        bounds = pages_with(clues(" :"))["$or"][-1]
        assert page["first"] <= bounds["first"]["$lte"]
        assert page["last"] >= bounds["last"]["$gte"]

    def test_the_head_knows_how_many_threads_there_are_and_when_they_were_active(self) -> None:
        draft = Draft()
        draft.add(5, thread(["one"]))
        head = draft.head()
        assert (head["threads"], head["count"], len(draft)) == (1, draft.count, 1) == (1, 6, 1)
        assert len(head["updatedAt"]) == 6 * 8
        assert head["count"] <= THREADS


def thread(texts: list[str]) -> dict[str, Any]:
    """A stored thread with these texts in all places that are searched."""
    name, *said = texts or [""]
    steps = [{"id": "s", "output": each, "input": 3} for each in said[:1]]
    return {"name": name, "steps": [*steps, {"input": said[1:]}]}
