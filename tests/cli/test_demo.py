from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import ServerSelectionTimeoutError

from mongo_datalayer.cli.demo import shell_address
from mongo_datalayer.cli.listening import web_address
from mongo_datalayer.schema.indexes import DECLARED
from mongo_datalayer.server import LocalServer
from tests.demo_process import DemoProcess


def get(address: str, path: str = "/") -> str:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def answers(uri: str) -> bool:
    with MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=300) as client:
        try:
            client.admin.command("ping")
        except ServerSelectionTimeoutError:
            return False
        return True


def still_listening(address: str) -> bool:
    with socket.socket() as probe:
        port = int(address.rpartition(":")[2])
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mongo_datalayer.cli", "demo", "--mongodb-port", "0", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal_stops_everything(number: signal.Signals, tmp_path: Path) -> None:
    if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as below nohup, and by the demo too")
    with DemoProcess(tmp_path) as demo:
        assert "alice / alice" in demo.output
        assert "<title>Handbook</title>" in get(demo.address)
        assert '"requireLogin":true' in get(demo.address, "/auth/config")
        with MongoClient[dict[str, object]](demo.mongo_uri) as client:
            names = set(client.chainlit.threads.index_information())
        assert names > {index.name for index in DECLARED if index.collection == "threads"}

        code = demo.stop(number)

        assert code == 0
        assert demo.output.endswith("Stopped. The data is kept.\n")
        assert not still_listening(demo.address)
        assert not answers(demo.mongo_uri)


def test_data_and_logins_are_kept_between_runs_and_private(tmp_path: Path) -> None:
    secret = tmp_path / "data" / "auth_secret"
    demo = DemoProcess(tmp_path)
    with demo, MongoClient[dict[str, object]](demo.mongo_uri) as client:
        client.chainlit.kept.insert_one({"_id": 1})
        first = secret.read_text()

    with demo, MongoClient[dict[str, object]](demo.mongo_uri) as client:
        assert client.chainlit.kept.find_one() == {"_id": 1}
        assert secret.read_text() == first

    assert len(first) >= 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_mongodb_that_runs_already_is_used_and_left_running(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    with DemoProcess(tmp_path, "--uri", mongo_uri, "--database", database_name) as demo:
        assert f'mongosh "{mongo_uri}/{database_name}"' in demo.output
        demo.stop()

    with MongoClient[dict[str, object]](mongo_uri) as client:
        assert "threads" in client[database_name].list_collection_names()
    assert not (tmp_path / "data" / "mongodb").exists()


@pytest.mark.parametrize(
    ("uri", "shell"),
    [
        ("mongodb://h:1", "mongodb://h:1/chat"),
        ("mongodb://h:1/?w=1", "mongodb://h:1/chat?w=1"),
        ("mongodb://h:1,i:2/other", "mongodb://h:1,i:2/chat"),
        ("mongodb://u:pw@h", "mongodb://u@h/chat"),
        ("mongodb://u:pw@h/admin", "mongodb://u@h/chat?authSource=admin"),
        ("mongodb+srv://u:pw@h/a?w=1&authSource=b", "mongodb+srv://u@h/chat?w=1&authSource=b"),
    ],
)
def test_the_shells_line_names_the_database_and_no_password(uri: str, shell: str) -> None:
    assert shell_address(uri, "chat") == shell


def test_an_ipv6_address_is_bracketed() -> None:
    assert web_address("::1", 8000) == "http://[::1]:8000"
    assert web_address("127.0.0.1", 8000) == "http://127.0.0.1:8000"


def test_the_chatkit_example_is_run(tmp_path: Path) -> None:
    with DemoProcess(tmp_path, "--chatkit") as demo:
        assert f"python -m mongo_datalayer.demo.chatkit_client {demo.address}" in demo.output
        assert "openai-chatkit" in get(demo.address)
        visit = subprocess.run(
            [sys.executable, "-m", "mongo_datalayer.demo.chatkit_client", demo.address],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert visit.returncode == 0, visit.stderr
        code = demo.stop()

    assert code == 0


def test_the_port_of_mongodb_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = run("--port", "0", "--mongodb-port", str(port), "--data-dir", str(tmp_path / "data"))

    assert done.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "--mongodb-port" in done.stderr


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = run("--port", str(port), "--data-dir", str(tmp_path / "data"))

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_host_that_is_not_ours(tmp_path: Path) -> None:
    done = run("--host", "192.0.2.1", "--data-dir", str(tmp_path))

    assert done.returncode == 2
    assert "Cannot listen on 192.0.2.1:8000" in done.stderr


def test_no_mongod_is_told(tmp_path: Path) -> None:
    done = run("--port", "0", "--data-dir", str(tmp_path), MONGO_DATALAYER_MONGOD="/no/such")

    assert done.returncode == 2
    assert "Error: MONGO_DATALAYER_MONGOD='/no/such' is not a program" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_uri_nobody_answers_at(tmp_path: Path) -> None:
    uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"

    done = run("--port", "0", "--data-dir", str(tmp_path), "--uri", uri)

    assert done.returncode == 2
    assert "Error: No MongoDB answered at 127.0.0.1:1" in done.stderr


def test_a_data_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = run("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))

    assert done.returncode == 2
    assert "The data directory cannot be used" in done.stderr


def test_two_demos_cannot_share_a_data_directory(tmp_path: Path) -> None:
    with DemoProcess(tmp_path) as demo:
        done = run("--port", "0", "--data-dir", str(tmp_path / "data"))

        assert done.returncode == 2
        assert "DBPathInUse" in done.stderr
        assert "Handbook" in get(demo.address)


def test_when_mongodb_dies_the_app_is_stopped_too(tmp_path: Path) -> None:
    with DemoProcess(tmp_path) as demo:
        with MongoClient[dict[str, object]](demo.mongo_uri) as client:
            pid = client.admin.command("serverStatus")["pid"]
        os.kill(pid, signal.SIGKILL)

        deadline = time.monotonic() + 30
        while still_listening(demo.address) and time.monotonic() < deadline:
            time.sleep(0.1)
        code = demo.stop()

    assert code == 2
    assert "Error: MongoDB stopped." in demo.output
    assert not still_listening(demo.address)


def test_an_app_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with LocalServer() as server:
        done = run(
            *("--port", "0", "--data-dir", str(tmp_path), "--uri", server.uri),
            MONGO_DATALAYER_TIMEOUT_MS="-1",
        )

    assert done.returncode == 2
    assert "MONGO_DATALAYER_TIMEOUT_MS" in done.stderr
