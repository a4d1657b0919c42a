"""Runs the demo's app, Chainlit's or ChatKit's, in a process of its own.

Chainlit ends with ``os._exit``: in our process it would leave MongoDB running.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mongo_datalayer.errors import ServerError
from mongo_datalayer.testing.processes import out_of_reach, stop_signals

CHAINLIT = ("chainlit", "run", str(Path(__file__).with_name("app.py")), "--headless")
CHATKIT = ("uvicorn", "mongo_datalayer.demo.chatkit_app:app")
START_SECONDS = 90.0
STOP_SECONDS = 10.0
LAST_LINES = 12


class AppProcess:
    """The server of the demo, or of another app.

    Args:
        host: The address to listen on.
        port: The port to listen on.
        app_root: Chainlit's application root, and the folder to run in.
        log: The file that gets what the app says; emptied at the start.
        environment: Variables to add to this process's.
        program: The Python module to run, with its arguments.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        app_root: Path,
        log: Path,
        environment: Mapping[str, str],
        program: Sequence[str] = CHAINLIT,
    ) -> None:
        self._program = program
        self._host = host
        self._port = port
        self._app_root = app_root
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """True while the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the app and return when it answers.

        Raises:
            ServerError: it ended or did not answer; the message carries the end of its log.
        """
        command = [sys.executable, "-m", *self._program]
        command += ["--host", self._host, "--port", str(self._port)]
        environment = {
            **os.environ,
            **self._environment,
            "CHAINLIT_APP_ROOT": str(self._app_root),
            "PYTHONUNBUFFERED": "1",
        }
        with self._log.open("wb") as log:
            # At Ctrl-C the app is stopped by us, and before MongoDB.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command,
                cwd=self._app_root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **out_of_reach(),
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the app, with open connections closed; does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in stop_signals():
            if process.poll() is None:
                process.send_signal(number)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        process.wait()

    def explain_end(self) -> str:
        """Why the app is no longer running, with the end of its log."""
        code = None if self._process is None else self._process.poll()
        return f"The app stopped with exit code {code}. {self._end_of_log()}"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerError(self.explain_end())
            if self._answers():
                return
            time.sleep(0.1)
        raise ServerError(
            f"The app did not answer within {START_SECONDS:.0f} s. {self._end_of_log()}"
        )

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(reachable(self._host), self._port, timeout=5)
        try:
            connection.request("GET", "/")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return status == http.client.OK

    def _end_of_log(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace")
        lines = "\n".join(text.splitlines()[-LAST_LINES:])
        return f"The end of its log ({self._log}):\n{lines}"


def reachable(host: str) -> str:
    """The address to open for a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
