from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer, views
from mongo_datalayer.cli import main
from mongo_datalayer.codec import read_thread
from mongo_datalayer.documents import ThreadDocument
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.views import (
    CONVERSATIONS,
    HEADER,
    INTERNAL,
    apply_view,
    check_view,
    conversations_pipeline,
)
from tests.cli.commands import NOBODY, run
from tests.cli.people import put_person, storage_of

Documents = AsyncDatabase[dict[str, Any]]

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, timezone.utc)
THEIRS: dict[str, Any] = {"viewOn": "users", "pipeline": [{"$match": {"theirs": True}}]}
OLDER: dict[str, Any] = {
    "viewOn": "threads",
    "pipeline": [{"$match": {"$comment": "mongo_datalayer: conversations"}}],
}


@pytest.fixture
def where(mongo_uri: str, database_name: str) -> tuple[str, ...]:
    return ("--uri", mongo_uri, "--database", database_name)


async def definition(database: Documents) -> dict[str, Any]:
    (listed,) = await (await database.list_collections(filter={"name": CONVERSATIONS})).to_list()
    return {name: listed["options"].get(name) for name in ("viewOn", "pipeline")}


# What the view shows --------------------------------------------------------------------------


async def test_a_thread_is_shown_whole_without_what_only_the_layer_needs(
    database: Documents,
) -> None:
    every = dict.fromkeys(set(ThreadDocument.model_fields) - {"id", "deletedAt"}, NOW)
    step = {"id": "s", "output": "x", "metadata": {"$a": 1}, "feedback": {"id": "f", "value": 0}}
    element = {"id": "e", "objectKey": "t/e"}
    thread = {**every, "_id": "t", "steps": [step], "elements": [element], "tags": [], "name": "$n"}
    await database.threads.insert_one(thread)
    await apply_view(database)

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
    await apply_view(database)

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
    await apply_view(database)
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
    await apply_view(database)

    shown = await database[CONVERSATIONS].find().sort("_id").to_list()

    empty: dict[str, Any] = {"steps": [], "elements": []}
    assert shown == [{"_id": "bare", **empty}, {"_id": "odd", **empty}]


# The command ----------------------------------------------------------------------------------


async def test_apply_makes_the_view_and_repeats_safely(
    where: tuple[str, ...], database: Documents
) -> None:
    missing = await run("views", "check", *where)
    dry = await run("views", "apply", "--dry-run", *where)
    made_by_dry_run = await database.list_collection_names()
    made = await run("views", "apply", *where)
    again = await run("views", "apply", *where)
    dry_again = await run("views", "apply", "--dry-run", *where)
    checked = await run("views", "check", *where)

    assert (missing.code, missing.out) == (1, "conversations  missing\n")
    assert missing.err == "Run `mongo-datalayer views apply`.\n"
    assert (dry.code, dry.out) == (0, "conversations  missing  would be set\n")
    assert made_by_dry_run == []
    assert (made.code, made.out, made.err) == (0, "conversations  set\n", "")
    present = (0, "conversations  present  as this version declares it\n", "")
    assert (again.code, again.out, again.err) == present
    assert (dry_again.code, dry_again.out, dry_again.err) == present
    assert (checked.code, checked.out, checked.err) == present
    declared = {"viewOn": "threads", "pipeline": conversations_pipeline()}
    assert await definition(database) == declared


async def test_the_view_of_another_version_is_changed(
    where: tuple[str, ...], database: Documents
) -> None:
    await database.create_collection(CONVERSATIONS, **OLDER)

    before = await run("views", "check", *where)
    dry = await run("views", "apply", "--dry-run", *where)
    untouched = await definition(database)
    applied = await run("views", "apply", *where)

    assert before.code == 1
    assert before.out.startswith("conversations  outdated")
    assert (dry.code, dry.out.rstrip()[-12:]) == (0, "would be set")
    assert untouched == OLDER
    assert (applied.code, applied.out) == (0, "conversations  set\n")
    assert await check_view(database) == "present"


@pytest.mark.parametrize("theirs", [THEIRS, {**THEIRS, "pipeline": []}], ids=["match", "empty"])
async def test_a_view_of_somebody_else_is_left_alone_unless_asked_for(
    where: tuple[str, ...], database: Documents, theirs: dict[str, Any]
) -> None:
    await database.create_collection(CONVERSATIONS, **theirs)

    left = await run("views", "apply", *where)
    dry = await run("views", "apply", "--dry-run", "--replace", *where)
    untouched = await definition(database)
    checked = await run("views", "check", *where)
    replaced = await run("views", "apply", "--replace", *where)

    for done in (left, checked):
        assert done.code == 1
        assert done.out.startswith("conversations  foreign")
        assert done.err == "Run `mongo-datalayer views apply --replace`.\n"
    assert (dry.code, dry.err) == (0, "")
    assert dry.out.endswith("would be set\n")
    assert untouched == theirs
    assert (replaced.code, replaced.out) == (0, "conversations  set\n")
    assert await check_view(database) == "present"


async def test_a_collection_of_that_name_is_never_touched(
    where: tuple[str, ...], database: Documents
) -> None:
    await database[CONVERSATIONS].insert_one({"_id": "theirs"})

    for options in ((), ("--replace",), ("--dry-run", "--replace")):
        done = await run("views", "apply", *options, *where)
        assert done.code == 1
        assert done.out.startswith("conversations  collection")
        assert "Rename the collection conversations" in done.err
    assert await database[CONVERSATIONS].find().to_list() == [{"_id": "theirs"}]


async def test_an_older_server_is_told_and_nothing_is_made(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LEAST_SERVER", (99, 1))

    with pytest.raises(MongoDataLayerError, match=r"needs MongoDB 99\.1 or newer.* is MongoDB 6"):
        await apply_view(database)

    assert await database.list_collection_names() == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["apply", "dry run"])
def test_the_command_on_an_older_server_ends_with_one_line(
    where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(views, "LEAST_SERVER", (99, 1))

    done = CliRunner().invoke(main, ["views", "apply", *options, *where])

    assert done.exit_code == 2
    assert done.output.startswith("Error: The view conversations needs MongoDB 99.1 or newer")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "apply"])
async def test_a_server_that_does_not_answer(command: str) -> None:
    done = await run("views", command, "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()
