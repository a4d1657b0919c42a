"""The shapes of the stored documents.

Fields are named as Chainlit names them, where it does. A field that is None is not stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from mongo_datalayer.config import FULL_BYTES

USERS = "users"
THREADS = "threads"
CHATKIT_THREADS = "chatkit_threads"
CHATKIT_ATTACHMENTS = "chatkit_attachments"
CHATKIT_OVERFLOW = "chatkit_overflow"
OVERFLOW = "thread_overflow"
SEARCH_WORDS = "search_words"
MIGRATIONS = "migrations"
CONSOLE_AUDIT = "console_audit"
CONSOLE_REVIEWS = "console_reviews"
PRAISONAI_SETTINGS = "praisonai_settings"
META = "mongo_datalayer"

SCHEMA_ID = "schema"
"""The document of :data:`META` that tells the version of the schema."""

Document: TypeAlias = dict[str, Any]
"""A document, or a piece of one, as the driver takes and returns it."""

UNINDEXED: Mapping[str, str] = {"searchSegment": ""}
"""What a thread loses whose texts change: the segment that it was in does not know them."""

TEXT: Mapping[str, Any] = {"$gte": ""}
"""The filter on a field that holds a text. An equality implies it, unlike ``$type``: so queries use
a partial index with this filter."""

NOT_DELETED: Mapping[str, Any] = {"deletedAt": {"$exists": False}}
"""The filter on documents that are no tombstones."""

NOT_FULL: Mapping[str, Any] = {"bytes": {"$not": {"$gte": FULL_BYTES}}}
"""The guard of an update that makes a document larger."""

# Other applications may have collections of these names, with documents of their own.
OWN_USER: Mapping[str, Any] = {"_id": TEXT, "identifier": TEXT}
"""The filter on users of this package."""

OWN_THREAD: Mapping[str, Any] = {"_id": TEXT, "steps": {"$type": "array"}}
"""The filter on threads of this package that were not deleted."""

TOMBSTONE: Mapping[str, Any] = {
    "_id": TEXT,
    "deletedAt": {"$type": "date"},
    # A partial index can ask for the absence of fields by name only. A document that another
    # application marked as deleted has kept at least one of these.
    **dict.fromkeys(("steps", "createdAt", "updatedAt", "userId", "name", "title", "metadata")),
}
"""The filter on tombstones of this package's threads."""

OWN_KEY: Mapping[str, Any] = {"_id.owner": TEXT}
"""The filter on ChatKit's documents of this package."""

CHATKIT_TOMBSTONE: Mapping[str, Any] = {**OWN_KEY, "deletedAt": {"$type": "date"}}
"""The filter on tombstones of ChatKit's threads and attachments."""

LONG: Mapping[str, Any] = {"overflow": True}
"""Marks documents with overflow documents or values in GridFS; also the filter that finds them."""

REFERENCE_FIELDS = frozenset({"gridfs", "bytes", "encoding", "preview"})
"""What a reference to a large value consists of; see :class:`LargeValue`."""


def is_reference(value: Any) -> bool:
    """Whether a stored value stands for one in GridFS."""
    # A superset counts, too: a later version may add fields to a reference.
    return type(value) is dict and value.keys() >= REFERENCE_FIELDS


def marks(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The marks of a thread that gets these fields: it is long when one of them is in GridFS."""
    return LONG if any(is_reference(value) for value in fields.values()) else {}


def size_of(value: Any) -> int:
    """About how many bytes a converted value takes in BSON; exact for texts."""
    kind = type(value)
    if kind is str:
        return 5 + (len(value) if value.isascii() else len(value.encode(errors="replace")))
    if kind is dict:
        return 5 + sum([2 + len(key) + size_of(item) for key, item in value.items()])
    if kind is list:
        return 5 + sum([4 + size_of(item) for item in value])
    # A stored DBRef; bson is not imported, as this module works without the driver.
    as_map = getattr(value, "as_doc", None)
    return 8 if as_map is None else size_of(dict(as_map()))


def _optional(description: str) -> Any:
    return Field(default=None, description=description)


class Stored(BaseModel):
    """Base of the stored shapes; unknown fields are kept."""

    # Chainlit and ChatKit may add fields, and a document must come back as it was stored.
    model_config = ConfigDict(extra="allow", populate_by_name=True)


class LargeValue(Stored):
    """Reference to a value that is too large for a document."""

    gridfs: str = Field(description="Object key of the file that holds the value.")
    bytes: int = Field(description="Size of that file.")
    encoding: Literal["text", "json"] = Field(
        description="The text itself, or JSON text of the value."
    )
    preview: str = Field(description="Its first characters, for people in the shell.")


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
    createdAt: str | None = _optional("As Chainlit gave it: BSON dates would cut the microseconds.")
    receivedAt: datetime | None = _optional("First write of a step without createdAt.")
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
    url: str | None = _optional("Only of elements hosted somewhere else.")
    objectKey: str | None = _optional("Key of the file in the file store.")
    chainlitKey: str | None = None
    size: str | None = None
    page: int | None = None
    language: str | None = None
    autoPlay: bool | None = None
    playerConfig: dict[str, Any] | None = None
    props: dict[str, Any] | None = None
    sequence: int | None = _optional(
        "When it was first created, in microseconds since 1970. Elements are read in this order."
    )


class DeletedItem(Stored):
    """Tombstone of a deleted step or element: late writes do not bring it back."""

    id: str
    at: datetime


class SessionState(Stored):
    """Which top-level keys of the metadata a Chainlit session saved."""

    id: str
    keys: list[str]


class ThreadDocument(Stored):
    """The main document of a conversation; with ``deletedAt``, the tombstone of a deleted one."""

    id: str = Field(alias="_id")
    name: str | None = None
    userId: str | None = None
    # Chainlit asks for a thread's author by this name: stored here, it needs no second read.
    userIdentifier: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    createdAt: datetime | None = None
    updatedAt: datetime | None = _optional("Time of the newest step; without steps, of creation.")
    stepless: Literal[True] | None = _optional("Until the first step, which brings the times.")
    steps: list[StepDocument] | None = _optional("In order of arrival; read in order of createdAt.")
    elements: list[ElementDocument] | None = None
    deletedSteps: list[DeletedItem] | None = None
    deletedElements: list[DeletedItem] | None = None
    pendingFeedback: list[FeedbackDocument] | None = _optional("Came before its step.")
    session: SessionState | None = None
    bytes: int | None = _optional("About the size of the steps and elements.")
    overflow: Literal[True] | None = _optional("Set with overflow documents or values in GridFS.")
    overflowIds: list[str] | None = _optional("Ids in thread_overflow, oldest first.")
    searchSegment: str | None = Field(
        default=None,
        description="Segment of the search index that knows the texts, and the number in it.",
    )
    deletedAt: datetime | None = None
    previousDeletedAt: datetime | None = _optional(
        "When an earlier thread with this id was deleted; older steps are not taken."
    )


class OverflowDocument(Stored):
    """Older steps of a long thread; with ``text``, a piece of a large text for keyword search."""

    id: str = Field(alias="_id")
    thread: str = Field(description="Id of the thread.")
    bytes: int | None = None
    steps: list[StepDocument] | None = _optional("Older than those of the main document.")
    elements: list[ElementDocument] | None = None
    value: str | None = _optional("Object key of the value that has the text.")
    text: str | None = _optional("A piece of the text, which overlaps the next one.")


class UserDocument(Stored):
    """One user."""

    id: str = Field(alias="_id")
    identifier: str
    displayName: str | None = None
    metadata: dict[str, Any]
    createdAt: datetime


class SettingDocument(Stored):
    """One setting of a PraisonAI app, for all its users."""

    id: str = Field(alias="_id", description="Its key.")
    value: str | None = None


class OwnedId(Stored):
    """An id and its owner: ChatKit's ids have 32 random bits, so two owners may have the same."""

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
    createdAt: datetime | None = _optional("For people; ChatKit's is inside.")
    sortKey: str = Field(description="`created_at` to the microsecond, then arrival.")
    # Columns would drop what a later ChatKit adds, and BSON dates the microseconds.
    item: dict[str, Any] = Field(
        description="The item as ChatKit's model dumps it; a reference where it is too large."
    )
    rawJson: str | LargeValue | None = _optional("Its JSON text, where BSON cannot hold all of it.")
    dynamic: bool | None = _optional("True where its widget came from a template.")
    feedback: ChatKitFeedback | None = None


class ChatKitDeletedItem(Stored):
    """Tombstone of a deleted item: pages that ended with it can go on."""

    id: str
    sortKey: str
    at: datetime


class ChatKitThreadDocument(Stored):
    """The main document of a ChatKit thread; with ``deletedAt``, a deleted one's tombstone."""

    id: OwnedId = Field(alias="_id")
    sortKey: str = Field(description="`created_at`, then arrival, then the id.")
    createdAt: datetime | None = _optional("For people; ChatKit's is inside.")
    updatedAt: datetime | None = _optional("Time of the last write.")
    thread: dict[str, Any] | None = _optional(
        "The thread as ChatKit's model dumps it, without items."
    )
    rawJson: str | None = _optional("Its JSON text, where BSON cannot hold all of it.")
    sequence: int | None = _optional("When the last item arrived, in microseconds since 1970.")
    items: list[ChatKitItemDocument] | None = _optional("In order of arrival.")
    deletedItems: list[ChatKitDeletedItem] | None = None
    bytes: int | None = _optional("About the size of the items.")
    overflow: bool | None = _optional("Set when there are overflow documents, or items in GridFS.")
    overflowIds: list[str] | None = _optional("Ids in chatkit_overflow, oldest first.")
    deletedAt: datetime | None = None


class ChatKitOverflowDocument(Stored):
    """Older items of a long ChatKit thread."""

    id: str = Field(alias="_id")
    thread: OwnedId = Field(description="Key of the thread.")
    bytes: int | None = None
    first: str | None = _optional("The lowest sort key of its items.")
    last: str | None = _optional("The highest sort key of its items.")
    items: list[ChatKitItemDocument] | None = _optional("Older than those of the main document.")


class ChatKitUpload(Stored):
    """A file as it was announced, and when it arrived."""

    name: str
    mime: str
    size: int
    objectKey: str = Field(description="Key of the file in the file store.")
    ticket: str = Field(description="Tells two announcements of one id apart.")
    at: datetime | None = _optional("When the file was complete.")


class ChatKitAttachmentDocument(Stored):
    """One ChatKit attachment; with ``deletedAt``, the tombstone of a deleted one."""

    id: OwnedId = Field(alias="_id")
    threadIds: list[str] | None = _optional("The threads that have messages with it.")
    attachment: dict[str, Any] | None = _optional(
        "The attachment as ChatKit's model dumps it, or a reference to GridFS."
    )
    rawJson: str | None = _optional("Its JSON text, where BSON cannot hold all of it.")
    upload: ChatKitUpload | None = _optional("Only of attachments whose file this package keeps.")
    updatedAt: datetime | None = None
    deletedAt: datetime | None = None
