"""The values of a column, whatever type it has in this database. Pure."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timezone, tzinfo
from decimal import Decimal
from typing import Any

from mongo_datalayer.model.bson_values import MAX_ID_BYTES, to_bson, to_text
from mongo_datalayer.model.times import iso, parse_time

_FALSE = frozenset({"", "0", "f", "false", "n", "no", "off", "null", "none"})
# An array of PostgreSQL as text: {a,"b c"}.
_ARRAY_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)')


JSON_NULL = "metadata is null"
TOO_LONG = f"its id has more than {MAX_ID_BYTES:,} bytes"


class OddValueError(ValueError):
    """A value that is not what its column is for; ``kept`` is what is stored instead."""

    def __init__(self, reason: str, kept: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kept = kept


class DamagedText(str):
    """Text of a database that was not UTF-8: what could not be read is U+FFFD."""

    __slots__ = ()


def text_of(stored: bytes) -> str:
    """The text that a database stored without looking at it."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return DamagedText(stored.decode(errors="replace"))


def to_plain(value: Any) -> Any:
    """A value of an unknown column as BSON and JSON carry it."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return text(value)
    return _number(value) if isinstance(value, Decimal) else to_bson(value)


def _number(value: Decimal) -> Any:
    """The float that is the same number, else its digits; None where it is no number."""
    if not value.is_finite():
        return None
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def text(value: Any) -> str:
    """Text; bytes that are UTF-8 are decoded, other values are their JSON text."""
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return str(to_bson(bytes(value)))
    return to_text(value)


def is_too_long(id: str) -> bool:  # noqa: A002 - an id
    """Whether an id is longer than any that the app can ask for."""
    return len(id) * 4 > MAX_ID_BYTES and len(id.encode(errors="replace")) > MAX_ID_BYTES


def mapping(value: Any) -> dict[str, Any]:
    """A map; JSON text is decoded until it is one, as old layers encoded it more than once.

    Raises:
        OddValueError: it is JSON but no map, or no JSON: the text is kept as ``value``.
    """
    found = decoded(value)
    if isinstance(found, dict):
        plain: dict[str, Any] = to_bson(found)
        return plain
    if isinstance(found, str) and found:
        raise OddValueError("metadata is not JSON", {"value": to_text(found)})
    if found is None and value is not None:
        raise OddValueError(JSON_NULL, {})
    if found is None or found == "":
        return {}
    raise OddValueError("metadata is not a map", {})


def decoded(value: Any) -> Any:
    """What JSON text stands for; text that is not JSON stays."""
    # SQLAlchemy's JSON type encodes text that the layer has encoded already.
    while isinstance(value, (str, bytes, bytearray, memoryview)):
        value = value if isinstance(value, str) else text(value)
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def tags(value: Any) -> list[str]:
    """Tags, from a list, JSON text, PostgreSQL's array text or comma-separated text.

    Raises:
        OddValueError: it was none of the first three.
    """
    found = decoded(value)
    if isinstance(found, (list, tuple)):
        return [to_text(tag) for tag in found if tag is not None]
    if found is None or found == {} or not (stripped := text(found).strip()):  # {} is an array
        return []
    if not isinstance(found, str):
        raise OddValueError("tags are plain text", [stripped])
    if stripped.startswith("{") and stripped.endswith("}"):
        items = _ARRAY_ITEM.findall(stripped[1:-1])
        return [
            re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            for quoted, plain in items
            if plain != "NULL"
        ]
    kept = [tag.strip() for tag in stripped.split(",") if tag.strip()]
    raise OddValueError("tags are plain text", kept)


def flag(value: Any) -> bool:
    """A boolean, from any of the ways in which databases write one."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE
    return any(value) if isinstance(value, (bytes, bytearray)) else bool(value)  # MySQL's BIT


def show_input(value: Any) -> Any:
    """Chainlit's ``showInput``: a boolean, or the language that the input is shown in."""
    if isinstance(value, str):
        # Chainlit's SQL layer stores it in lower case, the official one as Python prints it.
        return {"true": True, "false": False}.get(value.lower(), to_text(value))
    return bool(value) if isinstance(value, (bool, int)) else text(value)


def moment(value: Any, zone: tzinfo | None = None) -> datetime | None:
    """A time in UTC; None where the value is none.

    Args:
        value: ISO 8601 text, or what the driver made of a column of times.
        zone: The zone of times that name none, or that a layer labelled ``Z`` without converting
            them; UTC when None.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return _in_zone(value, zone)
        try:
            utc = value.astimezone(timezone.utc)
        except OverflowError:  # year 0 or 10000 in UTC
            return None
        # A driver's time: the database took the label, and local times for UTC, as the text says.
        return utc if zone is None else _in_zone(utc.replace(tzinfo=None), zone)
    if isinstance(value, date):
        return _in_zone(datetime(value.year, value.month, value.day), zone)  # noqa: DTZ001 - below
    if isinstance(value, (bytes, bytearray)):
        value = text(value)
    time = parse_time(value)
    if time is None or zone is None or not _is_local(value):
        return time
    return _in_zone(time.replace(tzinfo=None), zone)


def time_text(value: Any) -> str | None:
    """A step's time as Chainlit writes it; text in that form stays as it is."""
    time = moment(value)
    if time is None:
        return None
    # Chainlit leaves out microseconds that are 0: either form must come back as it was.
    if isinstance(value, str) and value[-1:] == "Z" and value[10:11] == "T":
        return value
    return iso(time)


def vote(value: Any) -> int | None:
    """Feedback as 0 (down) or 1 (up); None where it is neither. -1 was Chainlit's older 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return {-1.0: 0, 0.0: 0, 1.0: 1}.get(number)


def whole_number(value: Any) -> Any:
    """An integer where the value is one in any form, else the value itself."""
    # int() would also take 1_000, and refuse many digits.
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value.strip()):
        return to_bson(int(value))
    is_whole = (
        isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value()
    )
    if is_whole or (isinstance(value, float) and value.is_integer()):
        return to_bson(int(value))
    return to_plain(value)


def is_set(value: Any) -> bool:
    """Whether a column of times has one: 0, false and MySQL's 0000-00-00 say that it has none."""
    return flag(value.strip("0-:. ") if isinstance(value, str) else value)


def _is_local(value: str) -> bool:
    """Whether the text names no zone but ``Z``, which old layers also put after local times."""
    return value.strip().endswith(("Z", "z")) or not re.search(r"[+-]\d\d:?\d\d$", value.strip())


def _in_zone(naive: datetime, zone: tzinfo | None) -> datetime | None:
    try:
        return naive.replace(tzinfo=zone or timezone.utc).astimezone(timezone.utc)
    except OverflowError:
        return None
