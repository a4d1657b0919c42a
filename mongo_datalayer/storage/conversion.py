"""Values of a caller, taken at the call and converted in a thread where they have many parts.

Converting 100,000 messages takes a part of a second of Python, in which the event loop must serve
others. The caller may change its values meanwhile, so they are copied before.
"""

from __future__ import annotations

import asyncio
import gc
import io
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from mongo_datalayer.model.bson_values import to_bson

Result = TypeVar("Result")

MANY_PARTS = 10_000
"""With more values in its maps and lists than this, a value is converted in a thread."""


class Conversion(Generic[Result]):
    """A value that is being converted to what is stored.

    Args:
        convert: Makes what is stored.
        value: The caller's map; it may change as soon as this object is made.
        copied: Whether nobody else can change it.
    """

    def __init__(
        self,
        convert: Callable[[Any], Result],
        value: Mapping[str, Any],
        *,
        copied: bool = False,
    ) -> None:
        self._convert: Callable[[], Result] | None = None
        if not has_many_parts(value):
            self._result = convert(value)
        elif copied:
            self._convert = lambda: convert(value)
        elif (pickled := _pickled(value)) is not None:
            self._convert = lambda: convert(pickle.loads(pickled))  # noqa: S301 - our own bytes
        else:
            self._result = convert(value)

    async def result(self) -> Result:
        """What is stored; the same object each time."""
        if self._convert is None:
            return self._result
        return await asyncio.to_thread(_uncollected, self.finish)

    def finish(self) -> Result:
        """The same, converted here and now."""
        if self._convert is not None:
            self._result = self._convert()
            self._convert = None
        return self._result


async def converted(convert: Callable[[Any], Result], value: Any) -> Result:
    """What ``convert`` makes of a value that nobody changes, in a thread if it has many parts."""
    if not has_many_parts(value):
        return convert(value)
    return await asyncio.to_thread(_uncollected, partial(convert, value))


def _uncollected(convert: Callable[[], Result]) -> Result:
    """What ``convert`` returns, made without passes of Python's garbage collector.

    It makes hundreds of thousands of maps and lists. Each pass looks at all of them and at the
    whole app, and holds the interpreter's lock meanwhile, and with it the event loop.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return convert()
    finally:
        if collects:  # else another conversion switches it on again, or the app does without
            gc.enable()


def has_many_parts(value: Any) -> bool:
    """Whether a value of maps and lists has more than :data:`MANY_PARTS` parts."""
    level = [value] if isinstance(value, (dict, list, tuple)) else []
    left = MANY_PARTS
    while level:
        left -= sum(map(len, level))
        if left < 0:
            return True
        level = [
            part
            for container in level
            # A copy, as another thread may change it.
            for part in tuple(container.values() if isinstance(container, dict) else container)
            if type(part) in _CONTAINERS and part
        ]
    return False


_CONTAINERS = frozenset({dict, list, tuple})


class _Pickler(pickle.Pickler):
    """Copies plain data at the speed of C; everything else is converted at once."""

    def reducer_override(self, value: Any) -> Any:
        return _Converted, (to_bson(value),)


class _Converted:
    """What a value was converted to. As a key of a map it stays apart from equal ones."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def as_doc(self) -> Any:
        """The name under which :func:`to_bson` asks."""
        return self._value

    def __str__(self) -> str:
        return str(self._value)  # sets are sorted by it


def _pickled(value: Mapping[str, Any]) -> bytes | None:
    """A copy of a map of plain data; None where it contains itself, or is very deep."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True  # without a memo, for which data that does not contain itself has no use
    try:
        pickler.dump(dict(value))
    except (ValueError, RuntimeError):  # RecursionError too, or another thread changes it
        return None
    return buffer.getvalue()
