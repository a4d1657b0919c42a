"""Plays a server that lacks something: a proxy that refuses commands and passes on the others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson

Refusal = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""What the server answers to a command instead of running it; None where it runs it."""

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_BODY = 0
_numbers = itertools.count(1)


@contextmanager
def refusing_server(port: int, refuse: Refusal) -> Iterator[str]:
    """The URI of a server like the one at ``port`` that refuses some commands."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = _Proxy(port, refuse)
    try:
        listening = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        yield f"mongodb://127.0.0.1:{listening}"
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Proxy:
    def __init__(self, port: int, refuse: Refusal) -> None:
        self._port = port
        self._refuse = refuse
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.ensure_future(_pump(from_server, writer))
        try:
            while True:
                await self._pass_on(reader, writer, to_server)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            answers.cancel()
            for each in (writer, to_server):
                each.close()
            await asyncio.gather(answers, return_exceptions=True)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
    ) -> None:
        header = await reader.readexactly(_HEADER.size)
        length, number, _, kind = _HEADER.unpack(header)
        message = await reader.readexactly(length - _HEADER.size)
        answer = self._refuse(_command(message)) if kind == _OP_MSG else None
        if answer is None:
            to_server.write(header + message)
            await to_server.drain()
            return
        body = struct.pack("<Ib", 0, _BODY) + bson.encode({"ok": 0.0, **answer})
        writer.write(_HEADER.pack(_HEADER.size + len(body), next(_numbers), number, _OP_MSG) + body)
        await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _command(message: bytes) -> Mapping[str, Any]:
    """The command of an OP_MSG, which the driver puts into its first section."""
    assert message[4] == _BODY
    (size,) = struct.unpack_from("<i", message, 5)
    return bson.decode(message[5 : 5 + size])
