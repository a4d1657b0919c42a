"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("chainlit", "pymongo", "asyncpg", "SQLAlchemy", "aiosqlite")
_SYNCS = 50


def describe(folder: Path) -> dict[str, str]:
    """The machine, the programs, and what a flush to its disk costs in ``folder``."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load at the start": f"{os.getloadavg()[0]:.1f} processes",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "fdatasync": f"{_sync_ms(folder):.2f} ms (p50 of {_SYNCS})",
    }
    return found | {name: _version(name) for name in PACKAGES}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _sync_ms(folder: Path) -> float:
    """What a database waits for when it flushes its log."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000
