"""Chainlit conversations in MongoDB: one readable document per thread.

The public names are loaded on first use, so that importing this package, or running its command
line, does not import Chainlit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mongo_datalayer.version import VERSION

if TYPE_CHECKING:
    from mongo_datalayer.chainlit.data_layer import MongoDataLayer
    from mongo_datalayer.errors import (
        ConfigurationError,
        InvalidCursorError,
        MongoDataLayerError,
        NotFoundError,
        SearchTimeoutError,
        StorageError,
    )
    from mongo_datalayer.files import GridFSStorageClient

__version__ = VERSION

__all__ = [
    "ConfigurationError",
    "GridFSStorageClient",
    "InvalidCursorError",
    "MongoDataLayer",
    "MongoDataLayerError",
    "NotFoundError",
    "SearchTimeoutError",
    "StorageError",
]

_HOMES = {
    "GridFSStorageClient": "mongo_datalayer.files",
    "MongoDataLayer": "mongo_datalayer.chainlit.data_layer",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "mongo_datalayer.errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
