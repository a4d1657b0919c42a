"""What the benchmark asks of each data layer that it compares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from chainlit.data.base import BaseDataLayer
from chainlit.data.storage_clients.base import BaseStorageClient

from benchmarks.conversations import Dataset


class SeedError(Exception):
    """A contender cannot hold a dataset, or not within the time it was given."""


class Contender(ABC):
    """A data layer with its database.

    Attributes:
        name: Its name in the results.
        layer: What the operations are called on; it has the methods of Chainlit's data layers.
        users: The id of each user, by identifier.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layer: Any = None
        self.users: dict[str, str] = {}

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make tables or indexes in a database that is empty."""

    @abstractmethod
    async def clear(self) -> None:
        """Make the database empty again."""

    @abstractmethod
    async def seed(self, dataset: Dataset) -> None:
        """Store a dataset besides what is there.

        Raises:
            SeedError: that is not possible.
        """

    async def copy(self, other: Contender) -> bool:
        """Take over everything that ``other`` holds, if that is possible; else False."""
        return False

    async def close(self) -> None:
        """Disconnect."""
        if self.layer is not None:
            await self.layer.close()


class ForgetfulStorage(BaseStorageClient):
    """A storage client that keeps nothing: files are no part of the comparison."""

    async def upload_file(
        self,
        object_key: str,
        data: bytes | str,
        mime: str = "application/octet-stream",
        overwrite: bool = True,
        content_disposition: str | None = None,
    ) -> dict[str, Any]:
        """Claim that the file is kept."""
        return {"object_key": object_key, "url": f"https://files.example.org/{object_key}"}

    async def delete_file(self, object_key: str) -> bool:
        """Claim that the file is gone."""
        return True

    async def get_read_url(self, object_key: str) -> str:
        """A link."""
        return f"https://files.example.org/{object_key}"

    async def close(self) -> None:
        """Nothing to close."""


def outside_of_a_chat(layer: type[BaseDataLayer]) -> type[Any]:
    """Chainlit's own layer for calls from a script.

    Their methods are decorated so that they wait for the user's first message, and the decorator
    raises outside of a chat. This takes it away, and with it a microsecond.
    """
    bare = {
        name: method.__wrapped__
        for name, method in vars(layer).items()
        if hasattr(method, "__wrapped__")
    }
    return type(f"{layer.__name__}OutsideOfAChat", (layer,), bare)
