from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from mongo_datalayer import GridFSStorageClient, MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.schema.indexes import DECLARED, Index, apply_indexes, declared_indexes
from mongo_datalayer.server import LocalServer

COMMAND = ("-m", "mongo_datalayer.cli", "indexes")
SCRIPT = str(Path(__file__).parents[2] / "scripts" / "create_indexes.py")
NOBODY = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"

Documents = Database[dict[str, object]]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def states(output: str) -> dict[str, str]:
    rows = (line.split() for line in output.splitlines() if "." in line.split()[0])
    return {row[0]: row[1] for row in rows}


@pytest.fixture
def database(mongo_uri: str, database_name: str) -> Iterator[Documents]:
    with MongoClient[dict[str, object]](mongo_uri) as client:
        yield client[database_name]


def names_in(database: Documents) -> set[str]:
    return {
        f"{collection}.{name}"
        for collection in database.list_collection_names()
        for name in database[collection].index_information()
        if name != "_id_"
    }


ALL = {str(index) for index in DECLARED}


@pytest.mark.parametrize("apply", [(*COMMAND, "apply"), (SCRIPT,)], ids=["command", "script"])
def test_apply_makes_what_is_missing_and_repeats_safely(
    apply: tuple[str, ...], where: tuple[str, ...], database: Documents
) -> None:
    first = run(*apply, *where)
    second = run(*apply, *where)

    assert (first.returncode, first.stderr) == (0, "")
    assert states(first.stdout) == dict.fromkeys(ALL, "created")
    assert names_in(database) == ALL
    assert (second.returncode, second.stderr) == (0, "")
    assert states(second.stdout) == dict.fromkeys(ALL, "present")
    assert second.stdout.endswith(f"{len(ALL)} present, 0 created, 0 missing, 0 different.\n")


@pytest.mark.parametrize("apply", [(*COMMAND, "apply"), (SCRIPT,)], ids=["command", "script"])
def test_each_index_is_told_when_it_is_made(
    apply: tuple[str, ...], where: tuple[str, ...], database: Documents
) -> None:
    unique = "fs.chunks.files_id_1_n_1"
    made = [str(index) for index in DECLARED if str(index) != unique]
    database["fs.chunks"].insert_many([{"files_id": 1, "n": 1}, {"files_id": 1, "n": 1}])

    failed = run(*apply, *where)
    database["fs.chunks"].delete_many({})
    rest = run(*apply, *where)
    nothing = run(*apply, *where)

    assert failed.returncode == 1
    assert told(failed.stdout) == made
    assert re.search(rf"^{unique} +failed .*\(\d+\.\d s\)$", failed.stdout, re.MULTILINE)
    assert states(failed.stdout)[unique] == "failed"
    assert names_in(database) == ALL
    assert told(rest.stdout) == [unique]
    # Each once: first what was made, then what was there.
    names = [line.split()[0] for line in rest.stdout.splitlines()[:-1]]
    assert names == [unique, *(str(index) for index in DECLARED if str(index) != unique)]
    assert told(nothing.stdout) == []


def told(output: str) -> list[str]:
    """The indexes that were told when they were made, with the time it took."""
    return re.findall(r"^(\S+) +created .*\(\d+\.\d s\)$", output, re.MULTILINE)


async def test_who_applies_is_called_after_each_index(
    mongo_uri: str, database_name: str, database: Documents
) -> None:
    seen: list[tuple[str, set[str]]] = []
    seconds: list[float] = []

    def remember(index: Index, took: float) -> None:
        seen.append((str(index), names_in(database)))
        seconds.append(took)

    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        await apply_indexes(client[database_name], on_created=remember)

    names = [str(index) for index in DECLARED]
    assert seen == [(name, set(names[: n + 1])) for n, name in enumerate(names)]
    assert all(0 < took < 60 for took in seconds)


def test_the_environment_names_the_database(
    mongo_uri: str, database_name: str, database: Documents
) -> None:
    done = run(*COMMAND, "apply", MONGODB_URI=mongo_uri, MONGODB_DATABASE=database_name)

    assert done.returncode == 0
    assert names_in(database) == ALL


def test_a_dry_run_changes_nothing(where: tuple[str, ...], database: Documents) -> None:
    done = run(*COMMAND, "apply", "--dry-run", *where)

    assert (done.returncode, done.stderr) == (0, "")
    assert states(done.stdout) == dict.fromkeys(ALL, "missing")
    assert names_in(database) == set()


def test_check_fails_until_everything_is_there(where: tuple[str, ...], database: Documents) -> None:
    before = run(*COMMAND, "check", *where)
    nothing_made = names_in(database)
    run(*COMMAND, "apply", *where)
    after = run(*COMMAND, "check", *where)

    assert before.returncode == 1
    assert "mongo-datalayer indexes apply" in before.stderr
    assert nothing_made == set()
    assert (after.returncode, after.stderr) == (0, "")


def test_check_prints_json(where: tuple[str, ...], database: Documents) -> None:
    declared = {str(index) for index in DECLARED}
    result = run(*COMMAND, "check", *where, "--json")
    assert result.returncode == 1
    found = json.loads(result.stdout)
    assert (set(found["missing"]), found["present"]) == (declared, [])

    run(*COMMAND, "apply", *where)
    database["users"].create_index("metadata.team", name="team")
    result = run(*COMMAND, "check", *where, "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert (found["missing"], set(found["present"])) == ([], declared)
    assert found["unknown"] == ["users.team"]


def test_the_indexes_of_another_bucket_of_files(
    where: tuple[str, ...], database: Documents
) -> None:
    declared = {str(index) for index in declared_indexes("docs")}
    run(*COMMAND, "apply", *where)

    before = run(*COMMAND, "check", "--json", "--bucket", "docs", *where)
    applied = run(*COMMAND, "apply", "--bucket", "docs", *where)
    after = run(*COMMAND, "check", "--bucket", "docs", *where)

    missing = {"docs.files.filename_1_uploadDate_1", "docs.chunks.files_id_1_n_1"}
    missing |= {"docs.files.thread"}
    assert declared == ALL | missing  # those of large values stay
    assert (before.returncode, set(json.loads(before.stdout)["missing"])) == (1, missing)
    assert (applied.returncode, set(told(applied.stdout))) == (0, missing)
    assert (after.returncode, states(after.stdout)) == (0, dict.fromkeys(declared, "present"))
    assert names_in(database) == declared


def test_what_differs_is_left_alone_unless_asked_for(
    where: tuple[str, ...], database: Documents
) -> None:
    database.users.create_index("identifier", name="identifier")
    database.users.create_index("mine", name="mine")

    refused = run(*COMMAND, "apply", *where)
    untouched = database.users.index_information()["identifier"]
    checked = run(*COMMAND, "check", *where)
    replaced = run(*COMMAND, "apply", "--replace", "--yes", *where)

    assert refused.returncode == 1
    assert states(refused.stdout)["users.identifier"] == "different"
    assert states(refused.stdout)["users.mine"] == "unknown"
    assert refused.stderr == "Run with --replace to drop and recreate what differs.\n"
    assert "unique" not in untouched
    assert checked.returncode == 1
    assert checked.stderr == "Run `mongo-datalayer indexes apply --replace`.\n"
    assert replaced.returncode == 0
    assert states(replaced.stdout)["users.identifier"] == "created"
    assert database.users.index_information()["identifier"]["unique"] is True
    assert "mine" in database.users.index_information()


def test_a_dry_run_says_what_would_become_of_each(
    where: tuple[str, ...], database: Documents
) -> None:
    database.users.create_index("identifier", name="identifier")

    left = run(*COMMAND, "apply", "--dry-run", *where)
    dry = run(*COMMAND, "apply", "--dry-run", "--replace", *where)

    assert (left.returncode, dry.returncode) == (1, 0)
    assert left.stderr == "Run with --replace to drop and recreate what differs.\n"
    # --replace was given: there is nothing more to ask for.
    assert dry.stderr == ""
    for done, would_replace in ((left, 0), (dry, 1)):
        assert states(done.stdout)["users.identifier"] == "different"
        assert done.stdout.count("  (would be created)\n") == len(DECLARED) - 1
        assert done.stdout.count("  (would be replaced)\n") == would_replace
    assert "unique" not in database.users.index_information()["identifier"]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error that is not a bug."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "command",
    [(*COMMAND, "check"), (*COMMAND, "apply"), (SCRIPT,)],
    ids=["check", "apply", "script"],
)
def test_a_server_that_does_not_answer(command: tuple[str, ...]) -> None:
    began = time.monotonic()

    line = one_line(run(*command, "--uri", NOBODY))

    assert "No MongoDB answered at 127.0.0.1:1" in line
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("nonsense", "URI must begin with"),
        ("http://localhost", "URI must begin with"),
        ("mongodb://localhost:notaport", "Port contains non-digit characters"),
        (
            "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=x",
            "serverselectiontimeoutms must be an integer",
        ),
        ("", "--uri"),
    ],
)
def test_a_wrong_uri(uri: str, says: str) -> None:
    assert says in one_line(run(*COMMAND, "check", "--uri", uri))


def test_a_password_that_breaks_the_uri_is_not_repeated() -> None:
    line = one_line(run(*COMMAND, "check", "--uri", "mongodb://somebody:hun/ter2@localhost"))

    assert "percent-encoded" in line
    assert "hun" not in line


def test_no_uri_at_all() -> None:
    line = one_line(run(*COMMAND, "check"))

    assert "--uri" in line
    assert "MONGODB_URI" in line


def test_a_wrong_database_name(mongo_uri: str) -> None:
    assert "'a b'" in one_line(run(*COMMAND, "check", "--uri", mongo_uri, "--database", "a b"))


def test_a_wrong_password_is_told_and_not_repeated(mongo_uri: str) -> None:
    uri = mongo_uri.replace("mongodb://", "mongodb://somebody:hunter2@")

    line = one_line(run(*COMMAND, "check", "--uri", uri))

    assert "refused the login" in line
    assert "hunter2" not in line


def test_a_login_that_is_missing(tmp_path: Path) -> None:
    with LocalServer(arguments=["--auth"]) as server:
        line = one_line(run(*COMMAND, "apply", "--uri", server.uri))

    assert "does not allow this" in line


def test_an_index_that_cannot_be_made(where: tuple[str, ...], database: Documents) -> None:
    database.users.insert_many([{"identifier": "twice"}, {"identifier": "twice"}])

    done = run(*COMMAND, "apply", *where)

    assert done.returncode == 1
    assert done.stdout.endswith(", 0 missing, 0 different, 1 failed.\n")
    assert re.fullmatch(
        r"Error: users\.identifier cannot be created: .*E11000 .* index: identifier\n", done.stderr
    )
    assert "twice" not in done.stderr
    assert names_in(database) == ALL - {"users.identifier"}


def test_the_script_needs_no_installed_package(
    where: tuple[str, ...], database: Documents, tmp_path: Path
) -> None:
    # Isolated from the environment's own packages but for what the script may use.
    for name in ("pymongo", "bson", "gridfs", "dns", "click", "rich", "typing_extensions"):
        link(name, tmp_path)
    for name in ("pydantic", "pydantic_core", "pydantic_settings", "annotated_types", "dotenv"):
        link(name, tmp_path)
    link("typing_inspection", tmp_path)

    done = run("-S", SCRIPT, *where, PYTHONPATH=str(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    assert names_in(database) == ALL


def link(name: str, folder: Path) -> None:
    found = __import__(name).__file__
    assert found is not None
    path = Path(found)
    source = path.parent if path.name == "__init__.py" else path
    (folder / source.name).symlink_to(source)


def test_the_command_line_does_not_import_chainlit() -> None:
    code = (
        "import sys; from mongo_datalayer.cli import main; "
        "all(main.get_command(None, name) for name in main.list_commands(None)) or sys.exit(1); "
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'chainlit'))"
    )

    done = run("-c", code)

    assert (done.returncode, done.stdout) == (0, "[]\n")


@pytest.mark.parametrize(
    "command", [(), ("indexes",), ("indexes", "apply"), ("indexes", "check"), ("demo",)]
)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    done = run("-m", "mongo_datalayer.cli", *command, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: {' '.join(('mongo-datalayer', *command))}")
    if command not in {(), ("indexes",)}:
        assert "Example: mongo-datalayer " in done.stdout


async def test_the_layer_makes_the_indexes_of_its_own_bucket(
    client: AsyncMongoClient[dict[str, Any]], database_name: str, database: Documents
) -> None:
    storage = GridFSStorageClient(client[database_name], bucket="uploads")
    layer = MongoDataLayer(client=client, database=database_name, storage_client=storage)

    report = await layer.create_indexes()

    collections = {index.collection for index in report.created}
    assert {"uploads.files", "uploads.chunks", "fs.files", "threads"} <= collections


async def test_the_store_makes_the_indexes_of_its_own_bucket(
    client: AsyncMongoClient[dict[str, Any]], database_name: str
) -> None:
    store = MongoChatKitStore[Any](client=client, database=database_name, bucket="uploads")

    before = await store.check_indexes()
    report = await store.create_indexes()

    for indexes in (before.missing, report.created):
        collections = {index.collection for index in indexes}
        assert {"uploads.files", "uploads.chunks", "fs.files", "chatkit_threads"} <= collections
    assert (await store.check_indexes()).complete
