"""ChatKit's models ⇄ what is stored of them. Pure.

A model is stored whole, as it dumps itself for JSON: a field that a later ChatKit adds comes back.
BSON cannot hold everything that JSON can (integers beyond 64 bits, lone surrogates, NUL in a key,
very deep nesting). Then the JSON text is stored beside a readable form, and is what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from chatkit.types import Attachment, ThreadItem, ThreadMetadata, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import BaseModel, TypeAdapter

from mongo_datalayer.chatkit.payloads import date_of as date_of
from mongo_datalayer.chatkit.payloads import precise as precise
from mongo_datalayer.chatkit.payloads import read_payload as read_payload
from mongo_datalayer.chatkit.payloads import sort_key as sort_key
from mongo_datalayer.chatkit.payloads import stored_payload as stored_payload
from mongo_datalayer.model.bson_values import required_id, to_text
from mongo_datalayer.model.documents import Document
from mongo_datalayer.storage.conversion import Conversion

ITEMS: TypeAdapter[Any] = TypeAdapter(ThreadItem)
ATTACHMENTS: TypeAdapter[Any] = TypeAdapter(Attachment)


def take_thread(thread: ThreadMetadata) -> Conversion[Document]:
    """A thread's own fields as they are now; items that ChatKit may pass with it are left out."""
    payload = thread.model_dump(mode="json", exclude={"items"})
    return Conversion(partial(stored_payload, "thread"), payload, copied=True)


def read_thread(stored: Mapping[str, Any]) -> ThreadMetadata:
    """The thread, without items."""
    return ThreadMetadata.model_validate(read_payload("thread", stored))


def take_item(item: Any) -> Conversion[Document]:
    """One of ChatKit's ``ThreadItem`` as it is now, without times and sort key."""
    fields: Document = {"id": required_id(item.id, "an item"), "type": to_text(item.type)}
    # A widget of a template keeps fields that ChatKit's strict models of widgets drop.
    if isinstance(item, WidgetItem) and isinstance(item.widget, DynamicWidgetRoot):
        fields["dynamic"] = True

    def convert(payload: Document) -> Document:
        return {**fields, **stored_payload("item", payload)}

    return Conversion(convert, item.model_dump(mode="json"), copied=True)


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
        return _read_dynamic(payload)  # a strict model dropped something
    return item


def _read_dynamic(payload: Document) -> Any:
    """An item whose widget keeps fields that no strict model knows."""
    widget = DynamicWidgetRoot.model_validate(payload["widget"])
    return ITEMS.validate_python({**payload, "widget": widget})


def take_attachment(attachment: BaseModel) -> Conversion[Document]:
    """An attachment as it is now, with the metadata that ChatKit keeps from browsers."""
    payload = attachment.model_dump(mode="json")
    return Conversion(partial(stored_payload, "attachment"), payload, copied=True)


def read_attachment(stored: Mapping[str, Any]) -> Any:
    """The attachment, one of ChatKit's ``Attachment``."""
    return ATTACHMENTS.validate_python(read_payload("attachment", stored))
