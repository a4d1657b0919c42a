"""MongoDB is away for longer than the timeout, several times over, while hundreds of calls wait.

Each call ends in its time, and the first call after MongoDB is back succeeds.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from chatkit.types import ThreadMetadata
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.server import LocalServer
from mongo_datalayer.testing.contract import step
from tests.end_to_end.replica_set.members import Member, ReplicaSet, wait_for

CALLS = 300
TIMEOUT_SECONDS = 2.0
ROUNDS = 3
# The driver looks for a server twice a second, and 300 calls share two busy cores. Calls that the
# driver has lost never end.
GRACE_SECONDS = 25.0
BACK_SECONDS = 2.0

Call: TypeAlias = Callable[[str], Awaitable[object]]
Front: TypeAlias = Callable[[str], tuple[Call, Callable[[], Awaitable[None]]]]


def chainlit(uri: str) -> tuple[Call, Callable[[], Awaitable[None]]]:
    layer = MongoDataLayer(uri, database="outage", timeout_ms=int(TIMEOUT_SECONDS * 1000))
    return lambda name: layer.create_step(step(f"t-{name}", id=name)), layer.close


def chatkit(uri: str) -> tuple[Call, Callable[[], Awaitable[None]]]:
    store: MongoChatKitStore[dict[str, str]] = MongoChatKitStore(
        uri, database="outage", timeout_ms=int(TIMEOUT_SECONDS * 1000)
    )

    def call(name: str) -> Awaitable[object]:
        thread = ThreadMetadata(id=name, created_at=datetime.now())  # noqa: DTZ005 - as ChatKit
        return store.save_thread(thread, {"user_id": "ada"})

    return call, store.close


FRONTS = pytest.mark.parametrize("front", [chainlit, chatkit], ids=["chainlit", "chatkit"])


async def assert_calls_end_in_time(call: Call, name: str) -> None:
    """Hundreds of calls at once: each raises the driver's error, none later than it should."""
    began = time.monotonic()
    tasks = [asyncio.ensure_future(call(f"{name}-{number}")) for number in range(CALLS)]
    _, pending = await asyncio.wait(tasks, timeout=TIMEOUT_SECONDS + GRACE_SECONDS)
    assert not pending, f"{len(pending)} calls have no answer {time.monotonic() - began:.1f} s on"
    assert all(isinstance(task.exception(), PyMongoError) for task in tasks)


async def assert_works_again(call: Call, uri: str) -> None:
    """The first call after the first answer to a ping succeeds within two seconds."""
    async with AsyncMongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=60_000) as client:
        await client.admin.command("ping")
    await asyncio.wait_for(asyncio.ensure_future(call("back")), BACK_SECONDS)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[LocalServer]:
    server = LocalServer(tmp_path, arguments=("--wiredTigerCacheSizeGB", "0.25"))
    server.start()
    yield server
    server.stop()


@FRONTS
async def test_a_server_that_is_not_there_yet(front: Front, running: LocalServer) -> None:
    running.stop()
    call, close = front(running.uri)
    for number in range(ROUNDS):
        await assert_calls_end_in_time(call, str(number))
    running.start()
    await assert_works_again(call, running.uri)
    await close()


@FRONTS
async def test_a_server_that_goes_away_and_comes_back(front: Front, running: LocalServer) -> None:
    call, close = front(running.uri)
    for number in range(2):
        await call(f"before-{number}")
        running.stop()
        await assert_calls_end_in_time(call, str(number))
        running.start()
        await assert_works_again(call, running.uri)
    await close()


@FRONTS
async def test_a_server_that_is_stopped_in_its_tracks(front: Front, running: LocalServer) -> None:
    member = Member.__new__(Member)
    member.__dict__.update(running.__dict__)
    call, close = front(running.uri)
    await call("before")
    member.signal(signal.SIGSTOP)
    try:
        for number in range(ROUNDS):
            await assert_calls_end_in_time(call, str(number))
    finally:
        member.signal(signal.SIGCONT)
    await assert_works_again(call, running.uri)
    await close()


@pytest.fixture(scope="module")
def replica_set() -> Iterator[ReplicaSet]:
    with ReplicaSet() as replica_set:
        yield replica_set


@FRONTS
async def test_a_replica_set_without_a_primary(front: Front, replica_set: ReplicaSet) -> None:
    await asyncio.to_thread(replica_set.settle)
    call, close = front(replica_set.uri)
    await call("before")
    others = replica_set.members[:2]
    for member in others:  # one of three is no majority: it steps down
        member.signal(signal.SIGSTOP)
    try:
        last = replica_set.members[2]
        await asyncio.to_thread(wait_for, lambda: not last.is_primary(), "the step-down")
        for number in range(ROUNDS):
            await assert_calls_end_in_time(call, str(number))
    finally:
        for member in others:
            member.signal(signal.SIGCONT)
    await asyncio.to_thread(replica_set.settle)
    await assert_works_again(call, replica_set.uri)
    await close()
