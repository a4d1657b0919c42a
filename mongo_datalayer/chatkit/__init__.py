"""OpenAI ChatKit's threads, items and attachments in MongoDB.

The public names are loaded on first use; they need the extra ``chatkit``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mongo_datalayer.chatkit.errors import (
        AlreadyExistsError,
        MissingError,
        UploadRefusedError,
    )
    from mongo_datalayer.chatkit.routes import chatkit_routes, mount_chatkit
    from mongo_datalayer.chatkit.store import MongoChatKitStore

__all__ = [
    "AlreadyExistsError",
    "MissingError",
    "MongoChatKitStore",
    "UploadRefusedError",
    "chatkit_routes",
    "mount_chatkit",
]

_MODULES = {
    "AlreadyExistsError": "errors",
    "MissingError": "errors",
    "MongoChatKitStore": "store",
    "UploadRefusedError": "errors",
    "chatkit_routes": "routes",
    "mount_chatkit": "routes",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "chatkit":
            raise
        raise ModuleNotFoundError(
            f"{__name__} needs OpenAI's ChatKit, which is not installed. "
            "Install the extra `chatkit`: pip install 'mongo-datalayer[chatkit]'",
            name=exc.name,
        ) from exc


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
