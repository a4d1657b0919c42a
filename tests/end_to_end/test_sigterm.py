"""SIGTERM while MongoDB is down: the process ends in time, and names what was not written."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mongo_datalayer.server import LocalServer
from mongo_datalayer.testing.chatkit_contract import user_input

END_SECONDS = 30.0
"""12 are promised. A busy machine needs longer, and without a bound it would be for ever."""

COUNT = 4

CHAINLIT_APP = f"""
import asyncio, os
import chainlit as cl
from mongo_datalayer import MongoDataLayer

layer = MongoDataLayer(os.environ["MONGODB_URI"])
tasks = []
cl.data_layer(lambda: layer)

@cl.on_app_startup
async def start():
    for number in range({COUNT}):
        step = {{"id": f"s{{number}}", "threadId": "t", "type": "run", "name": "n"}}
        tasks.append(asyncio.create_task(layer.create_step(step)))

@cl.on_message
async def answer(message): ...
"""

CHATKIT_APP = """
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.demo import chatkit_app

chatkit_app.TOKEN_SECONDS = 0.1
app = chatkit_app.create_app(MongoChatKitStore.from_env())
"""


@contextmanager
def running(command: list[str], folder: Path, uri: str) -> Iterator[subprocess.Popen[bytes]]:
    """The app's process, whose output goes to the file ``log``."""
    environment = {
        **os.environ,
        "MONGODB_URI": uri,
        "CHAINLIT_APP_ROOT": str(folder),
        "CHAINLIT_AUTH_SECRET": "s" * 48,
        "MONGO_DATALAYER_FILES_URL": "http://chat.test",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(process: subprocess.Popen[bytes], folder: Path, text: str) -> None:
    """Until the log says ``text``."""
    deadline = time.monotonic() + 60
    while text not in (folder / "log").read_text():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes], folder: Path) -> list[str]:
    """Send SIGTERM; what the log says was still on its way, once the process has ended in time."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(2 * END_SECONDS)
    assert time.monotonic() - began < END_SECONDS
    return re.findall(
        r"Still on its way 10\.0 s after close\(\): (.*)", (folder / "log").read_text()
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_chainlit_ends_in_time(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CHAINLIT_APP)
    command = ["chainlit", "run", "app.py", "--headless", "--port", str(free_port())]
    with running(command, tmp_path, "mongodb://127.0.0.1:1/") as process:
        wait_for(process, tmp_path, "MongoDB has been away")
        unwritten = end(process, tmp_path)
    assert unwritten == [f"create_step of s{number} in thread t" for number in range(COUNT)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    with LocalServer(tmp_path / "db", arguments=("--wiredTigerCacheSizeGB", "0.25")) as server:
        yield server


def test_chatkit_ends_in_time(tmp_path: Path, server: LocalServer) -> None:
    (tmp_path / "app.py").write_text(CHATKIT_APP)
    port = free_port()
    # Without a bound uvicorn waits for the end of all answers.
    command = ["uvicorn", "app:app", "--port", str(port), "--timeout-graceful-shutdown", "1"]
    threads: dict[str, str] = {}
    begun = threading.Semaphore(0)

    def ask(number: int) -> None:
        body: Any = {"type": "threads.create", "params": {"input": user_input("word " * 1000)}}
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
            client.stream("POST", "/chatkit", json=body) as response,
        ):
            for line in response.iter_lines():
                event = json.loads(line.removeprefix("data: ") or "{}")
                if event.get("type") == "thread.created":
                    threads[str(number)] = event["thread"]["id"]
                if event.get("type") == "thread.item.updated":
                    begun.release()

    def ask_until_the_end(number: int) -> None:
        with pytest.raises(httpx.TransportError):  # the server goes in mid-answer
            ask(number)

    with running(command, tmp_path, server.uri) as process:
        wait_for(process, tmp_path, "startup complete")
        asking = [threading.Thread(target=ask_until_the_end, args=(n,)) for n in range(COUNT)]
        for thread in asking:
            thread.start()
        for _ in range(5 * COUNT):
            assert begun.acquire(timeout=60)
        server.stop()
        unwritten = end(process, tmp_path)
        for thread in asking:
            thread.join(60)
    found = [
        re.fullmatch(r"add_thread_item of '\w+' in thread '(\w+)'", text) for text in unwritten
    ]
    assert sorted(match[1] for match in found if match) == sorted(threads.values())
