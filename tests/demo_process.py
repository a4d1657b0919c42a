"""Runs ``mongo-datalayer demo`` as a user does: a process of its own, with a signal at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

START_SECONDS = 120.0
STOP_SECONDS = 60.0
LAST_WORD = "Stop         Ctrl-C"


def start_command(arguments: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Run ``mongo-datalayer`` in a session of its own; what it says goes to a file."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mongo_datalayer.cli", *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class DemoProcess:
    """The demo on a free port, with its data in ``folder``; it can be started again."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0) -> None:
        self._folder = folder
        self._arguments = arguments
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.output = ""

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return self._announced(r"Open +(\S+)")

    @property
    def mongo_uri(self) -> str:
        """What to give to PyMongo."""
        return self._announced(r'mongosh "(\S+?)/chainlit"')

    @property
    def app_log(self) -> str:
        """What Chainlit said."""
        return (self._folder / "data" / "app.log").read_text(encoding="utf-8")

    def start(self) -> None:
        """Start it and return when it has said that it is ready; later on the same port."""
        said = self._folder / "output"
        self.output = ""
        command = ["demo", "--port", str(self._port), "--mongodb-port", "0"]
        command += ["--data-dir", str(self._folder / "data"), *self._arguments]
        self._process = start_command(command, said)
        deadline = time.monotonic() + START_SECONDS
        while LAST_WORD not in self.output:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"The demo did not start:\n{said.read_text()}")
            time.sleep(0.1)
            self.output = said.read_text(encoding="utf-8")
        self._port = int(self.address.rpartition(":")[2])

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it with a signal; its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(number)
        code = process.wait(STOP_SECONDS)
        self.output = (self._folder / "output").read_text(encoding="utf-8")
        return code

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.stop()

    def _announced(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found is not None, self.output
        return found.group(1)
