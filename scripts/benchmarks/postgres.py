"""A PostgreSQL of one's own: a private cluster on the loopback interface, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

START_SECONDS = 60.0
STOP_SECONDS = 30.0
SUPERUSER = "postgres"
HOW_TO_INSTALL = (
    "PostgreSQL is not installed. On Debian and Ubuntu: apt-get install postgresql, or run this "
    "again with --install. Or leave its data layers out with --only ours,floor,sqlite."
)


class PostgresError(Exception):
    """PostgreSQL is not there, or did not start."""


class LocalPostgres:
    """A PostgreSQL server with its default settings, on 127.0.0.1 only; a context manager.

    It does not run as root: started by root it runs as the user ``postgres``, whom Debian's package
    makes.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_urlsafe(24)
        self.port = 0
        self.version = ""

    def url(self, database: str, driver: str = "postgresql") -> str:
        """The address of a database."""
        return f"{driver}://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        programs = find_programs()
        self.version = _output([str(programs / "postgres"), "--version"])
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            self._start(programs, self._folder)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self, programs: Path, folder: Path) -> None:
        password, data, log = folder / "password", folder / "data", folder / "log"
        password.write_text(self._password)
        if os.getuid() == 0:
            owner = pwd.getpwnam(SUPERUSER)
            for path in (folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        made = _run(
            [
                *(str(programs / "initdb"), "--pgdata", str(data), "--username", SUPERUSER),
                *("--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8"),
                *("--locale", "C.UTF-8"),
            ],
            folder,
        )
        if made.returncode:
            raise PostgresError(f"initdb failed: {made.stderr.decode(errors='replace').strip()}")
        self.port = _free_port()
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the program was looked up
                [
                    *_as_user(),
                    *(str(programs / "postgres"), "-D", str(data), "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-k", str(folder)),
                ],
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
            )
        self._wait(programs, log)

    def _wait(self, programs: Path, log: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        ask = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if _run(ask, log.parent).returncode == 0:
                return
            time.sleep(0.1)
        raise PostgresError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")

    def _stop(self) -> None:
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        if folder is None:
            return
        if process is not None and process.poll() is None:
            _end(process, folder / "data" / "postmaster.pid")
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes], pid_file: Path) -> None:
    """A fast shutdown. The process is runuser where root started it, so the server is asked."""
    try:
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGINT)
    except (OSError, ValueError, IndexError):
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_programs() -> Path:
    """The folder of initdb and postgres: Debian keeps them off the PATH.

    Raises:
        PostgresError: PostgreSQL is not installed; the message says how to.
    """
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: _version(path.parents[1])
    )
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if found is None:
        raise PostgresError(HOW_TO_INSTALL)
    return Path(found).resolve().parent


def install() -> None:
    """Install Debian's package.

    Raises:
        PostgresError: that is not possible.
    """
    apt = shutil.which("apt-get")
    if apt is None or os.getuid() != 0:
        raise PostgresError("PostgreSQL can be installed here only by root, with apt-get.")
    for command in ("update", "install -y --no-install-recommends postgresql"):
        done = subprocess.run([apt, *command.split()], capture_output=True, check=False)  # noqa: S603
        if done.returncode:
            raise PostgresError(f"apt-get failed: {done.stderr.decode(errors='replace').strip()}")


def _version(folder: Path) -> int:
    return int(folder.name) if folder.name.isdecimal() else 0


def _as_user() -> list[str]:
    """What goes before a command, so that root does not run it."""
    if os.getuid() != 0:
        return []
    return [shutil.which("runuser") or "runuser", "-u", SUPERUSER, "--"]


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - the programs were looked up
        [*_as_user(), *command], capture_output=True, check=False, cwd=folder
    )


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()  # noqa: S603


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
