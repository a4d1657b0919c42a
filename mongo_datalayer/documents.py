"""The stored documents: the one definition of what the collections hold.

Field names are Chainlit's own where Chainlit has one. A field that is None is not stored. Every
model keeps fields it does not know, so that what a later Chainlit adds is stored and comes back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

USERS = "users"
THREADS = "threads"

Document: TypeAlias = dict[str, Any]
"""A document, or a part of one, as the driver takes and gives it."""


class Stored(BaseModel):
    """Base of the stored shapes: by stored name, unknown fields kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class FeedbackDocument(Stored):
    """A person's verdict on one step."""

    id: str
    forId: str = Field(description="Id of the step the feedback is for.")
    value: Literal[0, 1] = Field(description="0 is thumbs down, 1 is thumbs up.")
    comment: str | None = None
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
    input: str | None = None
    output: str | None = None
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
    deletedAt: datetime | None = None


class UserDocument(Stored):
    """One user."""

    id: str = Field(alias="_id")
    identifier: str
    displayName: str | None = None
    metadata: dict[str, Any]
    createdAt: datetime
