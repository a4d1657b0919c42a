from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import health
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.health import Verdict, examine
from mongo_datalayer.indexes import apply_indexes
from mongo_datalayer.roles import analyst_role, app_role
from mongo_datalayer.schema import Validator, apply_validators
from mongo_datalayer.server import LocalServer
from tests.cli.commands import NOBODY, run
from tests.cli.people import put_long_thread, put_person

Documents = AsyncDatabase[dict[str, Any]]
MB = 1024 * 1024
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
CHECKS = [
    "connection",
    "server version",
    "topology",
    "write concern",
    "access",
    "indexes",
    "validators",
    "file store",
    "clock",
    "Chainlit",
    "document sizes",
    "leftover parts",
]


async def verdict(database: Documents, check: str) -> Verdict:
    return next(verdict for verdict in await examine(database) if verdict.check == check)


# The command ----------------------------------------------------------------------------------


async def test_a_verdict_for_each_check_and_no_problem_when_all_is_well(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, "alice", threads=2)
    await apply_indexes(database)
    await apply_validators(database, "error")

    done = await run("doctor", *where)
    as_json = await run("doctor", "--json", *where)

    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    for line, check in zip(lines[:-1], CHECKS, strict=True):
        assert line.split(None, 1)[1].startswith(check)
    assert lines[-1] == "9 ok, 3 warnings, 0 problems."
    verdicts = json.loads(as_json.out)
    assert as_json.code == 0
    assert [v["check"] for v in verdicts if v["state"] == "warning"] == [
        "server version",
        "topology",
        "access",
    ]
    assert all(v["advice"] for v in verdicts if v["state"] != "ok")


async def test_a_problem_is_told_with_what_to_do(where: tuple[str, ...]) -> None:
    done = await run("doctor", *where)

    assert done.code == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith("problem")]
    assert "missing: users.identifier" in line
    assert line.endswith("Run `mongo-datalayer indexes apply`.")


async def test_a_server_that_does_not_answer() -> None:
    done = await run("doctor", "--uri", NOBODY)

    assert "No MongoDB answered" in done.failed_with_one_line()


async def test_a_wrong_password(mongo_uri: str) -> None:
    uri = mongo_uri.replace("mongodb://", "mongodb://somebody:hunter2@")

    line = (await run("doctor", "--uri", uri)).failed_with_one_line()

    assert "refused the login" in line
    assert "hunter2" not in line


async def test_the_write_concern_is_the_uris(where: tuple[str, ...], mongo_uri: str) -> None:
    done = await run("doctor", "--json", *where, "--uri", f"{mongo_uri}/?w=1")

    (found,) = [v for v in json.loads(done.out) if v["check"] == "write concern"]
    assert (found["state"], found["finding"].startswith("w: 1")) == ("warning", True)


# What it sees in a database -------------------------------------------------------------------


async def test_a_file_that_lost_a_piece_is_seen(database: Documents) -> None:
    await put_person(database, "alice", threads=1)
    whole = await verdict(database, "file store")
    await database["fs.chunks"].delete_many({})
    damaged = await verdict(database, "file store")

    assert whole.state == "ok"
    assert damaged.state == "problem"
    assert "0 of its 1 pieces" in damaged.finding


async def test_documents_near_the_limit_are_named(database: Documents) -> None:
    sizes = {"small": 0, "large": 9 * MB}
    for name, size in sizes.items():
        await database.threads.insert_one({"_id": name, "x": "x" * size})
    part = {"_id": "part", "thread": "largest", "x": "x" * 15 * MB}
    await database.thread_overflow.insert_one(part)

    found = await verdict(database, "document sizes")

    assert found.state == "problem"
    assert "largest (15.0 MB), large (9.0 MB)" in found.finding
    assert "small" not in found.finding


async def test_a_long_thread_is_no_matter(database: Documents) -> None:
    await put_long_thread(database, "t")

    assert (await verdict(database, "document sizes")).state == "ok"
    assert (await verdict(database, "leftover parts")).finding == "none"


async def test_parts_that_no_thread_lists_are_counted_when_they_are_old(
    database: Documents,
) -> None:
    listed, young = (str(ObjectId.from_datetime(NOW)), str(ObjectId()))
    for part_id, thread in ((listed, "t"), ("0" * 24, "t"), ("1" * 24, "gone"), (young, "t")):
        await database.thread_overflow.insert_one({"_id": part_id, "thread": thread, "steps": []})
    piece = {"_id": "2" * 24, "thread": "t", "value": "values/t/steps/s/output/1", "text": "x"}
    await database.thread_overflow.insert_one(piece)
    await database.threads.insert_one({"_id": "t", "parts": [listed]})

    found = await verdict(database, "leftover parts")

    assert (found.state, found.advice) == ("warning", "Run `mongo-datalayer files gc --delete`.")
    assert found.finding.startswith("2 that no thread lists")


@pytest.mark.parametrize("check", ["document sizes", "leftover parts"])
async def test_many_documents_are_sampled_and_the_answer_says_so(
    database: Documents, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    for name in ("threads", "thread_overflow"):
        await database[name].insert_many(
            {"_id": str(number), "x": "x" * 1000} for number in range(3000)
        )
    fail_point = {
        "configureFailPoint": "failCommand",
        "mode": {"times": 1},
        "data": {"failCommands": ["aggregate"], "blockConnection": True, "blockTimeMS": 1500},
    }
    monkeypatch.setattr(health, "SCAN_SECONDS", 0.3)
    monkeypatch.setattr(health, "_CHECKS", {check: health._CHECKS[check]})
    await database.client.admin.command(fail_point)

    began = time.monotonic()
    (found,) = await examine(database)

    assert "of 1000 taken at random" in found.finding
    assert time.monotonic() - began < health.SECONDS


async def test_the_bucket_of_the_files_is_looked_at(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, "alice", threads=1, bucket="docs")
    await apply_indexes(database)
    await database["docs.chunks"].delete_many({})

    usual = json.loads((await run("doctor", "--json", *where)).out)
    named = json.loads((await run("doctor", "--json", "--bucket", "docs", *where)).out)

    def finding(verdicts: list[dict[str, str]], check: str) -> str:
        return next(found["finding"] for found in verdicts if found["check"] == check)

    assert finding(usual, "file store") == "no files"
    assert "0 of its 1 pieces" in finding(named, "file store")
    assert "missing" not in finding(usual, "indexes")
    assert finding(named, "indexes") == "missing: docs.files.thread"


async def test_a_slow_server_costs_no_more_than_the_bound(
    database: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_point = {
        "configureFailPoint": "failCommand",
        "mode": "alwaysOn",
        "data": {
            "failCommands": ["listCollections", "aggregate", "find"],
            "blockConnection": True,
            "blockTimeMS": 1000,
        },
    }
    monkeypatch.setattr(health, "SECONDS", 1.5)
    await database.client.admin.command(fail_point)
    try:
        began = time.monotonic()
        verdicts = await examine(database)
        took = time.monotonic() - began
    finally:
        await database.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    assert took < 3
    assert [found.check for found in verdicts] == CHECKS
    late = [found for found in verdicts if "took too long" in found.finding]
    assert late
    assert {found.state for found in late} == {"warning"}


async def test_a_replica_set_is_recognised() -> None:
    with LocalServer(arguments=["--replSet", "rs"]) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri, directConnection=True) as client:
            member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
            await client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
        # A client that looks for the set waits until the member has been elected.
        uri = f"{server.uri}/?replicaSet=rs"
        async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True, w="majority") as client:
            topology = await verdict(client["chainlit"], "topology")
            concern = await verdict(client["chainlit"], "write concern")

    assert topology.state == "warning"
    assert "the replica set rs with 1 data-bearing" in topology.finding
    assert concern.state == "ok"


# How it judges --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("4.2.24", "problem"),
        ("4.4.0", "problem"),
        ("5.0.0", "warning"),
        ("6.0.5", "warning"),
        ("7.0.0-rc1", "ok"),
        ("10.1.0", "ok"),
    ],
)
def test_the_servers_version(version: str, state: str) -> None:
    assert health.judge_version(version).state == state


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("2.11.9", "problem"),
        ("2.12.0", "ok"),
        ("2.99.1", "ok"),
        ("3.0.0", "problem"),
        (None, "warning"),
    ],
)
def test_chainlits_version(version: str | None, state: str) -> None:
    assert health.judge_chainlit(version).state == state


def test_the_supported_chainlit_is_the_one_that_is_required() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    lowest, beyond = (".".join(map(str, bound)) for bound in health.SUPPORTED_CHAINLIT)

    assert f'"chainlit>={lowest},<{beyond}"' in project


@pytest.mark.parametrize(
    ("hello", "state"),
    [
        ({"msg": "isdbgrid"}, "ok"),
        ({"setName": "rs", "hosts": ["a", "b", "c"]}, "ok"),
        ({"setName": "rs", "hosts": ["a", "b"]}, "warning"),
        ({}, "warning"),
    ],
)
def test_the_topology(hello: dict[str, Any], state: str) -> None:
    assert health.judge_topology(hello).state == state


@pytest.mark.parametrize(
    ("concern", "default", "state"),
    [
        ({"w": "majority"}, None, "ok"),
        ({"w": 2}, {"w": 1}, "ok"),
        ({"w": 1}, {"w": "majority"}, "warning"),
        ({"w": 0}, None, "problem"),
        ({"w": "majority", "j": False}, None, "warning"),
        ({}, {"w": "majority"}, "ok"),
        ({}, None, "warning"),
    ],
)
def test_the_write_concern(
    concern: dict[str, Any], default: dict[str, Any] | None, state: str
) -> None:
    assert health.judge_write_concern(concern, default).state == state


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0, "ok"), (1.9, "ok"), (-3, "warning"), (59, "warning"), (-61, "problem")],
)
def test_the_clock(seconds: float, state: str) -> None:
    found = health.judge_clock(timedelta(seconds=seconds))

    assert found.state == state
    if state != "ok":
        assert ("ahead of" in found.finding) == (seconds > 0)


APP_USER = [{"user": "app", "db": "d"}]
ROOT = [
    {
        "resource": {"anyResource": True},
        "actions": [*chain.from_iterable(app_role("d").actions.values()), "dropDatabase"],
    }
]


@pytest.mark.parametrize(
    ("users", "privileges", "hosts", "open_to_all", "state", "says"),
    [
        ([], [], ["localhost"], True, "warning", "without a login"),
        ([], [], ["localhost", "db1"], True, "problem", "without a login"),
        ([], [], ["localhost"], False, "problem", "demands a login"),
        (APP_USER, app_role("d").privileges, ["db1"], True, "ok", "app of d"),
        (APP_USER, app_role("other").privileges, ["db1"], True, "problem", "may not: listColl"),
        (APP_USER, analyst_role("d").privileges, ["db1"], True, "problem", "insert"),
        (APP_USER, ROOT, ["db1"], True, "warning", "drop the database"),
    ],
)
def test_the_access(
    users: list[Any],
    privileges: list[Any],
    hosts: list[str],
    open_to_all: bool,
    state: str,
    says: str,
) -> None:
    info = {"authenticatedUsers": users, "authenticatedUserPrivileges": privileges}

    found = health.judge_access(info, app_role("d"), hosts=hosts, open_to_all=open_to_all)

    assert found.state == state
    assert says in found.finding


@pytest.mark.parametrize(
    ("validator", "state", "advice"),
    [
        (Validator("threads", "missing"), "ok", ""),
        (Validator("threads", "present", "error"), "ok", ""),
        (Validator("threads", "outdated", "warn"), "warning", "schema apply`."),
        (Validator("threads", "outdated", "error"), "problem", "schema apply`."),
        (Validator("threads", "foreign", "error"), "problem", "schema apply --replace`."),
    ],
)
def test_the_validators(validator: Validator, state: str, advice: str) -> None:
    found = health.judge_validators([Validator("users", "missing"), validator])

    assert found.state == state
    assert found.advice.endswith(advice)


@pytest.mark.parametrize(
    ("size", "chunks", "state"),
    [(0, 0, "ok"), (1, 1, "ok"), (10, 1, "ok"), (11, 2, "ok"), (11, 1, "problem")],
)
def test_the_file_store(size: int, chunks: int, state: str) -> None:
    newest = StoredFile("id", "key", size, "text/plain", "", NOW, chunk_bytes=10)

    assert health.judge_files(1, newest, chunks).state == state


@pytest.mark.parametrize(
    ("megabytes", "state"), [(1, "ok"), (8, "warning"), (13, "warning"), (14, "problem")]
)
def test_the_document_sizes(megabytes: int, state: str) -> None:
    largest = [{"thread": "t", "bytes": megabytes * MB}]

    assert health.judge_sizes(largest, sampled=None).state == state


def test_a_long_way_to_the_server() -> None:
    assert health.judge_connection(0.02).state == "ok"
    assert health.judge_connection(0.2).state == "warning"
