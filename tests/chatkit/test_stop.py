"""C14 on a real uvicorn: a person presses Stop, or the server is told to end, in mid-answer.

uvicorn's Stop is a cancelled scope of anyio, which cancels again at every await. A server that ends
cancels the task of each request once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.demo import chatkit_app
from mongo_datalayer.testing.chatkit_contract import user_input
from tests.chatkit.conftest import links

Database = AsyncDatabase[dict[str, Any]]

WORDS = "one two three four five six seven eight nine ten " * 20


@pytest.fixture(autouse=True)
def _slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chatkit_app, "TOKEN_SECONDS", 0.1)


@asynccontextmanager
async def slow_network(uri: str, seconds: float) -> AsyncIterator[str]:
    """The URI of a proxy to the server at ``uri``; what is sent arrives ``seconds`` later."""
    loop = asyncio.get_running_loop()
    target = urlsplit(uri)
    writers: list[asyncio.StreamWriter] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                loop.call_later(seconds, writer.write, data)
        loop.call_later(seconds, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(target.hostname, target.port)
        writers.extend((writer, there[1]))
        await asyncio.gather(forward(reader, there[1]), forward(there[0], writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"mongodb://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)


@asynccontextmanager
async def served(uri: str, database: str) -> AsyncIterator[uvicorn.Server]:
    """The example on uvicorn, which ends when the block does."""
    store = MongoChatKitStore[Any](uri, database=database, links=links())
    config = uvicorn.Config(
        chatkit_app.create_app(store), port=0, log_level="critical", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        await asyncio.sleep(0.02)
    try:
        yield server
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()


def port_of(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


async def ask(
    client: httpx.AsyncClient, number: int, begun: asyncio.Semaphore, *, stay: bool
) -> None:
    """Ask, read some words of the answer, and go; or stay until the server ends."""
    body = {"type": "threads.create", "params": {"input": user_input(f"{number} {WORDS}")}}
    read = 0
    async with client.stream("POST", "/chatkit", json=body) as response:
        async for line in response.aiter_lines():
            read += '"thread.item.updated"' in line
            if read == 3 + number % 3:
                begun.release()
                if not stay:
                    return


async def ask_together(server: uvicorn.Server, count: int, *, stay: bool) -> None:
    """As many people ask at once; returns when all answers have begun and were stopped."""
    begun = asyncio.Semaphore(0)
    limits = httpx.Limits(max_connections=None)
    base = f"http://127.0.0.1:{port_of(server)}"
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        asking = [
            asyncio.ensure_future(ask(client, number, begun, stay=stay)) for number in range(count)
        ]
        for _ in range(count):
            await begun.acquire()
        server.should_exit = stay
        await asyncio.gather(*asking, return_exceptions=True)


async def stored_types(threads: Any, *, count: int) -> list[list[str]]:
    """The types of the items of each thread, in order, once all threads have three."""
    deadline = time.monotonic() + 20
    while True:
        stored = await threads.find({}, {"items.type": 1}).to_list()
        types = [[item["type"] for item in thread["items"]] for thread in stored]
        if (len(types) == count and min(map(len, types)) == 3) or time.monotonic() > deadline:
            return types
        await asyncio.sleep(0.1)


KEPT = ["user_message", "assistant_message", "sdk_hidden_context"]
PEOPLE = pytest.mark.parametrize(
    ("count", "latency"), [(10, 0.0), (40, 0.015)], ids=["10", "40, and a slow network"]
)


@PEOPLE
async def test_stop_keeps_what_was_said_and_notes_the_end(
    mongo_uri: str, database: Database, count: int, latency: float
) -> None:
    async with (
        slow_network(mongo_uri, latency) as uri,
        served(uri, database.name) as server,
    ):
        await ask_together(server, count, stay=False)
        assert await stored_types(database["chatkit_threads"], count=count) == [KEPT] * count


@PEOPLE
async def test_a_server_that_ends_keeps_what_was_said(
    mongo_uri: str, database: Database, count: int, latency: float
) -> None:
    async with slow_network(mongo_uri, latency) as uri:
        async with served(uri, database.name) as server:
            await ask_together(server, count, stay=True)
        # The process has ended: nothing is on its way any more.
        stored = await database["chatkit_threads"].find({}, {"items.type": 1}).to_list()
        assert [[item["type"] for item in thread["items"]] for thread in stored] == [KEPT] * count
