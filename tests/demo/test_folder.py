from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mongo_datalayer.demo.folder import DemoFolder, default_folder


def test_the_data_home_is_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert default_folder() == tmp_path / "mongo-datalayer" / "demo"


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_without_a_usable_data_home_it_is_below_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert default_folder() == tmp_path / ".local" / "share" / "mongo-datalayer" / "demo"


def test_the_configuration_is_this_versions_and_other_files_stay(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    folder.prepare()
    config = folder.app_root / ".chainlit" / "config.toml"
    packaged = config.read_text()
    config.write_text("old")
    (folder.app_root / "mine").write_text("mine")

    folder.prepare()

    assert config.read_text() == packaged
    assert "allow_thread_sharing = true" in packaged
    assert "favorites = true" in packaged
    assert (folder.app_root / "chainlit.md").is_file()
    assert (folder.app_root / "mine").read_text() == "mine"


def test_the_secret_is_made_once_for_the_owner_only(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path)

    secret = folder.auth_secret()

    assert len(secret) >= 32
    assert folder.auth_secret() == secret
    assert DemoFolder(tmp_path).auth_secret() == secret
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
