from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast

import chainlit as cl
import pytest
from bson.int64 import Int64
from bson.objectid import ObjectId
from chainlit.element import CustomElement, Element, Text
from chainlit.step import StepDict
from chainlit.types import Feedback
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import WriteError

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.model.documents import (
    ElementDocument,
    FeedbackDocument,
    StepDocument,
    ThreadDocument,
)
from mongo_datalayer.schema.validators import (
    AS_GIVEN,
    MODELS,
    apply_validators,
    check_validators,
    collection_schema,
    faults,
    find_misfits,
)
from tests.chainlit.order.turn import Turn
from tests.cli.commands import NOBODY, run
from tests.cli.people import put_person, storage_of

Documents = AsyncDatabase[dict[str, Any]]

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone.utc)
ODD: list[Any] = [
    0,
    -(2**70),
    1.5,
    float("nan"),
    True,
    "",
    "$a.b",
    "\ud800",
    (),
    [None, 1, "x"],
    {},
    {"$a.b": {"": [1], 2: 3}, "_id": 1, "id": 2, "$jsonSchema": {}},
    b"bytes",
    {1, 2},
    NOW,
    date(2026, 1, 2),
    timedelta(seconds=1),
    Decimal(1),
    object(),
]


@pytest.fixture
async def guarded(database: Documents) -> MongoDataLayer:
    """A layer on a database that refuses what does not fit."""
    await apply_validators(database, "error")
    return MongoDataLayer(
        client=database.client, database=database.name, storage_client=storage_of(database)
    )


async def misfits(database: Documents) -> list[Any]:
    """The ids of what does not fit; each has a reason."""
    found = [misfit for name in MODELS async for misfit in find_misfits(database, name)]
    assert all(misfit.faults for misfit in found)
    return [misfit.id for misfit in found]


# What the layer writes ------------------------------------------------------------------------


async def test_a_turn_of_a_chat_fits(guarded: MongoDataLayer, database: Documents) -> None:
    user = await guarded.create_user(cl.User(identifier="alice", display_name="Alice"))
    turn = Turn("thread", user.id)

    for call in turn.calls:
        await call.run(guarded)

    assert await guarded.get_thread("thread") is not None
    assert await database.threads.count_documents({"steps.3": {"$exists": True}}) == 1


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
async def test_odd_values_in_every_place_fit(
    guarded: MongoDataLayer, database: Documents, odd: Any
) -> None:
    user = await guarded.create_user(
        cl.User(identifier="bob", display_name=odd, metadata={"odd": odd, "a.b": odd, "": odd})
        if isinstance(odd, str)
        else cl.User(identifier="bob", metadata={"odd": odd})
    )
    fields = {name: odd for name in StepDocument.model_fields if name not in ("id", "feedback")}
    made = cast(StepDict, {**fields, "id": "made", "threadId": "t", "unknown": odd, "$x.y": odd})
    written = cast(StepDict, {**made, "id": "written", "feedback": odd})
    await guarded.update_step(written)
    await guarded.create_step(made)
    await guarded.create_step(written)
    await guarded.update_step(made)
    await guarded.update_thread(
        "t", name=odd, user_id=user.id, tags=[odd], metadata={"odd": odd, "$a.b": odd, "": odd}
    )
    await guarded.set_step_favorite(cast(StepDict, {"id": "made", "threadId": "t"}), True)
    for step_id in ("made", "not there yet"):
        await guarded.upsert_feedback(
            Feedback(forId=step_id, threadId="t", value=0, comment=str(odd))
        )
    for number, element in enumerate(elements(odd)):
        element.id = f"element{number}"
        await guarded.create_element(element)
        await guarded.create_element(element)

    thread = await guarded.get_thread("t")

    assert thread is not None
    assert len(thread["steps"]) == 2
    assert len(thread["elements"] or ()) == 2
    assert await misfits(database) == []


def elements(odd: Any) -> Iterable[Element]:
    text = Text(name="text", content="content", thread_id="t", for_id="made")
    custom = CustomElement(name="chart", thread_id="t", for_id="written", props={"odd": 1})
    for element in (text, custom):
        for name in ("name", "display", "size", "language", "mime", "chainlit_key"):
            setattr(element, name, odd)
    custom.props = {"odd": odd}
    return text, custom


async def test_deletions_tombstones_and_sessions_fit(
    guarded: MongoDataLayer, database: Documents
) -> None:
    for thread_id in await put_person(database, "carol", threads=3):
        await guarded.delete_step(f"{thread_id}/step1")
    await guarded.upsert_feedback(Feedback(forId="late", threadId="carol/0", value=1))
    saved = {"id": "session", "client_type": "webapp", "chat_settings": {"$a.b": 1}}
    await guarded.update_thread("carol/1", metadata=saved)
    saved_session = (await database.threads.find_one({"_id": "carol/1"}) or {})["session"]
    await guarded.delete_user_session("session")
    await guarded.delete_thread("carol/2")
    await guarded.delete_thread("never there")

    assert saved_session["id"] == "session"
    waiting = await database.threads.find_one({"_id": "carol/0"}) or {}
    assert waiting["pendingFeedback"]
    assert waiting["deletedSteps"]
    assert await misfits(database) == []


async def test_a_step_without_any_time_fits(guarded: MongoDataLayer, database: Documents) -> None:
    await guarded.create_step(cast(StepDict, {"id": "s", "threadId": "t"}))

    stored = await database.threads.find_one({"_id": "t"}) or {}

    assert isinstance(stored["steps"][0]["receivedAt"], datetime)


# What the schema says -------------------------------------------------------------------------

FEEDBACK = {"id": "f", "forId": "s", "value": 1, "updatedAt": NOW}
LEGAL: list[dict[str, Any]] = [
    {"_id": "only an id"},
    {"_id": "deleted", "deletedAt": NOW},
    {"_id": "nulls", **dict.fromkeys(set(ThreadDocument.model_fields) - {"id"})},
    {"_id": "unknown", "later": {"$x": 1}, "steps": [{"id": "s", "later": NOW}]},
    {"_id": "steps", "steps": [{**dict.fromkeys(StepDocument.model_fields), "id": "s"}]},
    {"_id": "feedback", "steps": [{"id": "s", "feedback": {**FEEDBACK, "comment": None}}]},
    {"_id": "int64", "steps": [{"id": "s", "feedback": {**FEEDBACK, "value": Int64(0)}}]},
]
ILLEGAL: list[dict[str, Any]] = [
    {"_id": 1},
    {"_id": "name", "name": 1},
    {"_id": "time as text", "updatedAt": "2026-01-02T03:04:05Z"},
    {"_id": "deleted as text", "deletedAt": "yes"},
    {"_id": "steps as map", "steps": {"s": {}}},
    {"_id": "step as text", "steps": ["s"]},
    {"_id": "step without id", "steps": [{"id": "s"}, {"output": "x"}]},
    {"_id": "output", "steps": [{"id": "s", "output": ["x"]}]},
    {"_id": "metadata", "steps": [{"id": "s", "metadata": "x"}]},
    {"_id": "received", "steps": [{"id": "s", "receivedAt": "2026"}]},
    {"_id": "vote", "steps": [{"id": "s", "feedback": {**FEEDBACK, "value": 2}}]},
    {"_id": "vote as text", "steps": [{"id": "s", "feedback": {**FEEDBACK, "value": "1"}}]},
    {"_id": "half feedback", "steps": [{"id": "s", "feedback": {"value": 1}}]},
    {"_id": "waiting", "pendingFeedback": [{"value": 1}]},
    {"_id": "element without id", "elements": [{"name": "x"}]},
    {"_id": "deleted step", "deletedSteps": [{"id": "s"}]},
    {"_id": "session", "session": {"id": "s", "keys": [1]}},
]


@pytest.mark.parametrize("document", LEGAL, ids=lambda document: str(document["_id"]))
async def test_a_document_the_package_can_read_is_let_in(
    database: Documents, document: dict[str, Any]
) -> None:
    await apply_validators(database, "error")

    await database.threads.insert_one(document)

    assert await misfits(database) == []


def test_why_a_document_does_not_fit() -> None:
    document = {
        "_id": ObjectId(),
        "name": 2**40,
        "updatedAt": "yesterday",
        "steps": [{"id": "s"}, {"output": True, "feedback": {**FEEDBACK, "value": 2}}],
        "elements": {},
    }

    assert set(faults(collection_schema("threads"), document)) == {
        "_id: ObjectId instead of string",
        "name: long instead of string or null",
        "updatedAt: string instead of date or null",
        "steps.1.id: missing",
        "steps.1.output: bool instead of string or object or null",
        "steps.1.feedback.value: 2 instead of 0 or 1",
        "elements: object instead of array or null",
    }


@pytest.mark.parametrize("document", LEGAL, ids=lambda document: str(document["_id"]))
def test_there_is_no_fault_in_what_fits(document: dict[str, Any]) -> None:
    assert list(faults(collection_schema("threads"), document)) == []


@pytest.mark.parametrize("document", ILLEGAL, ids=lambda document: str(document["_id"]))
async def test_a_document_of_another_shape_is_refused_and_found(
    database: Documents, document: dict[str, Any]
) -> None:
    await database.threads.insert_one(document)

    assert await misfits(database) == [document["_id"]]

    await apply_validators(database, "error")
    with pytest.raises(WriteError, match="failed validation"):
        await database.threads.insert_one(
            {**document, "_id": "again" if document["_id"] != 1 else 2}
        )


@pytest.mark.parametrize("name", ["_id", "identifier", "metadata", "createdAt"])
async def test_a_user_without_what_every_user_has_does_not_fit(
    database: Documents, name: str
) -> None:
    user = {"_id": "u", "identifier": "alice", "metadata": {}, "createdAt": NOW}
    await database.users.insert_one({**user, "_id": "whole"})
    del user[name]
    await database.users.insert_one(user)

    found = await misfits(database)

    assert found == [user["_id"]]  # where _id was missing, the driver made an ObjectId


def test_fields_that_keep_what_was_given_are_fields() -> None:
    for model, names in AS_GIVEN.items():
        assert names <= set(model.model_fields)
    kept = AS_GIVEN[StepDocument] | AS_GIVEN[ElementDocument]
    assert not kept & {"id", "feedback", "metadata"}
    assert FeedbackDocument not in AS_GIVEN


def test_dates_are_dates_and_the_schema_names_its_maker() -> None:
    schema = collection_schema("threads")

    assert schema["title"] == "mongo_datalayer: threads"
    assert schema["properties"]["deletedAt"] == {"bsonType": ["date", "null"]}
    assert schema["required"] == ["_id"]


# The command ----------------------------------------------------------------------------------


async def test_check_lists_what_does_not_fit(where: tuple[str, ...], database: Documents) -> None:
    await put_person(database, "alice", threads=2)
    fitting = await run("schema", "check", *where)
    await database.threads.insert_many({"_id": f"bad{n}", "name": n} for n in range(3))
    listed = await run("schema", "check", *where)
    cut = await run("schema", "check", "--limit", "2", *where)
    as_json = await run("schema", "check", "--json", *where)

    assert (fitting.code, fitting.err) == (0, "")
    assert fitting.out.count("validator  missing  every document fits") == len(MODELS)
    assert (listed.code, listed.err) == (1, "")
    shown = listed.out.splitlines()
    begin = next(n for n, line in enumerate(shown) if line.startswith("threads "))
    assert shown[begin].split("  ")[-1] == "3 do not fit"
    assert shown[begin + 1 : begin + 4] == [
        "  bad0  name: int instead of string or null",
        "  bad1  name: int instead of string or null",
        "  bad2  name: int instead of string or null",
    ]
    assert "more than 2 do not fit" in cut.out
    assert "bad2" not in cut.out
    assert as_json.code == 1
    why = ["name: int instead of string or null"]
    assert json.loads(as_json.out)["threads"] == {
        "validator": "missing",
        "action": None,
        "misfits": {"bad0": why, "bad1": why, "bad2": why},
        "more": False,
    }


async def test_apply_warns_first_then_refuses_and_repeats_safely(
    where: tuple[str, ...], database: Documents
) -> None:
    dry = await run("schema", "apply", "--dry-run", *where)
    made_by_dry_run = await database.list_collection_names()
    warned = await run("schema", "apply", *where)
    await database.threads.insert_one({"_id": "bad", "name": 1})
    refusing = await run("schema", "apply", "--action", "error", *where)
    again = await run("schema", "apply", "--action", "error", *where)
    dry_again = await run("schema", "apply", "--action", "error", "--dry-run", *where)

    assert (dry.code, dry.out.count("would be set (warn)")) == (0, len(MODELS))
    assert made_by_dry_run == []
    assert (warned.code, warned.out.count("validator  set  (warn)")) == (0, len(MODELS))
    assert (refusing.code, refusing.out.count("validator  set  (error)")) == (0, len(MODELS))
    assert (again.code, again.out.count("validator  present  (error)")) == (0, len(MODELS))
    assert dry_again.out == again.out
    with pytest.raises(WriteError, match="failed validation"):
        await database.threads.insert_one({"_id": "worse", "name": 1})
    # What did not fit before can be changed: an app must not stop over an old document.
    await database.threads.update_one({"_id": "bad"}, {"$set": {"tags": ["x"]}})


async def test_a_validator_of_somebody_else_is_left_alone(
    where: tuple[str, ...], database: Documents
) -> None:
    theirs = {"createdAt": {"$type": "date"}}
    await database.create_collection("threads", validator=theirs)

    left = await run("schema", "apply", *where)
    options = await database.threads.options()
    checked = await run("schema", "check", *where)
    replaced = await run("schema", "apply", "--replace", "--yes", *where)

    assert left.code == 1
    assert re.search(r"^threads +validator  foreign  \(error\)", left.out, re.MULTILINE)
    assert "--replace" in left.err
    assert options["validator"] == theirs
    assert checked.code == 1
    assert replaced.code == 0
    assert {v.state for v in await check_validators(database)} == {"present"}


async def test_the_validator_of_another_version_is_replaced(
    where: tuple[str, ...], database: Documents
) -> None:
    older = {"title": "mongo_datalayer: users", "required": ["_id", "name"]}
    await database.create_collection("users", validator={"$jsonSchema": older})

    before = await run("schema", "check", *where)
    applied = await run("schema", "apply", *where)

    assert before.code == 1
    assert re.search(r"^users +validator  outdated  \(error\)", before.out, re.MULTILINE)
    assert applied.code == 0
    assert {v.state for v in await check_validators(database)} == {"present"}


@pytest.mark.parametrize("command", ["check", "apply"])
async def test_a_server_that_does_not_answer(command: str) -> None:
    done = await run("schema", command, "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()
