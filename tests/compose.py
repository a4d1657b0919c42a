"""Compose files: whether Docker takes them, and what their MongoDB's health check does."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from mongo_datalayer.server import LocalServer
from tests.programs import left_out, require_mongosh

SECONDS = 60
SPELLINGS = (["docker", "compose"], ["docker-compose"])


def require_compose() -> list[str]:
    """The command, in the way this machine spells it; it needs no running Docker."""
    for command in SPELLINGS:
        try:
            subprocess.run([*command, "version"], check=True, capture_output=True, timeout=SECONDS)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    return left_out(
        "the check of the compose files, as no docker compose was found. "
        "On Debian: apt-get install docker-compose"
    )


def read_compose_file(folder: Path) -> dict[str, Any]:
    """What Docker understands of ``compose.yaml`` in a folder."""
    done = subprocess.run(
        [*require_compose(), "config"],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    understood: dict[str, Any] = yaml.safe_load(done.stdout)
    return understood


def make_replica_set(service: dict[str, Any], host: str, folder: Path) -> None:
    """Run the health check of a MongoDB until it is healthy, on a mongod of our own.

    Args:
        service: The service in the compose file.
        host: What it calls itself in the replica set.
        folder: For the data.
    """
    check = service["healthcheck"]["test"]
    words = shlex.split(check) if isinstance(check, str) else check[1:]
    assert words[0] == require_mongosh().name
    with LocalServer(folder, arguments=["--replSet", "rs0"]) as server:
        # On another port than in a container.
        script = words[-1].replace(host, f"127.0.0.1:{server.port}")
        command = [*words[:-1], script, "--port", str(server.port)]
        deadline = time.monotonic() + SECONDS
        while subprocess.run(command, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
