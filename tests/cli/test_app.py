"""What all commands share: which database, the question before, and what they print."""

from __future__ import annotations

import ast
import asyncio
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, _csot

from mongo_datalayer import cli
from mongo_datalayer.cli import app
from mongo_datalayer.mongodb.client import Client, Database
from mongo_datalayer.schema.roles import app_role
from mongo_datalayer.server import LocalServer
from tests.cli.commands import NOBODY, run
from tests.cli.people import Documents, put_person, snapshot

ALICE = "alice@example.com"
OLD = {"updatedAt": datetime(2020, 1, 1, tzinfo=timezone.utc)}
ESCAPES = "\x1b]0;pwned\x07\x1b[8mhidden\nERROR forged"


# Which database -------------------------------------------------------------------------------


async def test_the_uris_database_counts_where_none_is_named(
    mongo_uri: str, database: Documents
) -> None:
    await put_person(database, ALICE, threads=2)
    uri = f"{mongo_uri}/{database.name}"

    by_option = await run("export", "--uri", uri)
    by_variable = await run("export", MONGODB_URI=uri)
    named = await run("export", "--database", f"{database.name}_other", MONGODB_URI=uri)
    variable = await run("export", MONGODB_URI=uri, MONGODB_DATABASE=f"{database.name}_other")
    role = await run("role", "app", MONGODB_URI=uri)

    assert "1 user, 2 threads" in by_option.err
    assert by_option.err == by_variable.err
    assert named.err == variable.err
    assert "0 users, 0 threads" in named.err
    assert f'db.getSiblingDB("{database.name}")' in role.out


async def test_the_variables_of_a_file_count_and_the_environment_wins(
    mongo_uri: str, database: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_person(database, ALICE, threads=1)
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    lines = f"MONGODB_URI={mongo_uri}\nMONGODB_DATABASE={database.name}\n"
    (tmp_path / ".env").write_text(lines)
    (tmp_path / "other.env").write_text(lines.replace(database.name, "no_such"))

    found = await run("export")
    other = await run("export", CHAINLIT_ENV_FILE="other.env")
    environment = await run("export", MONGODB_DATABASE="no_such")
    (tmp_path / ".env").write_bytes(b"MONGODB_URI=\xff")
    unreadable = await run("export")

    assert "1 user, 1 thread" in found.err
    assert "0 users, 0 threads" in other.err
    assert "0 users, 0 threads" in environment.err
    assert ".env cannot be read" in unreadable.failed_with_one_line()


async def test_a_bad_name_is_told_by_where_it_is_from(mongo_uri: str) -> None:
    option = await run("stats", "--uri", mongo_uri, "--database", "my chats")
    variable = await run("stats", "--uri", mongo_uri, MONGODB_DATABASE="my chats")
    role = await run("role", "--database", "my chats")
    uri = await run("stats", MONGODB_URI="localhost")

    assert "Error: --database='my chats' cannot be" in option.failed_with_one_line()
    assert "Error: MONGODB_DATABASE='my chats' cannot be" in variable.failed_with_one_line()
    assert "Error: --database='my chats' cannot be" in role.failed_with_one_line()
    assert "Error: MONGODB_URI cannot be used" in uri.failed_with_one_line()


async def test_blank_variables_are_not_set(mongo_uri: str) -> None:
    done = await run("role", "app", MONGODB_DATABASE=" ", MONGODB_URI="")
    missing = await run("stats", MONGODB_URI=" ")

    assert 'db.getSiblingDB("chainlit")' in done.out
    assert "Which MongoDB?" in missing.failed_with_one_line()


@pytest.mark.parametrize("command", ["doctor", "stats", "export"])
async def test_a_tls_file_that_is_missing(command: str) -> None:
    done = await run(command, "--uri", f"{NOBODY}&tls=true&tlsCAFile=/no/such.pem")

    assert "tlsCAFile=/no/such.pem: No such file" in done.failed_with_one_line()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "it refuses connections. Is it running?"),
        ("&replicaSet=x", "it refuses connections. Is it running?"),
    ],
)
async def test_why_a_server_does_not_answer(options: str, told: str) -> None:
    done = await run("stats", "--uri", f"{NOBODY}{options}")

    expected = f"Error: No MongoDB answered at 127.0.0.1:1: {told}\n"
    assert (done.code, done.err) == (2, expected)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("tls=true", "the TLS handshake failed. Is it running?"),
        ("replicaSet=x", "it is in no replica set of that name. Is replicaSet= right?"),
    ],
)
async def test_why_a_server_cannot_be_used(mongo_uri: str, options: str, told: str) -> None:
    uri = f"{mongo_uri}/?serverSelectionTimeoutMS=500&{options}"

    assert (await run("stats", "--uri", uri)).failed_with_one_line().endswith(f": {told}\n")


# The question ---------------------------------------------------------------------------------


@pytest.fixture
async def destructive(
    where: tuple[str, ...], database: Documents, tmp_path: Path
) -> dict[str, tuple[str, ...]]:
    """Commands that destroy something, by their names."""
    await put_person(database, ALICE, threads=1)
    path = str(tmp_path / "chats.jsonl")
    await run("export", "--output", path, *where)
    await database.threads.update_many({}, {"$set": OLD})
    await database.users.create_index("identifier", name="identifier")
    await database.create_collection("conversations", viewOn="ratings")
    return {
        "prune": ("prune", "--days", "30"),
        "erase-user": ("erase-user", ALICE),
        "files gc": ("files", "gc", "--delete", "--grace-hours", "0"),
        "import": ("import", path, "--on-conflict", "replace"),
        "search-index drop": ("search-index", "drop"),
        "setup apply": ("setup", "apply", "--replace"),
        "indexes apply": ("indexes", "apply", "--replace"),
        "schema apply": ("schema", "apply", "--replace"),
        "views apply": ("views", "apply", "--replace"),
    }


async def state_of(database: Documents) -> object:
    collections = await (await database.list_collections()).to_list()
    indexes = await database.users.index_information()
    return await snapshot(database), sorted(map(repr, collections)), indexes


async def test_what_destroys_names_server_and_database_and_asks(
    where: tuple[str, ...],
    mongo_uri: str,
    database: Documents,
    destructive: dict[str, tuple[str, ...]],
) -> None:
    server = mongo_uri.removeprefix("mongodb://")
    before = await state_of(database)

    for name, command in destructive.items():
        for answer, code in (("n\n", 1), ("", 2)):
            done = await run(*command, *where, stdin=answer)
            assert done.code == code, (name, done)
            assert f"Database {database.name!r} at {server}.\n" in done.err
            assert "? [y/N]: " in done.err
            assert ("Error: There is no terminal to ask at. Pass --yes" in done.err) == (code == 2)
            assert "Traceback" not in done.err
            assert await state_of(database) == before


@pytest.mark.parametrize("answered", [True, False])
async def test_what_was_answered_with_yes_is_done(
    where: tuple[str, ...],
    database: Documents,
    destructive: dict[str, tuple[str, ...]],
    answered: bool,
) -> None:
    for name in ("prune", "import", "views apply", "indexes apply"):
        before = await state_of(database)
        yes = () if answered else ("--yes",)
        done = await run(*destructive[name], *yes, *where, stdin="y\n" if answered else "")
        assert done.code == 0, (name, done)
        assert ("[y/N]" in done.err) == answered
        assert await state_of(database) != before, name


async def test_a_dry_run_does_not_ask(
    where: tuple[str, ...], database: Documents, destructive: dict[str, tuple[str, ...]]
) -> None:
    before = await state_of(database)

    for name, command in destructive.items():
        looking = [word for word in command if word != "--delete"]
        if name != "files gc":
            looking.append("--dry-run")
        done = await run(*looking, *where)
        assert done.code == 0, (name, done)
        assert "[y/N]" not in done.err
    assert await state_of(database) == before


async def test_the_password_is_not_in_the_question() -> None:
    with LocalServer(arguments=["--auth"]) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri) as client:
            await client.admin.command("createUser", "root", pwd="hunter2", roles=["root"])
        uri = server.uri.replace("mongodb://", "mongodb://root:hunter2@")

        done = await run("prune", "--days", "1", "--uri", uri, stdin="n\n")

    assert done.err.startswith("Database 'chainlit' at 127.0.0.1:")
    assert "hunter2" not in done.err


# What is printed ------------------------------------------------------------------------------


def test_commands_print_lines_that_are_escaped() -> None:
    """Only the two modules that escape call click's echo."""
    for path in Path(cli.__file__).parent.glob("*.py"):
        if path.name in ("terminal.py", "app.py"):
            continue
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        ]
        assert not {"click.echo", "click.secho", "click.confirm", "print"} & set(calls), path.name


async def test_names_and_ids_cannot_act_on_the_terminal(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, f"{ALICE}{ESCAPES}", threads=1)
    await database.threads.update_many({}, {"$set": {"name": ESCAPES, "updatedAt": "odd"}})
    await database.threads.insert_one(
        {"_id": f"t{ESCAPES}", "steps": [{"id": "s", "output": "x"}], "name": "\u202egnp.exe"}
    )
    await database["fs.files"].update_many({}, {"$set": {"filename": f"k{ESCAPES}"}})
    commands = (
        ("stats",),
        ("stats", "--json"),
        ("schema", "check"),
        ("schema", "check", "--json"),
        ("doctor",),
        ("files", "gc", "--grace-hours", "0"),
        ("erase-user", f"{ALICE}{ESCAPES}", "--dry-run"),
        ("erase-user", f"nobody{ESCAPES}", "--yes"),
        ("export", "--thread", f"nothing{ESCAPES}"),
        ("export", "--files"),
        ("search-index", "build", "--user", f"nobody{ESCAPES}"),
    )

    for command in commands:
        done = await run(*command, *where)
        printed = done.out + done.err
        assert "Traceback" not in printed
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed), command
        assert not [line for line in printed.splitlines() if line.startswith("ERROR")], command


async def test_a_refused_write_does_not_quote_what_was_sent(tmp_path: Path) -> None:
    with LocalServer(arguments=["--auth"]) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri) as client:
            await client.admin.command("createUser", "root", pwd="root", roles=["root"])
        root = server.uri.replace("mongodb://", "mongodb://root:root@")
        async with AsyncMongoClient[dict[str, Any]](root, tz_aware=True) as client:
            database = client["chainlit"]
            await put_person(database, ALICE, threads=1)
            role = app_role("chainlit")
            read = [{**p, "actions": ["find"]} for p in role.privileges]
            await database.command("createRole", "reader", privileges=read, roles=[])
            await database.command("createUser", "reader", pwd="r", roles=["reader"])
            path = str(tmp_path / "chats.jsonl")
            await run("export", "--output", path, "--uri", root)
            await client.drop_database("chainlit_empty")
        reader = server.uri.replace("mongodb://", "mongodb://reader:r@") + "/?authSource=chainlit"

        done = await run(
            *("import", path, "--on-conflict", "replace", "--yes", "--uri", reader),
            *("--database", "chainlit"),
        )

    line = done.failed_with_one_line()
    assert "does not allow this: not authorized on chainlit to execute command" in line
    assert "`mongo-datalayer role` prints what a login needs." in line
    assert "{" not in line
    assert ALICE not in line
    assert os.linesep not in line.rstrip()


async def test_the_end_does_not_wait_long_for_a_server_that_is_gone(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float | None] = []

    async def closed(client: Client) -> None:
        left.append(_csot.remaining())
        await client.close()

    async def work(_database: Database) -> None:
        assert _csot.remaining() is None

    monkeypatch.setattr(app, "close", closed)
    await asyncio.to_thread(app.on_database, mongo_uri, "any", work)

    (seconds,) = left
    assert seconds is not None
    assert 0 < seconds <= app.ANSWER_SECONDS
