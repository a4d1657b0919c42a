from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.cli import main
from mongo_datalayer.schema import views
from mongo_datalayer.schema.indexes import DECLARED, declared_indexes
from mongo_datalayer.schema.validators import MODELS, apply_validators, check_validators
from mongo_datalayer.schema.views import VIEWS, apply_views, check_views
from tests.cli.commands import NOBODY, Done, run

Documents = AsyncDatabase[dict[str, Any]]

INDEXES = [str(index) for index in DECLARED]
THEIRS = {"createdAt": {"$type": "date"}}


def states(done: Done) -> dict[str, dict[str, str]]:
    """The states that are printed, by kind and name."""
    found: dict[str, dict[str, str]] = {}
    for line in done.out.splitlines():
        kind, *rest = line.split(maxsplit=2)
        if kind in ("indexes", "validators", "views"):
            found.setdefault(kind, {})[rest[0]] = rest[1].split("  (")[0]
    return found


def records(done: Done) -> dict[str, dict[str, str]]:
    """The states in the JSON, by kind and name."""
    found: dict[str, dict[str, str]] = {}
    for record in json.loads(done.out):
        if record["kind"] == "version":  # has tests of its own
            continue
        found.setdefault(record["kind"], {})[record["name"]] = record["state"]
    return found


def changed(done: Done) -> set[str]:
    return {record["name"] for record in json.loads(done.out) if record["changed"]}


def all_of(state: str, **kinds: Any) -> dict[str, dict[str, str]]:
    return {kind: dict.fromkeys(map(str, names), state) for kind, names in kinds.items()}


async def stored(database: Documents) -> dict[str, Any]:
    """Everything of the database that the command could change."""
    listed = await (await database.list_collections()).to_list()
    names = [entry["name"] for entry in listed if entry["type"] == "collection"]
    indexes = {name: await database[name].index_information() for name in names}
    return {"collections": sorted(listed, key=lambda e: str(e["name"])), "indexes": indexes}


async def test_a_new_database_gets_the_indexes(where: tuple[str, ...], database: Documents) -> None:
    missing = await run("setup", "check", *where)
    untouched = await database.list_collection_names()
    made = await run("setup", "apply", *where)
    checked = await run("setup", "check", *where)
    again = await run("setup", "apply", *where)

    assert (missing.code, states(missing)) == (1, all_of("missing", indexes=INDEXES))
    assert missing.err.endswith("Run `mongo-datalayer setup apply`.\n")
    assert untouched == []
    assert (made.code, made.err) == (0, "")
    assert states(made) == all_of("created", indexes=INDEXES)
    assert made.out.count("created  (0.") == len(INDEXES)
    assert made.out.endswith(f"\n{len(INDEXES)} created, 1 set.\n")
    for done in (checked, again):
        assert (done.code, done.err) == (0, "")
        assert states(done) == all_of("present", indexes=INDEXES)
    listed = {n for c in (await stored(database))["indexes"].values() for n in c} - {"_id_"}
    assert listed == {index.name for index in DECLARED}


async def test_validators_and_views_are_made_when_asked_for(
    where: tuple[str, ...], database: Documents
) -> None:
    only = ("--only", "validators", "--only", "views")
    missing = await run("setup", "check", *only, *where)
    made = await run("setup", "apply", *only, *where)
    checked = await run("setup", "check", *only, *where)
    whole = await run("setup", "check", *where)

    assert missing.code == 1
    assert states(missing) == all_of("missing", validators=MODELS, views=VIEWS)
    assert missing.err.endswith(
        "Run `mongo-datalayer setup apply --only validators --only views`.\n"
    )
    assert (made.code, states(made)) == (0, all_of("set", validators=MODELS, views=VIEWS))
    assert (checked.code, states(checked)) == (
        0,
        all_of("present", validators=MODELS, views=VIEWS),
    )
    assert {v.action for v in await check_validators(database)} == {"warn"}
    # From now on they are in use.
    assert whole.code == 1
    assert states(whole) == all_of("missing", indexes=INDEXES) | states(checked)


async def test_what_is_in_use_is_kept_up_to_date(
    where: tuple[str, ...], database: Documents
) -> None:
    await apply_validators(database, "error")
    await apply_views(database)
    older = {"$jsonSchema": {"title": "mongo_datalayer: threads", "required": ["later"]}}
    await database.command({"collMod": "threads", "validator": older})
    await database.command({"collMod": "users", "validator": {}})
    await database.drop_collection("conversation_steps")

    before = await run("setup", "check", *where)
    made = await run("setup", "apply", *where)

    assert before.code == 1
    assert states(before)["validators"]["threads"] == "outdated"
    assert states(before)["views"]["conversation_steps"] == "missing"
    assert made.code == 0
    assert states(made)["validators"] == all_of("present", v=MODELS)["v"] | {
        "threads": "set",
        "users": "set",
    }
    assert {view.state for view in await check_views(database)} == {"present"}
    actions = {v.collection: (v.state, v.action) for v in await check_validators(database)}
    assert actions == dict.fromkeys(MODELS, ("present", "error")) | {"users": ("present", "warn")}


@pytest.mark.parametrize("options", [(), ("--replace",), ("--json",)], ids=str)
async def test_a_dry_run_changes_nothing(
    where: tuple[str, ...], database: Documents, options: tuple[str, ...]
) -> None:
    await database.users.create_index("identifier", name="identifier")
    await database.create_collection("threads", validator=THEIRS)
    before = await stored(database)
    only = ("--only", "indexes", "--only", "validators", "--only", "views")

    dry = await run("setup", "apply", "--dry-run", *only, *options, *where)

    assert await stored(database) == before
    assert dry.code == (0 if "--replace" in options else 1)
    wanted = {*INDEXES, *MODELS, *VIEWS}
    if "--replace" not in options:
        wanted -= {"users.identifier", "threads"}
        assert "--replace" in dry.err
    if "--json" in options:
        assert changed(dry) == wanted
        assert records(dry)["indexes"]["users.identifier"] == "different"
    else:
        assert "Created" not in dry.out
        ends = ("  would be created", "  would be replaced")
        would = [line for line in dry.out.splitlines() if line.endswith(ends)]
        assert {line.split()[1] for line in would} == wanted
        replaced = {line.split()[1] for line in would if line.endswith(ends[1])}
        assert replaced == wanted & {"users.identifier", "threads"}


async def test_what_others_made_is_left_alone_unless_asked_for(
    where: tuple[str, ...], database: Documents
) -> None:
    await database.create_collection("threads", validator=THEIRS)
    await database.users.create_index("identifier", name="identifier")
    only = ("--only", "indexes", "--only", "validators")

    unasked = await run("setup", "apply", *where)
    left = await run("setup", "apply", *only, *where)
    options = await database.threads.options()
    checked = await run("setup", "check", *only, *where)
    replaced = await run("setup", "apply", "--replace", "--yes", *only, *where)

    assert "validators" not in states(unasked)
    for done in (unasked, left, checked):
        assert done.code == 1
        assert states(done)["indexes"]["users.identifier"] == "different"
    for done in (left, checked):
        assert states(done)["validators"]["threads"] == "foreign"
        assert done.err == (
            "Run `mongo-datalayer setup apply --only indexes --only validators --replace` to "
            "replace what differs or was made by someone else.\n"
        )
    assert options["validator"] == THEIRS
    assert (replaced.code, replaced.err) == (0, "")
    assert (await database.users.index_information())["identifier"]["unique"] is True
    assert {v.state for v in await check_validators(database)} == {"present"}


async def test_a_collection_in_the_place_of_a_view_is_never_touched(
    where: tuple[str, ...], database: Documents
) -> None:
    await database.conversations.insert_one({"_id": "theirs"})

    done = await run("setup", "apply", "--only", "views", "--replace", "--yes", *where)

    assert (done.code, states(done)["views"]["conversations"]) == (1, "collection")
    assert done.err.startswith("Rename the collection conversations, then run `mongo-datalayer ")
    assert await database.conversations.find().to_list() == [{"_id": "theirs"}]


async def test_json(where: tuple[str, ...], database: Documents) -> None:
    missing = await run("setup", "check", "--json", *where)
    made = await run("setup", "apply", "--json", *where)
    again = await run("setup", "apply", "--json", *where)
    checked = await run("setup", "check", "--json", *where)

    assert (missing.code, records(missing)) == (1, all_of("missing", indexes=INDEXES))
    assert json.loads(missing.out)[0] == {
        "kind": "indexes",
        "name": "users.identifier",
        "state": "missing",
    }
    assert (made.code, records(made)) == (0, all_of("created", indexes=INDEXES))
    assert changed(made) == {*INDEXES, "schema"}
    assert (again.code, changed(again)) == (0, set())
    assert (checked.code, records(checked)) == (0, all_of("present", indexes=INDEXES))


async def test_the_bucket_of_the_files(where: tuple[str, ...], database: Documents) -> None:
    made = await run("setup", "apply", "--bucket", "docs", *where)

    assert states(made) == all_of("created", indexes=declared_indexes("docs"))
    assert "docs.files" in await database.list_collection_names()


def test_an_older_server_is_told_before_anything_is_made(
    where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_PROBE", {"$match": {"$expr": {"$unheardOf": 1}}})
    only = ("--only", "indexes", "--only", "views")

    done = CliRunner().invoke(main, ["setup", "apply", *only, *where])
    checked = CliRunner().invoke(main, ["setup", "check", "--json", *where])

    assert done.exit_code == 2
    assert done.output.startswith("Error: The view conversations needs MongoDB 5.2 or newer")
    found: list[Mapping[str, str]] = json.loads(checked.stdout)
    assert {record["state"] for record in found} == {"missing"}


@pytest.mark.parametrize("command", ["check", "apply"])
async def test_a_server_that_does_not_answer(command: str) -> None:
    done = await run("setup", command, "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()


@pytest.mark.parametrize("command", [(), ("check",), ("apply",)], ids=str)
async def test_every_command_has_help(command: tuple[str, ...]) -> None:
    done = await run("setup", *command, "--help")

    assert done.code == 0
    assert done.out.startswith(f"Usage: {' '.join(('mongo-datalayer', 'setup', *command))}")
    assert ("Example: mongo-datalayer setup" in done.out) == bool(command)
