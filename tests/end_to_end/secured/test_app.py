"""What the app's role, as it is printed, is good for: all that the package does, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import chainlit as cl
import httpx
import pytest
from chainlit.element import File
from chainlit.types import Pagination, ThreadFilter
from click import Group
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from starlette.applications import Starlette

from mongo_datalayer import GridFSStorageClient, MongoDataLayer
from mongo_datalayer.cli import main
from mongo_datalayer.files import files_route
from mongo_datalayer.schema.views import CONVERSATIONS, apply_views
from tests.chainlit.order.turn import Turn
from tests.cli.commands import run, subcommands
from tests.cli.people import small_documents
from tests.end_to_end.secured.conftest import DATABASE, Secured
from tests.programs import require_mongosh

UNAUTHORIZED = 13
CONTENT = b"PDF" * 200_000


@pytest.fixture
async def layer(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MongoDataLayer]:
    monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", "a secret of the tests " * 2)
    layer = MongoDataLayer(secured.uri("app"), database=DATABASE)
    yield layer
    await layer.close()


@pytest.fixture
async def overflowing(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MongoDataLayer]:
    """The same where next to nothing fits into one document."""
    monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", "a secret of the tests " * 2)
    with small_documents():
        layer = MongoDataLayer(secured.uri("app"), database=DATABASE)
    yield layer
    await layer.close()


@pytest.fixture
async def app_login(secured: Secured) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](secured.uri("app")) as client:
        yield client


def test_the_roles_are_made_by_the_mongo_shell(secured: Secured) -> None:
    """Where there is none, this says what was not shown."""
    require_mongosh()


async def test_every_operation_of_the_layer(layer: MongoDataLayer) -> None:
    await every_operation(layer, "turn")


async def test_every_operation_on_long_threads(overflowing: MongoDataLayer) -> None:
    await every_operation(overflowing, "long turn")


async def every_operation(layer: MongoDataLayer, thread_id: str) -> None:
    report = await layer.create_indexes()
    assert report.complete
    user = await layer.create_user(cl.User(identifier="alice"))
    turn = Turn(thread_id, user.id)
    for call in turn.calls:
        await call.run(layer)

    favourite = await layer.set_step_favorite({"id": turn.id("run"), "threadId": thread_id}, True)
    assert favourite["metadata"] == {"favorite": True}
    assert len(await layer.get_favorite_steps(user.id)) == 1
    listed = await layer.list_threads(
        Pagination(first=5), ThreadFilter(userId=user.id, search="once", feedback=0)
    )
    assert [thread["id"] for thread in listed.data] == [thread_id]
    assert await layer.get_thread_author(thread_id) == "alice"
    assert (await layer.get_user("alice") or user).id == user.id
    assert await layer.get_element(thread_id, turn.id("chart")) is not None
    await layer.delete_element(turn.id("chart"), thread_id)
    assert await layer.delete_feedback(turn.id("vote"))
    assert await layer.delete_user_session("session")
    await layer.delete_step(turn.id("answer"))
    thread = await layer.get_thread(thread_id)
    assert thread is not None
    assert len(thread["steps"]) == 4
    await layer.delete_thread(thread_id)
    assert await layer.get_thread(thread_id) is None


async def test_files_are_stored_served_and_deleted(layer: MongoDataLayer) -> None:
    file = File(
        id="file",
        thread_id="files",
        for_id="s",
        name="a.pdf",
        content=CONTENT,
        mime="application/pdf",
    )
    await layer.create_element(file)
    assert isinstance(layer.storage_client, GridFSStorageClient)
    app = Starlette(routes=[files_route(layer.storage_client)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
        element = await layer.get_element("files", "file") or {}
        served = await http.get(str(element["url"]))
        part = await http.get(str(element["url"]), headers={"range": "bytes=3-5"})
        await layer.delete_thread("files")
        gone = await http.get(str(element["url"]))

    assert (served.status_code, served.content) == (200, CONTENT)
    assert (part.status_code, part.content) == (206, b"PDF")
    assert gone.status_code == 404


FILE = "<a file>"
COMMANDS = [
    ("indexes", "apply"),
    ("indexes", "check"),
    ("schema", "apply", "--action", "error"),
    ("schema", "check"),
    ("views", "apply"),
    ("views", "check"),
    ("setup", "apply", "--only", "indexes", "--only", "validators", "--only", "views"),
    ("setup", "check"),
    ("doctor",),
    ("scaling", "plan"),
    ("search-index", "build", "--user", "zoe"),
    ("search-index", "check"),
    ("stats",),
    ("files", "gc", "--delete", "--yes", "--grace-hours", "0"),
    ("export", "--files", "--output", FILE),
    ("import", "--on-conflict", "replace", "--yes", FILE),
    ("threads", "list"),
    ("threads", "search", "once"),
    ("threads", "show", "of zoe"),
    ("dataset", "--format", "csv", "--output", FILE),
    ("prune", "--days", "1", "--yes"),
    ("erase-user", "zoe", "--yes"),
    ("search-index", "drop", "--yes"),
]


async def test_every_command(
    secured: Secured, layer: MongoDataLayer, overflowing: MongoDataLayer, tmp_path: Path
) -> None:
    user = await layer.create_user(cl.User(identifier="zoe"))
    for name, of in {"of zoe": layer, "long": overflowing}.items():
        for call in Turn(name, user.id).calls:
            await call.run(of)
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        assert await root[DATABASE].thread_overflow.count_documents({"thread": "long"}) > 1

    for command in COMMANDS:
        words = [str(tmp_path / "export.jsonl") if word == FILE else word for word in command]
        done = await run(*words, "--uri", secured.uri("app"), "--database", DATABASE)
        if command == ("doctor",):
            problems = [line for line in done.out.splitlines() if line.startswith("problem")]
            # How full the disk of this machine is does not count.
            assert [line for line in problems if line.split()[1] != "disk"] == [], done
            assert done.err == ""
            (access,) = [line for line in done.out.splitlines() if " access " in line]
            assert access.startswith("ok ")
            assert "app of chat, which may do all that is needed" in access
            continue
        # This server is none of a sharded cluster.
        code = 1 if command == ("scaling", "plan") else 0
        assert (done.code, done.err) == (code, ""), (command, done.out)


def test_no_command_is_left_out() -> None:
    shown = {command[:2] if command[0] in _groups() else command[:1] for command in COMMANDS}
    without_a_database = {("demo",), ("init",), ("role",)}
    serving = {("console",)}  # test_console.py
    with_a_source = {("migrate", name) for name in ("inspect", "run", "verify")}  # tests/migrate

    assert shown == set(_commands()) - without_a_database - serving - with_a_source


def _groups() -> set[str]:
    return {name for name, command in subcommands(main).items() if isinstance(command, Group)}


def _commands() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    for name, command in subcommands(main).items():
        inside = list(subcommands(command)) if isinstance(command, Group) else []
        names.extend([(name, inner) for inner in inside] or [(name,)])
    return names


@pytest.mark.parametrize(
    ("database", "command"),
    [
        (DATABASE, {"drop": "threads"}),
        (DATABASE, {"drop": "fs.chunks"}),
        (DATABASE, {"drop": "thread_overflow"}),
        (DATABASE, {"drop": "search_words"}),
        (DATABASE, {"update": "search_words", "updates": [{"q": {}, "u": {"$set": {"x": 1}}}]}),
        (DATABASE, {"dropDatabase": 1}),
        (DATABASE, {"delete": "threads", "deletes": [{"q": {}, "limit": 0}]}),
        (DATABASE, {"dropIndexes": "threads", "index": "*"}),
        (DATABASE, {"renameCollection": f"{DATABASE}.users", "to": f"{DATABASE}.stolen"}),
        (DATABASE, {"createUser": "thief", "pwd": "x", "roles": []}),
        (DATABASE, {"grantRolesToUser": "app", "roles": ["dbOwner"]}),
        (DATABASE, {"find": "something else"}),
        (DATABASE, {"insert": "something else", "documents": [{}]}),
        (DATABASE, {"create": "something else"}),
        (DATABASE, {"find": "conversations"}),
        (DATABASE, {"drop": "conversations"}),
        (DATABASE, {"find": "conversation_steps"}),
        (DATABASE, {"find": "system.users"}),
        ("other", {"find": "secrets"}),
        ("other", {"insert": "secrets", "documents": [{}]}),
        ("other", {"listCollections": 1}),
        ("admin", {"find": "system.users"}),
        ("admin", {"shutdown": 1}),
        ("admin", {"getParameter": "*"}),
    ],
    ids=str,
)
async def test_what_the_role_does_not_grant_is_refused(
    app_login: AsyncMongoClient[dict[str, Any]], database: str, command: dict[str, Any]
) -> None:
    admin_only = {"renameCollection"} & command.keys()

    with pytest.raises(OperationFailure) as refused:
        await app_login["admin" if admin_only else database].command(command)

    assert refused.value.code == UNAUTHORIZED


async def test_the_view_of_another_version_is_changed(secured: Secured) -> None:
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        await apply_views(root[DATABASE])
        await root[DATABASE].drop_collection(CONVERSATIONS)
        await root[DATABASE].create_collection(
            CONVERSATIONS,
            viewOn="threads",
            pipeline=[{"$match": {"$comment": "mongo_datalayer: conversations"}}],
        )
    login = ("--uri", secured.uri("app"), "--database", DATABASE)

    changed = await run("views", "apply", *login)
    checked = await run("views", "check", *login)

    assert (changed.code, changed.out) == (
        0,
        "conversations       set\nconversation_steps  present  as this version declares it\n",
    )
    assert checked.code == 0


async def test_a_search_index_is_left_empty_where_nothing_may_be_dropped(
    secured: Secured,
) -> None:
    login = ("--uri", secured.uri("app"), "--database", DATABASE)
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        chat = root[DATABASE]
        ida = {"identifier": "ida", "metadata": {}, "createdAt": datetime.now(timezone.utc)}
        await chat.users.replace_one({"_id": "u"}, ida, upsert=True)
        thread = {"userId": "u", "name": "some words", "steps": [], "elements": []}
        await chat.threads.replace_one({"_id": "worded"}, thread, upsert=True)
        built = await run("search-index", "build", "--user", "ida", *login)
        indexed = await chat.search_words.count_documents({"userId": "u"})
        dropped = await run("search-index", "drop", "--yes", *login)
        left = await chat.search_words.count_documents({})
        marked = await chat.threads.count_documents({"searchSegment": {"$exists": True}})
        checked = await run("indexes", "check", *login)
        # The doctor of other tests would call it damaged: it has no times.
        await chat.threads.delete_one({"_id": "worded"})
        by_root = await run(
            "search-index", "drop", "--yes", "--uri", secured.root, "--database", DATABASE
        )
        names = await chat.list_collection_names()

    assert (built.code, built.err) == (0, ""), built
    assert indexed > 0
    assert (dropped.code, dropped.err) == (0, ""), dropped
    assert "stay: this login may not drop them" in dropped.out
    assert (left, marked) == (0, 0)
    assert checked.code == 0, checked
    assert by_root.code == 0
    assert "stay" not in by_root.out
    assert "search_words" not in names


async def test_an_index_that_differs_can_only_be_replaced_by_an_administrator(
    secured: Secured,
) -> None:
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        users = root[DATABASE].users
        await users.drop_indexes()
        await users.create_index("identifier", name="identifier")
    where = ("--database", DATABASE)
    apply = ("indexes", "apply", "--replace", "--yes", *where)

    refused = await run(*apply, "--uri", secured.uri("app"))
    replaced = await run(*apply, "--uri", secured.root)

    assert "does not allow this" in refused.failed_with_one_line()
    assert replaced.code == 0
