"""ChatKit's models ⇄ what is stored of them. Pure.

A model is stored as it dumps itself for JSON, whole, so that nothing is lost that a later ChatKit
adds. BSON cannot hold all that JSON can (integers beyond 64 bits, lone surrogates, NUL in a key,
very deep nesting): then the JSON text is stored beside a readable form, and is what is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, cast

from chatkit.types import Attachment, ThreadItem, ThreadMetadata, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import BaseModel, TypeAdapter

from mongo_datalayer.documents import Document
from mongo_datalayer.values import plain

ITEMS: TypeAdapter[Any] = TypeAdapter(ThreadItem)
ATTACHMENTS: TypeAdapter[Any] = TypeAdapter(Attachment)


def stored_payload(name: str, payload: Mapping[str, Any]) -> Document:
    """The payload as the field ``name``, and as JSON text in ``exact`` where it must be."""
    readable = plain(payload)
    if readable == payload:
        return {name: readable}
    return {name: readable, "exact": json.dumps(payload)}


def read_payload(name: str, stored: Mapping[str, Any]) -> Document:
    """The payload that :func:`stored_payload` was given."""
    exact = stored.get("exact")
    # Also without one not as it is: the driver makes a DBRef of a map with $ref and $id.
    return cast("Document", plain(stored[name]) if exact is None else json.loads(exact))


# Threads --------------------------------------------------------------------------------------


def stored_thread(thread: ThreadMetadata) -> Document:
    """A thread's own fields, whatever comes with them: ChatKit may pass a thread with items."""
    return stored_payload("thread", thread.model_dump(mode="json", exclude={"items"}))


def read_thread(stored: Mapping[str, Any]) -> ThreadMetadata:
    """The thread, without items."""
    return ThreadMetadata.model_validate(read_payload("thread", stored))


# Items ----------------------------------------------------------------------------------------


def stored_item(item: BaseModel) -> Document:
    """An item as stored, without its id, time and place.

    A widget of a template keeps fields that ChatKit's strict models of widgets drop, so it must be
    read as what it was.
    """
    stored = stored_payload("item", item.model_dump(mode="json"))
    if isinstance(item, WidgetItem) and isinstance(item.widget, DynamicWidgetRoot):
        stored["dynamic"] = True
    return stored


def read_item(stored: Mapping[str, Any]) -> Any:
    """The item, one of ChatKit's ``ThreadItem``.

    Raises:
        pydantic.ValidationError: this version of ChatKit does not know such an item.
    """
    payload = read_payload("item", stored)
    if stored.get("dynamic"):
        return _read_dynamic(payload)
    item = ITEMS.validate_python(payload)
    if isinstance(item, WidgetItem) and item.model_dump(mode="json") != payload:
        return _read_dynamic(payload)  # a part of it is no strict model's
    return item


def _read_dynamic(payload: Document) -> Any:
    """An item whose widget keeps fields that no strict model knows."""
    widget = DynamicWidgetRoot.model_validate(payload["widget"])
    return ITEMS.validate_python({**payload, "widget": widget})


# Attachments ----------------------------------------------------------------------------------


def stored_attachment(attachment: BaseModel) -> Document:
    """An attachment as stored, with the metadata that ChatKit keeps from browsers."""
    return stored_payload("attachment", attachment.model_dump(mode="json"))


def read_attachment(stored: Mapping[str, Any]) -> Any:
    """The attachment, one of ChatKit's ``Attachment``."""
    return ATTACHMENTS.validate_python(read_payload("attachment", stored))


# Times ----------------------------------------------------------------------------------------


def place(created_at: datetime, arrival: int) -> str:
    """Text that sorts by ``created_at``, then by arrival.

    ChatKit's times are local and have no zone; one that has is taken to the same clock.

    Args:
        created_at: The time, of which no microsecond is lost.
        arrival: Microseconds since 1970.
    """
    local = created_at if created_at.tzinfo is None else created_at.astimezone()
    return f"{local.replace(tzinfo=None).isoformat(timespec='microseconds')} {arrival:016d}"


def date_of(created_at: datetime) -> datetime:
    """The time as a BSON date, for people: MongoDB cuts it to milliseconds."""
    try:
        return created_at.astimezone(timezone.utc)
    except (OverflowError, ValueError):  # at the ends of the calendar
        return created_at.replace(tzinfo=timezone.utc)
