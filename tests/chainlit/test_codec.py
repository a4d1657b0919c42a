"""Between Chainlit's dicts and the stored shapes."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from chainlit.step import StepDict
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.chainlit.codec import (
    NAME_LENGTH,
    decode_field,
    descendants,
    encode_field,
    missing_fields,
    newest_first,
    read_element,
    read_feedback,
    read_fields,
    read_list_entry,
    read_name,
    read_step,
    read_steps,
    read_thread,
    stored_element,
    stored_feedback,
    stored_fields,
    stored_name,
    stored_step,
)
from mongo_datalayer.errors import InvalidIdError
from mongo_datalayer.model.bson_values import to_id
from tests.model.test_bson_values import anything, clean, odd_keys

NOON = "2024-05-06T12:00:00.000000Z"
MOMENT = datetime(2024, 5, 6, 12, tzinfo=timezone.utc)

keys = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.text(st.sampled_from("%.$\0a2E45"))
    | st.sampled_from(["", "%", "%%", "%2E", "$a", "a$b", "a.b", "$", "\0", "0", "$[]", "_id"])
)


# Names -----------------------------------------------------------------------------------------


@given(keys)
def test_a_field_name_leads_back_to_its_key(key: str) -> None:
    assert decode_field(encode_field(key)) == key


@given(keys)
def test_a_field_name_may_stand_in_an_updates_path(key: str) -> None:
    name = encode_field(key)

    assert name != ""
    assert not set(name) & {".", "$", "\0"}


@given(st.sets(keys, max_size=10))
def test_different_keys_have_different_field_names(some: set[str]) -> None:
    assert len({encode_field(key) for key in some}) == len(some)


@pytest.mark.parametrize("key", ["name", "is_shared", "é", "with space", "0", "_id"])
def test_an_ordinary_key_is_its_own_name(key: str) -> None:
    assert encode_field(key) == key


@given(st.dictionaries(keys, clean.filter(lambda value: value is not None), max_size=6))
def test_stored_fields_come_back_equal(values: dict[str, Any]) -> None:
    stored = bson.decode(bson.encode({"m": stored_fields(values)}))["m"]

    assert read_fields(stored) == values


@given(st.dictionaries(odd_keys, anything, max_size=5))
def test_any_fields_can_be_stored_and_served(values: dict[Any, Any]) -> None:
    stored = bson.decode(bson.encode({"m": stored_fields(values)}))["m"]

    json.dumps(read_fields(stored), allow_nan=False, ensure_ascii=False).encode()


def test_fields_that_are_none_are_left_out() -> None:
    assert stored_fields({"a": None, "b": 0, "c": "", "d": False, "e": []}) == {
        "b": 0,
        "c": "",
        "d": False,
        "e": [],
    }


def test_fields_that_the_caller_changes_while_they_are_read_are_taken_as_they_were() -> None:
    values: dict[str, Any] = {}

    class Grows:
        def __str__(self) -> str:
            values[f"new {len(values)}"] = 1
            return "grows"

    values |= {"a": Grows(), "b": 2}

    assert stored_fields(values) == {"a": "grows", "b": 2}


def test_fields_read_from_the_database_fit_json() -> None:
    stored = {
        "int64": bson.Int64(5),
        "date": datetime(2024, 5, 6, tzinfo=timezone.utc),
        "id": bson.ObjectId("0" * 24),
        "nan": float("nan"),
    }

    assert read_fields(stored) == {
        "int64": 5,
        "date": "2024-05-06T00:00:00Z",
        "id": "0" * 24,
        "nan": None,
    }


# Steps -----------------------------------------------------------------------------------------


def stored(step_id: str, created: str | None = NOON, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, **stored_step({"createdAt": created, **fields})}


def read_ids(*steps: dict[str, Any]) -> list[str]:
    return [step["id"] for step in read_steps(steps, "thread")]


STEP: dict[str, Any] = {
    "id": "s",
    "threadId": "thread",
    "parentId": "p",
    "name": "search",
    "type": "tool",
    "streaming": True,
    "isError": False,
    "waitForAnswer": False,
    "defaultOpen": True,
    "autoCollapse": False,
    "metadata": {"a.b": {"$x": 1}, "favorite": True},
    "tags": ["a", "b"],
    "input": '{"query": "$100"}',
    "output": "",
    "createdAt": "2024-05-06T12:00:00.123456Z",
    "start": "2024-05-06T12:00:00.123456Z",
    "end": "2024-05-06T12:00:01Z",
    "generation": {"tools": [{"$ref": "#/x", "$id": "y"}]},
    "showInput": "json",
    "language": "json",
    "icon": "search",
    "command": "find",
    "modes": {"model": "large"},
    "feedback": None,
}


def through_bson(step: dict[str, Any]) -> dict[str, Any]:
    fields = bson.decode(bson.encode(stored_step(step)))
    return read_step({"id": step["id"], **fields}, "thread")


def test_the_example_has_every_field_of_chainlits_step() -> None:
    assert STEP.keys() == StepDict.__annotations__.keys()


def test_a_step_comes_back_whole_and_streams_no_more() -> None:
    assert through_bson(STEP) == {**STEP, "streaming": False}


@given(
    st.dictionaries(keys, clean.filter(lambda value: value is not None), max_size=5).filter(
        lambda fields: not fields.keys() & {*STEP, "receivedAt"}
    )
)
def test_fields_nobody_knows_come_back_equal(fields: dict[str, Any]) -> None:
    step = through_bson({**STEP, **fields})

    assert {key: step[key] for key in fields} == fields
    assert {key: step[key] for key in STEP} == {**STEP, "streaming": False}


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(STEP, anything)))
def test_a_step_of_any_values_can_be_read(values: dict[str, Any]) -> None:
    (step,) = read_steps([{"id": "s", **bson.decode(bson.encode(stored_step(values)))}], "thread")

    json.dumps(step, allow_nan=False, ensure_ascii=False).encode()
    assert type(step["input"]) is type(step["output"]) is str
    assert type(step["metadata"]) is dict
    assert step["createdAt"] is not None
    assert step["streaming"] is False
    assert step["threadId"] == "thread"


def test_the_owner_of_some_fields_is_not_the_caller() -> None:
    assert stored_step(
        {
            "id": "x",
            "threadId": "t",
            "feedback": {"value": 1},
            "streaming": True,
            "receivedAt": 1,
        }
    ) == {"id": "x"}


def test_an_empty_output_is_a_value_and_none_is_not() -> None:
    assert stored_step({"output": "", "input": None, "isError": False}) == {
        "output": "",
        "isError": False,
    }


@pytest.mark.parametrize(
    ("value", "text"), [({"a": 1}, '{"a": 1}'), ([1], "[1]"), (5, "5"), (False, "false")]
)
def test_texts_are_strings(value: Any, text: str) -> None:
    assert stored_step({"input": value, "output": value}) == {"input": text, "output": text}


def test_metadata_that_is_no_map_is_kept_in_one() -> None:
    assert stored_step({"metadata": ["a"]}) == {"metadata": {"value": ["a"]}}


def test_what_a_stored_step_lacks_has_the_frontends_default() -> None:
    step = read_step({"id": "s"}, "thread")

    assert {**step, "createdAt": None} == {
        **dict.fromkeys(STEP),
        "id": "s",
        "threadId": "thread",
        "type": "undefined",
        "name": "",
        "input": "",
        "output": "",
        "streaming": False,
        "metadata": {},
    }
    assert step["createdAt"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("fields", "created"),
    [
        ({"createdAt": "c", "start": "s", "end": "e"}, "c"),
        ({"start": "s", "end": "e"}, "s"),
        ({"end": "e"}, "e"),
        ({"receivedAt": MOMENT}, "2024-05-06T12:00:00Z"),
    ],
)
def test_a_step_without_a_time_takes_the_next_best(fields: dict[str, Any], created: str) -> None:
    step = read_step({"id": "s", **fields}, "thread")

    assert step["createdAt"] == created
    assert "receivedAt" not in step


@pytest.mark.parametrize("wish", [False, "", "false", "False"])
def test_input_that_shall_not_be_shown_is_not_served_and_stays_stored(wish: Any) -> None:
    kept = stored("s", input="secret", showInput=wish)

    assert kept["input"] == "secret"
    assert read_step(kept, "thread")["input"] == ""


@pytest.mark.parametrize("wish", [None, True, "json", "python", "true"])
def test_input_is_served_otherwise(wish: Any) -> None:
    assert read_step(stored("s", input="open", showInput=wish), "thread")["input"] == "open"


# Order of steps --------------------------------------------------------------------------------


def at(microseconds: int) -> str:
    return (MOMENT + timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")


def test_steps_are_read_by_time_whatever_the_order_of_arrival() -> None:
    steps = [stored(str(number), at(number)) for number in range(20)]
    random.Random(4).shuffle(steps)  # noqa: S311 - an order, not a secret

    assert read_ids(*steps) == [str(number) for number in range(20)]


def test_times_of_every_spelling_are_compared_as_times() -> None:
    assert read_ids(
        stored("fifth", "2024-05-06T12:00:01Z"),
        stored("third", "2024-05-06T12:00:00.000002"),
        stored("fourth", "2024-05-06T14:00:00.500000+02:00"),
        stored("second", "2024-05-06T12:00:00.000001Z"),
        stored("first", "2024-05-06T12:00:00Z"),
    ) == ["first", "second", "third", "fourth", "fifth"]


def test_equal_times_keep_the_order_of_arrival() -> None:
    arrived = ["c", "a", "b", "z", "y"]

    assert read_ids(*(stored(step_id) for step_id in arrived)) == arrived


def test_a_parent_comes_before_its_children_whatever_their_times() -> None:
    assert read_ids(
        stored("grandchild", at(1), parentId="child"),
        stored("other", at(2)),
        stored("child", at(3), parentId="run"),
        stored("run", at(4)),
    ) == ["run", "child", "grandchild", "other"]


def test_a_parent_that_is_not_there_becomes_none() -> None:
    child, other = read_steps(
        [stored("child", at(1), parentId="gone"), stored("other", at(2), parentId="child")], "t"
    )

    assert (child["parentId"], other["parentId"]) == (None, "child")


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_loop_of_parents_is_opened_once(length: int) -> None:
    loop = [
        stored(str(number), at(number), parentId=str((number + 1) % length))
        for number in range(length)
    ]

    steps = read_steps(loop, "t")

    assert sorted(step["id"] for step in steps) == [str(number) for number in range(length)]
    assert [step["parentId"] for step in steps].count(None) == 1
    assert steps[0]["parentId"] is None


@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 12)), min_size=1, max_size=10)
)
def test_any_family_is_read_whole_and_parents_first(family: list[tuple[int, int | None]]) -> None:
    steps = [
        stored(str(number), at(time), parentId=None if parent is None else str(parent))
        for number, (time, parent) in enumerate(family)
    ]

    read = read_steps(steps, "t")

    assert sorted(step["id"] for step in read) == sorted(step["id"] for step in steps)
    seen: set[str] = set()
    for step in read:
        assert step["parentId"] is None or step["parentId"] in seen
        seen.add(step["id"])
    known = {step["id"]: step.get("parentId") for step in steps}
    for step in read:  # a parent is only given up when it is not there, or in a loop
        lineage = [step["id"]]
        while (parent := known.get(lineage[-1])) in known and parent not in lineage:
            lineage.append(parent)
        in_loop_or_orphan = parent is not None and (parent not in known or parent in lineage)
        expected = known[step["id"]]
        assert step["parentId"] == expected or (step["parentId"] is None and in_loop_or_orphan)


def test_a_line_of_thousands_of_parents_is_read() -> None:
    steps = [stored(str(n), at(-n), parentId=str(n - 1) if n else None) for n in range(5000)]

    assert read_ids(*steps) == [str(number) for number in range(5000)]


def test_what_was_stored_is_not_changed_by_reading() -> None:
    step = stored("s", parentId="gone", showInput=False, input="i")
    before = json.dumps(step)

    read_steps([step], "t")[0]["metadata"]["new"] = 1

    assert json.dumps(step) == before


def test_newest_first_ends_in_the_id() -> None:
    steps = [
        read_step(stored(step_id, time), "t")
        for step_id, time in [("a", at(1)), ("b", at(2)), ("c", at(1))]
    ]

    assert [step["id"] for step in newest_first(steps)] == ["b", "c", "a"]


def test_what_a_late_create_fills_in() -> None:
    assert missing_fields(
        {"id": "s", "output": "", "isError": False, "name": None},
        {"id": "s", "output": "late", "isError": True, "name": "n", "tags": []},
    ) == {"name": "n", "tags": []}


def test_descendants() -> None:
    steps: list[dict[str, Any]] = [
        {"id": "run"},
        {"id": "tool", "parentId": "run"},
        {"id": "deeper", "parentId": "tool"},
        {"id": "other"},
        {"id": "loop 1", "parentId": "loop 2"},
        {"id": "loop 2", "parentId": "loop 1"},
    ]

    assert descendants(steps, "run") == {"run", "tool", "deeper"}
    assert descendants(steps, "deeper") == {"deeper"}
    assert descendants(steps, "loop 1") == {"loop 1", "loop 2"}
    assert descendants(steps, "not there") == {"not there"}


# Feedback --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("comment", [None, "", "a comment"])
def test_feedback_comes_back(value: int, comment: str | None) -> None:
    kept = stored_feedback(id="f", step_id="s", value=value, comment=comment)

    assert ("comment" in kept) == (comment is not None)
    assert kept["updatedAt"].utcoffset() == timedelta(0)
    assert read_feedback(bson.decode(bson.encode(kept))) == {
        "id": "f",
        "forId": "s",
        "value": value,
        "comment": comment,
    }


def test_a_step_carries_its_feedback() -> None:
    kept = stored_feedback(id="f", step_id="s", value=0, comment=None)

    step = read_step({**stored("s"), "feedback": kept}, "t")

    assert step["feedback"] == {"id": "f", "forId": "s", "value": 0, "comment": None}


def test_a_comment_of_any_kind_is_a_text() -> None:
    assert stored_feedback(id="f", step_id="s", value=1, comment={"a": "\ud83d"})["comment"] == (
        '{"a": "\ufffd"}'
    )


# Elements --------------------------------------------------------------------------------------

ELEMENT: dict[str, Any] = {
    "id": "e",
    "threadId": "thread",
    "type": "custom",
    "url": "https://example.org/x.png",
    "chainlitKey": "key",
    "name": "chart",
    "display": "side",
    "objectKey": "thread/e",
    "size": "large",
    "props": {"a.b": [{"$c": 1}], "": None, "rows": (1, 2)},
    "page": 3,
    "autoPlay": False,
    "playerConfig": {"file": {"$x": 1}},
    "language": "json",
    "forId": "s",
    "mime": "application/json",
}


def test_an_element_comes_back_whole() -> None:
    kept = stored_element({**ELEMENT, "later": {"field": 1}})

    element = read_element(bson.decode(bson.encode(kept)), "thread")

    props = {"a.b": [{"$c": 1}], "": None, "rows": [1, 2]}
    assert element == {**ELEMENT, "props": props, "later": {"field": 1}}


def test_an_elements_content_and_local_path_are_not_stored_in_it() -> None:
    assert stored_element({"id": "e", "path": "/tmp/x", "content": b"x", "threadId": "t"}) == {  # noqa: S108
        "id": "e"
    }


@pytest.mark.parametrize("nobody", ["", None])
def test_an_element_for_no_step(nobody: str | None) -> None:
    assert "forId" not in stored_element({"id": "e", "forId": nobody})


@pytest.mark.parametrize("props", [None, "text", [1]])
def test_a_custom_element_always_has_an_object_as_props(props: Any) -> None:
    kept = stored_element({"id": "e", "type": "custom", "props": props})

    assert read_element(kept, "t")["props"] == {}


def test_what_a_stored_element_lacks_has_a_default() -> None:
    element = read_element({"id": "e"}, "t")

    assert element == {
        **dict.fromkeys(ELEMENT),
        "id": "e",
        "threadId": "t",
        "type": "file",
        "name": "",
        "display": "inline",
    }


# Threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("short", "short"),
        ("", ""),
        ("é" * NAME_LENGTH, "é" * NAME_LENGTH),
        ("é" * (NAME_LENGTH + 1), "é" * (NAME_LENGTH - 1) + "…"),
        ("x" * 3_000_000, "x" * (NAME_LENGTH - 1) + "…"),
        ({"a": 1}, '{"a": 1}'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_threads_name_is_cut(name: Any, kept: str) -> None:
    assert NAME_LENGTH == 255
    assert stored_name(name) == kept
    assert len(kept) <= 255


@pytest.mark.parametrize(
    ("thread", "name"),
    [
        ({"name": "given", "metadata": {"name": "other"}}, "given"),
        ({"name": "", "metadata": {"name": "other"}}, ""),
        ({"metadata": {"name": "suggested"}}, "suggested"),
        ({"metadata": {"name": "x" * 300}}, "x" * 254 + "…"),
        ({"metadata": {"name": 5}}, None),
        ({"metadata": None}, None),
        ({}, None),
    ],
    ids=repr,
)
def test_what_a_thread_is_called(thread: dict[str, Any], name: str | None) -> None:
    assert read_name(thread) == name


THREAD: dict[str, Any] = {
    "_id": "t",
    "name": "n",
    "userId": "u",
    "userIdentifier": "alice",
    "tags": ["a"],
    "metadata": {"%24key": {"$x.y": 1}, "a%2Eb": 2, "%": 3},
    "createdAt": MOMENT,
    "updatedAt": MOMENT + timedelta(seconds=1),
    "steps": [stored("late", at(2)), stored("early", at(1))],
    "elements": [stored_element(ELEMENT)],
}


def test_a_whole_thread() -> None:
    thread = read_thread(THREAD)

    assert [step["id"] for step in thread.pop("steps")] == ["early", "late"]
    assert [element["id"] for element in thread.pop("elements")] == ["e"]
    assert thread == {
        "id": "t",
        "name": "n",
        "userId": "u",
        "userIdentifier": "alice",
        "tags": ["a"],
        "metadata": {"$key": {"$x.y": 1}, "a.b": 2, "": 3},
        "createdAt": "2024-05-06T12:00:00Z",
    }


def test_an_entry_of_a_list_has_the_time_it_is_ordered_by_and_no_steps() -> None:
    entry = read_list_entry(THREAD, "updatedAt")

    assert entry["createdAt"] == "2024-05-06T12:00:01Z"
    assert (entry["steps"], entry["elements"]) == ([], [])
    assert read_list_entry(THREAD, "createdAt")["createdAt"] == "2024-05-06T12:00:00Z"


def test_a_thread_with_nothing_in_it_has_every_key() -> None:
    assert read_thread({"_id": "t"}) == {
        "id": "t",
        "name": None,
        "userId": None,
        "userIdentifier": None,
        "tags": [],
        "metadata": {},
        "createdAt": None,
        "steps": [],
        "elements": [],
    }


@pytest.mark.parametrize("metadata", [None, "text", [1]])
def test_a_threads_metadata_is_always_a_map(metadata: Any) -> None:
    assert read_thread({"_id": "t", "metadata": metadata})["metadata"] == {}


def test_an_id_may_be_any_string() -> None:
    assert to_id("a/b .$\0") == "a/b .$\0"
    assert to_id(5) == "5"


@pytest.mark.parametrize("longest", ["x" * 1024, "é" * 512])
def test_an_id_has_at_most_1024_bytes(longest: str) -> None:
    assert to_id(longest) == longest
    for longer in (longest + "x", longest * 900):
        with pytest.raises(InvalidIdError, match="at most 1024 bytes"):
            to_id(longer)
