from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette

from mongo_datalayer.files import FileLinks, GridFSStorageClient, mount_files
from tests.files.conftest import SECRET


@pytest.fixture
def chainlit_app() -> Iterator[Starlette]:
    from chainlit.server import app

    before = list(app.router.routes)
    yield app
    app.router.routes[:] = before


@pytest.fixture
async def browser(chainlit_app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(chainlit_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
        yield client


async def test_on_chainlits_own_app(
    browser: httpx.AsyncClient, storage: GridFSStorageClient
) -> None:
    content = b"text that compresses well " * 1000
    link = (await storage.upload_file("a/b c.txt", content, mime="text/plain"))["url"]
    # Chainlit answers what it does not know with its page.
    assert "<html" in (await browser.get(link)).text

    mount_files(storage)
    response = await browser.get(link, headers={"accept-encoding": "gzip"})
    assert response.status_code == 200
    assert response.content == content
    assert response.headers["content-length"] == str(len(content))
    assert (await browser.head(link)).headers["content-length"] == str(len(content))
    part = await browser.get(link, headers={"range": "bytes=5-8", "accept-encoding": "gzip"})
    assert (part.status_code, part.content) == (206, content[5:9])
    assert (await browser.get("/mongo/files/a/b%20c.txt")).status_code == 403
    # And still answers all else.
    assert "<html" in (await browser.get("/thread/1")).text
    assert (await browser.get("/health")).json() == {"status": "ok"}


async def test_odd_keys_do_not_fall_through_to_chainlits_page(
    browser: httpx.AsyncClient, storage: GridFSStorageClient, chainlit_app: Starlette
) -> None:
    mount_files(storage)
    for object_key in ("line\nbreak", "//x", "..\\y", "%2e%2e/z", "", "\n"):
        if object_key.strip():
            link = (await storage.upload_file(object_key, b"odd"))["url"]
            assert (await browser.get(link)).content == b"odd"
    assert (await browser.get("/mongo/files/")).status_code == 403
    assert (await browser.get("/mongo/files/%0A")).status_code == 403


async def test_mounting_again_replaces(
    browser: httpx.AsyncClient,
    storage: GridFSStorageClient,
    chainlit_app: Starlette,
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    mount_files(storage)
    count = len(chainlit_app.router.routes)
    second = GridFSStorageClient(database, bucket="second", links=FileLinks(SECRET))
    link = (await second.upload_file("key", b"second"))["url"]
    assert (await browser.get(link)).status_code == 404
    mount_files(second)
    assert (await browser.get(link)).content == b"second"
    assert len(chainlit_app.router.routes) == count


@pytest.mark.parametrize("make_app", [Starlette, FastAPI])
async def test_on_any_app(make_app: Any, storage: GridFSStorageClient) -> None:
    app = make_app()
    mount_files(storage, app)
    link = (await storage.upload_file("key", b"content"))["url"]
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://app.test"
    ) as http:
        assert (await http.get(link)).content == b"content"


ROOT_PATH = """
import asyncio, os, sys
import httpx
from pymongo import AsyncMongoClient
from mongo_datalayer.files import GridFSStorageClient, mount_files

kind, uri, name = sys.argv[1:]
os.environ["CHAINLIT_AUTH_SECRET"] = "a secret of the tests"
if kind == "root_path":
    from chainlit.config import config
    os.environ["CHAINLIT_ROOT_PATH"] = config.run.root_path = "/chat"
    from chainlit.server import app
    prefix = "/chat"
else:
    from fastapi import FastAPI
    from chainlit.utils import mount_chainlit
    app = FastAPI(root_path="/site" if kind == "behind_proxy" else "")
    open("target.py", "w").write("import chainlit")
    mount_chainlit(app, "target.py", path="/chat")
    prefix = "/site/chat" if kind == "behind_proxy" else "/chat"

async def main():
    async with AsyncMongoClient(uri) as client:
        storage = GridFSStorageClient(client[name])
        mount_files(storage)
        link = (await storage.upload_file("a/key", b"content"))["url"]
        assert link.startswith(f"{prefix}/mongo/files/a/key?token="), link
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
            response = await http.get(link)
            assert (response.status_code, response.content) == (200, b"content"), response
            assert (await http.get(f"{prefix}/mongo/files/a/key")).status_code == 403
        await client.drop_database(name)
    print("served")

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["root_path", "mounted", "behind_proxy"])
def test_below_a_root_path(kind: str, mongo_uri: str, database_name: str, tmp_path: Path) -> None:
    """In a process of its own: Chainlit reads its root path once, when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", ROOT_PATH, kind, mongo_uri, database_name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("served\n"), done.stderr
