"""Runs ``mongo-datalayer console`` as a person does."""

from __future__ import annotations

import re
import signal
import socket
import time
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from tests.demo_process import start_command

SECONDS = 120.0


class ConsoleProcess:
    """The console on a free port; it has started when this returns."""

    def __init__(self, folder: Path, uri: str, database: str, *arguments: str) -> None:
        self._output = folder / "output"
        command = ["console", "--port", "0", "--uri", uri, "--database", database, *arguments]
        self._process = start_command(command, self._output)
        deadline = time.monotonic() + SECONDS
        while "Ctrl-C" not in self.output or not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"The console did not start:\n{self.output}")
            time.sleep(0.1)

    @property
    def output(self) -> str:
        """What it said."""
        return self._output.read_text(encoding="utf-8")

    @property
    def link(self) -> str:
        """What opens it once."""
        found = re.search(r"Open +(\S+)", self.output)
        assert found is not None, self.output
        return found[1]

    @property
    def address(self) -> str:
        """Where it is."""
        return self.link.partition("/login")[0]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        port = int(self.address.rpartition(":")[2])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
