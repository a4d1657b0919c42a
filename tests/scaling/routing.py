"""Which shards a mongos sends a command to, by MongoDB's rules. Pure.

https://www.mongodb.com/docs/manual/core/sharded-cluster-query-router/ and
https://www.mongodb.com/docs/manual/core/sharded-cluster-requirements/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from mongo_datalayer.schema.shard_keys import ShardKey

Keys = Mapping[str, ShardKey]
"""The keys of sharded collections; others are on one shard as a whole."""


class Route(IntEnum):
    """Where a command goes. The highest of several is what an operation depends on."""

    ONE = 1
    SOME = 2  # those that hold the values in the filter
    ALL = 3
    REFUSED = 4  # before MongoDB 7.1; all shards from then on


NOT_ROUTED = frozenset({"listCollections", "listIndexes", "createIndexes", "hello", "getMore"})


def route(command: Mapping[str, Any], keys: Keys) -> Route:
    """Where a mongos sends a command as the driver sends it."""
    name = next(iter(command))
    key = keys.get(command[name])
    if name == "aggregate":
        return max(_routes_of_pipeline(command["pipeline"], key, keys), default=Route.ONE)
    if key is None:
        return Route.ONE
    if name == "find":
        return read(command["filter"], key)
    if name == "insert":
        return Route.ONE if len(command["documents"]) == 1 else Route.SOME
    if name == "update":
        return max(
            write(each["q"], key, many=each.get("multi"), upsert=each.get("upsert"))
            for each in command["updates"]
        )
    if name == "delete":
        return max(write(each["q"], key, many=each["limit"] == 0) for each in command["deletes"])
    if name == "findAndModify":
        # An _id alone does not do here.
        exact = names_whole_key(command["query"], key)
        return Route.ONE if exact else Route.REFUSED
    raise AssertionError(f"No rule for {name}")


def _routes_of_pipeline(
    pipeline: Sequence[Mapping[str, Any]], key: ShardKey | None, keys: Keys
) -> Iterable[Route]:
    first = pipeline[0].get("$match", {}) if pipeline else {}
    yield Route.ONE if key is None else read(first, key)
    for stage in pipeline:
        if union := stage.get("$unionWith"):
            yield from _routes_of_pipeline(union["pipeline"], keys.get(union["coll"]), keys)
        if (lookup := stage.get("$lookup")) and (joined := keys.get(lookup["from"])):
            yield Route.SOME if lookup.get("foreignField") in joined else Route.ALL


def read(query: Mapping[str, Any], key: ShardKey) -> Route:
    """Where a read goes: a prefix of a ranged key is enough, and a range of it."""
    field, kind = next(iter(key.items()))
    values = [condition for name, condition in _conditions(query) if name == field]
    if any(map(is_equality, values)):
        return Route.ONE
    if any("$in" in value for value in values if isinstance(value, Mapping)):
        return Route.SOME
    if branches := query.get("$or"):
        inner = max(read({**query, **branch, "$or": ()}, key) for branch in branches)
        return Route.SOME if inner <= Route.SOME else Route.ALL
    ranges = {"$gt", "$gte", "$lt", "$lte"}
    is_range = any(ranges & value.keys() for value in values if isinstance(value, Mapping))
    return Route.SOME if is_range and kind != "hashed" else Route.ALL


def write(
    query: Mapping[str, Any], key: ShardKey, *, many: bool | None, upsert: bool | None = False
) -> Route:
    """Where an update or a deletion goes."""
    if names_whole_key(query, key):
        return Route.ONE
    if many:
        return read(query, key)
    named = any(name == "_id" and is_equality(value) for name, value in _conditions(query))
    return Route.ALL if named and not upsert else Route.REFUSED


def names_whole_key(query: Mapping[str, Any], key: ShardKey) -> bool:
    """Whether the filter has an equality on every field of the key."""
    named = {name for name, condition in _conditions(query) if is_equality(condition)}
    return set(key) <= named


def is_equality(condition: Any) -> bool:
    """Whether a condition on a field is an equality."""
    if isinstance(condition, Mapping):
        return not any(str(name).startswith("$") for name in condition) or "$eq" in condition
    return True


def _conditions(query: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, condition in query.items():
        if name == "$and":
            for each in condition:
                yield from _conditions(each)
        elif not name.startswith("$"):
            yield name, condition
