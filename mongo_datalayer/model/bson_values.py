"""One total conversion to what BSON and JSON both carry.

:func:`plain` takes any Python value and never raises. What both formats carry (None, booleans,
64-bit integers, finite floats, strings, lists and maps with string keys) comes back equal. The
rest has a documented form:

==============================  ===================================================
value                           stored as
==============================  ===================================================
NaN, ±Infinity                  None, as JavaScript's ``JSON.stringify`` does
integer beyond 64 bits          its decimal digits, a string
tuple, other sequences          list
set, frozenset                  list, in the order of the items' text
bytes, bytearray, memoryview    base64 text
datetime, date, time            ISO 8601; an aware datetime in UTC with ``Z``
timedelta                       seconds, a float
Enum                            its value
dataclass, pydantic model       map of its fields
numpy and pandas values         what their ``tolist()`` gives
Decimal, UUID, Path, the rest   ``str(value)``
key that is no string           its JSON text (``1`` is ``"1"``, None is ``"null"``), else str
two keys that become one        the later one gets ``~2``, ``~3``, …
NUL in a key                    U+2400
lone surrogate in a string      U+FFFD; a surrogate pair becomes its character
deeper than 64 levels           the JSON text of what lies deeper; ``"<list>"`` where that
                                is deeper than the interpreter goes
a value that contains itself    ``"<circular reference>"`` where it closes
==============================  ===================================================

BSON's own types that JSON lacks (ObjectId, Decimal128, …) become ``str(value)``, so that the same
function makes what a person wrote in the shell fit for JSON. BSON reads a map that has ``$ref`` and
``$id``, as JSON schemas do, as a DBRef: that becomes the map it was.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections import UserString
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from functools import partial
from typing import Any

MAX_DEPTH = 64
MAX_INT = 2**63 - 1
MIN_INT = -(2**63)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
CIRCULAR = "<circular reference>"

_NUL_IN_KEY = "\u2400"
_PIECE = 16_384  # characters


def plain(value: Any) -> Any:
    """``value`` as BSON and JSON both carry it. Total: it never raises."""
    return _plain(value, 0, frozenset())


def plain_text(value: Any) -> str:
    """``value`` as a string: strings as they are, None as empty, other data as JSON text."""
    if isinstance(value, str):
        return _text(str.__str__(value))
    if value is None:
        return ""
    converted = plain(value)
    return converted if isinstance(converted, str) else json.dumps(converted, ensure_ascii=False)


def iso(moment: datetime) -> str:
    """A time as Chainlit writes it: ISO 8601, UTC, with ``Z``. A naive time counts as UTC."""
    text = moment.isoformat()
    if moment.tzinfo is None:
        return text + "Z"
    if text.endswith("+00:00"):  # as what the driver reads
        return text[: -len("+00:00")] + "Z"
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def milliseconds(moment: datetime) -> int:
    """An aware time as MongoDB stores it: milliseconds since 1970, what is less cut off."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(milliseconds: int) -> datetime:
    """The time that is so many milliseconds after the beginning of 1970, in UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def size_of(value: Any) -> int:
    """About how many bytes a plain value takes in BSON; texts exactly."""
    kind = type(value)
    if kind is str:
        return 5 + (len(value) if value.isascii() else _utf8_length(value))
    if kind is dict:
        return 5 + sum([2 + len(key) + size_of(item) for key, item in value.items()])
    if kind is list:
        return 5 + sum([4 + size_of(item) for item in value])
    as_map = getattr(value, "as_doc", None)  # bson.DBRef's
    return 8 if as_map is None else size_of(dict(as_map()))


def _plain(value: Any, depth: int, path: frozenset[int]) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if MIN_INT <= value <= MAX_INT else _digits(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if id(value) in path:
        return CIRCULAR
    if depth >= MAX_DEPTH and not issubclass(kind, (str, int, float, bytes)):
        return _deep_text(value)
    path = path | {id(value)}
    if kind is dict:
        return _map(value, depth, path)
    if kind is list or kind is tuple:
        return [_plain(item, depth + 1, path) for item in value]
    return _converted(value, depth, path)


def _converted(value: Any, depth: int, path: frozenset[int]) -> Any:
    """Values of less common types, by the first rule that fits."""
    kind = type(value)  # isinstance would also ask the value for its class, and it may raise
    for types, convert in _RULES:
        if issubclass(kind, types):
            return _guarded(partial(convert, value), value, depth, path)
    if issubclass(kind, type):
        return _described(value)
    for name in _METHODS:
        method = _attribute(value, name)
        if callable(method):
            return _guarded(partial(_answer, method), value, depth, path)
    if dataclasses.is_dataclass(kind):
        return _guarded(partial(_fields, value), value, depth, path)
    return _described(value)


def _guarded(convert: Callable[[], Any], value: Any, depth: int, path: frozenset[int]) -> Any:
    """The plain form of what ``convert`` makes; user-defined types may raise anything."""
    try:
        converted = convert()
    except Exception:  # noqa: BLE001 - foreign code; the function is total
        return _described(value)
    if type(converted) is type(value):
        return _described(value)
    # Converting is not descending: a list subclass is as deep as a list.
    return _plain(converted, depth, path)


def _map(value: Mapping[Any, Any], depth: int, path: frozenset[int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    # A copy: converting an item may run code that changes the map, and so may another thread.
    for key, item in tuple(value.items()):
        name = key if type(key) is str and key.isascii() and "\0" not in key else _key(key)
        if name in result:
            name = _free_name(name, result)
        result[name] = _plain(item, depth + 1, path)
    return result


def _key(key: Any) -> str:
    kind = type(key)
    if issubclass(kind, str):
        name = _text(str.__str__(key))
    elif key is None or kind is bool:
        name = json.dumps(key)
    elif issubclass(kind, float):
        name = json.dumps(float.__float__(key))
    elif issubclass(kind, int):
        name = _digits(key)
    else:
        converted = plain(key)
        name = converted if isinstance(converted, str) else json.dumps(converted)
    return name.replace("\0", _NUL_IN_KEY)


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    number = 2
    while f"{name}~{number}" in taken:
        number += 1
    return f"{name}~{number}"


def _text(value: str) -> str:
    if value.isascii():
        return value
    try:
        # In pieces that stay in the processor's cache: that takes half the time for a huge text.
        for start in range(0, len(value), _PIECE):
            value[start : start + _PIECE].encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def _utf8_length(value: str) -> int:
    # In pieces, as above.
    pieces = range(0, len(value), _PIECE)
    return sum(len(value[at : at + _PIECE].encode(errors="replace")) for at in pieces)


def _digits(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # more digits than the interpreter converts
        return hex(value)


def _deep_text(value: Any) -> str:
    """JSON text of what lies below the deepest level that is kept as data."""
    try:
        return _text(json.dumps(value, ensure_ascii=False, default=_described, skipkeys=True))
    except Exception:  # noqa: BLE001 - foreign code; the function is total
        return f"<{type(value).__name__}>"


def _described(value: Any) -> str:
    try:
        return _text(str.__str__(str(value)))
    except Exception:  # noqa: BLE001 - foreign code; the function is total
        return f"<{type(value).__name__}>"


def _attribute(value: Any, name: str) -> Any:
    """The attribute, or None also where looking it up fails."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - foreign code; the function is total
        return None


def _answer(method: Callable[[], Any]) -> Any:
    """What a value says it is as data; a mock answers everything, with a mock."""
    answer = method()
    if not issubclass(type(answer), _DATA):
        raise TypeError(answer)
    return answer


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode("ascii")


def _moment(value: datetime) -> str | None:
    return iso(value) if value == value else None


def _sorted(value: Iterable[Any]) -> list[Any]:
    return sorted(value, key=_described)


# pydantic's, bson.DBRef's, numpy's and pandas'.
_METHODS = ("model_dump", "as_doc", "tolist")
_DATA = (dict, list, tuple, str, bytes, int, float, date, timedelta, type(None))

# In order: a datetime is a date, a str subclass may be an Enum.
_RULES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (str, str.__str__),
    (int, int),
    (float, float),
    ((bytes, bytearray, memoryview), _base64),
    (datetime, _moment),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (Mapping, dict),
    (UserString, str),  # a sequence of its own kind
    (Sequence, list),
    ((set, frozenset), _sorted),
)
