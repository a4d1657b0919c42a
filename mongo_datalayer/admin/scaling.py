"""What to type in the mongo shell to shard a database, and what is in the way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from mongo_datalayer.admin.doctor_checks.releases import dotted
from mongo_datalayer.config import BUCKET
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Database, index_information, open_collection
from mongo_datalayer.mongodb.error_reason import is_unauthorized
from mongo_datalayer.schema.indexes import check_indexes
from mongo_datalayer.schema.shard_keys import ShardKey, shard_keys

LEAST_OVERFLOW_SERVER = (5, 1)
"""The first MongoDB that joins a sharded collection."""

_WIRE_OF_LEAST = 14  # the version of its protocol, which `hello` names


@dataclass(frozen=True)
class ShardingPlan:
    """How a database is sharded.

    Attributes:
        commands: The mongo shell's commands, in order.
        obstacles: What has to be done before, or speaks against it.
    """

    commands: tuple[str, ...]
    obstacles: tuple[str, ...]


async def plan_sharding(
    database: Database, *, bucket: str = BUCKET, overflow: bool = False
) -> ShardingPlan:
    """The plan for a database; it only reads.

    Args:
        database: The database, through a mongos if there is one.
        bucket: The GridFS bucket of the files.
        overflow: Whether to shard the overflow of long threads too.
    """
    hello = await database.client.admin.command("hello")
    present = set(await database.list_collection_names())
    keys = {
        name: key for name, key in shard_keys(bucket, overflow=overflow).items() if name in present
    }
    listed = {name: await index_information(open_collection(database, name)) for name in keys}
    sharded = await _sharded(database)
    obstacles = [
        *_of_the_server(hello, overflow=overflow),
        *(text for name, key in keys.items() for text in _of_indexes(name, key, listed[name])),
    ]
    if not keys:
        obstacles.append("There are no collections yet. Run `mongo-datalayer setup apply` first.")
    elif (await check_indexes(database, bucket=bucket)).missing:
        obstacles.append("Indexes are missing. Run `mongo-datalayer indexes apply` first.")
    left = {name: key for name, key in keys.items() if name not in sharded}
    return ShardingPlan(tuple(shell_commands(database.name, left)), tuple(obstacles))


def shell_commands(database: str, keys: Mapping[str, ShardKey]) -> list[str]:
    """What an administrator types in the mongo shell. Pure."""
    if not keys:
        return []
    name = json.dumps(database)
    commands = [f"sh.enableSharding({name})"]
    for collection, key in keys.items():
        shell_key, place = json.dumps(dict(key)), json.dumps(collection)
        if "hashed" in key.values():
            commands.append(
                f"db.getSiblingDB({name}).getCollection({place}).createIndex({shell_key})"
            )
        namespace = json.dumps(f"{database}.{collection}")
        commands.append(f"sh.shardCollection({namespace}, {shell_key})")
    return commands


def _of_the_server(hello: Mapping[str, Any], *, overflow: bool) -> list[str]:
    found = []
    if hello.get("msg") != "isdbgrid":
        kind = f"the replica set {hello['setName']}" if "setName" in hello else "a lone server"
        found.append(
            f"This is {kind}, not a mongos. Make a sharded cluster first: "
            "https://www.mongodb.com/docs/manual/tutorial/convert-replica-set-to-replicated-shard-cluster/"
        )
    if overflow and hello["maxWireVersion"] < _WIRE_OF_LEAST:
        found.append(
            "Lists join the overflow of long threads. To shard it, upgrade to MongoDB "
            f"{dotted(LEAST_OVERFLOW_SERVER)} or newer."
        )
    return found


def _of_indexes(collection: str, key: ShardKey, listed: Sequence[Document]) -> list[str]:
    """The unique indexes that MongoDB does not allow beside the key."""
    fields = tuple(key)
    return [
        f"The unique index {collection}.{index['name']} does not begin with the shard key "
        f"{json.dumps(dict(key))}. Drop it, or leave the collection unsharded."
        for index in listed
        if index.get("unique") and tuple(index["key"])[: len(fields)] != fields
    ]


async def _sharded(database: Database) -> set[str]:
    """The collections that are sharded already, as far as this login may know."""
    prefix = f"{database.name}."
    entries = database.client["config"]["collections"].find(
        {"_id": {"$gte": prefix, "$lt": f"{database.name}/"}}, {"_id": 1}
    )
    try:
        return {str(entry["_id"]).removeprefix(prefix) async for entry in entries}
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        return set()
