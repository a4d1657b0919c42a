"""What only one of the fronts takes, refused in its constructor: later it would fail in a chat."""

from __future__ import annotations

import enum
import uuid
from typing import Any

import pytest

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.chatkit.owners import owner_name
from mongo_datalayer.files import FileLinks, GridFSStorageClient

URI = "mongodb://localhost:1"
LAYER: list[dict[str, Any]] = [
    {"storage_client": "s3"},
    {"storage_client": ...},
    {"storage_client": GridFSStorageClient},
    {"search_index": "false"},
    {"search_index": None},
    {"serve_files": "no"},
    {"serve_files": 1},
]
STORE: list[dict[str, Any]] = [
    {"user_id": "ada"},
    {"user_id": True},
    {"links": "a secret"},
    {"links": FileLinks},
    {"attachment_bytes": 0},
    {"attachment_bytes": "5"},
    {"attachment_bytes": None},
    {"attachment_bytes": True},
    {"attachment_bytes": float("inf")},
    *({"bucket": name} for name in ("", 5, None, "$x", "x\0", ".", "a..b", "system.x", "x" * 200)),
]


@pytest.mark.parametrize("arguments", LAYER, ids=repr)
def test_the_layer(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=name):
        MongoDataLayer(URI, **arguments)


@pytest.mark.parametrize("arguments", STORE, ids=repr)
def test_the_store(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=name) as caught:
        MongoChatKitStore[Any](URI, **arguments)
    assert "a secret" not in str(caught.value)


class Role(str, enum.Enum):
    ADA = "ada"


class Number(enum.IntEnum):
    ONE = 1


class Shown(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "somebody else"


def test_an_owner_is_the_value_however_it_is_shown() -> None:
    # The text of an enum's member differs between versions of Python: threads would be lost.
    seven = uuid.UUID(int=7)
    named = [owner_name(owner) for owner in (Role.ADA, Number.ONE, Shown("ada"), seven, 7)]
    assert named == ["ada", "1", "ada", str(seven), "7"]
