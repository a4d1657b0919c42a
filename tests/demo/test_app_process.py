from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mongo_datalayer.demo.app_process import AppProcess, reachable
from mongo_datalayer.errors import ServerError

Make = Callable[[str], AppProcess]

# Like Chainlit it heeds Ctrl-C, which programs in the background of a shell's script ignore.
LISTEN = """
import http.server, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
        return free


@pytest.fixture
def make(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes an app process whose Chainlit is a module that holds the given code."""
    made: list[AppProcess] = []

    def make(code: str) -> AppProcess:
        (tmp_path / "chainlit.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        process = AppProcess(
            host="127.0.0.1",
            port=port,
            app_root=tmp_path,
            log=tmp_path / "log",
            environment={"GIVEN": "value"},
        )
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()


def test_it_runs_chainlit_on_the_app_with_the_environment(
    make: Make, tmp_path: Path, port: int
) -> None:
    process = make("import os, sys; print(sys.argv[1:], os.environ['GIVEN']); sys.exit(3)")

    with pytest.raises(ServerError, match="The app stopped with exit code 3") as caught:
        process.start()

    assert not process.running
    assert f"'--headless', '--host', '127.0.0.1', '--port', '{port}'] value" in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)


def test_it_is_ready_when_it_answers(make: Make, port: int) -> None:
    process = make(LISTEN.format(port=port, status=200))

    process.start()
    assert process.running
    process.stop()

    assert not process.running
    process.stop()


def test_an_app_that_does_not_answer_is_told(
    make: Make, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.demo.app_process.START_SECONDS", 1.0)
    process = make("print('busy')\n" + LISTEN.format(port=port, status=500))

    with pytest.raises(ServerError, match=r"did not answer within 1 s(?s:.*)busy"):
        process.start()


def test_an_app_that_ignores_the_stop_is_ended(
    make: Make, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.demo.app_process.STOP_SECONDS", 0.3)
    code = LISTEN.format(port=port, status=200)
    process = make(code.replace("signal.default_int_handler", "signal.SIG_IGN"))
    process.start()

    process.stop()

    assert not process.running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_on_every_address_is_opened_on_the_loopback() -> None:
    assert reachable("0.0.0.0") == "127.0.0.1"  # noqa: S104 - compared, not bound
    assert reachable("::") == "::1"
    assert reachable("192.0.2.7") == "192.0.2.7"
