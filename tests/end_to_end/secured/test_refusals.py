"""Logins that may less than the app, and ways in that are no ways in."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.schema.roles import COLLECTIONS
from mongo_datalayer.schema.views import CONVERSATIONS, STEPS, VIEWS, apply_views
from tests.cli.commands import Done, run
from tests.end_to_end.secured.conftest import DATABASE, PASSWORD, Secured

UNAUTHORIZED = 13

READING = [("indexes", "check"), ("schema", "check"), ("views", "check"), ("stats",)]
DOCTOR = ("doctor",)
WRITING = [("indexes", "apply"), ("schema", "apply"), ("views", "apply")]


async def command(secured: Secured, user: str, *arguments: str) -> Done:
    return await run(*arguments, "--uri", secured.uri(user), "--database", DATABASE)


# Analysts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("collection", [*COLLECTIONS, *VIEWS])
@pytest.mark.parametrize(
    "write",
    [
        {"insert": "", "documents": [{}]},
        {"update": "", "updates": [{"q": {}, "u": {"$set": {"x": 1}}}]},
        {"delete": "", "deletes": [{"q": {}, "limit": 0}]},
        {"findAndModify": "", "query": {}, "remove": True},
        {"aggregate": "", "pipeline": [{"$out": "copy"}], "cursor": {}},
        {"createIndexes": "", "indexes": [{"key": {"x": 1}, "name": "x"}]},
        {"collMod": "", "validator": {}},
        {"drop": ""},
    ],
    ids=lambda write: next(iter(write)),
)
async def test_an_analyst_writes_nothing(
    secured: Secured, collection: str, write: dict[str, Any]
) -> None:
    verb = next(iter(write))
    async with AsyncMongoClient[dict[str, Any]](secured.uri("analyst")) as client:
        with pytest.raises(OperationFailure) as refused:
            await client[DATABASE].command({**write, verb: collection})

    assert refused.value.code == UNAUTHORIZED


async def test_an_analyst_reads_conversations_but_no_content_of_files(secured: Secured) -> None:
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        await root[DATABASE].threads.replace_one({"_id": "read me"}, {}, upsert=True)
        await apply_views(root[DATABASE])
        await _read_as_an_analyst(secured)
        # The doctor of other tests would call it damaged: it has no times.
        await root[DATABASE].threads.delete_one({"_id": "read me"})


async def _read_as_an_analyst(secured: Secured) -> None:
    async with AsyncMongoClient[dict[str, Any]](secured.uri("analyst")) as client:
        chat = client[DATABASE]
        assert await chat.threads.find_one({"_id": "read me"}) == {"_id": "read me"}
        shown = await chat.conversations.find_one({"_id": "read me"})
        assert shown == {"_id": "read me", "steps": [], "elements": []}
        assert await chat[STEPS].find({"thread": "read me"}).to_list() == []
        assert await chat["fs.files"].count_documents({}) >= 0
        unseen = (("other", "secrets"), (DATABASE, "fs.chunks"), (DATABASE, "search_words"))
        for database, collection in unseen:
            with pytest.raises(OperationFailure) as refused:
                await client[database][collection].find_one({})
            assert refused.value.code == UNAUTHORIZED


async def test_the_commands_that_read_work_for_an_analyst(secured: Secured) -> None:
    await command(secured, "app", "indexes", "apply")
    await command(secured, "app", "views", "apply")
    for arguments in READING:
        done = await command(secured, "analyst", *arguments)
        assert (done.code, done.err) == (0, ""), arguments

    doctor = await command(secured, "analyst", "doctor")

    assert doctor.code == 1
    (problem,) = [line for line in doctor.out.splitlines() if line.startswith("problem  access")]
    assert "analyst of chat, which may not: " in problem
    assert "mongo-datalayer role" in problem


async def test_an_analyst_who_tries_to_write_is_told(secured: Secured) -> None:
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        await root[DATABASE].users.drop_indexes()
        await root[DATABASE].command("collMod", "users", validator={})
        await root[DATABASE].drop_collection(CONVERSATIONS)

    for arguments in WRITING:
        line = (await command(secured, "analyst", *arguments)).failed_with_one_line()
        assert "does not allow this: not authorized on chat" in line


# Nobody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [*READING, *WRITING, ("files", "gc"), ("prune", "--days", "1", "--yes")]
)
async def test_a_login_without_a_role_is_told(secured: Secured, arguments: tuple[str, ...]) -> None:
    line = (await command(secured, "stranger", *arguments)).failed_with_one_line()

    assert "does not allow this" in line


async def test_the_doctor_says_what_a_login_lacks(secured: Secured) -> None:
    stranger = await command(secured, "stranger", "doctor")
    nobody = await run("doctor", "--uri", secured.without_login, "--database", DATABASE)

    assert stranger.code == nobody.code == 1
    assert "stranger of chat, which may not: " in stranger.out
    assert "not known: this login may not ask" in stranger.out
    assert "the server demands a login" in nobody.out


@pytest.mark.parametrize("arguments", [*READING, DOCTOR, *WRITING])
async def test_a_wrong_password_is_told_and_not_repeated(
    secured: Secured, arguments: tuple[str, ...]
) -> None:
    uri = secured.uri("app", password="hunter2")

    line = (await run(*arguments, "--uri", uri, "--database", DATABASE)).failed_with_one_line()

    assert f"localhost:{secured.port} refused the login" in line
    assert "hunter2" not in line


async def test_an_app_with_a_wrong_password_does_not_begin(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    uri = secured.uri("app", "wrong")
    layer = MongoDataLayer(uri, database=DATABASE)

    with pytest.raises(ConfigurationError, match="refused the login") as refused:
        await layer.begin()
    await layer.close()

    assert str(secured.port) in str(refused.value)
    assert "wrong" not in str(refused.value) + caplog.text


async def test_an_app_whose_login_may_not_list_indexes_begins(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mongo_datalayer")
    layer = MongoDataLayer(secured.uri("stranger"), database=DATABASE)

    await layer.begin()
    await layer.close()

    assert caplog.messages[0] == "Indexes are not checked: this login may not list them."
    assert caplog.messages[1].startswith("MongoDB ")


async def test_there_is_no_way_in_without_tls(secured: Secured) -> None:
    uri = f"mongodb://localhost:{secured.port}/?serverSelectionTimeoutMS=500"

    line = (await run("doctor", "--uri", uri)).failed_with_one_line()

    assert f"No MongoDB answered at localhost:{secured.port}" in line


async def test_a_server_whose_certificate_nobody_vouches_for(secured: Secured) -> None:
    uri = f"mongodb://localhost:{secured.port}/?tls=true&serverSelectionTimeoutMS=500"

    line = (await run("doctor", "--uri", uri)).failed_with_one_line()

    assert "certificate verify failed" in line


async def test_the_password_may_hold_any_character(secured: Secured) -> None:
    assert {"@", "/", ":", "%"} <= set(PASSWORD)
    assert (await command(secured, "app", "stats")).code == 0
