from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from tests.files.conftest import file_server

MB = 1_000_000
LARGE = 200 * MB
LIMIT = 32 * MB

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
)


@pytest.fixture
def address(mongo_uri: str, database: AsyncDatabase[dict[str, Any]]) -> Iterator[str]:
    with file_server(mongo_uri, database.name) as address:
        yield address


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        yield client


def write_file(path: Path, size: int) -> str:
    """A file of bytes that differ everywhere; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(0, size, MB):
            part = hashlib.shake_128(b"%d" % number).digest(min(MB, size - number))
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


async def upload(http: httpx.AsyncClient, key: str, path: Path) -> str:
    response = await http.post("/upload", params={"key": key, "path": str(path)})
    return str(response.raise_for_status().json()["url"])


async def download(http: httpx.AsyncClient, link: str) -> str:
    digest = hashlib.sha256()
    async with http.stream("GET", link) as response:
        assert response.status_code == 200
        async for part in response.aiter_raw():
            digest.update(part)
    return digest.hexdigest()


async def memory(http: httpx.AsyncClient, which: str) -> int:
    return int((await http.get("/memory")).json()[which])


async def test_200_mb_up_from_a_path_and_down_again(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    write_file(small, 3 * MB)
    sha256 = write_file(large, LARGE)
    # Code and connections that every first request loads are no cost of the file's size.
    await download(http, await upload(http, "small", small))
    before = await memory(http, "VmRSS")

    link = await upload(http, "large", large)
    after_upload = await memory(http, "VmHWM") - before
    assert await download(http, link) == sha256
    after_download = await memory(http, "VmHWM") - before
    # Shown by pytest with -s, and with -rP.
    sys.stdout.write(
        f"\nhighest memory growth of the server: {after_upload / MB:.1f} MB after the upload of "
        f"200 MB, {after_download / MB:.1f} MB after its download\n"
    )
    assert after_upload < LIMIT
    assert after_download < LIMIT


async def test_50_downloads_at_once(http: httpx.AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "file"
    sha256 = write_file(path, 5 * MB)
    link = await upload(http, "file", path)
    await download(http, link)
    before = await memory(http, "VmRSS")
    assert set(await asyncio.gather(*(download(http, link) for _ in range(50)))) == {sha256}
    growth = await memory(http, "VmHWM") - before
    sys.stdout.write(f"\nhighest memory growth of the server: {growth / MB:.1f} MB\n")
    assert growth < 50 * 3 * MB


async def test_a_reader_that_goes_away_does_not_disturb_others(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    sha256 = write_file(path, 20 * MB)
    link = await upload(http, "file", path)
    for _ in range(3):
        async with http.stream("GET", link) as response:
            await anext(response.aiter_raw())
    assert await download(http, link) == sha256
