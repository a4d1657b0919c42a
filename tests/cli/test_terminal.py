"""What commands print at 80 columns, without colours and into pipes."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

from mongo_datalayer import MongoDataLayer, __version__
from mongo_datalayer.model.documents import CHATKIT_THREADS
from mongo_datalayer.model.printable import counted
from mongo_datalayer.schema.indexes import apply_indexes
from tests.cli.commands import run, run_at_terminal, run_for_nobody
from tests.cli.people import Documents, put_person, storage_of

ALICE = "alice@example.com"
LONG_NAME = "How do I configure the indexes of a sharded cluster in production?"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
async def thread_id(database: Documents) -> str:
    """The id of a thread of a user with a file, in a database with all indexes."""
    await apply_indexes(database)
    await put_person(database, ALICE, threads=1)
    layer = MongoDataLayer(
        client=database.client, database=database.name, storage_client=storage_of(database)
    )
    user = await layer.get_user(ALICE)
    assert user is not None
    thread_id = str(uuid.uuid4())
    await layer.update_thread(thread_id, name=LONG_NAME, user_id=user.id)
    for number in range(5):
        await layer.create_step({"id": f"s{number}", "threadId": thread_id, "output": "x"})
    await layer.close()
    return thread_id


async def test_tables_fit_a_terminal_of_80_columns(where: tuple[str, ...], thread_id: str) -> None:
    coloured = await run_at_terminal("stats", *where)

    assert coloured.code == 0
    assert ESCAPE.search(coloured.out)
    lines = ESCAPE.sub("", coloured.out).splitlines()
    assert max(map(len, lines)) <= 80
    # The user's name is whole too, as nobody has large values.
    (row,) = [line for line in lines if line.startswith(f"{thread_id}  ")]
    assert row.endswith(f"  {ALICE}")
    assert any(re.match(r"\d{4}-\d\d-\d\d  ", line) for line in lines)
    assert "ChatKit" not in coloured.out


async def test_names_and_hits_have_the_whole_width(where: tuple[str, ...], thread_id: str) -> None:
    for command, below in ((("list",), LONG_NAME), (("search", "configure"), LONG_NAME)):
        done = await run_at_terminal("threads", *command, *where)

        lines = ESCAPE.sub("", done.out).splitlines()
        number = next(n for n, line in enumerate(lines) if line.startswith(f"{thread_id}  "))
        assert lines[number].endswith(f"  {ALICE}")
        assert lines[number + 1] == f"  {below}"


@pytest.mark.usefixtures("thread_id")
@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("stats",),
        ("indexes", "check"),
        ("setup", "check"),
        ("schema", "check"),
        ("views", "check"),
        ("search-index", "check"),
        ("erase-user", ALICE, "--dry-run"),
        ("threads", "list"),
    ],
    ids=" ".join,
)
async def test_no_color_is_respected_and_rows_fit(
    where: tuple[str, ...], command: tuple[str, ...]
) -> None:
    done = await run_at_terminal(*command, *where, NO_COLOR="1")

    assert done.out, done
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.usefixtures("thread_id")
async def test_a_dumb_terminal_gets_plain_lines(where: tuple[str, ...]) -> None:
    done = await run_at_terminal("doctor", *where, TERM="dumb")

    assert done.out.startswith("ok       connection")
    assert "\x1b" not in done.out


async def test_nothing_wraps_in_a_pipe(
    where: tuple[str, ...], thread_id: str, database: Documents
) -> None:
    await database.threads.update_one({"_id": thread_id}, {"$set": {"userIdentifier": "u" * 100}})

    done = await run("stats", *where, COLUMNS="40")

    lines = done.out.splitlines()
    assert any(thread_id in line and "u" * 100 in line for line in lines)
    assert LONG_NAME in lines


async def test_chatkit_has_rows_where_there_is_some(
    where: tuple[str, ...], database: Documents
) -> None:
    await database[CHATKIT_THREADS].insert_one({"_id": {"owner": "a", "id": "t"}, "items": []})

    shown = await run("stats", *where)
    pruned = await run("prune", "--days", "1", "--dry-run", *where)

    assert "ChatKit threads" in shown.out
    assert "ChatKit" not in pruned.out


# Pipes ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("thread_id")
@pytest.mark.parametrize("command", [("export",), ("stats",), ("doctor", "--json")], ids=" ".join)
async def test_a_reader_that_ends_early_is_no_failure_to_tell(
    where: tuple[str, ...], command: tuple[str, ...]
) -> None:
    done = await run_for_nobody(*command, *where)

    assert (done.code, done.err) == (141, "")


async def test_an_export_is_imported_from_standard_input(
    where: tuple[str, ...], there: tuple[str, ...], thread_id: str, other: Documents
) -> None:
    exported = await run("export", "--files", *where)

    refused = await run("import", "-", "--on-conflict", "replace", *there, stdin=exported.out)
    done = await run("import", "-", "--json", *there, stdin=exported.out)
    again = await run("import", "-", "--on-conflict", "replace", "--yes", *there, stdin="{")

    assert "Pass --yes" in refused.failed_with_one_line()
    assert (done.code, done.err) == (0, ""), done
    assert json.loads(done.out)["stored"] == {
        "users": 1,
        "threads": 2,
        "chatkit_threads": 0,
        "chatkit_attachments": 0,
        "files": 1,
    }
    assert await other.threads.count_documents({"_id": thread_id}) == 1
    assert again.code == 2


# Reports --------------------------------------------------------------------------------------


async def test_every_command_that_reports_can_do_it_in_json(
    where: tuple[str, ...], thread_id: str, database: Documents, tmp_path: Path
) -> None:
    chats = str(tmp_path / "chats.jsonl")
    reports = {}
    for command in (
        ("indexes", "apply"),
        ("views", "apply"),
        ("schema", "apply"),
        ("search-index", "build"),
        ("search-index", "drop", "--dry-run"),
        ("export", "--output", chats),
        ("import", chats),
        ("prune", "--days", "36500", "--yes"),
        ("erase-user", ALICE, "--yes"),
    ):
        done = await run(*command, "--json", *where)
        assert done.code == 0, done
        reports[command[0]] = json.loads(done.out)

    assert "users.identifier" in reports["indexes"]["present"]
    assert reports["views"] == dict.fromkeys(("conversations", "conversation_steps"), "set")
    assert reports["schema"]["users"] == {"validator": "set", "action": "warn"}
    assert (reports["export"]["threads"], reports["import"]["skipped"]["threads"]) == (2, 2)
    assert (reports["prune"]["changed"], reports["prune"]["threads"]) == (True, 0)
    erased = reports["erase-user"]
    assert erased["found"]["threads"] == erased["removed"]["threads"] == 2
    assert (erased["left"], erased["unread"]) == ({}, [])
    assert await database.threads.count_documents({"_id": thread_id, "steps": []}) == 0


async def test_a_database_that_is_missing_is_said_to_be(where: tuple[str, ...]) -> None:
    name = where[-1]
    for command in (("stats", "--json"), ("doctor",), ("export",), ("indexes", "check")):
        done = await run(*command, *where)
        assert f"Note: There is no database {name!r} yet" in done.err, command
    made = await run("setup", "apply", *where)
    assert made.err == ""


async def test_the_version_has_a_short_option() -> None:
    done = await run("-V")

    assert done.out == f"mongo-datalayer, version {__version__}\n"


async def test_shells_complete_commands() -> None:
    done = await run(
        _MONGO_DATALAYER_COMPLETE="bash_complete", COMP_WORDS="mongo-datalayer st", COMP_CWORD="1"
    )

    assert done.out == "plain,stats\n"


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "user", "0 users"),
        (1, "problem", "1 problem"),
        (1200, "thread", "1,200 threads"),
        (1, "byte{s} of files", "1 byte of files"),
        (2, "byte{s} of files", "2 bytes of files"),
    ],
)
def test_one_is_singular(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
