"""What becomes of each odd value, as documented in docs/migrating.md."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from mongo_datalayer.chainlit.codec import identified_feedback, read_thread, stored_feedback
from mongo_datalayer.migrate.chainlit_rows import (
    Reading,
    ThreadRows,
    thread_record,
    user_record,
)
from mongo_datalayer.migrate.records import Leftover, ThreadRecord, UserRecord
from mongo_datalayer.migrate.stored_threads import (
    canonical,
    canonical_user,
    digest,
    expected_thread,
    stored_thread,
    stored_user,
)
from mongo_datalayer.migrate.values import TOO_LONG, text_of
from mongo_datalayer.model.times import EPOCH
from tests.migrate.sources import NOON

NOWHERE = Reading()
TIME = datetime(2026, 9, 9, 12, tzinfo=timezone.utc)


def converted(
    row: dict[str, Any] | None = None,
    steps: list[dict[str, Any]] | None = None,
    **others: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, str]]:
    """The thread as it is read again, and the reasons that are listed, by id."""
    threads = [{"id": "t", "createdAt": NOON.format(0), **(row or {})}]
    found = ThreadRows("t", threads=threads, **others)  # type: ignore[arg-type]
    found.steps = [{"id": f"s{n}", **step} for n, step in enumerate(steps or [])]
    record = thread_record(found, NOWHERE)
    assert isinstance(record, ThreadRecord)
    thread = read_thread(stored_thread(record.thread))
    expected = expected_thread(record.thread)
    assert digest(canonical(thread)) == digest(expected), (canonical(thread), expected)
    return thread, {finding.id: finding.reason for finding in record.rows.findings}


@pytest.mark.parametrize(
    ("stored", "metadata", "reason"),
    [
        ('{"a.b": 1}', {"a.b": 1}, None),
        ({"a": 1, "gone": None}, {"a": 1}, None),
        ('"{\\"role\\": \\"x\\"}"', {"role": "x"}, None),
        ('"\\"{}\\""', {}, None),
        ("null", {}, "metadata is null"),
        ("[1, 2]", {}, "metadata is not a map"),
        ("{'a': 1}", {"value": "{'a': 1}"}, "metadata is not JSON"),
        ("[" * 100_000, {"value": "[" * 100_000}, "metadata is not JSON"),
        ('{"x": NaN, "y": 1e999}', {"x": None, "y": None}, None),
        (f'{{"n": {2**70}}}', {"n": str(2**70)}, None),
        (b'{"a": 1}', {"a": 1}, None),
    ],
)
def test_metadata(stored: Any, metadata: dict[str, Any], reason: str | None) -> None:
    thread, listed = converted({"metadata": stored})

    assert thread["metadata"] == {k: v for k, v in metadata.items() if v is not None}
    assert listed.get("t") == reason


@pytest.mark.parametrize(
    ("stored", "tags", "reason"),
    [
        (["a", "", "ü"], ["a", "", "ü"], None),
        ('["a", "b,c"]', ["a", "b,c"], None),
        ('{a,"b,\\"c"}', ["a", 'b,"c'], None),
        ("red, green", ["red", "green"], "tags are plain text"),
        ('["a"', ['["a"'], "tags are plain text"),
        ("2024", ["2024"], "tags are plain text"),
        (2024, ["2024"], "tags are plain text"),
        ('{"a": 1}', ['{"a": 1}'], "tags are plain text"),
        ('["a", null, 1, true]', ["a", "1", "true"], None),
        ("{a,NULL,b}", ["a", "b"], None),
        ("{}", [], None),
        ("null", [], None),
        ("", [], None),
    ],
)
def test_tags(stored: Any, tags: list[str], reason: str | None) -> None:
    thread, listed = converted({"tags": stored})

    assert thread["tags"] == tags
    assert listed.get("t") == reason


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("2026-09-09T09:10:00.5", "2026-09-09T09:10:00.500000Z"),
        ("2026-09-09 09:11:00.123456", "2026-09-09T09:11:00.123456Z"),
        ("2026-09-09T11:12:00+02:00", "2026-09-09T09:12:00Z"),
        ("2026-09-09T09:13:00Z", "2026-09-09T09:13:00Z"),
        (datetime(2026, 9, 9, 9, 14), "2026-09-09T09:14:00Z"),  # noqa: DTZ001 - of a driver
    ],
)
def test_times(stored: Any, read: str) -> None:
    thread, listed = converted({"createdAt": stored}, [{"createdAt": stored, "output": "x"}])

    assert thread["steps"][0]["createdAt"] == read
    assert thread["createdAt"][:22] == read[:22]
    assert "t" not in listed


@pytest.mark.parametrize("odd", ["yesterday", "1788945240", 1788945240, None, ""])
def test_an_odd_time_of_a_thread_is_that_of_its_first_step(odd: Any) -> None:
    thread, listed = converted({"createdAt": odd}, [{"createdAt": NOON.format(3)}])

    assert thread["createdAt"] == "2026-09-09T12:00:03Z"
    assert listed["t"]


def test_an_odd_time_of_a_step_is_listed() -> None:
    thread, listed = converted(steps=[{"createdAt": "yesterday", "start": NOON.format(2)}])

    assert thread["steps"][0]["createdAt"] == NOON.format(2)
    assert listed["s0"] == "createdAt is not a time"


def test_owners_follow_the_users_row() -> None:
    row = {"userId": "u", "userIdentifier": "old-name", "ownerName": "ada"}
    thread, listed = converted(row)
    assert (thread["userId"], thread["userIdentifier"]) == ("u", "ada")
    assert listed["t"] == "owner's name follows the user"

    thread, listed = converted({"userId": "u", "userIdentifier": "gone"})
    assert (thread["userId"], thread["userIdentifier"]) == ("u", "gone")
    assert listed["t"] == "thread's user is gone"


def test_parents() -> None:
    steps = [
        {"id": "lost", "parentId": "nowhere"},
        {"id": "self", "parentId": "self"},
        {"id": "a", "parentId": "b"},
        {"id": "b", "parentId": "a"},
        {"id": "early", "parentId": "late", "createdAt": NOON.format(1)},
        {"id": "late", "parentId": "", "createdAt": NOON.format(2)},
    ]
    thread, listed = converted(steps=steps)

    assert {step["id"]: step["parentId"] for step in thread["steps"]} == {
        **dict.fromkeys(("lost", "self", "a", "b", "late")),
        "early": "late",
    }
    assert listed["lost"] == "step's parent is missing"
    assert listed["self"] == listed["a"] == listed["b"] == "step's parents form a loop"


def test_steps_of_one_time_stay_in_the_order_of_rows() -> None:
    same = [{"id": name, "createdAt": NOON.format(1)} for name in "caebd"]
    thread, _ = converted(steps=[*same, {"id": "first", "createdAt": "2026-09-09T12:00:00Z"}])

    assert [step["id"] for step in thread["steps"]] == ["first", *"caebd"]


@pytest.mark.parametrize(
    ("stored", "read", "shown"),
    [
        ("false", False, ""),
        ("False", False, ""),
        ("True", True, "in"),
        ("json", "json", "in"),
        (None, None, "in"),
        (0, False, ""),
        ("", "", ""),
    ],
)
def test_an_input_is_stored_and_hidden_where_the_app_hid_it(
    stored: Any, read: Any, shown: str
) -> None:
    row = {"input": "in"} if stored is None else {"input": "in", "showInput": stored}
    thread, _ = converted(steps=[row])

    assert (thread["steps"][0]["showInput"], thread["steps"][0]["input"]) == (read, shown)


def test_values_of_other_types_than_the_columns() -> None:
    step = {
        "name": 5,
        "output": b"bytes",
        "input": b"\xff",
        "isError": 1,
        "waitForAnswer": "false",
        "tags": '["a"]',
        "generation": "null",
        "modes": '{"model": "fast"}',
        "indent": 2,
        "disableFeedback": 0,
        "streaming": 1,
    }
    thread, listed = converted(steps=[step])

    read = thread["steps"][0]
    assert (read["name"], read["output"], read["input"]) == ("5", "bytes", "/w==")
    assert (read["isError"], read["waitForAnswer"], read["streaming"]) == (True, False, False)
    assert (read["tags"], read["generation"], read["modes"]) == (["a"], None, {"model": "fast"})
    assert (read["indent"], read["disableFeedback"]) == (2, 0)
    assert not listed


def test_rows_with_the_same_id_are_merged() -> None:
    steps = [{"id": "s", "output": "first"}, {"id": "s", "output": "second"}]
    elements = [{"id": "e", "name": "a"}, {"id": "e", "name": "b"}]
    thread, listed = converted(steps=steps, elements=elements)

    assert [step["output"] for step in thread["steps"]] == ["second"]
    assert [element["name"] for element in thread["elements"]] == ["b"]
    assert listed == {"s": "step with the same id", "e": "element with the same id"}


@pytest.mark.parametrize(
    ("value", "read"),
    [(0, 0), (1, 1), (1.0, 1), ("1", 1), (-1, 0), (5, None), (0.5, None), (10**400, None)],
)
def test_feedback(value: Any, read: int | None) -> None:
    votes = [{"id": "f", "forId": "s0", "value": value, "comment": ""}]
    thread, listed = converted(steps=[{}], feedbacks=votes)

    feedback = thread["steps"][0]["feedback"]
    assert (None if feedback is None else feedback["value"]) == read
    assert ("f" in listed) == (read is None)


def test_feedback_without_an_id_has_the_one_that_the_layer_would_give() -> None:
    votes = [{"forId": "s0", "value": 1}]
    thread, _ = converted(steps=[{}], feedbacks=votes)

    stored = stored_feedback(id=None, step_id="s0", value=1, comment=None)
    wanted = identified_feedback(stored, "t")["id"]
    assert thread["steps"][0]["feedback"]["id"] == wanted


def test_of_several_votes_the_newest_counts() -> None:
    votes = [
        {"id": "new", "forId": "s0", "value": 0, "updatedAt": "2026-09-10T09:00:00"},
        {"id": "old", "forId": "s0", "value": 1, "updatedAt": "2026-09-09T09:00:00"},
        {"id": "quality", "forId": "s0", "value": 1, "name": "quality"},
        {"id": "lost", "forId": "nowhere", "value": 1},
        {"id": "thread", "forId": "t", "value": 1},
    ]
    thread, listed = converted(steps=[{}], feedbacks=votes)

    assert thread["steps"][0]["feedback"]["id"] == "new"
    assert listed.keys() == {"old", "quality", "lost", "thread"}


def test_elements() -> None:
    elements: list[dict[str, Any]] = [
        {"id": "theirs", "url": "https://example.com/x?y=1", "page": "3", "size": 12, "forId": ""},
        {"id": "own", "url": "https://signed.example/k", "objectKey": "k", "forId": "nowhere"},
        {"id": "prisma", "metadata": {"type": "image", "size": "large", "page": 2, "x": None}},
        {"id": "custom", "type": "custom", "props": '{"a.b": {"$x": [1, null]}}'},
    ]
    thread, listed = converted(elements=elements)

    theirs, own, prisma, custom = thread["elements"]
    assert (theirs["url"], theirs["page"], theirs["size"]) == (elements[0]["url"], 3, "12")
    assert (own["url"], own["objectKey"]) == (None, "k")
    assert (prisma["type"], prisma["size"], prisma["page"]) == ("image", "large", 2)
    assert custom["props"] == {"a.b": {"$x": [1, None]}}
    assert listed == {"own": "element's step is missing"}


def test_names_of_any_length_and_with_any_character() -> None:
    thread, listed = converted({"name": "名" * 300})
    assert thread["name"] == "名" * 254 + "…"
    assert listed["t"] == "name was shortened"
    thread, listed = converted({"name": "$where.x\0\u202e"})
    assert (thread["name"], listed) == ("$where.x\0\u202e", {})


def test_unknown_columns_are_kept() -> None:
    found = ThreadRows("t", [{"id": "t", "parentThreadId": "p", "a.b": 1, "bytes": "no"}])
    record = thread_record(found, NOWHERE)
    assert isinstance(record, ThreadRecord)

    stored = stored_thread(record.thread)

    assert (stored["parentThreadId"], stored["a%2Eb"]) == ("p", 1)
    assert (stored["source_bytes"], "bytes" in stored) == ("no", False)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"metadata": "{}", "createdAt": NOON.format(0)}, None),
        ({}, "user's time is 1970"),
        ({"metadata": "[1]", "createdAt": NOON.format(0)}, "metadata is not a map"),
        ({"metadata": "{not json", "createdAt": NOON.format(0)}, "metadata is not JSON"),
    ],
)
def test_users(row: dict[str, Any], reason: str | None) -> None:
    record = user_record({"id": "u", "identifier": "ada", **row}, NOWHERE)

    assert isinstance(record, UserRecord)
    assert [finding.reason for finding in record.rows.findings] == ([reason] if reason else [])
    stored = stored_user(record.user)
    assert (stored["_id"], stored["identifier"]) == ("u", "ada")
    assert canonical_user(record.user)["id"] == "u"


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("3", 3),
        (" -3 ", -3),
        (3.0, 3),
        (Decimal(3), 3),
        (2.5, 2.5),
        ("--5", "--5"),
        ("1_0", "1_0"),
        ("9" * 5000, "9" * 5000),
        (float("inf"), None),
        (Decimal("Infinity"), None),
    ],
)
def test_pages(stored: Any, read: Any) -> None:
    thread, _ = converted(elements=[{"id": "e", "page": stored}])

    assert thread["elements"][0]["page"] == read


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (Decimal("0.5"), 0.5),
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (Decimal("1e400"), str(Decimal("1e400"))),
        (Decimal("NaN"), None),
    ],
)
def test_no_digit_of_a_number_is_lost(stored: Any, read: Any) -> None:
    thread, _ = converted(steps=[{"cost": stored}])

    assert thread["steps"][0]["cost"] == read


@pytest.mark.parametrize("empty", [0, "", "0", False, "false", "0000-00-00 00:00:00", None])
def test_a_column_that_says_that_a_thread_was_not_deleted(empty: Any) -> None:
    thread, _ = converted({} if empty is None else {"deletedAt": empty})

    assert thread["id"] == "t"


def test_a_thread_without_any_time_is_of_1970() -> None:
    """Without a time it would be in no list."""
    found = ThreadRows("t", [{"id": "t"}], [{"id": "s", "createdAt": 1788945240}])
    record = thread_record(found, NOWHERE)

    assert isinstance(record, ThreadRecord)
    assert record.thread["createdAt"] == record.thread["updatedAt"] == EPOCH
    reasons = [finding.reason for finding in record.rows.findings]
    assert reasons == ["createdAt is not a time", "thread's time is 1970"]


def test_ids_that_nobody_could_ask_for_are_listed() -> None:
    long = "ü" * 600
    thread, listed = converted(steps=[{"id": long}], elements=[{"id": long, "name": "a"}])
    assert (thread["steps"], thread["elements"]) == ([], [])
    assert listed == {long: TOO_LONG}
    for what in ("id", "identifier"):
        user = user_record({"id": "u", "identifier": "ada", what: long}, NOWHERE)
        assert isinstance(user, Leftover)
        assert [finding.reason.split()[1] for finding in user.rows.findings] == [what]
    left = thread_record(ThreadRows(long, [{"id": long}]), NOWHERE)
    assert [finding.outcome.value for finding in left.rows.findings] == ["left out"]


def test_text_that_is_not_utf_8_is_listed() -> None:
    thread, listed = converted(steps=[{"output": text_of(b"a\xffb")}])

    assert thread["steps"][0]["output"] == "a\ufffdb"
    assert listed["s0"] == "output is not UTF-8"


def test_columns_whose_names_have_a_meaning_here_get_another_name() -> None:
    step = {"feedback": "good", "receivedAt": "2020", "_id": 1}
    thread, _ = converted(
        {"bytes": 3, "deletedSteps": "x"},
        [step],
        elements=[{"id": "e", "name": "a", "sequence": "first"}],
    )

    read = thread["steps"][0]
    assert (read["feedback"], read["source_feedback"], read["source__id"]) == (None, "good", 1)
    assert read["source_receivedAt"] == "2020"
    assert thread["elements"][0]["source_sequence"] == "first"
    user = user_record({"id": "u", "identifier": "ada", "_id": 7}, NOWHERE)
    assert isinstance(user, UserRecord)
    assert stored_user(user.user)["_id"] == "u"


def test_a_row_without_an_id_is_listed() -> None:
    assert isinstance(user_record({"identifier": "ada"}, NOWHERE), Leftover)
    assert isinstance(user_record({"id": "u"}, NOWHERE), Leftover)
    thread, listed = converted(steps=[{"id": ""}], elements=[{"name": "a"}])
    assert (thread["steps"], thread["elements"]) == ([], [])
    assert listed == {"": "element without id"}


def test_a_thread_that_was_deleted_is_skipped_with_its_rows() -> None:
    rows = ThreadRows("t", [{"id": "t", "deletedAt": TIME}], [{"id": "s"}])

    record = thread_record(rows, NOWHERE)

    assert isinstance(record, Leftover)
    assert {finding.outcome.value for finding in record.rows.findings} == {"skipped"}
