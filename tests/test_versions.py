"""``scripts/test-versions`` tests what pyproject.toml promises."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def versions() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "versions.py"))


def test_every_promised_python_is_tested(versions: dict[str, Any]) -> None:
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)

    assert list(versions["PYTHONS"]) == promised
    assert versions["all_rows"](promised)[0].python == promised[0]
    assert versions["all_rows"](promised)[1].python == promised[-1]


def test_every_pinned_version_is_allowed(versions: dict[str, Any]) -> None:
    for row in versions["all_rows"](versions["PYTHONS"]):
        for pin in row.pins:
            name, version = pin.removesuffix(".*").split("==")
            (promised,) = re.findall(rf'"({name}[>=][^"]*)"', PROJECT)
            # Any release of the row: 2.7 stands for 2.7.2, as 2.7.0 is left out.
            assert Requirement(promised).specifier.contains(f"{version}.9"), pin


def test_a_python_is_found_where_there_is_one(versions: dict[str, Any]) -> None:
    running = ".".join(map(str, sys.version_info[:2]))

    found = versions["find_python"](running)

    code = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    assert subprocess.check_output([found, "-c", code], text=True).strip() == running
    assert versions["find_python"]("3.99") is None
