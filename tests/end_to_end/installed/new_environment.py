"""A new environment, as a person makes one: it holds the built package and what that asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.docs.pages import ROOT
from tests.programs import left_out, require_program

INSTALL_SECONDS = 300
RUN_SECONDS = 120


class NewEnvironment:
    """A virtual environment in a folder. The tests' own packages are not in it.

    uv installs into it, which takes a second where pip takes a minute. The first installation
    downloads, the others use what was downloaded.
    """

    def __init__(self, folder: Path, *, extras: list[str], others: list[str]) -> None:
        """Build the package, and install it without extras.

        Args:
            folder: An empty folder.
            extras: Those of the package that :meth:`install` may be asked for.
            others: Other packages that it may be asked for.
        """
        self._uv = require_program(
            "uv", what="the package in a new environment", how="pip install uv"
        )
        self._folder = folder
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=RUN_SECONDS)
        (self.wheel,) = folder.glob("*.whl")
        self._call_uv("venv", "--python", sys.executable, str(self._environment))
        everything = [f"{self.wheel}[{','.join(extras)}]", *others]
        with TemporaryDirectory(dir=folder) as downloaded:
            self._call_uv("pip", "install", "--target", downloaded, *everything)
        self.install(str(self.wheel))
        self._at_first = folder / "at_first.txt"
        self._at_first.write_text(self._call_uv("pip", "freeze"), encoding="utf-8")

    @property
    def _environment(self) -> Path:
        return self._folder / "environment"

    @property
    def variables(self) -> dict[str, str]:
        """What a shell has in which the environment is active, and nothing of the tests' own."""
        path = os.pathsep.join(
            (str(self._environment / "bin"), "/usr/local/bin", "/usr/bin", "/bin")
        )
        return {"PATH": path, "HOME": str(self._folder), "LANG": "C.UTF-8"}

    def install(self, *arguments: str) -> None:
        """``pip install`` with these arguments."""
        self._call_uv("pip", "install", "--offline", *arguments)

    def uninstall_extras(self) -> None:
        """Leave only what was there at first."""
        self._call_uv("pip", "sync", "--offline", str(self._at_first))

    def run(self, script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """What a shell makes of ``script``, in a folder."""
        return subprocess.run(
            ["bash", "-ec", script],
            cwd=folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )

    def _call_uv(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._uv, *arguments, "--quiet"],
            # Otherwise uv trusts its own certificates only, and not that of a company's proxy.
            env={**os.environ, "VIRTUAL_ENV": str(self._environment), "UV_SYSTEM_CERTS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
        if done.returncode == 2:  # 1 is a requirement that cannot be met
            left_out(f"the package in a new environment, which uv could not make: {done.stderr}")
        assert done.returncode == 0, done.stderr
        return done.stdout
