"""A person's own app, which ``chainlit run app.py`` starts in its folder."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.docs.reader import START_SECONDS, STOP_SECONDS, free_port


class App:
    """An app that can be started again, on the same port."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        """Take what to start; ``variables`` are those of the shell."""
        self._folder = folder
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """What Chainlit has said since it was started."""
        return (self._folder / "log").read_text(encoding="utf-8")

    def start(self) -> None:
        """Return when it answers."""
        command = f"exec chainlit run app.py --headless --port {self._port}"
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self._folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def stop(self) -> None:
        """End it as Ctrl-C does, if it runs."""
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(signal.SIGINT)
            try:
                # A browser's socket keeps the server waiting for it.
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS)

    def _answers(self) -> bool:
        try:
            httpx.get(self.address, timeout=20)
        except httpx.TransportError:
            return False
        return True
