from __future__ import annotations

import json
import re
import time
from datetime import date, datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.admin import doctor
from mongo_datalayer.admin.doctor import run_checks
from mongo_datalayer.admin.doctor_checks import server, stored
from mongo_datalayer.admin.doctor_checks.check_result import CheckResult
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.schema.indexes import apply_indexes
from mongo_datalayer.schema.roles import analyst_role, app_role
from mongo_datalayer.schema.validators import Validator, apply_validators
from mongo_datalayer.server import LocalServer
from tests.cli.commands import NOBODY, run
from tests.cli.people import put_long_thread, put_person
from tests.docs.pages import DOCS

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
    "schema version",
    "file store",
    "disk",
    "clock",
    "Chainlit",
    "document sizes",
    "unlisted overflow",
    "damage",
]


async def result(database: Documents, check: str) -> CheckResult:
    return next(found for found in await run_checks(database) if found.check == check)


# The command ----------------------------------------------------------------------------------


async def test_a_result_for_each_check_and_no_problem_when_all_is_well(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, "alice", threads=2)
    await apply_indexes(database)
    await apply_validators(database, "error")

    done = await run("doctor", *where)
    as_json = await run("doctor", "--json", *where)
    if "disk" in {v["check"] for v in json.loads(as_json.out) if v["state"] != "ok"}:
        pytest.skip("the disk of this machine is nearly full")

    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    for line, check in zip(lines[:-1], CHECKS, strict=True):
        assert line.split(None, 1)[1].startswith(check)
    assert lines[-1].endswith(" ok, 3 warnings, 0 problems.")
    results = json.loads(as_json.out)
    assert as_json.code == 0
    assert [v["check"] for v in results if v["state"] == "warning"] == [
        "server version",
        "topology",
        "access",
    ]
    assert all(v["advice"] for v in results if v["state"] != "ok")


async def test_a_problem_is_told_with_what_to_do(where: tuple[str, ...]) -> None:
    done = await run("doctor", *where)

    assert done.code == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith("problem")]
    assert "missing: users.identifier" in line
    assert line.endswith("Run `mongo-datalayer indexes apply`.")


async def test_a_server_that_does_not_answer() -> None:
    done = await run("doctor", "--uri", NOBODY)

    assert "No MongoDB answered" in done.failed_with_one_line()


def test_the_page_has_every_check() -> None:
    page = (DOCS / "administration.md").read_text(encoding="utf-8")
    table = page.partition("| Check | It complains when |")[2].partition("\n\n")[0]

    assert [row.split("|")[1].strip() for row in table.split("\n")[2:]] == CHECKS


async def test_a_wrong_password(mongo_uri: str) -> None:
    uri = mongo_uri.replace("mongodb://", "mongodb://somebody:hunter2@")

    line = (await run("doctor", "--uri", uri)).failed_with_one_line()

    assert "refused the login: Authentication failed. Check the user" in line
    assert "hunter2" not in line


async def test_the_write_concern_is_the_uris(where: tuple[str, ...], mongo_uri: str) -> None:
    done = await run("doctor", "--json", *where, "--uri", f"{mongo_uri}/?w=1")

    (found,) = [v for v in json.loads(done.out) if v["check"] == "write concern"]
    assert (found["state"], found["finding"].startswith("w: 1")) == ("warning", True)


# What it sees in a database -------------------------------------------------------------------


async def test_a_file_that_lost_a_piece_is_seen(database: Documents) -> None:
    await put_person(database, "alice", threads=1)
    whole = await result(database, "file store")
    await database["fs.chunks"].delete_many({})
    damaged = await result(database, "file store")

    assert whole.state == "ok"
    assert damaged.state == "problem"
    assert "0 of its 1 piece" in damaged.finding


async def test_documents_near_the_limit_are_named(database: Documents) -> None:
    sizes = {"small": 0, "large": 9 * MB}
    for name, size in sizes.items():
        await database.threads.insert_one({"_id": name, "steps": [], "x": "x" * size})
    part = {"_id": "part", "thread": "largest", "x": "x" * 15 * MB}
    await database.thread_overflow.insert_one(part)

    found = await result(database, "document sizes")

    assert found.state == "problem"
    assert "largest (15.0 MB), large (9.0 MB)" in found.finding
    assert "small" not in found.finding


async def test_a_long_thread_is_no_matter(database: Documents) -> None:
    await put_long_thread(database, "t")

    assert (await result(database, "document sizes")).state == "ok"
    assert (await result(database, "unlisted overflow")).finding == "none"


async def test_parts_that_no_thread_lists_are_counted_when_they_are_old(
    database: Documents,
) -> None:
    listed, young = (str(ObjectId.from_datetime(NOW)), str(ObjectId()))
    for part_id, thread in ((listed, "t"), ("0" * 24, "t"), ("1" * 24, "gone"), (young, "t")):
        await database.thread_overflow.insert_one({"_id": part_id, "thread": thread, "steps": []})
    piece = {"_id": "2" * 24, "thread": "t", "value": "values/t/steps/s/output/1", "text": "x"}
    await database.thread_overflow.insert_one(piece)
    await database.threads.insert_one({"_id": "t", "overflowIds": [listed]})

    found = await result(database, "unlisted overflow")

    assert (found.state, found.advice) == ("warning", "Run `mongo-datalayer files gc --delete`.")
    assert found.finding.startswith("2 that no thread lists")


@pytest.mark.parametrize("check", ["document sizes", "unlisted overflow"])
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
    monkeypatch.setattr(doctor, "SCAN_SECONDS", 0.3)
    monkeypatch.setattr(doctor, "_CHECKS", {check: doctor._CHECKS[check]})
    await database.client.admin.command(fail_point)

    began = time.monotonic()
    (found,) = await run_checks(database)

    assert "of 1000 taken at random" in found.finding
    assert time.monotonic() - began < doctor.SECONDS


async def test_the_bucket_of_the_files_is_looked_at(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, "alice", threads=1, bucket="docs")
    await apply_indexes(database)
    await database["docs.chunks"].delete_many({})

    usual = json.loads((await run("doctor", "--json", *where)).out)
    named = json.loads((await run("doctor", "--json", "--bucket", "docs", *where)).out)

    def finding(results: list[dict[str, str]], check: str) -> str:
        return next(found["finding"] for found in results if found["check"] == check)

    assert finding(usual, "file store") == "no files"
    assert "0 of its 1 piece" in finding(named, "file store")
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
    monkeypatch.setattr(doctor, "SECONDS", 1.5)
    await database.client.admin.command(fail_point)
    try:
        began = time.monotonic()
        results = await run_checks(database)
        took = time.monotonic() - began
    finally:
        await database.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    assert took < 3
    assert [found.check for found in results] == CHECKS
    late = [found for found in results if "took too long" in found.finding]
    assert late
    assert {found.state for found in late} == {"warning"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (59, "not known: this server does not know the command"),
        (115, "not known: the server refused: "),
        (323, "not known: the strict Stable API does not let it ask"),
        (13, "not known: this login may not ask"),
    ],
)
async def test_what_a_server_refuses_is_a_warning_and_the_other_checks_run(
    database: Documents, code: int, said: str
) -> None:
    await apply_indexes(database)
    refused = ["buildInfo", "connectionStatus", "aggregate", "dbStats", "getDefaultRWConcern"]
    fail_point = {
        "configureFailPoint": "failCommand",
        "mode": "alwaysOn",
        "data": {"failCommands": refused, "errorCode": code},
    }
    await database.client.admin.command(fail_point)
    try:
        results = await run_checks(database)
    finally:
        await database.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    assert [found.check for found in results] == CHECKS
    unknown = {found.check: found for found in results if found.finding.startswith(said)}
    assert {found.state for found in unknown.values()} == {"warning"}
    assert {"server version", "access", "disk", "document sizes", "damage"} == (
        unknown.keys() - {"unlisted overflow"}
    )
    assert not [found for found in results if found.state == "problem"]


async def test_a_server_that_offers_zlib_and_one_that_does_not() -> None:
    found = []
    for compressors in ("snappy,zlib", "snappy"):
        arguments = ["--networkMessageCompressors", compressors]
        with LocalServer(arguments=arguments) as of_one:
            async with AsyncMongoClient[dict[str, Any]](of_one.uri) as client:
                hello = await client.admin.command("hello", compression=["zlib"])
                found.append(hello.get("compression"))

    assert found == [["zlib"], None]


async def test_chatkit_and_the_search_index_are_spoken_of_only_where_they_are_used(
    database: Documents,
) -> None:
    for name in ("users", "threads", "thread_overflow", "fs.files", "fs.chunks"):
        await database.create_collection(name)
    await apply_indexes(database)
    for name in ("chatkit_threads", "chatkit_overflow", "chatkit_attachments"):
        await database.drop_collection(name)

    without = await run_checks(database)
    await database.create_collection("chatkit_threads")
    await database.create_collection("search_words")
    used = {found.check: found for found in await run_checks(database)}

    assert not [found for found in without if "chatkit" in found.finding]
    assert not [found for found in without if "search" in found.finding]
    assert {found.check for found in without if found.state == "problem"} == set()
    assert "missing: chatkit_threads.owner_sort_key" in used["indexes"].finding
    assert "search_words.user_ngrams" in used["indexes"].finding
    assert used["validators"].finding == "not in use"


async def test_a_replica_set_is_recognised() -> None:
    with LocalServer(arguments=["--replSet", "rs"]) as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri, directConnection=True) as client:
            member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
            await client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
        # A client that looks for the set waits until the member has been elected.
        uri = f"{server.uri}/?replicaSet=rs"
        async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True, w="majority") as client:
            topology = await result(client["chainlit"], "topology")
            concern = await result(client["chainlit"], "write concern")

    assert topology.state == "warning"
    assert "the replica set rs with 1 data-bearing" in topology.finding
    assert concern.state == "ok"


# How it judges --------------------------------------------------------------------------------


TODAY = date(2026, 2, 1)


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("4.2.24", "problem"),
        ("4.4.0", "problem"),
        ("5.0.0", "problem"),
        ("5.0.32", "warning"),
        ("6.0.5", "problem"),
        ("6.0.27", "warning"),
        ("6.3.2", "problem"),
        ("7.0.12", "problem"),
        ("7.0.28", "ok"),
        ("7.0.28-15", "ok"),
        ("7.3.4", "problem"),
        ("8.0.4", "problem"),
        ("8.0", "problem"),
        ("8.0.17", "ok"),
        ("8.2.1", "problem"),
        ("8.2.3", "ok"),
        ("8.3.0-rc1", "ok"),
        ("10.1.0", "ok"),
    ],
)
def test_the_servers_version(version: str, state: str) -> None:
    judged = server.judge_version(version, TODAY)

    assert judged.state == state
    assert ("CVE-2025-14847" in judged.finding) == (state == "problem" and version >= "5")


@pytest.mark.parametrize(
    ("version", "today", "state", "finding"),
    [
        ("8.2.3", date(2026, 4, 1), "ok", "MongoDB 8.2.3"),
        ("8.2.3", date(2026, 6, 1), "warning", "gets fixes until 2026-07-31"),
        ("8.2.3", date(2026, 7, 31), "warning", "gets fixes until 2026-07-31"),
        ("8.2.3", date(2026, 8, 1), "warning", "no fixes since July 2026"),
        ("7.0.28", date(2027, 8, 31), "warning", "gets fixes until 2027-08-31"),
        ("7.0.28", date(2027, 9, 1), "warning", "no fixes since August 2027"),
    ],
)
def test_the_end_of_support_comes_with_its_day(
    version: str, today: date, state: str, finding: str
) -> None:
    judged = server.judge_version(version, today)

    assert judged.state == state
    assert finding in judged.finding


def test_a_hole_is_told_with_the_release_that_closes_it() -> None:
    open_to_all = server.judge_version("7.0.12", TODAY)
    without_zlib = server.judge_version("7.0.12", TODAY, offers_zlib=False)
    between = server.judge_version("6.3.2", TODAY)

    assert "Upgrade to 7.0.28 or newer. Until then start mongod with" in open_to_all.advice
    assert without_zlib.state == "warning"
    assert without_zlib.advice == "Plan an upgrade to 7.0.28 or newer."
    assert "Upgrade to 7.0.28" in between.advice


def test_the_documentation_recommends_a_server_without_findings() -> None:
    docs = Path(__file__).parents[2] / "docs"
    pages = (docs / "getting-started.md").read_text(encoding="utf-8")
    images = re.findall(r"\bmongo:(\d[\d.]*)", pages)

    assert images
    for image in images:
        # An image named by its series is the newest of it.
        newest = f"{image}.99" if image.count(".") == 1 else image
        assert server.judge_version(newest, TODAY).state == "ok", image


GIB = 1024**3


@pytest.mark.parametrize(
    ("sizes", "state"),
    [
        ({"fsTotalSize": 100 * GIB, "fsUsedSize": 80 * GIB}, "ok"),
        ({"fsTotalSize": 100 * GIB, "fsUsedSize": 90 * GIB}, "warning"),
        ({"fsTotalSize": 100 * GIB, "fsUsedSize": 97 * GIB}, "problem"),
        ({"fsTotalSize": 0, "fsUsedSize": 0}, "ok"),
        ({}, "ok"),
    ],
)
def test_the_free_disk(sizes: dict[str, Any], state: str) -> None:
    assert server.judge_disk(sizes).state == state


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("2.6.9", "problem"),
        ("2.7.2", "ok"),
        ("2.99.1", "ok"),
        ("3.0.0", "problem"),
        (None, "warning"),
    ],
)
def test_chainlits_version(version: str | None, state: str) -> None:
    assert server.judge_chainlit(version).state == state


def test_the_supported_chainlit_is_the_one_that_is_required() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    lowest, beyond = (".".join(map(str, bound)) for bound in server.SUPPORTED_CHAINLIT)

    (required,) = re.findall(r'"chainlit([^"]+)"', project)
    assert {f">={lowest}", f"<{beyond}"} <= set(required.split(","))


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
    assert server.judge_topology(hello).state == state


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
    assert server.judge_write_concern(concern, default).state == state


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0, "ok"), (1.9, "ok"), (-3, "warning"), (59, "warning"), (-61, "problem")],
)
def test_the_clock(seconds: float, state: str) -> None:
    found = server.judge_clock(timedelta(seconds=seconds))

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
        (
            APP_USER,
            app_role("other").privileges,
            ["db1"],
            True,
            "problem",
            "may not: dbStats, listColl",
        ),
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

    found = server.judge_access(info, app_role("d"), hosts=hosts, open_to_all=open_to_all)

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
    found = stored.judge_validators([Validator("users", "missing"), validator])

    assert found.state == state
    assert found.advice.endswith(advice)


@pytest.mark.parametrize(
    ("size", "chunks", "state"),
    [(0, 0, "ok"), (1, 1, "ok"), (10, 1, "ok"), (11, 2, "ok"), (11, 1, "problem")],
)
def test_the_file_store(size: int, chunks: int, state: str) -> None:
    newest = StoredFile("id", "key", size, "text/plain", "", NOW, chunk_bytes=10)

    assert stored.judge_files(1, newest, chunks).state == state


@pytest.mark.parametrize(
    ("megabytes", "state"), [(1, "ok"), (8, "warning"), (13, "warning"), (14, "problem")]
)
def test_the_document_sizes(megabytes: int, state: str) -> None:
    largest = [{"thread": "t", "bytes": megabytes * MB}]

    assert stored.judge_sizes(largest, sampled=None).state == state


def test_a_small_size_is_no_0_0_mb() -> None:
    finding = stored.judge_sizes([{"thread": "t", "bytes": 9_441}], sampled=None).finding

    assert finding == "the largest has 9.2 kB, of at most 16 MB"


def test_a_long_way_to_the_server() -> None:
    assert server.judge_connection(0.02).state == "ok"
    assert server.judge_connection(0.2).state == "warning"
