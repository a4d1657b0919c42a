from __future__ import annotations

import json
import subprocess
from typing import Any

from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.admin import scaling
from mongo_datalayer.admin.scaling import plan_sharding, shell_commands
from mongo_datalayer.schema.indexes import apply_indexes
from mongo_datalayer.schema.shard_keys import shard_keys
from tests.cli.commands import run
from tests.programs import require_mongosh

Documents = AsyncDatabase[dict[str, Any]]

# Stands in for what only a mongos has; the commands are noted.
STAND_IN = """
const sent = []
sh = {enableSharding: (...words) => { sent.push(["enableSharding", ...words]) },
      shardCollection: (...words) => { sent.push(["shardCollection", ...words]) }}
"""


async def test_the_plan_of_a_database_and_what_is_in_the_way(
    where: tuple[str, ...], database: Documents
) -> None:
    await apply_indexes(database)

    done = await run("scaling", "plan", *where)
    as_json = json.loads((await run("scaling", "plan", "--json", *where)).out)

    name = database.name
    assert done.code == 1
    assert done.out.splitlines() == [
        *(f"// {obstacle}" for obstacle in as_json["obstacles"]),
        f'sh.enableSharding("{name}")',
        f'db.getSiblingDB("{name}").getCollection("threads").createIndex({{"_id": "hashed"}})',
        f'sh.shardCollection("{name}.threads", {{"_id": "hashed"}})',
        f'db.getSiblingDB("{name}").getCollection("chatkit_threads")'
        '.createIndex({"_id": "hashed"})',
        f'sh.shardCollection("{name}.chatkit_threads", {{"_id": "hashed"}})',
        f'sh.shardCollection("{name}.fs.chunks", {{"files_id": 1, "n": 1}})',
    ]
    (obstacle,) = as_json["obstacles"]
    assert obstacle.startswith("This is a lone server, not a mongos.")


async def test_what_is_missing_is_said(where: tuple[str, ...], database: Documents) -> None:
    empty = (await run("scaling", "plan", *where)).out
    await database.create_collection("threads")
    without_indexes = (await run("scaling", "plan", *where)).out

    assert "// There are no collections yet." in empty
    assert "// Nothing is left to shard." in empty
    assert "Run `mongo-datalayer indexes apply` first." in without_indexes
    assert without_indexes.splitlines()[-1].startswith("sh.shardCollection")
    assert "chatkit" not in without_indexes


async def test_a_unique_index_in_the_way_is_named(database: Documents) -> None:
    await apply_indexes(database)
    await database.threads.create_index("name", name="theirs", unique=True, sparse=True)
    await database.thread_overflow.create_index("x", name="other", unique=True, sparse=True)

    without, overflowing = [
        await plan_sharding(database, overflow=overflow) for overflow in (False, True)
    ]

    (found,) = [each for each in without.obstacles if "unique" in each]
    assert found.startswith("The unique index threads.theirs does not begin with the shard key")
    assert len([each for each in overflowing.obstacles if "unique" in each]) == 2
    assert any("thread_overflow" in command for command in overflowing.commands)


async def test_an_old_server_cannot_join_sharded_overflow() -> None:
    mongos = {"msg": "isdbgrid", "maxWireVersion": 13}

    assert scaling._of_the_server(mongos, overflow=False) == []
    (obstacle,) = scaling._of_the_server(mongos, overflow=True)
    assert obstacle.endswith("upgrade to MongoDB 5.1 or newer.")


def test_the_mongo_shell_runs_the_commands(
    mongo_uri: str, server_client: MongoClient[dict[str, Any]], database_name: str
) -> None:
    require_mongosh()
    commands = shell_commands(database_name, shard_keys("docs", overflow=True))
    script = "\n".join([STAND_IN, *commands, "EJSON.stringify(sent)"])

    done = subprocess.run(
        ["mongosh", "--quiet", "--norc", mongo_uri, "--eval", script],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )

    sent = json.loads(done.stdout)
    assert sent[0] == ["enableSharding", database_name]
    assert [each[1] for each in sent[1:]] == [
        f"{database_name}.{name}" for name in shard_keys("docs", overflow=True)
    ]
    hashed = server_client[database_name]["threads"].index_information()
    assert hashed["_id_hashed"]["key"] == [("_id", "hashed")]
