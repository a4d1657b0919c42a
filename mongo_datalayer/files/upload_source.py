"""What an upload reads from: memory, a path, an open file, or a stream that arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable


@runtime_checkable
class BinaryFile(Protocol):
    """An open file that gives bytes."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


Source: TypeAlias = bytes | bytearray | memoryview | str | Path | BinaryFile | AsyncIterator[bytes]


def snapshot(source: Source) -> Source:
    """The source, copied when it is a buffer that can change while the upload waits."""
    return bytes(source) if isinstance(source, bytearray | memoryview) else source


async def read_blocks(source: Source, block_bytes: int) -> AsyncGenerator[bytes, None]:
    """The content in blocks of ``block_bytes``; the last may be shorter.

    Text is encoded as UTF-8, with ``?`` for what has no encoding (lone surrogates). Files are read
    in a thread, from where they stand; a file that the caller opened stays open.

    Raises:
        OSError: the file cannot be read.
        TypeError: ``source`` is none of these, or a file opened in text mode.
    """
    if isinstance(source, Path):
        file = await asyncio.to_thread(source.open, "rb")
        with file:
            async for block in _file_blocks(file, block_bytes):
                yield block
    elif isinstance(source, AsyncIterator):
        async for block in _gathered(source, block_bytes):
            yield block
    elif isinstance(source, BinaryFile):
        async for block in _file_blocks(source, block_bytes):
            yield block
    else:
        content = memoryview(_content(source))
        for start in range(0, len(content), block_bytes):
            yield bytes(content[start : start + block_bytes])


def _content(source: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(source, str):
        return source.encode(errors="replace")
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    raise TypeError(
        f"a file's content is bytes, str, a Path or a binary file, not {type(source).__name__}"
    )


async def _gathered(pieces: AsyncIterator[bytes], block_bytes: int) -> AsyncGenerator[bytes, None]:
    """Pieces of any size as blocks of one."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= block_bytes:
            yield bytes(waiting[:block_bytes])
            del waiting[:block_bytes]
    if waiting:
        yield bytes(waiting)


async def _file_blocks(file: BinaryFile, block_bytes: int) -> AsyncGenerator[bytes, None]:
    while True:
        block = await asyncio.to_thread(_read_full, file, block_bytes)
        if block:
            yield block
        if len(block) < block_bytes:
            return


def _read_full(file: BinaryFile, size: int) -> bytes:
    """Read until ``size`` bytes are there or the file ends: pipes and raw files give less."""
    parts: list[bytes] = []
    missing = size
    while missing > 0:
        part = file.read(missing)
        if not isinstance(part, bytes):
            raise TypeError("the file must give bytes: open it with mode 'rb'")
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
