from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from mongo_datalayer.schema.roles import (
    COLLECTIONS,
    allows,
    analyst_role,
    app_role,
    missing_actions,
)
from mongo_datalayer.schema.views import VIEWS
from tests.cli.commands import run
from tests.programs import require_mongosh


async def test_it_prints_all_roles_and_connects_to_nothing() -> None:
    done = await run("role", MONGODB_URI="mongodb://nobody.invalid:1")

    assert (done.code, done.err) == (0, "")
    assert done.out.count('db.getSiblingDB("chainlit").runCommand({') == 3
    assert '"createRole"]: "chainlitApp"' in done.out
    assert '"createRole"]: "chainlitAnalyst"' in done.out


async def test_it_prints_one_role_of_one_database_and_bucket() -> None:
    named = ("--database", "support", "--bucket", "docs")
    done = await run("role", "analyst", *named)
    as_json = await run("role", "analyst", "--json", *named)

    definition = json.loads(as_json.out)["analyst"]
    assert done.out.count("createRole") == 1
    assert "chainlit" not in done.out.replace("chainlitAnalyst", "")
    assert definition == analyst_role("support", "docs").definition
    places = [privilege["resource"]["collection"] for privilege in definition["privileges"]]
    # Large values stay in the usual bucket.
    assert set(places) == {"", *VIEWS, *COLLECTIONS, "docs.chunks", "docs.files"}
    assert {privilege["resource"]["db"] for privilege in definition["privileges"]} == {"support"}


async def test_the_environment_names_the_database() -> None:
    done = await run("role", "app", "--json", MONGODB_DATABASE="support")

    assert json.loads(done.out)["app"] == app_role("support").definition


async def test_a_role_that_is_not_known() -> None:
    done = await run("role", "root")

    assert done.code == 2
    assert "'root' is not one of 'all', 'app', 'analyst', 'console'" in done.err


def test_a_name_cannot_break_out_of_the_text() -> None:
    text = app_role('a"}); db.dropDatabase(); ({"').shell_text

    assert text.startswith(r'db.getSiblingDB("a\"}); db.dropDatabase(); ({\"").runCommand({')


async def test_for_atlas_the_role_is_what_its_api_takes() -> None:
    done = await run("role", "--format", "atlas", "--database", "support")
    both = await run("role", "--format", "atlas", "--json")

    app, analyst, console = map(json.loads, done.out.splitlines())
    assert console["roleName"] == "chainlitConsole"
    assert (app["roleName"], analyst["roleName"]) == ("chainlitApp", "chainlitAnalyst")
    assert app["inheritedRoles"] == []
    # https://www.mongodb.com/docs/atlas/reference/custom-role-actions/
    assert {each["action"] for each in app["actions"]} == {
        *("COLL_MOD", "COLL_STATS", "CREATE_COLLECTION", "CREATE_INDEX", "DB_STATS", "FIND"),
        *("INSERT", "LIST_COLLECTIONS", "LIST_INDEXES", "REMOVE", "UPDATE"),
    }
    granted = {
        (place["collection"], each["action"])
        for each in app["actions"]
        for place in each["resources"]
    }
    assert ("threads", "UPDATE") in granted
    assert ("threads", "REMOVE") not in granted
    assert len(granted) == sum(map(len, app_role("support").actions.values()))
    assert both.code == 2


async def test_a_second_run_in_the_mongo_shell_changes_the_role(
    mongo_uri: str, database_name: str, server_client: MongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    require_mongosh()
    script = tmp_path / "roles.js"
    script.write_text((await run("role", "--database", database_name)).out, encoding="utf-8")
    roles = server_client[database_name]

    def run_script() -> None:
        command = ["mongosh", "--quiet", "--norc", mongo_uri, "--file", str(script)]
        subprocess.run(command, check=True, timeout=120, capture_output=True)

    def privileges() -> Any:
        (found,) = roles.command("rolesInfo", "chainlitApp", showPrivileges=True)["roles"]
        return found["privileges"]

    try:
        run_script()
        first = privileges()
        roles.command("updateRole", "chainlitApp", privileges=[], roles=[])
        run_script()
        second = privileges()
    finally:
        roles.command("dropAllRolesFromDatabase")

    assert first == second
    assert len(first) == len(app_role(database_name).actions)


def test_the_app_gets_what_it_needs_on_each_collection_and_no_more() -> None:
    """Found by taking each action away and running everything."""
    everywhere = {"collStats", "createIndex", "find", "insert", "listIndexes"}
    needed = {
        "": {"dbStats", "listCollections"},
        "users": {*everywhere, "collMod", "remove", "update"},
        "threads": {*everywhere, "collMod", "update"},
        "fs.files": {*everywhere, "remove", "update"},
        "fs.chunks": {*everywhere, "remove"},
        "thread_overflow": {*everywhere, "collMod", "remove", "update"},
        "search_words": {*everywhere, "remove"},
        "praisonai_settings": {*everywhere, "collMod", "update"},
        "mongo_datalayer": {"collStats", "find", "insert", "update"},
        "conversations": {"collMod", "createCollection"},
        "conversation_steps": {"collMod", "createCollection"},
    }

    granted = {name: set(actions) for name, actions in app_role("d").actions.items()}
    assert {n: of for n, of in granted.items() if not n.startswith("chatkit_")} == needed


def test_nothing_takes_away_and_the_analyst_writes_nothing() -> None:
    app = {action for actions in app_role("d").actions.values() for action in actions}
    analyst = {action for actions in analyst_role("d").actions.values() for action in actions}

    assert not {action for action in app if action.startswith("drop")}
    assert analyst == {"collStats", "find", "listCollections", "listIndexes"}
    for unseen in ("fs.chunks", "search_words"):
        assert analyst_role("d").actions[unseen] == ("collStats", "listIndexes")
    for view in VIEWS:
        assert analyst_role("d").actions[view] == ("find",)


ANY: dict[str, Any] = {"anyResource": True}


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        ({"db": "d", "collection": "threads"}, True),
        ({"db": "d", "collection": ""}, True),
        ({"db": "", "collection": "threads"}, True),
        ({"db": "", "collection": ""}, True),
        (ANY, True),
        ({"db": "d", "collection": "users"}, False),
        ({"db": "other", "collection": "threads"}, False),
        ({"cluster": True}, False),
    ],
)
def test_which_resources_cover_a_collection(resource: dict[str, Any], allowed: bool) -> None:
    granted = [{"resource": resource, "actions": ["find"]}]

    assert allows(granted, "d", "threads", "find") is allowed
    assert not allows(granted, "d", "threads", "insert")


def test_what_is_missing_of_a_role() -> None:
    role = app_role("d")
    reading = analyst_role("d").privileges

    assert missing_actions(role, role.privileges) == {}
    assert missing_actions(role, [{"resource": ANY, "actions": ["find"]}]).keys() == {
        "",
        *COLLECTIONS,
        *VIEWS,
    }
    assert "insert" in missing_actions(role, reading)["threads"]
    assert "find" not in missing_actions(role, reading)["threads"]
