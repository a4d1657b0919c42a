"""The total conversion: through real bson and strict JSON, and with values that bite."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import uuid
from collections import OrderedDict, UserString, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock, Mock

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mongo_datalayer.model.bson_values import CIRCULAR, MAX_DEPTH, to_bson, to_text

PAST = datetime(2024, 5, 6, 7, 8, 9, 123456)  # noqa: DTZ001 - naive on purpose


class Colour(Enum):
    RED = "red"
    DEEP = {"r": (1, 2)}  # noqa: RUF012 - a value that is converted in its turn


class Level(IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    parts: set[str]


class Model(BaseModel):
    name: str
    when: datetime


class Array:
    """What numpy's and pandas' values have in common."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def tolist(self) -> Any:
        return self._content


class Words(str):
    __slots__ = ()


class Words2(list[Any]):
    """A list, but not exactly one."""


class Table(Mapping[str, Any]):
    """A map that is no dict."""

    def __getitem__(self, key: str) -> Any:
        return {"a": (1,)}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("a",))

    def __len__(self) -> int:
        return 1


def carried(value: Any) -> Any:
    """``value`` through BSON and back, and fit for strict JSON."""
    back = to_bson(bson.decode(bson.encode({"v": value}))["v"])
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    json.dumps(back, allow_nan=False, ensure_ascii=False).encode()
    return back


# What both carry -------------------------------------------------------------------------------

clean_text = st.text(st.characters(exclude_categories=["Cs"]))
clean_keys = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
) | st.sampled_from(["", "a.b", "$set", "$ref", "$id", "_id", "$$ROOT", "a~2", "%2E"])
clean = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | clean_text
    | st.sampled_from(["$100", "$$ROOT", "\0", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(clean_keys, inner, max_size=4),
    max_leaves=12,
)


@given(clean)
def test_what_both_carry_comes_back_equal(value: Any) -> None:
    converted = to_bson(value)

    assert converted == value
    assert json.dumps(converted) == json.dumps(value)  # 1, 1.0 and True are told apart
    assert carried(converted) == value


@pytest.mark.parametrize(
    "value",
    [
        "$100",
        "$$ROOT",
        {"$ref": "#/definitions/x"},
        {"$schema": "x", "$id": "https://x", "$ref": "#/definitions/x", "definitions": {"x": 1}},
        {"$ref": "a", "$id": None},
        {"": 1, ".": 2, "a.b": 3, "$": 4, "$inc": {"a": 1}},
        "x" * 3_000_000,
        -(2**63),
        2**63 - 1,
        -0.0,
        5e-324,
    ],
    ids=repr,
)
def test_values_that_look_like_the_databases_language_come_back_equal(value: Any) -> None:
    assert carried(to_bson(value)) == value


# Everything else -------------------------------------------------------------------------------

odd_keys = (
    clean_keys
    | st.text()
    | st.integers()
    | st.none()
    | st.booleans()
    | st.floats()
    | st.binary(max_size=3)
    | st.dates()
    | st.uuids()
    | st.tuples(st.integers(0, 2), st.text(max_size=2))
    | st.sampled_from([Colour.RED, Level.HIGH, Words("w"), "\0", "\ud83d", "1", "1~2", "null"])
)
odd_leaves = (
    clean
    | st.text()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.binary(max_size=5)
    | st.binary(max_size=5).map(bytearray)
    | st.binary(max_size=5).map(lambda data: memoryview(data))
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(timezone(timedelta(hours=14))))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.builds(Point, st.integers(), st.frozensets(st.text()).map(set))
    | st.builds(Array, st.lists(st.floats() | st.integers()))
    | st.sampled_from([Colour.RED, Colour.DEEP, Level.HIGH, PurePosixPath("a/b"), Words("\ud800")])
    | st.sampled_from([object(), object, len, ..., NotImplemented, range(3), b"".join])
    | st.builds(ObjectId)
    | st.integers(0, 9).map(Int64)
)
anything = st.recursive(
    odd_leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.lists(inner, max_size=4).map(Words2)
        | st.dictionaries(odd_keys, inner, max_size=4)
        | st.dictionaries(odd_keys, inner, max_size=4).map(OrderedDict)
        | st.dictionaries(odd_keys, inner, max_size=4).map(MappingProxyType)
        | st.frozensets(odd_keys, max_size=4)
        | st.sets(odd_keys, max_size=4)
    ),
    max_leaves=15,
)


@given(anything)
def test_any_nesting_becomes_what_both_carry(value: Any) -> None:
    converted = to_bson(value)

    assert carried(converted) == converted
    assert to_bson(converted) == converted


@given(st.dictionaries(odd_keys, st.integers(0, 99), max_size=8))
def test_no_entry_of_a_map_is_lost(value: dict[Any, int]) -> None:
    assert list(to_bson(value).values()) == list(value.values())


def character(pair: re.Match[str]) -> str:
    high, low = map(ord, pair[0])
    return chr(0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00)


@given(st.text(st.characters() | st.sampled_from("\ud800\udbff\udc00\udfff")))
def test_any_text_keeps_its_whole_characters(text: str) -> None:
    paired = re.sub("[\ud800-\udbff][\udc00-\udfff]", character, text)

    assert to_bson(text) == re.sub("[\ud800-\udfff]", "\ufffd", paired)


# The table of the module, row by row -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        pytest.param(math.nan, None, id="NaN"),
        pytest.param(math.inf, None, id="Infinity"),
        pytest.param(-math.inf, None, id="-Infinity"),
        pytest.param(2**63, "9223372036854775808", id="integer beyond 64 bits"),
        pytest.param(-(2**63) - 1, "-9223372036854775809", id="negative beyond 64 bits"),
        pytest.param(16**6000, hex(16**6000), id="integer beyond the interpreter's limit"),
        pytest.param((1, (2,)), [1, [2]], id="tuple"),
        pytest.param(deque([1, 2]), [1, 2], id="other sequence"),
        pytest.param(range(3), [0, 1, 2], id="range"),
        pytest.param({"b", "a", 3}, [3, "a", "b"], id="set"),
        pytest.param(frozenset({2, 1}), [1, 2], id="frozenset"),
        pytest.param(b"\x00\xff", "AP8=", id="bytes"),
        pytest.param(bytearray(b"\x00\xff"), "AP8=", id="bytearray"),
        pytest.param(memoryview(b"\x00\xff"), "AP8=", id="memoryview"),
        pytest.param(PAST, "2024-05-06T07:08:09.123456Z", id="naive datetime"),
        pytest.param(
            PAST.replace(tzinfo=timezone(timedelta(hours=2))),
            "2024-05-06T05:08:09.123456Z",
            id="aware datetime",
        ),
        pytest.param(PAST.date(), "2024-05-06", id="date"),
        pytest.param(time(7, 8), "07:08:00", id="time"),
        pytest.param(timedelta(minutes=1, milliseconds=5), 60.005, id="timedelta"),
        pytest.param(Colour.RED, "red", id="Enum"),
        pytest.param(Colour.DEEP, {"r": [1, 2]}, id="Enum of more"),
        pytest.param(Level.HIGH, 3, id="IntEnum"),
        pytest.param(Point(1, {"p"}), {"x": 1, "parts": ["p"]}, id="dataclass"),
        pytest.param(
            Model(name="m", when=PAST),
            {"name": "m", "when": "2024-05-06T07:08:09.123456Z"},
            id="pydantic model",
        ),
        pytest.param(Array([1.5, math.nan]), [1.5, None], id="tolist"),
        pytest.param(Array(7), 7, id="tolist of a scalar"),
        pytest.param(Decimal("1.50"), "1.50", id="Decimal"),
        pytest.param(uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", id="UUID"),
        pytest.param(PurePosixPath("a/b"), "a/b", id="Path"),
        pytest.param(1 + 2j, "(1+2j)", id="the rest"),
        pytest.param(ObjectId("0" * 24), "0" * 24, id="ObjectId"),
        pytest.param(Decimal128("1.5"), "1.5", id="Decimal128"),
        pytest.param(Words("w"), "w", id="str of another type"),
        pytest.param(UserString("word"), "word", id="UserString"),
        pytest.param(Table(), {"a": [1]}, id="other map"),
        pytest.param({1: "a"}, {"1": "a"}, id="integer key"),
        pytest.param({None: "a"}, {"null": "a"}, id="None key"),
        pytest.param({True: "a"}, {"true": "a"}, id="bool key"),
        pytest.param({1.5: "a"}, {"1.5": "a"}, id="float key"),
        pytest.param({Level.HIGH: "a"}, {"3": "a"}, id="IntEnum key"),
        pytest.param({(1, "b"): "a"}, {'[1, "b"]': "a"}, id="tuple key"),
        pytest.param({date(2024, 5, 6): "a"}, {"2024-05-06": "a"}, id="date key"),
        pytest.param({1: "a", "1": "b"}, {"1": "a", "1~2": "b"}, id="two keys become one"),
        pytest.param(
            {"1~2": 0, 1: "a", "1": "b", 1.5: 1, "1.5": 2},
            {"1~2": 0, "1": "a", "1~3": "b", "1.5": 1, "1.5~2": 2},
            id="a free number is looked for",
        ),
        pytest.param({"a\0b": 1}, {"a\u2400b": 1}, id="NUL in a key"),
        pytest.param({"a\0b": 1, "a\u2400b": 2}, {"a\u2400b": 1, "a\u2400b~2": 2}, id="both"),
        pytest.param("a\ud83db", "a\ufffdb", id="lone surrogate"),
        pytest.param("a\udc00", "a\ufffd", id="lone low surrogate"),
        pytest.param("\ud83d\ude00", "😀", id="surrogate pair"),
        pytest.param({"\ud83d": "\ud83d\ude00"}, {"\ufffd": "😀"}, id="surrogates in a key"),
    ],
)
def test_each_row_of_the_table(value: Any, stored: Any) -> None:
    converted = to_bson(value)

    assert converted == stored
    assert type(converted) is type(stored)
    assert carried(converted) == stored


def nested(levels: int, innermost: Any) -> Any:
    value = innermost
    for _ in range(levels):
        value = {"in": value}
    return value


def test_levels_are_kept_as_data_up_to_the_deepest() -> None:
    value = nested(MAX_DEPTH, "innermost")

    assert to_bson(value) == value


def test_what_lies_deeper_becomes_its_json_text() -> None:
    value = to_bson(nested(150, "é"))

    for _ in range(MAX_DEPTH):
        value = value["in"]
    assert json.loads(value) == nested(150 - MAX_DEPTH, "é")


def test_what_is_deeper_than_the_interpreter_goes_is_named() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    converted = carried(to_bson({"before": 1, "deep": deep, "after": 2}))

    assert (converted["before"], converted["after"]) == (1, 2)
    value = converted["deep"]
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == "<list>"


def test_a_value_that_contains_itself_is_closed_where_it_does() -> None:
    circle: dict[str, Any] = {"list": [1]}
    circle["list"].append(circle)

    assert to_bson(circle) == {"list": [1, CIRCULAR]}


def test_the_same_value_twice_is_no_circle() -> None:
    shared = {"a": 1}

    assert to_bson([shared, shared]) == [shared, shared]


def test_the_result_shares_nothing_with_the_argument() -> None:
    value: dict[str, Any] = {"list": [{"a": 1}]}

    converted = to_bson(value)
    value["list"][0]["a"] = 2
    value["list"].append(3)

    assert converted == {"list": [{"a": 1}]}


# Values that bite ------------------------------------------------------------------------------


def bite(*_: Any, **__: Any) -> Any:
    raise RuntimeError("bite")


HOSTILE_METHODS = [
    ("__str__",),
    ("__repr__",),
    ("__str__", "__repr__"),
    ("__getattr__",),
    ("__getattribute__",),
    ("__getattribute__", "__str__", "__repr__"),
    ("__iter__", "__len__", "__getitem__"),
    ("__eq__", "__hash__"),
    ("__bool__", "__len__"),
    ("tolist", "model_dump", "as_doc"),
    ("__format__", "__reduce__", "__dir__"),
]


@pytest.mark.parametrize("base", [object, dict, list, tuple, str, int, float, set, bytes, datetime])
@pytest.mark.parametrize("methods", HOSTILE_METHODS, ids="-".join)
def test_a_value_whose_methods_raise_does_not_lose_its_neighbours(
    base: type, methods: tuple[str, ...]
) -> None:
    hostile = type("Hostile", (base,), dict.fromkeys(methods, bite))
    value = hostile(2024, 5, 6) if base is datetime else hostile()

    converted = carried(to_bson({"before": 1, "value": value, "in": [[value]], "after": "2"}))

    assert (converted["before"], converted["after"]) == (1, "2")
    assert converted["in"] == [[converted["value"]]]
    deep = to_bson(nested(MAX_DEPTH + 2, {"value": value, "after": "2"}))
    assert carried(deep) == deep


@pytest.mark.parametrize("base", [object, str, int, float, tuple, bytes])
@pytest.mark.parametrize("methods", [m for m in HOSTILE_METHODS if "__hash__" not in m])
def test_a_key_whose_methods_raise_does_not_lose_its_value(
    base: type, methods: tuple[str, ...]
) -> None:
    key = type("Hostile", (base,), dict.fromkeys(methods, bite))()

    converted = carried(to_bson({"before": 1, key: "kept", "after": 2}))

    assert list(converted.values()) == [1, "kept", 2]


class ShiftingClass:
    @property  # type: ignore[misc]  # hostile on purpose
    def __class__(self) -> Any:
        raise RuntimeError("bite")


class AnswersEverything:
    def __getattr__(self, name: str) -> Any:
        return AnswersEverything

    def __str__(self) -> str:
        return "answers"


class StrangeText:
    def __str__(self) -> str:
        return Words("strange \ud800")


class NoText:
    def __str__(self) -> Any:
        return None


@pytest.mark.parametrize(
    ("make", "stored"),
    [
        (AnswersEverything, "answers"),
        (StrangeText, "strange \ufffd"),
        (NoText, "<NoText>"),
        (lambda: Array(Array(1)), "<tests.model.test_bson_values.Array object at"),
        (ShiftingClass, "<tests.model.test_bson_values.ShiftingClass object at"),
        (lambda: AnswersEverything, "<class 'tests.model.test_bson_values.AnswersEverything'>"),
        (lambda: Model, "<class 'tests.model.test_bson_values.Model'>"),
        (lambda: Point, "<class 'tests.model.test_bson_values.Point'>"),
    ],
)
def test_what_does_not_say_what_it_is_becomes_its_text(
    make: Callable[[], Any], stored: str
) -> None:
    converted = carried(to_bson([make()]))[0]

    assert type(converted) is str
    assert converted.startswith(stored)


@pytest.mark.parametrize("kind", [Mock, MagicMock])
def test_a_mock_becomes_its_own_text(kind: type[Mock]) -> None:
    mock = kind(name="answers everything")

    assert to_bson({"m": mock})["m"] == str(mock)
    assert to_bson(kind(spec=dict)) != {}


def test_a_map_that_changes_while_it_is_converted_is_taken_as_it_was() -> None:
    value: dict[str, Any] = {}

    class Grows:
        def __str__(self) -> str:
            value[f"new {len(value)}"] = 1
            return "grows"

    value |= {"a": Grows(), "b": 2}

    assert to_bson(value) == {"a": "grows", "b": 2}


def test_circles_through_every_container_end() -> None:
    first: list[Any] = []
    second = {"first": first}
    first.extend([(second,), Array([first]), deque([second]), MappingProxyType(second)])

    assert carried(to_bson(first)) == to_bson(first)


# Text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (None, ""),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        (False, "false"),
        (0, "0"),
        (Decimal("1.5"), "1.5"),
        (math.nan, "null"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_text_of_a_value(value: Any, text: str) -> None:
    assert to_text(value) == text


@given(anything)
def test_text_of_anything_is_exactly_a_string(value: Any) -> None:
    text = to_text(value)

    assert type(text) is str
    text.encode()
