"""Times: as aware datetimes in UTC, as Chainlit's text, as MongoDB's milliseconds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_CHAINLIT = r"[0-9]{4}-(?:0[1-9]|1[0-2])-[0-3][0-9]T[0-2][0-9](?::[0-5][0-9]){2}\.[0-9]{6}Z"
_CHAINLIT_TIME = re.compile(_CHAINLIT).fullmatch
_CHAINLIT_TIMES = re.compile(f"(?:{_CHAINLIT}\n)*").fullmatch
_FRACTION = re.compile(r"[.,](\d+)")


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(timezone.utc)


def midnight(day: date) -> datetime:
    """The beginning of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def iso(time: datetime) -> str:
    """A time as Chainlit writes it: ISO 8601, UTC, with ``Z``. A naive time counts as UTC."""
    text = time.isoformat()
    if time.tzinfo is None:
        return text + "Z"
    if text.endswith("+00:00"):  # every time that the driver reads
        return text[: -len("+00:00")] + "Z"
    return time.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def parse_time(value: Any) -> datetime | None:
    """ISO 8601 text as an aware datetime in UTC; None when ``value`` is no such text.

    A time without a zone counts as UTC, as Chainlit means it.
    """
    if not isinstance(value, str):
        return None
    if _CHAINLIT_TIME(value):
        try:
            return datetime.fromisoformat(value[:-1] + "+00:00")
        except ValueError:  # February 30th
            return None
    text = value.strip()
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    try:
        # Python 3.10 reads a fraction of three or six digits only.
        time = datetime.fromisoformat(_FRACTION.sub(_microseconds, text, count=1))
    except ValueError:
        return None
    if time.tzinfo is None:
        return time.replace(tzinfo=timezone.utc)
    try:
        return time.astimezone(timezone.utc)
    except OverflowError:  # year 0 or 10000 in UTC
        return None


def sort_as_text(texts: Iterable[str]) -> bool:
    """Whether all are times in Chainlit's fixed form, whose text order is their time order."""
    return _CHAINLIT_TIMES("".join([f"{text}\n" for text in texts])) is not None


def milliseconds(time: datetime) -> int:
    """An aware time as BSON stores it: milliseconds since 1970, rounded down."""
    return (time - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(milliseconds: int) -> datetime:
    """The inverse of :func:`milliseconds`, in UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def _microseconds(fraction: re.Match[str]) -> str:
    return "." + fraction[1][:6].ljust(6, "0")
