"""While MongoDB is away the log says so within two seconds, and why; reads end after five."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.mongodb import outage
from mongo_datalayer.server import LocalServer
from mongo_datalayer.testing.chatkit_contract import message, thread
from mongo_datalayer.testing.contract import step

PATIENCE_SECONDS = 15.0
SMALL = ("--wiredTigerCacheSizeGB", "0.25")
ADA = {"user_id": "ada"}


class Lines(logging.Handler):
    """What the log says, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[float, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((time.monotonic(), record.levelno, record.getMessage()))

    def since(self, moment: float, level: int = logging.WARNING) -> list[tuple[float, str]]:
        """The lines of a level, and how many seconds after ``moment`` each came."""
        return [(at - moment, text) for at, its, text in self.said if its == level]

    async def wait_for(self, count: int, moment: float) -> list[tuple[float, str]]:
        """The first ``count`` warnings after ``moment``; a busy machine may take its time."""
        while len(self.since(moment)) < count:
            assert time.monotonic() < moment + PATIENCE_SECONDS, "the log says nothing"
            await asyncio.sleep(0.01)
        return self.since(moment)[:count]

    async def first(self, moment: float) -> str:
        """The first warning after ``moment``."""
        return (await self.wait_for(1, moment))[0][1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("mongo_datalayer")
    lines, level = Lines(), logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[LocalServer]:
    with LocalServer(tmp_path, arguments=SMALL) as server:
        yield server


def test_the_log_speaks_within_two_seconds() -> None:
    assert outage.NOTICE_SECONDS + outage.PING_SECONDS < 2


async def assert_reason(lines: Lines, uri: str, expected: str) -> None:
    """A call that waits is followed by a line with the reason; ``*`` stands for the server."""
    layer = MongoDataLayer(uri, database="outage", timeout_ms=2500)
    began = time.monotonic()
    reading = asyncio.ensure_future(layer.get_user("ada"))
    said = await lines.first(began)
    server = uri.partition("://")[2].partition("/")[0]
    assert said.startswith("MongoDB has been away for ")
    assert said.endswith(f" s, 1 operation waiting. {expected.replace('*', server)}")
    with pytest.raises(PyMongoError):
        await reading
    await layer.close()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://127.0.0.1:1/", "*: it refuses connections"),
        ("mongodb://localhost:1/", "*: it refuses connections"),
        ("mongodb://nowhere.invalid:27017/", "*: DNS does not know the host"),
        ("mongodb://{}/?tls=true", "*: the TLS handshake failed"),
        (
            "mongodb://{}/?replicaSet=other",
            "*: not in the replica set 'other'. Is replicaSet= right?",
        ),
    ],
    ids=["refused", "refused by name", "DNS", "TLS", "replicaSet"],
)
async def test_the_log_tells_why(lines: Lines, mongo_uri: str, uri: str, expected: str) -> None:
    await assert_reason(lines, uri.format(mongo_uri.removeprefix("mongodb://")), expected)


async def test_a_set_without_a_primary(lines: Lines) -> None:
    with LocalServer(arguments=("--replSet", "rs", *SMALL)) as server:
        uri = f"{server.uri}/?replicaSet=rs"
        await assert_reason(lines, uri, "*: the replica set has no primary")


async def test_a_server_that_expects_tls(
    lines: Lines, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    certificate.write_to_path(tmp_path / "server.pem")
    mode = ("--tlsMode", "allowTLS", "--tlsCertificateKeyFile", str(tmp_path / "server.pem"))
    trust = ("--tlsCAFile", str(tmp_path / "ca.pem"), "--tlsAllowConnectionsWithoutCertificates")
    with LocalServer(arguments=(*mode, *trust, *SMALL)) as server:
        async with AsyncMongoClient[dict[str, Any]](
            server.uri, tls=True, tlsCAFile=str(tmp_path / "ca.pem")
        ) as client:
            for tls in ("preferTLS", "requireTLS"):
                await client.admin.command("setParameter", 1, tlsMode=tls)
        expected = "*: it closed the connection (does it expect TLS?)"
        await assert_reason(lines, f"{server.uri}/", expected)


async def test_a_refused_login_names_the_server(lines: Lines, running: LocalServer) -> None:
    server = running.uri.removeprefix("mongodb://")
    layer = MongoDataLayer(f"mongodb://ada:secret@{server}/", database="outage")
    began = time.monotonic()
    with pytest.raises(OperationFailure):
        await layer.get_user("ada")
    said = f"MongoDB at {server} refused the login: check user name, password and authSource."
    assert [text for _, text in lines.since(began, logging.ERROR)] == [said]
    with pytest.raises(PyMongoError):  # the driver asks for no further login now
        await layer.get_user("ada")
    await layer.close()


@contextmanager
def frozen(server: LocalServer) -> Iterator[None]:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    yield
    os.kill(server.pid, signal.SIGCONT)


@contextmanager
def stopped(server: LocalServer) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@pytest.mark.parametrize(
    ("hurt", "reason"),
    [(stopped, "it refuses connections"), (frozen, "it does not answer")],
    ids=["stopped", "frozen"],
)
async def test_the_log_tells_since_when_how_many_wait_and_the_end(
    lines: Lines, running: LocalServer, monkeypatch: pytest.MonkeyPatch, hurt: Any, reason: str
) -> None:
    monkeypatch.setattr(outage, "REPEAT_SECONDS", 1.5)
    layer = MongoDataLayer(running.uri, database="outage")
    await layer.create_step(step("t", 0))
    server = running.uri.removeprefix("mongodb://")
    with hurt(running):
        began = time.monotonic()
        writing = [asyncio.ensure_future(layer.create_step(step("t", n))) for n in (1, 2, 3)]
        writing.append(asyncio.ensure_future(layer.create_step(step("other", 4))))
        (first, said), (second, _) = await lines.wait_for(2, began)
        assert said.startswith("MongoDB has been away for ")
        assert said.endswith(f" s, 4 operations waiting. {server}: {reason}")
        assert second - first > 0.9 * outage.REPEAT_SECONDS
    await asyncio.wait_for(asyncio.gather(*writing), 15)
    (back,) = lines.since(began, logging.INFO)
    said_after = float(back[1].removeprefix("MongoDB is back after ").removesuffix(" s."))
    assert said_after == pytest.approx(back[0], abs=1)
    await layer.close()


async def test_a_slow_operation_is_no_outage(
    lines: Lines, mongo_uri: str, database_name: str, client: AsyncMongoClient[dict[str, Any]]
) -> None:
    layer = MongoDataLayer(f"{mongo_uri}/?appName=slow", database=database_name)
    slow = {"blockConnection": True, "blockTimeMS": 3000, "failCommands": ["find"]}
    await client.admin.command(
        "configureFailPoint", "failCommand", mode="alwaysOn", data={**slow, "appName": "slow"}
    )
    try:
        assert await layer.get_user("ada") is None
    finally:
        await client.admin.command("configureFailPoint", "failCommand", mode="off")
    await layer.close()
    assert lines.said == []


Reads = Callable[[str], tuple[list[Callable[[], Awaitable[Any]]], Callable[[], Awaitable[None]]]]


def chainlit(uri: str) -> Any:
    layer = MongoDataLayer(uri, database="outage")
    reads = [
        lambda: layer.get_user("ada"),
        lambda: layer.get_thread_author("t"),
        lambda: layer.get_thread("t"),
        lambda: layer.get_element("t", "e"),
    ]
    return reads, lambda: layer.create_step(step("t", 1)), layer.close


def chatkit(uri: str) -> Any:
    store = MongoChatKitStore[Any](uri, database="outage")
    reads = [
        lambda: store.load_thread("t", ADA),
        lambda: store.load_threads(9, None, "asc", ADA),
        lambda: store.load_thread_items("t", None, 9, "asc", ADA),
        lambda: store.load_attachment("a", ADA),
    ]

    async def write() -> None:
        await store.save_thread(thread(), ADA)
        await store.add_thread_item("t", message("i"), ADA)

    return reads, write, store.close


@pytest.mark.parametrize("hurt", [stopped, frozen])
@pytest.mark.parametrize("front", [chainlit, chatkit])
async def test_reads_end_after_five_seconds_and_writes_wait(
    running: LocalServer, front: Any, hurt: Any
) -> None:
    reads, write, close = front(running.uri)
    await write()
    with hurt(running):
        began = time.monotonic()
        writing = asyncio.ensure_future(write())
        ended = await asyncio.gather(*(read() for read in reads), return_exceptions=True)
        # The driver's selection ends after 5 s, a write's after 20 s.
        assert 3.9 < time.monotonic() - began < 12
        assert all(isinstance(error, PyMongoError) for error in ended)
        assert not writing.done()
    await asyncio.wait_for(writing, 15)
    await close()
