"""``mongo-datalayer console`` as a process: its link, its refusals, its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import httpx
import pytest
from pymongo import AsyncMongoClient
from starlette.applications import Starlette

from mongo_datalayer.cli.app import heeded_signals
from mongo_datalayer.cli.console import _password, _serve
from mongo_datalayer.schema.indexes import CONSOLE, check_indexes
from tests.cli.commands import run
from tests.console.hostile import store
from tests.end_to_end.console.process import ConsoleProcess


async def test_another_address_needs_a_password(mongo_uri: str, tmp_path: Path) -> None:
    done = await run("console", "--host", "0.0.0.0", "--uri", mongo_uri)  # noqa: S104
    assert done.code == 2
    assert "lets other machines in. Add --password-file" in done.err
    assert "or --proxy-header" in done.err

    short = tmp_path / "password"
    short.write_text("short\n")
    done = await run("console", "--port", "0", "--password-file", str(short), "--uri", mongo_uri)
    assert done.code == 2
    assert "at least 12 characters" in done.err


def test_a_password_file_of_an_editor_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes("\ufefflong enough, ada\r\n".encode())

    assert _password(file) == "long enough, ada"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--password-file", __file__, "--proxy-header", "X-User"), "exclude each other"),
        (("--secure-cookie",), "Add --password-file or --proxy-header"),
        (("--proxy-header", "X User"), "'X User' cannot be the name of a header"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    mongo_uri: str, options: tuple[str, ...], told: str
) -> None:
    done = await run("console", "--port", "0", *options, "--uri", mongo_uri)

    assert done.code == 2
    assert told in " ".join(done.err.split())


async def test_behind_a_proxy(mongo_uri: str, database_name: str, tmp_path: Path) -> None:
    options = ("--proxy-header", "X-User", "--secure-cookie", "--host", "0.0.0.0")  # noqa: S104
    with await asyncio.to_thread(
        ConsoleProcess, tmp_path, mongo_uri, database_name, *options
    ) as console:
        async with httpx.AsyncClient() as http:
            stranger = await http.get(console.address)
            person = await http.get(console.address, headers={"X-User": "zoe"})

    assert (stranger.status_code, person.status_code) == (403, 200)
    assert "; secure" in person.headers["set-cookie"]
    assert "Whoever reaches the console past the proxy can write any name into X-User" in (
        console.output
    )


async def test_it_serves_until_it_is_told_to_stop(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    async with AsyncMongoClient[dict[str, object]](mongo_uri) as client:
        await store(client[database_name])
        with await asyncio.to_thread(
            ConsoleProcess, tmp_path, mongo_uri, database_name, "--create-index"
        ) as console:
            async with httpx.AsyncClient(follow_redirects=True) as http:
                assert (await http.get(console.link)).status_code == 200
                assert (await http.get(console.link)).status_code == 403
                assert "Name 1" in (await http.get(console.address)).text
            assert await asyncio.to_thread(console.stop) == 0
        assert str(CONSOLE[0]) in console.output
        report = await check_indexes(client[database_name])
    assert report.unknown == ()
    assert "token" not in console.output.partition("login?token=")[2].partition("\n")[2]


@pytest.mark.parametrize("number", heeded_signals(), ids=str)
async def test_each_signal_to_stop_is_no_failure(
    mongo_uri: str, database_name: str, tmp_path: Path, number: signal.Signals
) -> None:
    with await asyncio.to_thread(ConsoleProcess, tmp_path, mongo_uri, database_name) as console:
        assert await asyncio.to_thread(console.stop, number) == 0


async def test_the_link_is_told_once_the_port_listens() -> None:
    listened: list[bool] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def tell() -> None:
        with socket.socket() as probe:
            listened.append(probe.connect_ex(("127.0.0.1", port)) == 0)
        signal.raise_signal(signal.SIGTERM)

    await _serve(Starlette(), "127.0.0.1", port, tell)

    assert listened == [True]


async def test_it_says_which_indexes_are_missing_or_differ(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    async with AsyncMongoClient[dict[str, object]](mongo_uri) as client:
        threads = client[database_name].threads
        await threads.create_index([("name", 1)], name="console_long")
        with await asyncio.to_thread(ConsoleProcess, tmp_path, mongo_uri, database_name) as console:
            output = " ".join(console.output.split())
        assert sorted(await threads.index_information()) == ["_id_", "console_long"]

    assert "differ from what the console needs: threads.console_long. Drop them" in output
    assert "slow among many conversations without these indexes: threads.console_activity" in output
    assert "Start once with --create-index" in output
