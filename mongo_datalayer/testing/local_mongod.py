"""Runs a mongod on the loopback interface."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from typing_extensions import Self

from mongo_datalayer.errors import ServerError
from mongo_datalayer.server.find import find_mongod
from mongo_datalayer.server.log import ServerLog

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class LocalServer:
    """A mongod of one's own, on 127.0.0.1 only.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Args:
        data_dir: Where the data is kept between runs; None for a temporary folder that is removed
            at the stop.
        port: The port to listen on; 0 takes a free one.
        mongod: The program; None looks for one (:func:`find_mongod`).
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
        """The id of the server's process; None when it was not started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            ServerError: no mongod was found, the port is taken, the data directory is in use, or
                the server did not come up; the message carries the end of its log.
        """
        if self.running:
            raise ServerError(f"This server already runs at {self.uri}.")
        mongod = self._mongod or find_mongod()
        try:
            folder = self._folder()
            self.port = self.port or _free_port()
            _require_free(self.port)
            log = ServerLog(folder / "mongod.log")
            self._process = self._spawn(mongod, folder, log)
            self._wait_until_ready(self._process, log)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down cleanly; does nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
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

    def _spawn(self, mongod: Path, folder: Path, log: ServerLog) -> subprocess.Popen[bytes]:
        command = [
            str(mongod),
            *("--dbpath", str(folder), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--unixSocketPrefix", str(folder), "--logpath", str(log.path), "--logappend"),
            *self._arguments,
        ]
        try:
            # A session of its own: Ctrl-C at the terminal reaches us, and we stop the server.
            return subprocess.Popen(  # noqa: S603 - the program was looked up, or is the caller's
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as exc:
            raise ServerError(f"{mongod} could not be started: {exc}") from exc

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log: ServerLog) -> None:
        deadline = time.monotonic() + START_SECONDS
        client: MongoClient[dict[str, object]] = MongoClient(
            self.uri, directConnection=True, serverSelectionTimeoutMS=250
        )
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ServerError(
                f"Port {port} is taken on 127.0.0.1. Stop what uses it, or choose another port."
            ) from exc
