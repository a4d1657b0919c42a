"""The pattern of keyword search on a real server: it matches where the escaped text does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database

from mongo_datalayer.search import LOOKED_BEHIND, SEARCH_LENGTH, search_pattern

Matches = list[list[int]]

bounded = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

# Letters with several other cases, or ones outside of ASCII: long s, Kelvin, sharp s, dotted and
# dotless i, Å, µ, Greek sigmas, iota below, a ligature, a title case; then what is rare and common.
CASED = "éÉüÜþÞsSſkKKßẞiIİıåÅÅµμΜσςΣ\u0345ιΙͅﬀﬁǅǄǆжЖꙊᲀв"  # noqa: RUF001
LETTERS = "zZpPdDeEtTaA"
OTHERS = "\u0301\u0308\u200d字典日本한국ऋא🎉👩🏽€§\0\n\r\t\u2028 .\\()[]{}|*+?^$#-&~09_\x7f\x80"
# Those of the planes of Unicode that have characters; what is private has no case.
PLANES = (range(1, 0xD800), range(0xE000, 0x40000), range(0xE0000, 0xF0000))
EVERY = [chr(code) for plane in PLANES for code in plane]
characters = st.sampled_from(CASED + LETTERS + OTHERS) | st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=60)


@pytest.fixture(scope="module")
def database(mongo_uri: str) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        yield client["admin"]  # where commands without a collection go


@pytest.fixture(scope="module")
def patterns() -> dict[str, str]:
    """The pattern of each character."""
    return {c: search_pattern(c) for c in EVERY}


def plain(search: str) -> str:
    return re.escape(search).replace("\0", r"\x00")


def matches(
    database: Database[dict[str, Any]], texts: Sequence[str], patterns: Sequence[str]
) -> Matches:
    """For each pattern the numbers of the texts that it matches in."""
    found = {
        f"p{number}": [{"$match": {"text": {"$regex": pattern, "$options": "i"}}}]
        for number, pattern in enumerate(patterns)
    }
    documents = [
        {"number": number, "text": {"$literal": text}} for number, text in enumerate(texts)
    ]
    (answer,) = database.aggregate([{"$documents": documents}, {"$facet": found}])
    return [[each["number"] for each in answer[name]] for name in found]


@st.composite
def in_another_case(draw: st.DrawFn, text: str) -> str:
    """A part of a text, each character in a case of its own."""
    start = draw(st.integers(0, len(text)))
    part = text[start : draw(st.integers(start, len(text)))]
    forms = [sorted({c, c.lower(), c.upper(), c.swapcase(), c.casefold(), c.title()}) for c in part]
    return "".join(draw(st.sampled_from(of_one)) for of_one in forms)


@given(st.data())
@bounded
def test_it_matches_where_the_escaped_text_does(
    database: Database[dict[str, Any]], data: st.DataObject
) -> None:
    stored = data.draw(st.lists(texts, min_size=1, max_size=4), "texts")
    parts = st.one_of([in_another_case(text) for text in stored])
    needles = data.draw(st.lists(parts | texts, min_size=1, max_size=8), "needles")
    stored += needles + [needle.swapcase() for needle in needles]
    patterns = [make(needle) for make in (plain, search_pattern) for needle in needles]
    found = matches(database, stored, patterns)
    assert found[len(needles) :] == found[: len(needles)]


@pytest.mark.parametrize(
    ("search", "pattern"),
    [
        ("separated degree", r"g(?<=separated\ deg)ree"),
        ("Kiwi", r"w(?<=Kiw)i"),
        ("straße", "r(?<=str)aße"),
        ("größe", "größe"),
        ("Übung", "(?-i:ü|Ü)bung"),
        ("åland", "d(?<=åland)"),
        ("therence", "c(?<=therenc)e"),
        ("there", "there"),
        ("• one", r"(?-i:•)\ one"),
        ("a\0.\nz", "z(?<=a\\x00\\.\\\nz)"),
        ("ſp", "p(?<=ſp)"),  # noqa: RUF001
        ("字典", "(?-i:字典)"),
        ("字典 ss", r"(?-i:字典)\ ss"),
        ("привет", "привет"),
        ("set", "set"),
        ("=> x", r"=>\ x"),
        ("s" * LOOKED_BEHIND + "z", "s" * LOOKED_BEHIND + "z"),
        ("", ""),
    ],
)
def test_each_form_finds_its_text(
    database: Database[dict[str, Any]], search: str, pattern: str
) -> None:
    assert search_pattern(search) == pattern
    stored = [search, f"x\n\0🎉{_swapped(search)}ß", search[:-1], search[1:], f"{search[:1]}x"]
    used, escaped = matches(database, stored, [pattern, plain(search)])
    assert used == escaped
    assert {0, 1} <= set(used)


def test_letters_outside_of_ascii_are_found_by_their_other_case(
    database: Database[dict[str, Any]],
) -> None:
    stored = [
        "a ſeparated one",  # noqa: RUF001
        "a SEPARATED one",
        "300 \N{KELVIN SIGN}ELVIN",
        "kelvim",
        "eparated",
    ]
    found = matches(database, stored, [search_pattern("separated"), search_pattern("kelvin")])
    assert found == [[0, 1], [2]]


@pytest.mark.parametrize("character", ["s", "\0", "字", "𠀀", "🎉", "é", "\\", "ſ", "x"])  # noqa: RUF001
@pytest.mark.parametrize("start", ["", "sep", "é" * (LOOKED_BEHIND - 1) + "z"])
def test_the_longest_text_is_found(
    database: Database[dict[str, Any]], character: str, start: str
) -> None:
    longest = (start + character * SEARCH_LENGTH)[:SEARCH_LENGTH]
    stored = [f"{longest[1:]}é{longest}", f"{longest[:-1]}-{longest[1:]}"]
    assert matches(database, stored, [search_pattern(longest)]) == [[0]]


def test_letters_whose_cases_are_named_have_no_others(
    database: Database[dict[str, Any]], patterns: dict[str, str]
) -> None:
    pairs = [c for c in EVERY if patterns[c] == f"(?-i:{c.lower()}|{c.upper()})"]
    assert len(pairs) == 58
    matched = [{"$regexFindAll": {"input": "$text", "regex": c, "options": "i"}} for c in pairs]
    text = "".join(EVERY)
    (answer,) = database.aggregate(
        [{"$documents": [{"text": text}]}, {"$project": {"of": matched}}]
    )
    for c, found in zip(pairs, answer["of"], strict=True):
        assert {each["match"] for each in found} == {c.lower(), c.upper()}


def test_what_is_compared_as_it_is_has_no_case(
    database: Database[dict[str, Any]], patterns: dict[str, str]
) -> None:
    """No character of the others is, for the server, another case of one of those."""
    as_it_is = [c for c in EVERY if patterns[c] == f"(?-i:{plain(c)})"]
    assert len(as_it_is) > 170_000
    for c in as_it_is:
        assert c == c.lower() == c.upper() == c.title() == c.casefold()
    one_class = "[" + "".join(f"{first}-{last}" for first, last in _runs(as_it_is)) + "]"
    others = "".join(sorted(set(EVERY) - set(as_it_is)))
    assert matches(database, [others, as_it_is[0], as_it_is[-1]], [one_class]) == [[1, 2]]


def _swapped(text: str) -> str:
    return "".join(c.swapcase() if len(c.swapcase()) == 1 else c for c in text)


def _runs(characters: Sequence[str]) -> list[tuple[str, str]]:
    runs: list[tuple[str, str]] = []
    for c in characters:
        if runs and ord(c) == ord(runs[-1][1]) + 1:
            runs[-1] = (runs[-1][0], c)
        else:
            runs.append((c, c))
    return runs


def test_the_search_index_folds_all_that_mongodb_takes_for_the_same(
    database: Database[dict[str, Any]],
) -> None:
    cased = [c for c in EVERY if len({c, c.lower(), c.upper(), c.title(), c.casefold()}) > 1]
    everything = {"text": {"$literal": "".join(cased)}}
    pairs = 0
    for first in range(0, len(cased), 400):
        found = {
            str(ord(c)): {"$regexFindAll": {"input": "$text", "regex": plain(c), "options": "i"}}
            for c in cased[first : first + 400]
        }
        (answer,) = database.aggregate([{"$documents": [everything]}, {"$project": found}])
        for code, matches in answer.items():
            others = {match["match"] for match in matches} - {chr(int(code))}
            pairs += len(others)
            assert {other.casefold() for other in others} <= {chr(int(code)).casefold()}
    assert pairs > 2000
