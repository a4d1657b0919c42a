from __future__ import annotations

import json
from pathlib import Path

import pytest

from mongo_datalayer.testing.mongod_log import MongodLog


def entry(severity: str, message: str, **attributes: object) -> str:
    return json.dumps({"s": severity, "msg": message, "attr": attributes}) + "\n"


def test_only_this_starts_errors_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mongod.log"
    path.write_text(entry("E", "an old error"))
    log = MongodLog(path)

    with path.open("a") as file:
        file.write(entry("I", "starting") + entry("F", "no room", path="/data") + "no entry\n[]\n")

    assert log.explain() == f'Its log ({path}) says: no room {{"path": "/data"}}'


def test_without_errors_the_last_lines_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mongod.log"
    log = MongodLog(path)
    path.write_text("".join(f"line {number}\n" for number in range(20)))

    assert log.explain().splitlines()[1:] == [f"line {number}" for number in range(12, 20)]


def test_no_log_at_all(tmp_path: Path) -> None:
    path = tmp_path / "mongod.log"

    assert MongodLog(path).explain() == f"No log was written to {path}."


def test_a_large_log_is_emptied_and_a_small_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.testing.mongod_log.MAX_BYTES", 10)
    path = tmp_path / "mongod.log"

    path.write_text("x" * 10)
    MongodLog(path)
    assert path.stat().st_size == 10

    path.write_text("x" * 11)
    MongodLog(path)
    assert path.stat().st_size == 0
