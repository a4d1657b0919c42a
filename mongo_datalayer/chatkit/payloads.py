"""What ChatKit's models dump themselves to, as it is stored; their times and order. Pure.

Works without ChatKit: a migration has the dumps and not the models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, cast

from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.model.documents import Document


def stored_payload(name: str, payload: Mapping[str, Any]) -> Document:
    """The payload as the field ``name``, and as ``rawJson`` where BSON cannot hold all of it."""
    readable = to_bson(payload)
    if readable == payload:
        return {name: readable}
    return {name: readable, "rawJson": json.dumps(payload)}


def read_payload(name: str, stored: Mapping[str, Any]) -> Document:
    """The payload that :func:`stored_payload` was given."""
    text = stored.get("rawJson")
    # The driver makes a DBRef of a map with $ref and $id: to_bson turns it back.
    return cast("Document", to_bson(stored[name]) if text is None else json.loads(text))


def sort_key(created_at: datetime, arrival: int) -> str:
    """Text that sorts by ``created_at``, then by arrival.

    ChatKit's times are local and have no zone; a time with a zone is converted to the local one.

    Args:
        created_at: The time, of which no microsecond is lost.
        arrival: Microseconds since 1970.
    """
    return f"{precise(created_at)} {arrival:016d}"


def precise(created_at: datetime) -> str:
    """The local time to the microsecond, as text."""
    local = created_at if created_at.tzinfo is None else created_at.astimezone()
    return local.replace(tzinfo=None).isoformat(timespec="microseconds")


def date_of(created_at: datetime) -> datetime:
    """The time as a BSON date, for people: MongoDB cuts it to milliseconds."""
    try:
        return created_at.astimezone(timezone.utc)
    except (OverflowError, ValueError):  # at the ends of the calendar
        return created_at.replace(tzinfo=timezone.utc)
