"""A server without a replica set that is killed: what was acknowledged is in its journal."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.server import LocalServer
from mongo_datalayer.testing.contract import step
from tests.end_to_end.replica_set.members import wait_for

SECONDS = 0.7
# The journal is on disk twice a second, and whenever a write waits for it.
ARGUMENTS = ("--journalCommitInterval", "500")


@pytest.mark.parametrize(("options", "loses"), [("", False), ("w=1", True)])
async def test_what_was_acknowledged_outlives_the_server(
    tmp_path: Path, options: str, loses: bool
) -> None:
    server = LocalServer(tmp_path, arguments=ARGUMENTS)
    server.start()
    layer = MongoDataLayer(f"{server.uri}/?{options}", database="chat")
    acknowledged: list[str] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        await layer.create_step(step("t", id=f"s{len(acknowledged)}"))
        acknowledged.append(f"s{len(acknowledged)}")

    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: not server.running, "the end of the server")
    server.start()

    thread = await layer.get_thread("t")
    await layer.close()
    server.stop()
    there = [] if thread is None else [s["id"] for s in thread["steps"]]
    if loses:
        assert len(there) < len(acknowledged)
    else:
        assert sorted(there) == sorted(acknowledged)
