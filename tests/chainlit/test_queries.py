"""The shape of what MongoDB is asked: user data stands only where MongoDB takes it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.chainlit import queries, updates
from mongo_datalayer.chainlit.codec import encode_field, stored_fields
from mongo_datalayer.config import WAITING_FEEDBACK
from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import ElementDocument
from mongo_datalayer.mongodb.update import Update
from mongo_datalayer.search.pattern import search_patterns

ROOM = {"overflowIds": {"$size": 2}, "bytes": {"$lt": 100}}
NOW = datetime(2024, 5, 6, tzinfo=timezone.utc)

OURS = frozenset(
    {
        *("_id", "id", "at", "name", "userId", "userIdentifier", "tags", "metadata", "session"),
        *("createdAt", "updatedAt", "deletedAt", "steps", "elements", "keys", "forId", "output"),
        *("previousDeletedAt", "stepless", "deletedSteps", "pendingFeedback", "feedback"),
        *("value", "comment", "input", "favorite", str(WAITING_FEEDBACK - 1)),
        *("deletedElements", *ElementDocument.model_fields),
        *("bytes", "overflowIds", "overflow", "searchSegment", "text", "found", "value"),
    }
)
OPERATORS = frozenset(
    {
        *(
            "$",
            "$set",
            "$unset",
            "$setOnInsert",
            "$push",
            "$pull",
            "$pullAll",
            "$min",
            "$max",
            "$each",
        ),
        *("$slice", "$exists", "$ne", "$in", "$lt", "$or", "$elemMatch", "$regex", "$options"),
        *("$match", "$inc", "$not", "$gte", "$and", "$size", "$expr"),
    }
)

# Text that would do harm in a path or in an expression.
clean = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
harmful = st.sampled_from(["", ".", "$", "$$ROOT", "$100", "a.b", "$set", "steps.$[]", "\0", "$.x"])
users_text = st.tuples(clean | harmful, clean).map("".join)
users_map = st.dictionaries(users_text, users_text | st.integers(0, 9), min_size=1, max_size=3)


def parts_of_keys(value: Any, users: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    """Every part of every path in a statement; not what lies inside of the user's own maps."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from key.split(".")
            if not any(item is mine or item == mine for mine in users):
                yield from parts_of_keys(item, users)
    elif isinstance(value, list):
        for item in value:
            yield from parts_of_keys(item, users)


@given(st.data())
def test_no_user_value_stands_in_a_path(data: st.DataObject) -> None:
    thread_id, step_id, text = (data.draw(users_text) for _ in range(3))
    inner = to_bson(data.draw(users_map))
    raw = data.draw(users_map)
    fields = {**stored_fields(raw), "output": text, "metadata": inner}
    step = {"id": step_id, **fields}
    owner = {"userId": text, "userIdentifier": text}
    feedback = {"id": text, "forId": step_id, "value": 0, "comment": text, "updatedAt": NOW}
    allowed = OURS | OPERATORS | {encode_field(key) for key in raw}

    statements = [
        updates.thread_update(
            thread_id,
            NOW,
            values={"name": text, "tags": [text], **owner},
            metadata=fields,
            removed_metadata=tuple(stored_fields(raw)),
            owner=owner,
        ),
        updates.step_insert(thread_id, step, NOW, owner=owner, room=ROOM),
        updates.step_insert(thread_id, step, NOW, owner=owner, room=ROOM, feedback=feedback),
        updates.step_overwrite(thread_id, step),
        updates.step_fill(thread_id, step_id, fields),
        updates.steps_delete(thread_id, [step_id, text], NOW),
        updates.feedback_put(thread_id, feedback),
        updates.waiting_feedback_delete(thread_id, [feedback]),
        updates.feedback_wait(thread_id, feedback, room=ROOM),
        updates.feedback_wait_for_thread(thread_id, feedback, NOW),
        updates.placeholder_fill(thread_id, NOW, owner=owner),
        updates.element_insert(thread_id, {**step, "forId": text}, NOW, owner=owner, room=ROOM),
        updates.element_insert(thread_id, step, NOW, owner=owner, room=ROOM),
        updates.element_replace(thread_id, step),
        updates.element_delete(thread_id, text, NOW),
    ]

    for statement in statements:
        parts = set(parts_of_keys([statement.filter, statement.update], (inner,)))
        assert parts <= allowed, parts - allowed
        assert all(operator.startswith("$") for operator in statement.update)
        bson.encode({"q": statement.filter, "u": statement.update})


@given(users_text, users_text, users_text)
def test_no_user_value_stands_in_an_expression(user: str, search: str, thread_id: str) -> None:
    page = queries.thread_page_pipeline(
        user,
        limit=5,
        time_field="updatedAt",
        cursor=Cursor(NOW, thread_id),
        patterns=search_patterns(search) if search else (),
        feedback=0,
    )
    same = queries.thread_page_pipeline(
        "u", limit=5, time_field="updatedAt", cursor=Cursor(NOW, "t"), patterns=["s"], feedback=0
    )
    noticing = queries.thread_page_pipeline(
        user, limit=5, time_field="updatedAt", patterns=[search], feedback=0, join=False
    )
    favorites = queries.favorites_pipeline(user)

    # A filter takes values as they are; what is not one is the same for all.
    if search:
        assert outside_of_filters(page) == outside_of_filters(same)
    assert outside_of_filters(favorites) == outside_of_filters(queries.favorites_pipeline("u"))
    lookup = queries.threads_with_pipeline("steps", search, overflow=True)
    assert outside_of_filters(lookup) == outside_of_filters(
        queries.threads_with_pipeline("steps", "s", overflow=True)
    )
    favorites_without_join = queries.favorites_pipeline(user, join=False)
    for pipeline in (page, noticing, favorites, favorites_without_join, lookup):
        for condition in filters(pipeline):
            assert set(parts_of_keys(condition, ())) <= OURS | OPERATORS
        bson.encode({"p": pipeline})


def filters(part: Any) -> Iterator[dict[str, Any]]:
    """The filters of a pipeline, those of pipelines inside of it included."""
    for key, item in part.items() if isinstance(part, dict) else enumerate(part):
        if key == "$match":
            yield item
        elif isinstance(item, dict | list):
            yield from filters(item)


def outside_of_filters(part: Any) -> Any:
    if isinstance(part, dict):
        return {k: k == "$match" or outside_of_filters(item) for k, item in part.items()}
    return [outside_of_filters(item) for item in part] if isinstance(part, list) else part


def test_the_rules_own_check_sees_a_user_value_in_a_path() -> None:
    bad = Update({"_id": "t"}, {"$set": {"metadata.a.b": 1}})

    assert not set(parts_of_keys([bad.filter, bad.update], ())) <= OURS | OPERATORS


# Pages -----------------------------------------------------------------------------------------


def page(**options: Any) -> list[dict[str, Any]]:
    return queries.thread_page_pipeline("u", limit=3, time_field="updatedAt", **options)


def test_a_page_is_sorted_to_the_last_and_has_no_steps() -> None:
    match, sort, limit, project = page()

    assert match == {"$match": {"userId": "u"}}
    assert list(sort["$sort"].items()) == [("updatedAt", -1), ("_id", -1)]
    assert limit == {"$limit": 3}
    assert not project["$project"].keys() & {"steps", "elements"}


@pytest.mark.parametrize("cursor", [None, Cursor(NOW, "t")])
def test_long_threads_fit_where_they_are_only_noticed(cursor: Cursor | None) -> None:
    looked_for = {"patterns": ["x"], "feedback": 0}
    (alone,) = filters(page(**looked_for, cursor=cursor, overflow=False))
    (noticing,) = filters(page(**looked_for, cursor=cursor, join=False))
    pairs = [(alone, noticing)]
    if cursor is not None:
        pairs = list(zip(alone["$or"], noticing["$or"], strict=True))
    for fits, either in pairs:
        inside = {name: fits[name] for name in ("$or", "steps.feedback.value")}
        outside = {name: of for name, of in fits.items() if name not in inside}
        assert either.pop("$or") == [{"overflow": True}, inside]
        assert either == outside


def test_without_filters_there_is_nothing_to_look_for_in_long_threads() -> None:
    assert page(join=False) == page(overflow=False) == page()


@pytest.mark.parametrize("value", [0, 1])
def test_thumbs_down_is_a_filter_like_thumbs_up(value: int) -> None:
    assert page(feedback=value)[0]["$match"]["steps.feedback.value"] == value


def test_both_branches_of_a_cursor_carry_every_condition() -> None:
    after, before = (
        list(filters(page(cursor=cursor, feedback=0, patterns=["x"])))
        for cursor in (Cursor(NOW, "t"), None)
    )
    for branches, conditions in ((after[0]["$or"], before[0]), (after[1]["$or"], before[1])):
        assert branches == [
            {**conditions, "updatedAt": {"$lt": NOW}},
            {**conditions, "updatedAt": NOW, "_id": {"$lt": "t"}},
        ]


def test_long_threads_are_looked_at_apart() -> None:
    short, long, *_ = filters(page(patterns=["x"]))
    assert short["overflow"] is None
    assert long == {"userId": "u", "overflow": True}
    assert len(list(filters(page()))) == 1
    assert len(list(filters(page(patterns=["x"], overflow=False)))) == 1


def test_an_empty_search_is_none() -> None:
    assert page(patterns=[]) == page()


# Updates ---------------------------------------------------------------------------------------


def test_an_update_with_nothing_to_set_only_makes_the_thread() -> None:
    statement = updates.thread_update("t", NOW, values={}, metadata={})

    assert statement.update == {
        "$setOnInsert": {
            "metadata": {},
            "tags": [],
            "createdAt": NOW,
            "updatedAt": NOW,
            "stepless": True,
            "steps": [],
            "elements": [],
            "bytes": 0,
        }
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"values": {"tags": ["a"]}, "metadata": {}},
        {"values": {}, "metadata": {"a": 1}},
        {"values": {}, "metadata": {}, "removed_metadata": ("a",)},
        {"values": {"userId": "u"}, "metadata": {"a": 1}, "owner": {"userId": "other"}},
    ],
)
def test_no_field_is_named_by_two_operators(changes: dict[str, Any]) -> None:
    update = updates.thread_update("t", NOW, **changes).update

    named = [key.split(".")[0] for fields in update.values() for key in fields]
    assert len(named) == len(set(named))
    assert all(fields for fields in update.values())


def test_writing_metadata_is_no_activity() -> None:
    update = updates.thread_update("t", NOW, values={"name": "n"}, metadata={"a": 1}).update

    assert "updatedAt" not in update["$set"]
    assert "$max" not in update


@pytest.mark.parametrize(
    "statement",
    [
        updates.thread_update("t", NOW, values={}, metadata={}),
        updates.steps_delete("t", ["s"], NOW),
        updates.element_delete("t", "e", NOW),
    ],
)
def test_whatever_could_bring_a_deleted_thread_back_is_guarded(statement: Update) -> None:
    assert statement.filter["deletedAt"] == {"$exists": False}


@pytest.mark.parametrize(
    "statement",
    [
        updates.step_insert("t", {"id": "s"}, NOW, owner={}, room=ROOM),
        updates.feedback_wait("t", {"forId": "s"}, room=ROOM),
        updates.element_insert("t", {"id": "e"}, NOW, owner={}, room=ROOM),
    ],
)
def test_what_needs_room_finds_none_in_a_deleted_thread(statement: Update) -> None:
    """A tombstone counts no bytes, and $lt finds only what is counted."""
    assert statement.filter["bytes"].keys() == {"$lt"}


@pytest.mark.parametrize(
    "statement",
    [
        updates.step_insert("t", {"id": "s"}, NOW, owner={}, room=ROOM),
        updates.feedback_wait("t", {"forId": "s"}, room=ROOM),
        updates.element_insert("t", {"id": "e", "forId": "s"}, NOW, owner={}, room=ROOM),
    ],
)
def test_whatever_could_bring_a_deleted_step_back_is_guarded(statement: Update) -> None:
    assert statement.filter["deletedSteps.id"] == {"$ne": "s"}


def test_what_could_bring_a_deleted_element_back_is_guarded() -> None:
    statement = updates.element_insert("t", {"id": "e"}, NOW, owner={}, room=ROOM)
    assert statement.filter["deletedElements.id"] == {"$ne": "e"}


def test_an_element_for_no_step_asks_for_none() -> None:
    assert (
        "deletedSteps.id"
        not in updates.element_insert("t", {"id": "e"}, NOW, owner={}, room=ROOM).filter
    )


def test_feedback_is_taken_along_only_as_it_was_seen() -> None:
    feedback = {"id": "f", "forId": "s", "value": 1, "updatedAt": NOW}

    statement = updates.step_insert("t", {"id": "s"}, NOW, owner={}, room=ROOM, feedback=feedback)

    assert statement.filter["pendingFeedback"] == {"$elemMatch": feedback}
    assert statement.filter.items() >= ROOM.items()
    assert statement.update["$push"] == {"steps": {"id": "s", "feedback": feedback}}
    assert statement.update["$pull"] == {"pendingFeedback": {"forId": "s"}}
