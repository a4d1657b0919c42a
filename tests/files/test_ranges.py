from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongo_datalayer.files.ranges import (
    RangeNotSatisfiableError,
    matches,
    range_applies,
    requested_range,
)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-", (90, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-100", (0, 100)),
        ("bytes=-1000", (0, 100)),
        ("BYTES=0-9", (0, 10)),
        ("bytes= 0-9 ", (0, 10)),
        ("bytes=,0-9,", (0, 10)),
    ],
)
def test_one_range(header: str, part: tuple[int, int]) -> None:
    assert requested_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=999999-", "bytes=-0"])
def test_a_range_outside_of_the_file(header: str) -> None:
    with pytest.raises(RangeNotSatisfiableError):
        requested_range(header, 100)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5",
        "bytes=9-5",
        "bytes=a-b",
        "bytes=1 -2",
        "bytes=-+5",
        "bytes=\u0663-\u0665",
        "bytes=0-1,5-6",
        "lines=0-9",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_ignored(header: str | None) -> None:
    assert requested_range(header, 100) is None


def test_an_empty_file() -> None:
    assert requested_range("bytes=-5", 0) is None
    for header in ("bytes=0-", "bytes=0-0"):
        with pytest.raises(RangeNotSatisfiableError):
            requested_range(header, 0)


@given(st.text() | st.from_regex(r"bytes=[0-9,\- ]*"), st.integers(0, 1000))
@example("bytes=--5", 10)
def test_a_range_is_inside_of_the_file_or_refused(header: str, size: int) -> None:
    try:
        part = requested_range(header, size)
    except RangeNotSatisfiableError:
        return
    if part is not None:
        assert 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x,y" , W/"abc"', True),
        ("*", True),
        (None, False),
        ("", False),
        ("abc", False),
        ('"ab"', False),
        ('"x"', False),
    ],
)
def test_if_none_match(header: str | None, known: bool) -> None:
    assert matches(header, '"abc"') is known


@pytest.mark.parametrize(
    ("header", "applies"),
    [
        (None, True),
        ('"abc"', True),
        ('W/"abc"', False),
        ('"x"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_if_range(header: str | None, applies: bool) -> None:
    assert range_applies(header, '"abc"') is applies
