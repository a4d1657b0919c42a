"""Faults of a replica set under a steady load: what was acknowledged is there, exactly once.

``scripts/replica_set_load`` is the long form.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.garbage import Garbage, Orphan
from mongo_datalayer.config import BUCKET
from mongo_datalayer.testing.contract import step
from tests.end_to_end.replica_set.load import Load
from tests.end_to_end.replica_set.members import ReplicaSet, wait_for

CALM_SECONDS = 1.0
# Writes that only the primary has when it dies. A majority acknowledges none of them, and each of
# the eight chats waits for the one or two that it has made.
UNREPLICATED = 4
# Of so many that are acknowledged, at most eight are those that begin a thread, and write no step.
ACKNOWLEDGED = 20
FILES = 10
FROZEN_SECONDS = 18.0  # less than one operation may take: nothing waits for all of it


@pytest.fixture(scope="module")
def replica_set() -> Iterator[ReplicaSet]:
    with ReplicaSet() as replica_set:
        yield replica_set


def grown(load: Load, calls: int) -> Callable[[], bool]:
    """Whether so many more calls were acknowledged since now."""
    before = load.acknowledged()
    return lambda: load.acknowledged() >= before + calls


def test_what_was_acknowledged_outlives_its_primary(
    replica_set: ReplicaSet, tmp_path: Path
) -> None:
    with Load(replica_set.uri, "majority", tmp_path) as load:
        time.sleep(CALM_SECONDS)
        replica_set.kill_primary()
        time.sleep(CALM_SECONDS)
        replica_set.step_primary_down()
        time.sleep(CALM_SECONDS)
        # Also the calls that were waiting for the frozen server come to their end.
        replica_set.freeze_primary(grown(load, 60), seconds=FROZEN_SECONDS)
        time.sleep(CALM_SECONDS)
        replica_set.lose_primary_before_replication(
            lambda lag: lag.writes("majority") >= UNREPLICATED
        )
        time.sleep(CALM_SECONDS)
        load.end()
        outcome = asyncio.run(load.outcome())

    print(f"\ndefault write concern: {outcome}", dict(outcome.errors))  # noqa: T201 - the numbers
    assert outcome.acknowledged > 100
    assert outcome.files > 3
    assert (outcome.lost, outcome.duplicated, outcome.failed) == (0, 0, 0)


async def collect_garbage(uri: str, database: str) -> list[Orphan]:
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        collected = Garbage(client[database], BUCKET, tomorrow).collect(delete=True)
        return [orphan async for orphan in collected]


def test_what_was_acknowledged_outlives_its_processes(
    replica_set: ReplicaSet, tmp_path: Path
) -> None:
    for number in range(3):
        name = f"killed{number}"
        with Load(replica_set.uri, name, tmp_path) as load:
            wait_for(lambda: load.files() >= FILES, "files")
            load.kill()
            orphans = asyncio.run(collect_garbage(replica_set.uri, name))
            outcome = asyncio.run(load.outcome())

        print(f"\n{outcome}", len(orphans))  # noqa: T201 - the numbers
        assert outcome.files > 0
        assert (outcome.lost, outcome.duplicated, outcome.failed) == (0, 0, 0)


def test_the_same_load_loses_what_w_1_acknowledged(replica_set: ReplicaSet, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    with Load(f"{replica_set.uri}&w=1", "w1", tmp_path) as load:
        replica_set.lose_primary_before_replication(
            lambda lag: load.acknowledged(since=lag.since) >= ACKNOWLEDGED
        )
        time.sleep(CALM_SECONDS)
        load.end()
        outcome = asyncio.run(load.outcome())

    print(f"\nw=1: {outcome}", dict(outcome.errors))  # noqa: T201 - the numbers
    assert outcome.lost > 0
    assert outcome.duplicated == 0


async def test_a_secondary_that_lags_misleads_no_write(replica_set: ReplicaSet) -> None:
    """Also where the URI asks to read from secondaries; w=1, as a majority would not answer."""
    uri = f"{replica_set.uri}&readPreference=secondary&w=1"
    layer = MongoDataLayer(uri, database=f"lag_{uuid.uuid4().hex}", timeout_ms=5_000)
    await layer.update_thread("deleted", name="N")
    replica_set.settle()
    with replica_set.lagging_secondaries():
        await layer.create_step(step("t", id="s"))
        await layer.create_step(step("t", id="s", language="python"))
        await layer.delete_thread("deleted")
        await layer.create_step(step("deleted", id="late"))

        thread = await layer.get_thread("t")
        assert thread is not None
        assert [s["language"] for s in thread["steps"]] == ["python"]
        assert await layer.get_thread("deleted") is None
    await layer.close()
