"""The example, run as the pages say: a server, and a client that talks to it over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def address(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[str]:
    """The running app's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "MONGODB_URI": mongo_uri,
        "MONGODB_DATABASE": database_name,
        "MONGO_DATALAYER_FILES_URL": address,
        "MONGO_DATALAYER_FILES_SECRET": "a-long-random-text",
    }
    command = [sys.executable, "-m", "uvicorn", "mongo_datalayer.demo.chatkit_app:app"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=output, stderr=output, cwd=ROOT
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                httpx.get(address)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_the_client_talks_to_the_server(address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mongo_datalayer.demo.chatkit_client", address],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    gone = {"type": "threads.get_by_id", "params": {"thread_id": "thr_gone"}}
    assert httpx.post(f"{address}/chatkit", json=gone).status_code == 404
    told = {line[:10].strip(): line[10:].strip() for line in done.stdout.splitlines()}
    assert told.pop("create").startswith("thr_")
    assert told == {
        "stream": "6 pieces: You said: Hello from the client",
        "announce": "PUT dot.png",
        "attach": "204",
        "again": "204",
        "another": "409",
        "preview": "200 image/png",
        "message": "3 items, the last a widget",
        "tool call": "2 items, the last a client_tool_call",
        "output": "2 items, the last a widget",
        "page": "4 + 6 items",
        "list": "['Hello from the client']",
        "feedback": "positive",
        "retry": "['user_message', 'assistant_message', 'widget']",
        "stranger": "[]",
        "detach": "404",
        "delete": "[]",
    }
