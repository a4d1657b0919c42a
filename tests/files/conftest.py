from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette

from mongo_datalayer.files import FileLinks, GridFSStorageClient, files_route

SECRET = "a secret of the tests, long enough for HS256"


@contextmanager
def file_server(uri: str, database: str) -> Iterator[str]:
    """The address of a server in a process of its own, which serves a database's files."""
    command = [sys.executable, "-m", "tests.files.file_server", uri, database, SECRET]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MONGO_DATALAYER_FILES", "CHAINLIT_AUTH", "CHAINLIT_ROOT")):
            monkeypatch.delenv(name)


@pytest.fixture
def links() -> FileLinks:
    return FileLinks(SECRET)


@pytest.fixture
def storage(database: AsyncDatabase[dict[str, Any]], links: FileLinks) -> GridFSStorageClient:
    return GridFSStorageClient(database, links=links)


@pytest.fixture
async def http(storage: GridFSStorageClient) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's place before a Starlette app that serves the files."""
    app = Starlette(routes=[files_route(storage)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
        yield client
