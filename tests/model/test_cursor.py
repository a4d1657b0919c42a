"""Opaque cursors: what we made is read, everything else is refused in one way."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.errors import InvalidCursorError
from mongo_datalayer.model.cursor import Cursor

ids = st.text(st.characters(exclude_categories=["Cs"]))
moments = st.datetimes(timezones=st.just(timezone.utc))


def to_the_millisecond(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(moments, ids)
def test_a_cursor_comes_back_to_the_millisecond(moment: datetime, thread_id: str) -> None:
    text = Cursor(moment, thread_id).encode()

    assert Cursor.decode(text) == Cursor(to_the_millisecond(moment), thread_id)


@given(moments, ids)
def test_a_cursor_may_stand_in_a_url(moment: datetime, thread_id: str) -> None:
    assert not set(Cursor(moment, thread_id).encode()) & set("+/=?&# ")


def test_a_cursor_of_another_zone_is_the_same_moment() -> None:
    east = datetime(2024, 5, 6, 14, tzinfo=timezone(timedelta(hours=2)))

    assert Cursor.decode(Cursor(east, "t").encode()).time == east


def refused(text: str) -> InvalidCursorError:
    with pytest.raises(InvalidCursorError) as caught:
        Cursor.decode(text)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thread id",
        "é",
        "\0",
        "=",
        "A",
        encoded(""),
        encoded("["),
        encoded("null"),
        encoded("5"),
        encoded('"ab"'),
        encoded("[]"),
        encoded("[1]"),
        encoded('[1, "t", 2]'),
        encoded('["t", 1]'),
        encoded('[1.5, "t"]'),
        encoded('[true, "t"]'),
        encoded('[NaN, "t"]'),
        encoded('[null, "t"]'),
        encoded("[1, null]"),
        encoded('{"1": 2, "t": 3}'),
        encoded(f'[{10**30}, "t"]'),
        encoded(f'[-{10**17}, "t"]'),
        encoded(f'[{"9" * 5000}, "t"]'),
        encoded('[1, "\\ud800"]'),
        encoded("[" * 50_000),
        base64.urlsafe_b64encode(b"\xff\xfe[1").decode(),
        base64.urlsafe_b64encode(b"\x80").decode(),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_we_did_not_make_is_refused(text: str) -> None:
    refused(text)


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(InvalidCursorError):
        Cursor.decode(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_no_json_raises_anything_else(value: object) -> None:
    with suppress(InvalidCursorError):
        Cursor.decode(encoded(json.dumps(value)))


@given(moments, ids, st.data())
def test_a_cut_cursor_is_refused(moment: datetime, thread_id: str, data: st.DataObject) -> None:
    text = Cursor(moment, thread_id).encode()
    length = data.draw(st.integers(0, len(text) - 2))

    refused(text[:length])


def test_the_refusal_says_what_to_pass_and_stays_short() -> None:
    message = str(refused("x" * 100_000))

    assert "endCursor" in message
    assert len(message) < 500
