"""PraisonAI's wheel, unpacked and not installed: its dependencies are many, and none is needed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.programs import left_out

RELEASE = "praisonai==4.6.29"


def unpack_wheel(folder: Path) -> Path:
    """Download the wheel and unpack it; returns the folder that holds the package ``praisonai``."""
    command = [sys.executable, "-m", "pip", "download", RELEASE, "--no-deps", "--dest", str(folder)]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "--timeout=20", "--retries=2"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or "pip failed").splitlines()[-1]
        left_out(f"the tests beside PraisonAI's own code, as {RELEASE} did not arrive: {reason}")
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder
