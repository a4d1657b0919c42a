"""A mongod for the demo and for tests, on the loopback interface."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from typing_extensions import Self

from mongo_datalayer.errors import ServerError
from mongo_datalayer.testing.find_mongod import find_mongod
from mongo_datalayer.testing.mongod_log import MongodLog
from mongo_datalayer.testing.processes import WINDOWS, out_of_reach

START_SECONDS = 60.0
STOP_SECONDS = 30.0

_DEFAULTS = {
    # No zlib: a mongod before 6.0.27 and 7.0.28 reveals memory through it (CVE-2025-14847).
    "--networkMessageCompressors": "snappy,zstd",
    # By itself every server keeps 300 MB of preallocated journal on the disk.
    "--wiredTigerEngineConfigString": "log=(prealloc=false,file_max=16MB)",
}
_CLIENT_OPTIONS: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 250}


class LocalServer:
    """A mongod of your own, on 127.0.0.1 only.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Args:
        data_dir: Folder for the data; None for a temporary one that is removed at the stop.
        port: The port to listen on; 0 takes a free one.
        mongod: The program; None looks for one with :func:`find_mongod`.
        arguments: More arguments for mongod.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        mongod: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._data_dir = data_dir
        self._mongod = mongod
        self._arguments = tuple(arguments)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def uri(self) -> str:
        """The URI to connect to."""
        return f"mongodb://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """True while the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The id of the server's process; None before :meth:`start`."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerError: there is no mongod, the port is taken, another server uses the data
                directory, or this one did not start; the message has the end of its log.
        """
        if self.running:
            raise ServerError(f"This server already runs at {self.uri}.")
        mongod = self._mongod or find_mongod()
        try:
            folder = self._folder()
            self.port = self.port or _free_port()
            _require_free(self.port)
            log = MongodLog(folder / "mongod.log")
            self._process = self._spawn(mongod, folder, log)
            self._wait_until_ready(self._process, log)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down cleanly; a stopped one stays as it is."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            self._end(process)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _folder(self) -> Path:
        if self._data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="mongod-")
            return Path(self._temporary.name)
        folder = self._data_dir.expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if WINDOWS:
            # A process cannot be asked to end there, only killed: the server is asked.
            client = MongoClient[dict[str, object]](self.uri, **_CLIENT_OPTIONS)
            with client, suppress(PyMongoError):
                client.admin.command("shutdown")
                return
        process.terminate()

    def _spawn(self, mongod: Path, folder: Path, log: MongodLog) -> subprocess.Popen[bytes]:
        command = command_line(mongod, folder, self.port, log.path, self._arguments)
        try:
            return subprocess.Popen(  # noqa: S603 - the program was looked up, or is the caller's
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **out_of_reach(),
            )
        except OSError as exc:
            raise ServerError(f"{mongod} could not be started: {exc}") from exc

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log: MongodLog) -> None:
        deadline = time.monotonic() + START_SECONDS
        client = MongoClient[dict[str, object]](self.uri, **_CLIENT_OPTIONS)
        with client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServerError(
                        f"mongod stopped with exit code {process.returncode}. {log.explain()}"
                    )
                try:
                    client.admin.command("ping")
                except PyMongoError:
                    time.sleep(0.05)
                else:
                    return
        raise ServerError(
            f"mongod did not answer at {self.uri} within {START_SECONDS:.0f} s. {log.explain()}"
        )


def command_line(
    mongod: Path,
    folder: Path,
    port: int,
    log: Path,
    arguments: Sequence[str] = (),
    *,
    windows: bool = WINDOWS,
) -> list[str]:
    """What starts a server for a data folder; ``arguments`` come last.

    Windows has no Unix sockets. Give ``--networkMessageCompressors`` or
    ``--wiredTigerEngineConfigString`` to choose these yourself.
    """
    chosen = {argument.partition("=")[0] for argument in arguments}
    defaults = [pair for pair in _DEFAULTS.items() if pair[0] not in chosen]
    return [
        *(str(mongod), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"),
        *(() if windows else ("--unixSocketPrefix", str(folder))),
        *("--logpath", str(log), "--logappend"),
        *(part for pair in defaults for part in pair),
        *arguments,
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # On Windows this option would let the probe share the port of another program.
        if not WINDOWS:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ServerError(
                f"Port {port} is taken on 127.0.0.1. Stop what uses it, or choose another port."
            ) from exc
