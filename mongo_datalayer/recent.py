"""A small memory that forgets what was used least recently."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values of the keys used last.

    Args:
        size: How much is remembered: so many keys, or values of this weight together.
        weight: The weight of a value; each counts 1 when None.
    """

    def __init__(self, size: int, *, weight: Callable[[Value], int] | None = None) -> None:
        self._size = size
        self._weight = weight
        self._total = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def put(self, key: Key, value: Value) -> None:
        """Remember ``value``, and forget the keys used longest ago of which that is too much."""
        if key in self._values:
            self._total -= self._weighed(self._values[key])
        self._values[key] = value
        self._values.move_to_end(key)
        self._total += self._weighed(value)
        while self._total > self._size:
            self._total -= self._weighed(self._values.popitem(last=False)[1])

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def get(self, key: Key) -> Value | None:
        """What is remembered of ``key``, or None."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def _weighed(self, value: Value) -> int:
        return 1 if self._weight is None else self._weight(value)
