from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.model.times import (
    from_milliseconds,
    iso,
    milliseconds,
    parse_time,
    sort_as_text,
)
from tests.model.test_bson_values import anything

PAST = datetime(2024, 5, 6, 7, 8, 9, 123456)  # noqa: DTZ001 - naive on purpose
MOMENT = datetime(2024, 5, 6, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-06T12:00:00.000000Z", MOMENT),
        ("2024-05-06T12:00:00Z", MOMENT),
        ("2024-05-06T12:00:00z", MOMENT),
        ("2024-05-06T12:00:00", MOMENT),
        (" 2024-05-06T12:00:00Z ", MOMENT),
        ("2024-05-06 12:00:00", MOMENT),
        ("2024-05-06T12:00:00.001Z", MOMENT + timedelta(milliseconds=1)),
        ("2024-05-06T12:00:00.000001Z", MOMENT + timedelta(microseconds=1)),
        ("2024-05-06T12:00:00.000001", MOMENT + timedelta(microseconds=1)),
        ("2024-05-06T14:00:00+02:00", MOMENT),
        ("2024-05-06T14:00:00.000001+02:00", MOMENT + timedelta(microseconds=1)),
        ("", None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+05:00", None),
        (None, None),
        (1714996800, None),
        (MOMENT, None),
    ],
)
def test_a_time_is_read_from_text(text: Any, moment: datetime | None) -> None:
    parsed = parse_time(text)

    assert parsed == moment
    assert parsed is None or parsed.utcoffset() == timedelta(0)


@given(anything)
def test_no_value_breaks_the_reading_of_a_time(value: Any) -> None:
    parsed = parse_time(value)

    assert parsed is None or parsed.tzinfo is not None


@given(
    st.lists(st.datetimes().map(lambda time: iso(time.replace(microsecond=time.microsecond or 1))))
)
def test_times_as_chainlit_writes_them_sort_as_text(texts: list[str]) -> None:
    assert sort_as_text(texts)
    assert sorted(texts) == sorted(texts, key=lambda text: (parse_time(text), text))


@pytest.mark.parametrize("other", ["", "2024-05-06T12:00:00Z", "2024-05-06T12:00:00.000000+00:00"])
def test_one_time_in_another_form_does_not_sort_as_text(other: str) -> None:
    assert not sort_as_text(["2024-05-06T12:00:00.000000Z", other])


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_milliseconds_lead_back_to_the_time_rounded_down(time: datetime) -> None:
    assert timedelta(0) <= time - from_milliseconds(milliseconds(time)) < timedelta(milliseconds=1)


@given(st.datetimes(min_value=PAST, max_value=PAST.replace(year=9998)))
def test_a_time_is_written_in_utc(moment: datetime) -> None:
    east = moment.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=5)))

    assert iso(moment) == iso(east) == moment.isoformat() + "Z"
