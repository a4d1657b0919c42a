"""What ``scripts/test-versions`` runs: the same tests with many versions of the dependencies."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = ("chatkit", "demo", "memory", "motor")
TOOLS = (
    "hypothesis",
    "pytest",
    "pytest-asyncio; python_version >= '3.11'",
    # Later ones have a Task of their own on Python 3.10, which the lowest anyio refuses.
    "pytest-asyncio<1.1; python_version < '3.11'",
)
TESTS = (
    "tests/chainlit/test_contract.py::TestPyMongo",
    "tests/chatkit/test_backends.py::TestPyMongo",
    "tests/chainlit/test_sessions.py",
    "tests/files/test_route.py",
)
SHOWN = ("chainlit", "pymongo", "openai-chatkit")


class Row(NamedTuple):
    """An environment to test in.

    Attributes:
        name: Its name.
        python: Its Python, as ``3.12``.
        pins: Requirements beside those of pyproject.toml.
        lowest: Whether to take the lowest of each dependency, or the highest.
    """

    name: str
    python: str
    pins: tuple[str, ...] = ()
    lowest: bool = False


class Outcome(NamedTuple):
    """What came of a row.

    Attributes:
        row: The row.
        versions: The installed versions of :data:`SHOWN`.
        result: pytest's summary, or what went wrong.
        seconds: How long it took, with the installation.
        log: The whole output where it failed; else empty.
    """

    row: Row
    versions: tuple[str, ...]
    result: str
    seconds: float
    log: str = ""


def all_rows(pythons: Sequence[str]) -> list[Row]:
    """Every row, with these Pythons; the first two are the lowest and the highest of everything."""
    pins = {
        "chainlit": ("2.7", "2.8", "2.9", "2.10", "2.11"),
        "pymongo": ("4.13", "4.14", "4.15", "4.16"),
        "openai-chatkit": ("1.5", "1.6.1", "1.6.3"),
    }
    return [
        Row("lowest", pythons[0], lowest=True),
        Row("highest", pythons[-1]),
        *(
            Row(f"{package}-{version}", pythons[len(pythons) // 2], (f"{package}=={version}.*",))
            for package, versions in pins.items()
            for version in versions
        ),
        *(Row(f"python-{python}", python) for python in PYTHONS),
    ]


def find_python(version: str) -> str | None:
    """The program of a Python, on the PATH or of pyenv; None when this machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    on_path = [shutil.which(name) for name in (f"python{version}", "python3")]
    for program in (*on_path, *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))):
        # A shim of pyenv's is on the PATH also for a version that it does not let run.
        if program is not None and _version(str(program)) == version:
            return str(program)
    return None


def _version(program: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return _run([program, "-c", code]).stdout.strip()


def _run(command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the commands of this script
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run_row(row: Row, python: str) -> Outcome:
    """Make a row's environment, and run the tests in it."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="versions-") as folder:
        log = ""
        for command in _commands(row, python, folder):
            # Otherwise uv trusts its own certificates only, and not that of a company's proxy.
            done = _run(command, VIRTUAL_ENV=folder, UV_SYSTEM_CERTS="1", PYTHONPATH=str(ROOT))
            log += done.stdout
            if done.returncode:
                break
        versions = tuple(_installed(folder, package) for package in SHOWN)
    summary = re.findall(r"^[\d, a-z]+ in [\d.]+s", done.stdout, re.MULTILINE)
    result = summary[-1].partition(" in ")[0] if summary else "not tested"
    seconds = time.monotonic() - start
    return Outcome(row, versions, result, seconds, log if done.returncode else "")


def _commands(row: Row, python: str, folder: str) -> Iterator[list[str]]:
    uv = str(Path(sys.executable).with_name("uv"))
    yield [uv, "venv", "--quiet", "--allow-existing", "--python", python, folder]
    resolution = "lowest-direct" if row.lowest else "highest"
    extras = [argument for extra in EXTRAS for argument in ("--extra", extra)]
    install = [uv, "pip", "install", "--quiet"]
    yield [*install, "--resolution", resolution, "-r", "pyproject.toml", *extras, *row.pins]
    yield [*install, *TOOLS]
    yield [
        str(Path(folder, "bin", "python")),
        *("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"),
        # Old versions use what is deprecated in new versions of their own dependencies.
        *("-W", "ignore::DeprecationWarning", *TESTS),
    ]


def _installed(folder: str, package: str) -> str:
    name = package.replace("-", "_")
    found = Path(folder).glob(f"lib/*/site-packages/{name}-*.dist-info")
    return next((path.name.removesuffix(".dist-info").partition("-")[2] for path in found), "-")


def main() -> int:
    """Run the rows that were asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/test-versions")
    parser.add_argument("--all", action="store_true", help="every row")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how the names of rows begin")
    arguments = parser.parse_args()

    pythons = {version: python for version in PYTHONS if (python := find_python(version))}
    if not pythons:
        parser.exit(2, f"No Python was found of {', '.join(PYTHONS)}.\n")
    names = tuple(arguments.names) or ("" if arguments.all else ("lowest", "highest"))
    wanted = [row for row in all_rows(list(pythons)) if row.name.startswith(names)]
    if not wanted:
        parser.exit(2, f"No row is called {' or '.join(arguments.names)}.\n")

    present = [row for row in wanted if row.python in pythons]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda row: run_row(row, pythons[row.python]), present))
    for outcome in outcomes:
        if outcome.log:
            print(f"--- {outcome.row.name} ---\n{outcome.log}")
    print_table(outcomes)
    missing = [version for version in PYTHONS if version not in pythons]
    if missing:
        print(f"Not tested: Python {', '.join(missing)}, which this machine does not have.")
    return int(any(outcome.log for outcome in outcomes))


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print what came of each row."""
    table = Table("environment", "Python", *SHOWN, "result", "seconds", box=box.SIMPLE)
    for row, versions, result, seconds, log in outcomes:
        verdict = f"{'FAILED: ' if log else ''}{result}"
        table.add_row(row.name, row.python, *versions, verdict, f"{seconds:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
