from __future__ import annotations

import json
from pathlib import Path

import pytest

from mongo_datalayer.server import find_mongod
from mongo_datalayer.testing.find_mongod import wheel_for
from tests.testing.wheels import LISTINGS, PLATFORMS, Platform, requirements, wheel_of

SHORTEST_PROGRAM = 50 * 1024**2

listings: dict[str, dict[str, int]] = json.loads(LISTINGS.read_text(encoding="utf-8"))
each_platform = pytest.mark.parametrize("platform", PLATFORMS, ids=lambda p: "-".join(p[:2]))


@each_platform
def test_the_extra_names_one_release_for_each_platform(platform: Platform) -> None:
    (requirement,) = requirements(platform)

    assert requirement.name == wheel_for(platform.sys_platform)


@pytest.mark.parametrize(
    ("sys_platform", "machine"), [("linux", "riscv64"), ("win32", "ARM64"), ("freebsd14", "amd64")]
)
def test_elsewhere_it_names_none(sys_platform: str, machine: str) -> None:
    assert requirements(Platform(sys_platform, machine, ("", ""))) == []


@each_platform
def test_the_program_of_its_wheel_is_found(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (requirement,) = requirements(platform)
    files = listings[wheel_of(requirement, platform, listings)]
    version = str(requirement.specifier).removeprefix("==")
    for name, size in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if size > SHORTEST_PROGRAM else b"small")
    (metadata,) = tmp_path.glob("*.dist-info")
    (metadata / "METADATA").write_text(f"Name: {requirement.name}\nVersion: {version}\n")
    (metadata / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    monkeypatch.syspath_prepend(tmp_path)
    wheel = wheel_for(platform.sys_platform)
    monkeypatch.setattr("mongo_datalayer.testing.find_mongod.WHEEL", wheel)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MONGO_DATALAYER_MONGOD", raising=False)

    found = find_mongod().relative_to(tmp_path).as_posix()

    program = "mongod.exe" if platform.sys_platform == "win32" else "mongod"
    assert found == f"fiftyone/db/bin/{program}"
    assert files[found] > SHORTEST_PROGRAM
