"""What an upload reads from: memory, a path, an open file, or a stream that arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable


@runtime_checkable
class BinaryFile(Protocol):
    """An open file that gives bytes."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


Source: TypeAlias = bytes | bytearray | memoryview | str | Path | BinaryFile | AsyncIterator[bytes]


async def read_blocks(source: Source, block_bytes: int) -> AsyncGenerator[bytes, None]:
    """The content in blocks of ``block_bytes``; the last may be shorter.

    Text is encoded as UTF-8, lone surrogates as ``?``. Files are read in a thread, from their
    current position; a file that you opened stays open.

    Raises:
        OSError: the file cannot be read.
        TypeError: ``source`` has another type, or is a file opened in text mode.
    """
    # Streams, pipes and unbuffered files give pieces of any size.
    waiting = bytearray()
    async with aclosing(_pieces(source, block_bytes)) as pieces:
        async for piece in pieces:
            waiting += piece
            while len(waiting) >= block_bytes:
                yield bytes(waiting[:block_bytes])
                del waiting[:block_bytes]
    if waiting:
        yield bytes(waiting)


async def _pieces(source: Source, size: int) -> AsyncGenerator[bytes, None]:
    if isinstance(source, AsyncIterator):
        async for piece in source:
            yield piece
    elif isinstance(source, Path):
        with await asyncio.to_thread(source.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, size):
                yield piece
    elif isinstance(source, BinaryFile):
        while piece := await asyncio.to_thread(_read, source, size):
            yield piece
    else:
        content = _content(source)
        for start in range(0, len(content), size):
            yield content[start : start + size]


def _read(file: BinaryFile, size: int) -> bytes:
    piece = file.read(size)
    if not isinstance(piece, bytes):
        raise TypeError("the file must give bytes: open it with mode 'rb'")
    return piece


def _content(source: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(source, str):
        return source.encode(errors="replace")
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    raise TypeError(
        f"a file's content is bytes, str, a Path or a binary file, not {type(source).__name__}"
    )
