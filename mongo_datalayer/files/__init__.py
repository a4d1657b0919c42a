"""Files in MongoDB: a GridFS storage client, signed links, and the HTTP route that serves them.

The public names are loaded on first use: only the storage client imports Chainlit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mongo_datalayer.files.bucket import FileBucket
    from mongo_datalayer.files.links import FileLinks
    from mongo_datalayer.files.mount import mount_files
    from mongo_datalayer.files.route import files_route
    from mongo_datalayer.files.storage_client import GridFSStorageClient
    from mongo_datalayer.files.stored_file import StoredFile

__all__ = [
    "FileBucket",
    "FileLinks",
    "GridFSStorageClient",
    "StoredFile",
    "files_route",
    "mount_files",
]

_HOMES = {
    "FileBucket": "bucket",
    "FileLinks": "links",
    "GridFSStorageClient": "storage_client",
    "StoredFile": "stored_file",
    "files_route": "route",
    "mount_files": "mount",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
