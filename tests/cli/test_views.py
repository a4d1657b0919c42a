from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit.codec import read_thread
from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.cli import main
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.model.documents import ThreadDocument
from mongo_datalayer.schema import views
from mongo_datalayer.schema.indexes import apply_indexes
from mongo_datalayer.schema.views import (
    CONVERSATIONS,
    HEADER,
    INTERNAL,
    STEPS,
    VIEWS,
    apply_views,
    check_views,
)
from tests.cli.commands import NOBODY, run
from tests.cli.people import LARGE, put_long_thread, put_person, storage_of

Documents = AsyncDatabase[dict[str, Any]]

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, timezone.utc)
THEIRS: dict[str, Any] = {"viewOn": "users", "pipeline": [{"$match": {"theirs": True}}]}
OLDER: dict[str, Any] = {
    "viewOn": "threads",
    "pipeline": [{"$match": {"$comment": "mongo_datalayer: conversations"}}],
}


async def definition(database: Documents, view: str = CONVERSATIONS) -> dict[str, Any]:
    (listed,) = await (await database.list_collections(filter={"name": view})).to_list()
    return {name: listed["options"].get(name) for name in ("viewOn", "pipeline")}


def lines(**states: str) -> str:
    """What is printed of the views."""
    width = max(map(len, VIEWS))
    return "".join(f"{name:<{width}}  {states[name]}\n" for name in VIEWS)


PRESENT = "present  as this version declares it"


# What the view shows --------------------------------------------------------------------------


async def test_a_thread_is_shown_whole_without_what_only_the_layer_needs(
    database: Documents,
) -> None:
    fields = set(ThreadDocument.model_fields) - {"id", "deletedAt", "overflowIds"}
    every = dict.fromkeys(fields, NOW)
    step = {"id": "s", "output": "x", "metadata": {"$a": 1}, "feedback": {"id": "f", "value": 0}}
    element = {"id": "e", "objectKey": "t/e"}
    thread = {**every, "_id": "t", "steps": [step], "elements": [element], "tags": [], "name": "$n"}
    await database.threads.insert_one(thread)
    await apply_views(database)

    shown = await database[CONVERSATIONS].find_one({"_id": "t"})

    assert shown is not None
    assert list(shown) == ["_id", *HEADER, "steps", "elements"]
    assert shown == {name: thread[name] for name in shown}


def test_every_field_of_a_thread_is_shown_or_internal() -> None:
    fields = {field.alias or name for name, field in ThreadDocument.model_fields.items()}

    assert fields == {"_id", *HEADER, "steps", "elements"} | INTERNAL


async def test_the_steps_are_in_the_order_in_which_the_layer_reads_them(
    database: Documents,
) -> None:
    times: dict[str, dict[str, Any]] = {
        "next microsecond": {"createdAt": "2026-01-02T03:04:05.467742Z"},
        "microsecond": {"createdAt": "2026-01-02T03:04:05.467741Z"},
        "twin 1": {"createdAt": "2026-01-02T03:05:00Z"},
        "twin 2": {"createdAt": "2026-01-02T03:05:00Z"},
        "second": {"createdAt": "2026-01-02T03:04:05Z"},
        "without a zone": {"createdAt": "2026-01-02T03:04:05.5"},
        "in another zone": {"createdAt": "2026-01-02T05:04:05.6+02:00"},
        "received": {"receivedAt": NOW},
        "started": {"start": "2026-01-02T03:04:05.7Z"},
        "no time": {"createdAt": "yesterday"},
        "no text": {"createdAt": [1]},
        "nothing": {},
    }
    steps = [{"id": name, **fields} for name, fields in times.items()]
    await database.threads.insert_one({"_id": "t", "steps": steps})
    await apply_views(database)

    shown = await database[CONVERSATIONS].find_one({"_id": "t"})

    assert shown is not None
    order = [step["id"] for step in shown["steps"]]
    timeless = {"no time", "no text", "nothing"}
    assert set(order[:3]) == timeless
    assert order[3:] == [
        "second",
        "microsecond",
        "next microsecond",
        "without a zone",
        "in another zone",
        "received",
        "started",
        "twin 1",
        "twin 2",
    ]
    read = [step["id"] for step in read_thread({"_id": "t", "steps": steps})["steps"]]
    assert [name for name in read if name not in timeless] == order[3:]
    assert sorted(shown["steps"], key=lambda step: list(times).index(step["id"])) == steps


async def test_deleted_threads_are_left_out(database: Documents) -> None:
    await put_person(database, "alice", threads=3)
    await apply_views(database)
    layer = MongoDataLayer(
        client=database.client, database=database.name, storage_client=storage_of(database)
    )

    await layer.delete_thread("alice/1")

    shown = await database[CONVERSATIONS].find({}, {"_id": 1}).to_list()
    assert {thread["_id"] for thread in shown} == {"alice/0", "alice/2"}
    assert await database.threads.count_documents({}) == 3


@pytest.mark.parametrize("steps", [None, "no steps", {}])
async def test_a_thread_with_odd_steps_spoils_no_other_one(database: Documents, steps: Any) -> None:
    await database.threads.insert_many([{"_id": "odd", "steps": steps}, {"_id": "bare"}])
    await apply_views(database)

    shown = await database[CONVERSATIONS].find().sort("_id").to_list()

    empty: dict[str, Any] = {"steps": [], "elements": []}
    assert shown == [{"_id": "bare", **empty}, {"_id": "odd", **empty}]


# Long threads ---------------------------------------------------------------------------------


async def test_a_long_thread_is_shown_whole_and_in_order(database: Documents) -> None:
    await put_long_thread(database, "t", steps=12)
    await put_long_thread(database, "other")
    read = await Threads(database).documents.get("t")
    # What a killed move leaves, and a killed deletion.
    part = await database.thread_overflow.find_one({"thread": "t", "steps.id": "t/step2"})
    assert part is not None
    await database.thread_overflow.insert_one({**part, "_id": "nobody lists it"})
    await database.threads.update_one(
        {"_id": "t"}, {"$push": {"deletedSteps": {"id": "t/step3", "at": NOW}}}
    )
    await apply_views(database)

    shown = await database[CONVERSATIONS].find_one({"_id": "t"})

    assert shown is not None
    assert read is not None
    assert list(shown) == ["_id", "name", *HEADER[1:], "steps", "elements"]
    expected = [step for step in read["steps"] if step["id"] != "t/step3"]
    assert [step["id"] for step in shown["steps"]] == [step["id"] for step in expected]
    value = shown["steps"][1].pop("output")
    assert value.keys() == {"gridfs", "bytes", "encoding", "preview"}
    assert LARGE.startswith(value["preview"])
    assert value["bytes"] == len(LARGE)
    assert expected[1].pop("output") == LARGE
    assert shown["steps"] == expected
    assert shown["elements"] == read["elements"]


async def test_each_step_is_shown_by_itself(database: Documents) -> None:
    user_id = await put_long_thread(database, "t", steps=12)
    await put_person(database, "bob", threads=1)
    part = await database.thread_overflow.find_one({"thread": "t", "steps.id": "t/step2"})
    assert part is not None
    await database.thread_overflow.insert_one({**part, "_id": "nobody lists it"})
    await database.threads.update_one(
        {"_id": "t"}, {"$push": {"deletedSteps": {"id": "t/step3", "at": NOW}}}
    )
    await apply_views(database)
    order = {"at": 1, "step.createdAt": 1, "arrival": 1}

    shown = await database[STEPS].find({"thread": "t"}).sort(order).to_list()

    assert [row["step"]["id"] for row in shown] == [f"t/step{n}" for n in range(12) if n != 3]
    header = {"thread": "t", "threadName": "long t", "userId": user_id, "userIdentifier": "alice"}
    at = datetime(2026, 1, 2, 3, 4, 0, 123000, timezone.utc)
    assert {**shown[0], "step": None, "arrival": None} == {
        **header,
        "at": at,
        "arrival": None,
        "step": None,
    }
    assert shown[0]["step"]["feedback"]["value"] == 1
    assert [row["arrival"] for row in shown] == sorted({row["arrival"] for row in shown})
    assert await database[STEPS].count_documents({"userIdentifier": "bob"}) == 2


@pytest.mark.parametrize("steps", [None, "no steps", {}, []])
async def test_a_thread_without_steps_shows_none(database: Documents, steps: Any) -> None:
    await database.threads.insert_one({"_id": "odd", "steps": steps})
    await database.threads.insert_one({"_id": "deleted", "deletedAt": NOW})
    await apply_views(database)

    assert await database[STEPS].find().to_list() == []


async def put_parts(database: Documents, thread_id: str, megabytes: int) -> int:
    """A thread with so many megabytes in its parts; how many steps it has."""
    parts = []
    text = "x" * 250_000
    for number in range(megabytes):
        ids = [f"{thread_id}/{number}/{n}" for n in range(4)]
        steps = [{"id": step_id, "output": text} for step_id in ids]
        parts.append(f"{thread_id} part {number:03}")
        await database.thread_overflow.insert_one(
            {"_id": parts[-1], "thread": thread_id, "steps": steps}
        )
    head = {"_id": thread_id, "name": thread_id, "overflowIds": parts, "overflow": True}
    await database.threads.insert_one({**head, "steps": [{"id": f"{thread_id}/new"}]})
    return 4 * megabytes + 1


async def test_a_thread_beyond_one_document_spoils_no_other_one(database: Documents) -> None:
    """14 MB can be shown whole, 17 MB cannot: MongoDB's documents end at 16 MB."""
    fits = await put_parts(database, "fits", 14)
    too_long = await put_parts(database, "too long", 17)
    await apply_views(database)

    shown = await database[CONVERSATIONS].find().sort("_id").to_list()
    counted = await database[STEPS].count_documents({"thread": "too long"})
    steps = database[STEPS].find({"thread": "too long"}, {"step.id": 1}).sort({"arrival": 1})
    ids = [row["step"]["id"] async for row in steps]

    assert [len(thread["steps"]) for thread in shown] == [fits, 1]
    assert "incomplete" not in shown[0]
    assert shown[1]["steps"] == [{"id": "too long/new"}]
    assert shown[1]["incomplete"]["steps"] == too_long
    assert 17_000_000 < shown[1]["incomplete"]["bytes"] < 17_500_000
    assert STEPS in shown[1]["incomplete"]["note"]
    assert counted == len(set(ids)) == too_long
    assert (ids[0], ids[-1]) == ("too long/0/0", "too long/new")


@pytest.mark.parametrize(
    ("view", "condition", "index"),
    [
        (CONVERSATIONS, {"_id": "t"}, "_id_"),
        (CONVERSATIONS, {"userId": "u"}, "user_activity"),
        (STEPS, {"thread": "t"}, "_id_"),
        (STEPS, {"userId": "u"}, "user_activity"),
    ],
)
async def test_conditions_on_the_thread_use_its_indexes(
    database: Documents, view: str, condition: dict[str, Any], index: str
) -> None:
    await apply_indexes(database)
    await apply_views(database)

    plan = await database.command("explain", {"find": view, "filter": condition})

    assert f"'indexName': '{index}'" in str(plan["stages"][0]["$cursor"]["queryPlanner"])


# The command ----------------------------------------------------------------------------------


async def test_apply_makes_the_views_and_repeats_safely(
    where: tuple[str, ...], database: Documents
) -> None:
    missing = await run("views", "check", *where)
    dry = await run("views", "apply", "--dry-run", *where)
    made_by_dry_run = await database.list_collection_names()
    made = await run("views", "apply", *where)
    again = await run("views", "apply", *where)
    dry_again = await run("views", "apply", "--dry-run", *where)
    checked = await run("views", "check", *where)

    assert (missing.code, missing.out) == (1, lines(**dict.fromkeys(VIEWS, "missing")))
    assert missing.err.endswith("Run `mongo-datalayer views apply`.\n")
    would = lines(**dict.fromkeys(VIEWS, "missing  would be created"))
    assert (dry.code, dry.out) == (0, would)
    assert made_by_dry_run == []
    set_now = lines(**dict.fromkeys(VIEWS, "set"))
    assert (made.code, made.out, made.err) == (0, set_now, "")
    present = (0, lines(**dict.fromkeys(VIEWS, PRESENT)), "")
    assert (again.code, again.out, again.err) == present
    assert (dry_again.code, dry_again.out, dry_again.err) == present
    assert (checked.code, checked.out, checked.err) == present
    for name, pipeline in VIEWS.items():
        assert await definition(database, name) == {"viewOn": "threads", "pipeline": pipeline()}


async def test_check_prints_json(where: tuple[str, ...], database: Documents) -> None:
    await database.create_collection(CONVERSATIONS, **THEIRS)

    before = await run("views", "check", "--json", *where)
    await run("views", "apply", "--replace", "--yes", *where)
    after = await run("views", "check", "--json", *where)

    assert (before.code, json.loads(before.out)) == (
        1,
        {CONVERSATIONS: "foreign", STEPS: "missing"},
    )
    assert (after.code, json.loads(after.out)) == (0, dict.fromkeys(VIEWS, "present"))


async def test_the_view_of_another_version_is_changed(
    where: tuple[str, ...], database: Documents
) -> None:
    await apply_views(database)
    await database.drop_collection(CONVERSATIONS)
    await database.create_collection(CONVERSATIONS, **OLDER)

    before = await run("views", "check", *where)
    dry = await run("views", "apply", "--dry-run", *where)
    untouched = await definition(database)
    applied = await run("views", "apply", *where)

    assert before.code == 1
    assert before.out.startswith("conversations       outdated")
    assert (dry.code, dry.out.count("would be replaced")) == (0, 1)
    assert untouched == OLDER
    after = lines(conversations="set", conversation_steps=PRESENT)
    assert (applied.code, applied.out) == (0, after)
    assert {view.state for view in await check_views(database)} == {"present"}


@pytest.mark.parametrize("theirs", [THEIRS, {**THEIRS, "pipeline": []}], ids=["match", "empty"])
async def test_a_view_of_somebody_else_is_left_alone_unless_asked_for(
    where: tuple[str, ...], database: Documents, theirs: dict[str, Any]
) -> None:
    await apply_views(database)
    await database.drop_collection(CONVERSATIONS)
    await database.create_collection(CONVERSATIONS, **theirs)

    left = await run("views", "apply", *where)
    dry = await run("views", "apply", "--dry-run", "--replace", *where)
    untouched = await definition(database)
    checked = await run("views", "check", *where)
    replaced = await run("views", "apply", "--replace", "--yes", *where)

    for done in (left, checked):
        assert done.code == 1
        assert done.out.startswith("conversations       foreign")
        assert done.err == "Run `mongo-datalayer views apply --replace`.\n"
    assert (dry.code, dry.err) == (0, "")
    assert dry.out.count("would be replaced\n") == 1
    assert untouched == theirs
    after = lines(conversations="set", conversation_steps=PRESENT)
    assert (replaced.code, replaced.out) == (0, after)
    assert {view.state for view in await check_views(database)} == {"present"}


async def test_a_collection_of_that_name_is_never_touched(
    where: tuple[str, ...], database: Documents
) -> None:
    await database[CONVERSATIONS].insert_one({"_id": "theirs"})

    for options in ((), ("--replace", "--yes"), ("--dry-run", "--replace")):
        done = await run("views", "apply", *options, *where)
        assert done.code == 1
        assert done.out.startswith("conversations       collection")
        assert "Rename the collection conversations" in done.err
    assert await database[CONVERSATIONS].find().to_list() == [{"_id": "theirs"}]


async def test_an_older_server_is_told_and_nothing_is_made(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_PROBE", {"$match": {"$expr": {"$unheardOf": 1}}})

    with pytest.raises(MongoDataLayerError, match=r"needs MongoDB 5\.2 or newer.* cannot"):
        await apply_views(database)

    assert await database.list_collection_names() == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["apply", "dry run"])
def test_the_command_on_an_older_server_ends_with_one_line(
    where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(views, "_PROBE", {"$match": {"$expr": {"$unheardOf": 1}}})

    done = CliRunner().invoke(main, ["views", "apply", *options, *where])

    assert done.exit_code == 2
    assert done.output.startswith("Error: The view conversations needs MongoDB 5.2 or newer")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "apply"])
async def test_a_server_that_does_not_answer(command: str) -> None:
    done = await run("views", command, "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()
