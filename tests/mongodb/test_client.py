"""What a client is made with, before anything is connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from pymongo import WriteConcern

from mongo_datalayer.config import DEFAULT_TIMEOUT_MS
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.mongodb import client as driver

Connect = Callable[..., driver.Client]

PASSWORD = "s3cret-Pass"


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[driver.Client] = []

    def connect(uri: str, **options: Any) -> driver.Client:
        clients.append(driver.connect(uri, **options))
        return clients[-1]

    yield connect
    for client in clients:
        await driver.close(client)


async def test_the_defaults(connect: Connect) -> None:
    client = connect("mongodb://localhost:1")

    assert client.write_concern == WriteConcern("majority")
    assert client.options.timeout == DEFAULT_TIMEOUT_MS / 1000
    assert client.options.retry_writes


async def test_a_timeout_of_ones_own(connect: Connect) -> None:
    assert connect("mongodb://localhost:1", timeout_ms=1500).options.timeout == 1.5


@pytest.mark.parametrize(
    ("options", "write_concern", "timeout"),
    [
        ("w=1", WriteConcern(1), 20.0),
        ("W=1", WriteConcern(1), 20.0),
        ("w=2&journal=true", WriteConcern(2, j=True), 20.0),
        ("journal=true", WriteConcern("majority", j=True), 20.0),
        ("timeoutMS=700", WriteConcern("majority"), 0.7),
        ("timeoutms=700", WriteConcern("majority"), 0.7),
        ("retryWrites=false;w=1;timeoutMS=700", WriteConcern(1), 0.7),
        ("appName=w", WriteConcern("majority"), 20.0),
    ],
)
async def test_options_of_the_uri_win(
    connect: Connect, options: str, write_concern: WriteConcern, timeout: float
) -> None:
    client = connect(f"mongodb://localhost:1/?{options}")

    assert client.write_concern == write_concern
    assert client.options.timeout == timeout


async def test_an_unknown_option_is_named(connect: Connect) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(f"mongodb://ada:{PASSWORD}@localhost/?w=majority&retryWrite=false&tls=true")

    assert str(caught.value) == (
        "The MongoDB URI cannot be used: 'retryWrite' is not an option that MongoDB's drivers "
        "know. It should look like mongodb://user:password@host:27017/ or mongodb+srv://…"
    )


@pytest.mark.parametrize(
    "uri",
    [
        "",
        f"http://user:{PASSWORD}@host",
        f"mongodb://user:{PASSWORD}@",
        f"mongodb://user:{PASSWORD}@host:port",
        f"mongodb://user:{PASSWORD}@host:99999",
        f"mongodb://user:{PASSWORD}:more@host",
        f"mongodb://user:more@{PASSWORD}@host",
        f"mongodb://user:{PASSWORD}%zz@host",
        f"mongodb://user:more/{PASSWORD}@host:27017/",
        f"mongodb://user:more?{PASSWORD}@host",
        f"mongodb://user:more/{PASSWORD}@host",
        f"mongodb://user:more/a.{PASSWORD}@host",
        f"mongodb://user:1/a?replicaSet=a&w=1&{PASSWORD}@host",
        f"mongodb://user:{PASSWORD}/more@host:27017/",
        f"mongodb://user:{PASSWORD}?more@host",
        f"mongodb://:{PASSWORD}@host",
        f"mongodb://user:{PASSWORD}@host/?w=majority&w",
        f"mongodb+srv://user:{PASSWORD}@a.b.c:27017",
        f"mongodb+srv://user:{PASSWORD}@a.b.c,d.e.f",
    ],
)
async def test_a_bad_uri_is_refused_without_its_password(connect: Connect, uri: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(uri)

    shown = "".join(map(str, (caught.value, caught.value.__cause__)))
    assert PASSWORD not in shown
    assert "mongodb://user:password@host:27017/" in shown
    assert caught.value.__suppress_context__  # the driver's own message might show it


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCRLFile", "tlsCertificateKeyFile"])
@pytest.mark.parametrize("file", ["missing", "folder", "empty", "text"])
@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
async def test_a_tls_file_that_does_not_serve_is_named(
    connect: Connect, tmp_path: Path, option: str, file: str, scheme: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no certificate")
    path = tmp_path / file
    uri = f"{scheme}://user:{PASSWORD}@a.example.com/?tls=true&{option}={quote_plus(str(path))}"

    with pytest.raises(ConfigurationError) as caught:
        connect(uri, source="MONGODB_URI")

    assert str(caught.value).startswith(f"MONGODB_URI cannot be used: {option}={path}: ")
    assert PASSWORD not in str(caught.value)


async def test_writes_must_be_acknowledged(connect: Connect) -> None:
    with pytest.raises(ConfigurationError, match="The MongoDB URI asks for w=0"):
        connect("mongodb://localhost:1/?w=0")


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize(
    ("path", "name"),
    [("", "chainlit"), ("/", "chainlit"), ("/talks?w=1", "talks"), ("/admin", "chainlit")],
)
def test_the_database_of_a_uri_without_a_connection(scheme: str, path: str, name: str) -> None:
    uri = f"{scheme}://user:{PASSWORD}@a.example.com{path}"

    assert driver.default_database(uri) == name


async def test_a_name_that_no_database_can_have(connect: Connect) -> None:
    client = connect("mongodb://localhost:1")

    for name in ("", "a b", "a.b", "a$b", "a\0"):
        with pytest.raises(ConfigurationError, match="cannot be the name of a database"):
            driver.open_database(client, name)


async def test_dates_come_back_aware_whatever_the_client_was_set_to(connect: Connect) -> None:
    database = driver.open_database(connect("mongodb://localhost:1/?tz_aware=false"), "d")

    assert driver.open_collection(database, "c").codec_options.tz_aware
