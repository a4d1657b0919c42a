"""The pattern of keyword search on a real server: it matches where the escaped text does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database

from mongo_datalayer.search.pattern import (
    _SAME_CASES,
    FORM_LENGTH,
    LOOKED_BEHIND,
    SEARCH_LENGTH,
    search_patterns,
    unicode_forms,
)

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
    """The pattern of each character as it is."""
    return {c: search_patterns(c)[0] for c in EVERY}


def plain(search: str) -> str:
    return re.escape(search).replace("\0", r"\x00")


def plain_forms(search: str) -> list[str]:
    return [plain(form) for form in unicode_forms(search)]


def matches(
    database: Database[dict[str, Any]], texts: Sequence[str], searches: Sequence[str | list[str]]
) -> Matches:
    """For each pattern, or list of patterns, the numbers of the texts that it matches in."""
    found = {}
    for number, patterns in enumerate(searches):
        either = [patterns] if isinstance(patterns, str) else patterns
        conditions = [{"text": {"$regex": pattern, "$options": "i"}} for pattern in either]
        found[f"p{number}"] = [{"$match": {"$or": conditions}}]
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
    patterns = [make(needle) for make in (plain_forms, search_patterns) for needle in needles]
    found = matches(database, stored, patterns)
    assert found[len(needles) :] == found[: len(needles)]


@st.composite
def repetitions(draw: st.DrawFn) -> str:
    """A text that repeats something, mostly; each character in a case of its own."""
    unit = draw(st.text(st.sampled_from("aAsſéÉ字🎉ж-.\u0301"), min_size=1, max_size=4))  # noqa: RUF001
    text = (unit * 200)[: draw(st.integers(20, 150))]
    cased = "".join(draw(st.sampled_from([c, c.swapcase()])) for c in text)
    return draw(st.sampled_from(["", "", "b", unit[-1:]])) + cased + draw(texts)


@given(st.data())
@bounded
def test_what_repeats_something_matches_where_the_escaped_text_does(
    database: Database[dict[str, Any]], data: st.DataObject
) -> None:
    needle = data.draw(repetitions(), "needle")[:SEARCH_LENGTH]
    before, after = data.draw(st.lists(repetitions() | texts, min_size=2, max_size=2))
    cut = data.draw(st.integers(0, len(needle)))
    stored = [needle, before + needle + after, needle[:8] * 9 + needle, needle[1:] + needle[:-1]]
    stored += [needle[:cut] + needle[cut + 1 :] + after, needle[:-1] + needle[:-1], needle + needle]
    used, escaped = matches(database, stored, [search_patterns(needle), plain_forms(needle)])
    assert used == escaped


@given(st.data())
@bounded
def test_either_unicode_form_finds_both(
    database: Database[dict[str, Any]], data: st.DataObject
) -> None:
    text = data.draw(st.text(st.sampled_from("aeé\u0301\u0323ñÅ\u212bö한국й字s "), min_size=1))
    start = data.draw(st.integers(0, len(text)))
    part = text[start : data.draw(st.integers(start, len(text)))]
    forms = [normalize(form, part) for form in ("NFC", "NFD")]
    stored = [normalize("NFC", text), normalize("NFD", text), "x", *forms]
    found = matches(database, stored, [search_patterns(form) for form in forms])
    expected = {n for n, stored in enumerate(stored) if any(form in stored for form in forms)}
    assert found[0] == found[1]
    assert {3, 4} <= expected <= set(found[0])


@pytest.mark.parametrize("word", ["schön", "Übung", "éa", "한국어", "й", "résumé"])
def test_accents_typed_on_another_system_are_found(
    database: Database[dict[str, Any]], word: str
) -> None:
    composed, decomposed = (normalize(form, f"one {word} x") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for form in ("NFC", "NFD"):
        patterns = search_patterns(normalize(form, word.swapcase()))
        assert matches(database, [composed, decomposed, "one x"], [patterns]) == [[0, 1]]


def test_ascii_has_one_form() -> None:
    every = "".join(map(chr, range(128)))
    assert unicode_forms(every) == [every]
    assert len(search_patterns(every)) == 1


def test_no_form_is_longer_than_the_pieces_of_large_texts_overlap() -> None:
    longest = max(len(form) for c in EVERY for form in unicode_forms(c))
    assert longest * SEARCH_LENGTH == FORM_LENGTH


@pytest.mark.parametrize(
    ("search", "pattern"),
    [
        ("separated degree", r"g(?<=separated\ deg)ree"),
        ("Kiwi", r"w(?<=Kiw)i"),
        ("straße", "r(?<=str)aße"),
        ("größe", "größe"),
        ("Übung", "b(?<=Üb)ung"),
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
        ("es" * 16 + "z", "es" * 16 + "z"),
        ("=" * 31, r"=" * 31),
        ("=" * 32, f"(?<!=){'=' * 32}"),
        ("=" * 32 + "> x", f"=>(?<={'=' * 32}>)\\ x"),
        ("aB" * 40 + "a", f"(?<!aB){'aB' * 40}a"),
        ("Ab" * 20 + "aB" * 20 + "c" * 80, f"aBc(?<={'Ab' * 20}{'aB' * 20}c){'c' * 79}"),
        ("", ""),
    ],
)
def test_each_form_finds_its_text(
    database: Database[dict[str, Any]], search: str, pattern: str
) -> None:
    assert search_patterns(search)[0] == pattern
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
    found = matches(database, stored, [search_patterns("separated"), search_patterns("kelvin")])
    assert found == [[0, 1], [2]]


@pytest.mark.parametrize("character", ["s", "\0", "字", "𠀀", "🎉", "é", "\\", "ſ", "x"])  # noqa: RUF001
@pytest.mark.parametrize("start", ["", "sep", "é" * (LOOKED_BEHIND - 1) + "z", "=" * 200])
def test_the_longest_text_is_found(
    database: Database[dict[str, Any]], character: str, start: str
) -> None:
    longest = (start + character * SEARCH_LENGTH)[:SEARCH_LENGTH]
    stored = [f"{longest[1:]}é{longest}", f"{longest[:-1]}-{longest[1:]}"]
    assert matches(database, stored, [search_patterns(longest)]) == [[0]]


def test_letters_that_are_repeated_in_another_case_match_each_other(
    database: Database[dict[str, Any]],
) -> None:
    """What is folded where something is repeated is the same for the server."""
    cases: dict[str, set[str]] = {}
    for c in EVERY[: EVERY.index(_SAME_CASES)]:
        cases.setdefault(c.casefold(), set()).add(c)
    pairs = [(c, other) for same in cases.values() for c in same for other in same - {c}]
    assert len(pairs) > 600
    matched = [
        {"$regexMatch": {"input": {"$literal": c}, "regex": plain(other), "options": "i"}}
        for c, other in pairs
    ]
    (answer,) = database.aggregate([{"$documents": [{}]}, {"$project": {"of": matched}}])
    assert all(answer["of"])


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


UNITS = ("a", "s", "é", "字", "🎉", "ж", "ab", "sz!", "eaéab", "字典三a四五六七", "s" * 31 + "q")


@pytest.fixture(scope="module")
def hostile(
    server_client: MongoClient[dict[str, Any]],
) -> Iterator[Database[dict[str, Any]]]:
    yield server_client["hostile_texts"]
    server_client.drop_database("hostile_texts")


@pytest.mark.parametrize("unit", UNITS)
def test_no_search_of_a_megabyte_takes_long(hostile: Database[dict[str, Any]], unit: str) -> None:
    """Texts and needles that nearly match at each position: without care it is 0.2 to 1 s."""
    whole = (unit * SEARCH_LENGTH)[:SEARCH_LENGTH]
    half = SEARCH_LENGTH // 2
    for text, needle in (
        (unit, f"{whole[:-1]}!"),
        (unit, f"{whole[:half]}!{whole[1:half]}"),
        (f"{whole[:-1]}?", whole),
        (f"{whole[:-2]}!?", f"{whole[:-2]}!!"),
    ):
        piece = text * (100_000 // len(text.encode()))
        hostile["texts"].drop()
        hostile["texts"].insert_many([{"text": piece} for _ in range(10)])
        searches = [{"text": {"$regex": p, "$options": "i"}} for p in search_patterns(needle)]
        seconds: list[float] = []
        while not seconds or (min(seconds) > 0.2 and len(seconds) < 10):  # others use the machine
            began = time.perf_counter()
            assert hostile["texts"].count_documents({"$or": searches}) == 0
            seconds.append(time.perf_counter() - began)
        assert min(seconds) < 0.2, needle


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
