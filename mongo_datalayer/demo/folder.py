"""Where the demo keeps its data between runs."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

LANGUAGE = "en-US"
LOGIN_TITLE = "Log in as alice / alice or bob / bob"
PACKAGED_ROOT = Path(__file__).with_name("root")


def default_folder() -> Path:
    """``$XDG_DATA_HOME/mongo-datalayer/demo``, else ``~/.local/share/mongo-datalayer/demo``."""
    home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG rules: a relative path is to be ignored.
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "share"
    return base / "mongo-datalayer" / "demo"


@dataclass(frozen=True)
class DemoFolder:
    """The folder of one demo; remove it to start afresh."""

    path: Path

    @property
    def database(self) -> Path:
        """MongoDB's data."""
        return self.path / "mongodb"

    @property
    def app_root(self) -> Path:
        """Chainlit's application root: its configuration and welcome page."""
        return self.path / "app"

    @property
    def log(self) -> Path:
        """What the app said in its last run."""
        return self.path / "app.log"

    @property
    def _secret_file(self) -> Path:
        return self.path / "auth_secret"

    def prepare(self) -> None:
        """Make the folder and write the app's configuration as this version packages it.

        Raises:
            OSError: the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        shutil.copytree(PACKAGED_ROOT, self.app_root, dirs_exist_ok=True)
        # Under both names: Chainlit warns where there is none for the language.
        welcome = self.app_root / "chainlit.md"
        shutil.copyfile(welcome, self.app_root / f"chainlit_{LANGUAGE}.md")
        self._write_texts()

    def _write_texts(self) -> None:
        """Chainlit's texts, with the demo's users on the login page."""
        name = f"{LANGUAGE}.json"
        package = importlib.util.find_spec("chainlit")
        assert package is not None  # noqa: S101 - this package depends on it
        assert package.origin is not None  # noqa: S101 - it is no namespace
        texts = json.loads(
            (Path(package.origin).parent / "translations" / name).read_text(encoding="utf-8")
        )
        login = texts["auth"]["login"]
        login["title"] = LOGIN_TITLE
        login["form"]["email"].update(label="User", placeholder="alice")
        translations = self.app_root / ".chainlit" / "translations"
        translations.mkdir(exist_ok=True)
        (translations / name).write_text(json.dumps(texts, indent=4), encoding="utf-8")

    def auth_secret(self) -> str:
        """The secret that signs logins: made once, so that a restart logs nobody out.

        The file is readable by its owner only.
        """
        try:
            descriptor = os.open(self._secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self._secret_file.read_text(encoding="ascii").strip()
        secret = secrets.token_urlsafe(48)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret)
        return secret
