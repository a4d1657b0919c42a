"""Every command of a layer's storage, one at a time: a place to stop it, or to let others go first.

The collections that a layer holds are replaced by watched ones. What is done between two commands
of an operation is all that another process can do to it, and all that its own end can do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from mongo_datalayer import MongoDataLayer

Before = Callable[[str], Awaitable[None]]

_COMMANDS = frozenset(
    {
        *("find_one", "find_one_and_update", "find_one_and_replace", "find_one_and_delete"),
        *("update_one", "update_many", "replace_one", "insert_one", "insert_many"),
        *("delete_one", "delete_many", "count_documents", "aggregate", "bulk_write"),
        "create_index",
    }
)


class Killed(Exception):  # noqa: N818 - not an error of the layer's
    """The process has ended here."""


class Watched:
    """A collection that tells before each command."""

    def __init__(self, collection: Any, before: Before) -> None:
        self._collection = collection
        self._before = before

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._collection, name)
        if name not in _COMMANDS:
            return attribute

        async def command(*args: Any, **options: Any) -> Any:
            await self._before(f"{name} {self._collection.name}")
            return await attribute(*args, **options)

        return command

    def find(self, *args: Any, **options: Any) -> _Cursor:
        found = self._collection.find(*args, **options)
        return _Cursor(found, self._before, f"find {self._collection.name}")

    def with_options(self, *args: Any, **options: Any) -> Watched:
        return Watched(self._collection.with_options(*args, **options), self._before)


class _Cursor:
    """A cursor that tells before it sends its command; further pages are not told of."""

    def __init__(self, cursor: Any, before: Before, name: str) -> None:
        self._cursor, self._before, self._name = cursor, before, name

    def sort(self, *args: Any) -> _Cursor:
        self._cursor = self._cursor.sort(*args)
        return self

    def limit(self, *args: Any) -> _Cursor:
        self._cursor = self._cursor.limit(*args)
        return self

    async def to_list(self, *args: Any) -> Any:
        await self._before(self._name)
        return await self._cursor.to_list(*args)

    async def __aiter__(self) -> Any:
        await self._before(self._name)
        async for document in self._cursor:
            yield document


def watch(layer: MongoDataLayer, before: Before) -> None:
    """Have ``before`` awaited before each command that the layer sends about threads and files."""
    _watch(layer, before, set())


def _watch(owner: Any, before: Before, seen: set[int]) -> None:
    seen.add(id(owner))
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if isinstance(value, AsyncCollection):
            setattr(owner, name, Watched(value, before))
        elif isinstance(value, Watched):
            setattr(owner, name, Watched(value._collection, before))
        elif type(value).__module__.startswith("mongo_datalayer") and id(value) not in seen:
            _watch(value, before, seen)


class Stop:
    """Stops a layer for good before its command number ``at``, as the end of its process does.

    Attributes:
        reached: Whether it came so far.
        told: The commands until then.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached = False
        self.told: list[str] = []

    async def __call__(self, command: str) -> None:
        self.told.append(command)
        if len(self.told) >= self.at:
            self.reached = True
            raise Killed(command)


class Meanwhile:
    """Lets another layer do something before command number ``at``.

    Attributes:
        reached: Whether the command came.
        told: The commands until then.
    """

    def __init__(
        self,
        at: int,
        operation: Callable[[MongoDataLayer, str], Awaitable[Any]],
        layer: MongoDataLayer,
        thread: str,
    ) -> None:
        self.at = at
        self.reached = False
        self.told: list[str] = []
        self._operation = operation
        self._layer = layer
        self._thread = thread

    async def __call__(self, command: str) -> None:
        self.told.append(command)
        if len(self.told) == self.at:
            self.reached = True
            await self._operation(self._layer, self._thread)


async def unwatched(command: str) -> None:
    """Nothing happens before a command."""
