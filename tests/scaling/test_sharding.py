"""No write of a chat is refused on shards, and the table of which shards are asked is true."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.schema.shard_keys import SHARD_KEYS
from tests.costs.commands import name
from tests.costs.operations import NOT_OF_A_CHAT
from tests.scaling.page import REWRITE, expected, table
from tests.scaling.recorded import KEYS, WITH_OVERFLOW, Recorded, record
from tests.scaling.routing import Route, route

WRITES = {"insert", "update", "delete", "findAndModify"}
MAIN = {"threads", "chatkit_threads"}


@pytest.fixture(scope="module")
def recorded(mongo_uri: str) -> list[Recorded]:
    return asyncio.run(record(mongo_uri))


def test_the_page_says_which_shards_each_operation_asks(recorded: list[Recorded]) -> None:
    assert table(recorded) == expected(), f"If that is meant: {REWRITE}"


def test_every_write_names_its_thread(recorded: list[Recorded]) -> None:
    writes = [
        command
        for each in recorded
        for command in each.commands
        if name(command) in WRITES and command[name(command)] in MAIN
    ]

    assert len(writes) > 50
    assert {route(command, KEYS) for command in writes} == {Route.ONE}


def test_nothing_is_refused_on_any_version(recorded: list[Recorded]) -> None:
    for keys in (KEYS, WITH_OVERFLOW):
        refused = [each.operation for each in recorded if Route.REFUSED in each.routes(keys)]
        assert refused == []


def test_every_operation_is_recorded(recorded: list[Recorded]) -> None:
    methods = {
        method
        for method, _ in inspect.getmembers(MongoDataLayer, inspect.iscoroutinefunction)
        if not method.startswith("_")
    }

    assert methods - NOT_OF_A_CHAT <= {each.operation.split()[0] for each in recorded}
    sent_to = {command[name(command)] for each in recorded for command in each.commands}
    assert {*SHARD_KEYS, "thread_overflow", "chatkit_overflow", "users", "fs.files"} <= sent_to
