"""Fixtures: a real mongod for the whole run, a database of its own for every test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.server import LocalServer
from mongo_datalayer.testing.mongod_log import MongodLog

MEMORY_BYTES = 4 * 1024**3
"""How much memory a server of the tests may be given."""

# What is tested is what comes out, not how fast a busy machine is.
settings.register_profile(
    "mongo_datalayer", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mongo_datalayer")

# No test may depend on what the developer's shell has set.
for _name in list(os.environ):
    if _name.startswith(("MONGODB_", "MONGO_DATALAYER_", "CHAINLIT_")) and "TESTS" not in _name:
        del os.environ[_name]
# Chainlit writes its configuration into the folder it starts in.
_chainlit_folder = tempfile.TemporaryDirectory(prefix="chainlit-")
os.environ["CHAINLIT_APP_ROOT"] = _chainlit_folder.name
# Warnings are errors in these tests, but not those that other packages give when imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import chainlit.server  # noqa: F401
    import chatkit.agents  # noqa: F401
    import mongomock_motor  # noqa: F401
    import motor.motor_asyncio  # noqa: F401


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """A mongod that lives as long as the test run, in memory where there is enough of it."""
    with tempfile.TemporaryDirectory(prefix="mongod-", dir=_memory()) as folder:
        arguments = ["--setParameter", "enableTestCommands=1"]
        log = MongodLog(Path(folder) / "mongod.log")
        with LocalServer(Path(folder), arguments=arguments) as server:
            yield server.uri
            if not server.running:
                pytest.fail(f"mongod ended during the tests. {log.explain()}")


def _memory() -> str | None:
    """A folder in memory, which answers at once when a disk would have to write; else None."""
    try:
        free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - the folder in it has its own name
    except OSError:
        return None
    return "/dev/shm" if free > MEMORY_BYTES else None  # noqa: S108


@pytest.fixture(scope="session")
def server_client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A connection that lasts as long as the server."""
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        yield client


@pytest.fixture
def database_name(server_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The name of a database that no other test uses; dropped after the test.

    Each of its collections and indexes is an open file, and the server has a limit for those.
    """
    name = f"test_{uuid.uuid4().hex}"
    yield name
    server_client.drop_database(name)


@pytest.fixture
async def client(mongo_uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """PyMongo's async client, connected to the run's server."""
    async with AsyncMongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        yield client


@pytest.fixture
async def database(
    client: AsyncMongoClient[dict[str, Any]], database_name: str
) -> AsyncDatabase[dict[str, Any]]:
    """An empty database."""
    return client[database_name]
