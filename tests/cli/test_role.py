from __future__ import annotations

import json
from typing import Any

import pytest

from mongo_datalayer.roles import COLLECTIONS, allows, analyst_role, app_role, missing_actions
from mongo_datalayer.views import VIEWS
from tests.cli.commands import run


async def test_it_prints_both_roles_and_connects_to_nothing() -> None:
    done = await run("role", MONGODB_URI="mongodb://nobody.invalid:1")

    assert (done.code, done.err) == (0, "")
    assert done.out.count('db.getSiblingDB("chainlit").createRole({') == 2
    assert '"role": "chainlitApp"' in done.out
    assert '"role": "chainlitAnalyst"' in done.out


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
    assert "'root' is not one of 'all', 'app', 'analyst'" in done.err


def test_a_name_cannot_break_out_of_the_text() -> None:
    text = app_role('a"}); db.dropDatabase(); ({"').shell_text

    assert text.startswith(r'db.getSiblingDB("a\"}); db.dropDatabase(); ({\"").createRole({')


def test_the_app_gets_what_it_needs_on_each_collection_and_no_more() -> None:
    """Found by taking each action away and running everything."""
    everywhere = {"collStats", "createIndex", "find", "insert", "listIndexes"}
    needed = {
        "": {"listCollections"},
        "users": {*everywhere, "collMod", "remove", "update"},
        "threads": {*everywhere, "collMod", "update"},
        "fs.files": {*everywhere, "remove", "update"},
        "fs.chunks": {*everywhere, "remove"},
        "thread_overflow": {*everywhere, "collMod", "remove", "update"},
        "search_words": {*everywhere, "remove"},
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
