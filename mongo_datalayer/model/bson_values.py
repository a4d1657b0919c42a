"""The conversion of any value to what BSON and JSON both carry.

:func:`to_bson` never raises. None, booleans, 64-bit integers, finite floats, strings, lists and
maps with string keys come back equal. The rest is stored like this:

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

BSON's own types that JSON lacks (ObjectId, Decimal128, …) become ``str(value)``, so the function
also prepares for JSON what a person wrote in the shell. BSON reads a map with ``$ref`` and ``$id``,
as JSON schemas have them, as a DBRef: it becomes the map again.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections import UserString
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import partial
from typing import Any

from mongo_datalayer.errors import InvalidIdError
from mongo_datalayer.model.times import iso

# MongoDB refuses documents deeper than 100 levels, and these values stand inside of documents.
MAX_DEPTH = 64
MAX_INT = 2**63 - 1
MIN_INT = -(2**63)
MAX_ID_BYTES = 1024
"""The longest id: ids that browsers choose are kept in memory, in indexes and in links."""
CIRCULAR = "<circular reference>"

_NUL_IN_KEY = "\u2400"


def to_bson(value: Any) -> Any:
    """``value`` as BSON and JSON both carry it; it never raises."""
    return _convert(value, 0, frozenset())


def to_id(value: Any) -> str:
    """An id as it is stored; clients choose ids, and any string of 1,024 bytes is one.

    Raises:
        InvalidIdError: the id is longer.
    """
    text = to_text(value)
    length = len(text) if text.isascii() else len(text.encode())
    if length > MAX_ID_BYTES:
        raise InvalidIdError(
            f"An id has at most {MAX_ID_BYTES} bytes in UTF-8; {text[:40]!r}… has {length:,}."
        )
    return text


def required_id(value: Any, owner: str) -> str:
    """The id under which something is written; ``owner`` says what it is the id of.

    Raises:
        InvalidIdError: the id is empty or too long.
    """
    text = to_id(value)
    if not text:
        raise InvalidIdError(
            f"The id of {owner} is empty ({value!r}), and nothing is stored there."
        )
    return text


def to_text(value: Any) -> str:
    """A string as it is, None as an empty one, other data as JSON text."""
    if isinstance(value, str):
        return _text(str.__str__(value))
    if value is None:
        return ""
    converted = to_bson(value)
    return converted if isinstance(converted, str) else json.dumps(converted, ensure_ascii=False)


def _convert(value: Any, depth: int, path: frozenset[int]) -> Any:
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
        return _convert_map(value, depth, path)
    if kind is list or kind is tuple:
        return [_convert(item, depth + 1, path) for item in value]
    return _convert_other(value, depth, path)


def _convert_other(value: Any, depth: int, path: frozenset[int]) -> Any:
    # isinstance also asks the value for its `__class__`, and that may raise or lie, as mocks do.
    kind = type(value)
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
    # The code of user-defined types runs here: it may raise anything.
    try:
        converted = convert()
    except Exception:  # noqa: BLE001 - foreign code; the function is total
        return _described(value)
    if type(converted) is type(value):
        return _described(value)
    # The depth stays: a list subclass is as deep as a list.
    return _convert(converted, depth, path)


def _convert_map(value: Mapping[Any, Any], depth: int, path: frozenset[int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    # A copy, as converting an item may run code that changes the map, and so may another thread.
    for key, item in tuple(value.items()):
        name = key if type(key) is str and key.isascii() and "\0" not in key else _key(key)
        if name in result:
            name = _free_name(name, result)
        result[name] = _convert(item, depth + 1, path)
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
        converted = to_bson(key)
        name = converted if isinstance(converted, str) else json.dumps(converted)
    return name.replace("\0", _NUL_IN_KEY)


def _free_name(name: str, used: Mapping[str, Any]) -> str:
    number = 2
    while f"{name}~{number}" in used:
        number += 1
    return f"{name}~{number}"


def _text(value: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        # UTF-16 is where surrogates mean something: pairs become characters, the rest U+FFFD.
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def _digits(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # Python refuses to write more than 4,300 digits
        return hex(value)


def _deep_text(value: Any) -> str:
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
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - foreign code; the function is total
        return None


def _answer(method: Callable[[], Any]) -> Any:
    answer = method()
    # A mock has every method, and answers with a mock.
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

# The first that fits decides: a datetime is a date, too, and a str subclass may be an Enum.
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
    (UserString, str),  # before Sequence, which it is, too
    (Sequence, list),
    ((set, frozenset), _sorted),
)
