"""The lists and counts of stored documents, where an edit by hand may have left anything. Pure.

What cannot be read is left out here, so that it hides nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mongo_datalayer.model.documents import Document

_NAMED = ("id",)


def items(stored: Mapping[str, Any], name: str, texts: Sequence[str] = _NAMED) -> list[Document]:
    """The documents in an embedded list, each of which has these texts."""
    listed = stored.get(name)
    return [item for item in listed if is_item(item, texts)] if isinstance(listed, list) else []


def is_item(item: Any, texts: Sequence[str] = _NAMED) -> bool:
    """Whether it is a document with these texts."""
    return isinstance(item, Mapping) and all(type(item.get(name)) is str for name in texts)


def as_list(value: Any) -> list[Any]:
    """A list as it is. Anything else is the only item of one, so that readers can name it."""
    return value if isinstance(value, list) else [] if value is None else [value]


def ids(stored: Mapping[str, Any], name: str) -> set[str]:
    """The ids in an embedded list."""
    return {item["id"] for item in items(stored, name)}


def listed_overflow(main: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of a thread's overflow documents, oldest first."""
    listed = main.get("overflowIds")
    return tuple(name for name in listed if type(name) is str) if isinstance(listed, list) else ()


def is_listing_damaged(main: Mapping[str, Any]) -> bool:
    """Whether the list of a thread's overflow documents says less than it did."""
    # No thread ever has an empty one.
    return "overflowIds" in main and [*listed_overflow(main)] != (main["overflowIds"] or None)


def stored_count(main: Mapping[str, Any], name: str = "bytes") -> int | None:
    """What a main document counts, the bytes of its items for example; None if it does not."""
    count = main.get(name)
    if not isinstance(count, int | float) or isinstance(count, bool) or not math.isfinite(count):
        return None
    return int(count)


def any_before(stored: Mapping[str, Any], name: str, moment: datetime) -> bool:
    """Whether an embedded list has a tombstone from before ``moment``."""
    times = (item.get("at") for item in items(stored, name, ()))
    return any(isinstance(time, datetime) and time < moment for time in times)


def array(field: Any) -> Document:
    """The expression of a field that ought to be an array: an empty one where it is not."""
    # Many operators fail where the field is missing, or anything else.
    return {"$cond": [{"$isArray": field}, field, []]}
