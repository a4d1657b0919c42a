"""Rows with any value in any column: each is stored as it will be read, or listed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import bson
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.chainlit.codec import read_thread
from mongo_datalayer.migrate.chainlit_rows import (
    Reading,
    ThreadRows,
    thread_record,
    user_record,
)
from mongo_datalayer.migrate.records import ThreadRecord
from mongo_datalayer.migrate.stored_threads import (
    canonical,
    differences,
    expected_thread,
    stored_thread,
)

ODD: list[Any] = [
    *(0, -1, 2.5, float("inf"), float("nan"), True, 2**70, 10**5000),
    *("", "0", "null", "[]", "{}", "NaN", "[[[", "--5", "9" * 5000, "{a,NULL}", '["a", null]'),
    *('{"a.b": {"$x": NaN}}', '{"a":' * 200 + "1" + "}" * 200, "a\0b", "\ud800", "٣", "²"),
    *(b"\xff", b"{}", Decimal("1.5"), Decimal("NaN"), Decimal("1e999"), timedelta(days=1)),
    datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    *("2026-09-09T12:00:00Z", "2026-02-30T12:00:00.123456Z", "0001-01-01T00:00:00+14:00"),
    *(["a", None, {"b": [1]}], {"$ref": "x", "$id": 1}, {1: 2, None: 3}),
    json.dumps({"gridfs": "k", "bytes": 1, "encoding": "text", "preview": "x"}),
]
IDS: list[Any] = ["t", "s0", "s1", "S1", "", 5, b"s1"]
COLUMNS = {
    "users": "identifier metadata createdAt updatedAt displayName _id x",
    "threads": "name userId userIdentifier tags metadata createdAt deletedAt ownerName _id bytes x",
    "steps": "name type parentId streaming isError metadata tags input output createdAt start end "
    "generation showInput language defaultOpen modes rowCreatedAt feedback receivedAt a.b $x",
    "elements": "type url name display objectKey size page forId mime props autoPlay playerConfig "
    "metadata content path sequence",
    "feedbacks": "forId value comment name createdAt updatedAt",
}


def rows(table: str, **ids: Any) -> st.SearchStrategy[list[dict[str, Any]]]:
    values = st.sampled_from(ODD)
    columns = dict.fromkeys(COLUMNS[table].split(), values)
    columns |= {
        name: st.sampled_from(IDS) | values for name in ("parentId", "forId") if name in columns
    }
    known = {"id": st.sampled_from(IDS), **ids}
    row = st.fixed_dictionaries(known, optional={k: v for k, v in columns.items() if k not in ids})
    return st.lists(row, max_size=3)


@given(
    threads=rows("threads", id=st.just("t"), deletedAt=st.just("")),
    steps=rows("steps"),
    elements=rows("elements"),
    feedbacks=rows("feedbacks"),
    zone=st.sampled_from([None, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]),
)
def test_a_thread_of_any_rows_is_read_as_it_is_expected(
    threads: Any, steps: Any, elements: Any, feedbacks: Any, zone: Any
) -> None:
    found = ThreadRows("t", threads, steps, elements, feedbacks)

    record = thread_record(found, Reading(zone, import_orphans=True))

    assert isinstance(record, ThreadRecord)
    assert sum(record.rows.read.values()) == len(threads + steps + elements + feedbacks)
    expected = expected_thread(record.thread)
    stored = bson.decode(bson.encode(stored_thread(record.thread)))
    assert differences(expected, canonical(read_thread(stored))) == []


@given(row=rows("users"))
def test_no_users_row_ends_a_run(row: Any) -> None:
    for each in row:
        assert user_record(each, Reading()).rows.read["users"] == 1
