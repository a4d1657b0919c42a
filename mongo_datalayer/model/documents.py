"""The stored documents: the one definition of what the collections hold.

Field names are Chainlit's own where Chainlit has one. A field that is None is not stored. Every
model keeps fields it does not know, so that what a later Chainlit adds is stored and comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

USERS = "users"
THREADS = "threads"
CHATKIT_THREADS = "chatkit_threads"
CHATKIT_ATTACHMENTS = "chatkit_attachments"
CHATKIT_OVERFLOW = "chatkit_overflow"
OVERFLOW = "thread_overflow"
SEARCH_WORDS = "search_words"

Document: TypeAlias = dict[str, Any]
"""A document, or a part of one, as the driver takes and gives it."""


LONG: Mapping[str, Any] = {"overflow": True}
"""What marks a document that has parts, or values in GridFS, and finds it."""

_REFERENCE = frozenset({"gridfs", "bytes", "form", "start"})


def is_reference(value: Any) -> bool:
    """Whether a stored value stands for one in GridFS."""
    return type(value) is dict and value.keys() >= _REFERENCE


class Stored(BaseModel):
    """Base of the stored shapes: by stored name, unknown fields kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class LargeValue(Stored):
    """What stands for a value that is too large for a document."""

    gridfs: str = Field(description="Object key of the file that holds the value.")
    bytes: int = Field(description="Size of that file.")
    form: Literal["text", "json"] = Field(description="The text itself, or JSON text of the value.")
    start: str = Field(description="How it begins, for people in the shell.")


class FeedbackDocument(Stored):
    """A person's verdict on one step."""

    id: str
    forId: str = Field(description="Id of the step the feedback is for.")
    value: Literal[0, 1] = Field(description="0 is thumbs down, 1 is thumbs up.")
    comment: str | LargeValue | None = None
    updatedAt: datetime


class StepDocument(Stored):
    """A message, a tool call or a run inside a thread."""

    id: str
    type: str | None = None
    name: str | None = None
    parentId: str | None = None
    createdAt: str | None = Field(
        default=None, description="As Chainlit gave it: BSON dates would cut the microseconds."
    )
    receivedAt: datetime | None = Field(
        default=None, description="When the step was first written; only if it has no createdAt."
    )
    start: str | None = None
    end: str | None = None
    input: str | LargeValue | None = None
    output: str | LargeValue | None = None
    isError: bool | None = None
    waitForAnswer: bool | None = None
    showInput: bool | str | None = None
    defaultOpen: bool | None = None
    autoCollapse: bool | None = None
    language: str | None = None
    icon: str | None = None
    command: str | None = None
    modes: dict[str, Any] | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    generation: dict[str, Any] | None = None
    feedback: FeedbackDocument | None = None


class ElementDocument(Stored):
    """An image, a file, a chart … shown beside a step."""

    id: str
    forId: str | None = None
    type: str | None = None
    name: str | None = None
    display: str | None = None
    mime: str | None = None
    url: str | None = Field(default=None, description="Only of elements hosted somewhere else.")
    objectKey: str | None = Field(default=None, description="Key of the file in the file store.")
    chainlitKey: str | None = None
    size: str | None = None
    page: int | None = None
    language: str | None = None
    autoPlay: bool | None = None
    playerConfig: dict[str, Any] | None = None
    props: dict[str, Any] | None = None


class DeletedStep(Stored):
    """What is left of a deleted step, so that late writes do not bring it back."""

    id: str
    at: datetime


class SessionState(Stored):
    """Which top-level keys of the metadata a Chainlit session saved, and which session it was."""

    id: str
    keys: list[str]


class ThreadDocument(Stored):
    """One conversation, whole; or, with ``deletedAt``, what is left of a deleted one."""

    id: str = Field(alias="_id")
    name: str | None = None
    userId: str | None = None
    userIdentifier: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    createdAt: datetime | None = None
    updatedAt: datetime | None = Field(default=None, description="Time of the newest step.")
    steps: list[StepDocument] | None = Field(
        default=None, description="In order of arrival; read in order of createdAt."
    )
    elements: list[ElementDocument] | None = None
    deletedSteps: list[DeletedStep] | None = None
    pendingFeedback: list[FeedbackDocument] | None = Field(
        default=None, description="Feedback that came before its step."
    )
    session: SessionState | None = None
    bytes: int | None = Field(
        default=None, description="About how large the steps and elements are; a bound, not a sum."
    )
    overflow: Literal[True] | None = Field(
        default=None, description="Set when there are parts, or values in GridFS."
    )
    parts: list[str] | None = Field(
        default=None, description="Ids of the parts in thread_overflow, oldest first."
    )
    searchMark: str | None = Field(
        default=None,
        description="Segment of the search index that knows the texts, and the number in it.",
    )
    deletedAt: datetime | None = None


class OverflowDocument(Stored):
    """A part of a long thread, or, with ``text``, a piece of a large text for keyword search."""

    id: str = Field(alias="_id")
    thread: str = Field(description="Id of the thread.")
    bytes: int | None = None
    steps: list[StepDocument] | None = Field(
        default=None, description="Older steps than the thread's document holds, in the same shape."
    )
    elements: list[ElementDocument] | None = None
    value: str | None = Field(default=None, description="Object key of the value the text is of.")
    text: str | None = Field(
        default=None, description="A piece of the text; it overlaps the next one."
    )


class UserDocument(Stored):
    """One user."""

    id: str = Field(alias="_id")
    identifier: str
    displayName: str | None = None
    metadata: dict[str, Any]
    createdAt: datetime


class OwnedId(Stored):
    """An id inside what one owner has: two owners may have the same."""

    owner: str
    id: str


class ChatKitFeedback(Stored):
    """A person's verdict on one ChatKit item."""

    kind: str
    at: datetime


class ChatKitItemDocument(Stored):
    """A message, a widget, a client tool call or another item of a ChatKit thread."""

    id: str
    type: str | None = None
    createdAt: datetime | None = Field(default=None, description="For people; ChatKit's is inside.")
    order: str = Field(description="Its place: `created_at` to the microsecond, then arrival.")
    item: dict[str, Any] = Field(
        description="The item as ChatKit's model dumps it; a reference where it is too large."
    )
    exact: str | None = Field(
        default=None, description="The item as JSON text, where BSON cannot hold all of it."
    )
    dynamic: bool | None = Field(
        default=None, description="True where its widget came from a template."
    )
    feedback: ChatKitFeedback | None = None


class ChatKitDeletedItem(Stored):
    """What is left of a deleted item: where a page ended that ended with it."""

    id: str
    order: str
    at: datetime


class ChatKitThreadDocument(Stored):
    """One ChatKit thread, whole; or, with ``deletedAt``, what is left of a deleted one."""

    id: OwnedId = Field(alias="_id")
    order: str = Field(description="Its place in lists: `created_at`, then arrival, then the id.")
    createdAt: datetime | None = Field(default=None, description="For people; ChatKit's is inside.")
    updatedAt: datetime | None = Field(default=None, description="Time of the last write.")
    thread: dict[str, Any] | None = Field(
        default=None, description="The thread as ChatKit's model dumps it, without items."
    )
    exact: str | None = Field(
        default=None, description="The thread as JSON text, where BSON cannot hold all of it."
    )
    sequence: int | None = Field(
        default=None, description="When the last item arrived, in microseconds since 1970."
    )
    items: list[ChatKitItemDocument] | None = Field(
        default=None, description="In order of arrival."
    )
    deletedItems: list[ChatKitDeletedItem] | None = None
    bytes: int | None = Field(
        default=None, description="About how large the items are; a bound, not a sum."
    )
    overflow: bool | None = Field(
        default=None, description="Only of a thread with parts, or with items in GridFS."
    )
    parts: list[str] | None = Field(
        default=None, description="Ids of the documents with its older items, oldest first."
    )
    deletedAt: datetime | None = None


class ChatKitOverflowDocument(Stored):
    """A part of a long ChatKit thread."""

    id: str = Field(alias="_id")
    thread: OwnedId = Field(description="Key of the thread.")
    bytes: int | None = None
    first: str | None = Field(default=None, description="The first place of its items.")
    last: str | None = Field(default=None, description="The last place of its items.")
    items: list[ChatKitItemDocument] | None = Field(
        default=None, description="Older items than the thread's document holds, in the same shape."
    )


class ChatKitUpload(Stored):
    """What was announced of a file, and when it arrived."""

    name: str
    mime: str
    size: int
    objectKey: str = Field(description="Key of the file in the file store.")
    ticket: str = Field(description="Tells two announcements of one id apart.")
    at: datetime | None = Field(default=None, description="When the file was complete.")


class ChatKitAttachmentDocument(Stored):
    """One ChatKit attachment; or, with ``deletedAt``, what is left of a deleted one."""

    id: OwnedId = Field(alias="_id")
    threadId: str | None = None
    attachment: dict[str, Any] | None = Field(
        default=None, description="The attachment as ChatKit's model dumps it."
    )
    exact: str | None = Field(
        default=None, description="The attachment as JSON text, where BSON cannot hold all of it."
    )
    upload: ChatKitUpload | None = Field(
        default=None, description="Only of attachments whose file this package keeps."
    )
    updatedAt: datetime | None = None
    deletedAt: datetime | None = None
