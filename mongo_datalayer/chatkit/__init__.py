"""OpenAI ChatKit's threads, items and attachments in MongoDB.

The public names are loaded on first use; they need the extra ``chatkit``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mongo_datalayer.chatkit.errors import AlreadyExistsError, MissingError
    from mongo_datalayer.chatkit.store import MongoChatKitStore, chatkit_routes, mount_chatkit

__all__ = [
    "AlreadyExistsError",
    "MissingError",
    "MongoChatKitStore",
    "chatkit_routes",
    "mount_chatkit",
]

_HOMES = {
    "AlreadyExistsError": "errors",
    "MissingError": "errors",
    "MongoChatKitStore": "store",
    "chatkit_routes": "store",
    "mount_chatkit": "store",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
