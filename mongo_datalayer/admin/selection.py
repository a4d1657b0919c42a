"""Which conversations to list or to write, by what they and their steps have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mongo_datalayer.model.documents import Document

FEEDBACK = {"up": {1}, "down": {0}, "any": {0, 1}}
"""The values of feedback that each choice of a selection means."""


@dataclass(frozen=True)
class Selection:
    """Which conversations; a field that is None or False asks for nothing.

    Attributes:
        user: The identifier of the user.
        since: The newest step is not older.
        before: The newest step is older.
        tag: One of the tags.
        profile: The chat profile.
        feedback: A key of :data:`FEEDBACK`: some step has such feedback.
        tool: The name of a tool that was called.
        errors: Whether a step failed.
        shared: Whether the conversation is shared.
    """

    user: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    tag: str | None = None
    profile: str | None = None
    feedback: str | None = None
    tool: str | None = None
    errors: bool = False
    shared: bool = False

    @property
    def times(self) -> Document:
        """The filter on the time of the newest step."""
        times = {"$gte": self.since, "$lt": self.before}
        bounds = {operator: time for operator, time in times.items() if time is not None}
        return {"updatedAt": bounds} if bounds else {}

    def main_filter(self) -> Document:
        """The filter on what the main document tells, but for the user."""
        wanted = {
            "tags": self.tag,
            "metadata.chat_profile": self.profile,
            "metadata.is_shared": self.shared or None,
        }
        return self.times | {name: value for name, value in wanted.items() if value is not None}

    def step_filters(self) -> list[Document]:
        """The filters on steps, which may be in the main or in an overflow document."""
        filters: list[Document] = []
        if self.feedback is not None:
            filters.append({"steps.feedback.value": {"$in": sorted(FEEDBACK[self.feedback])}})
        if self.errors:
            filters.append({"steps.isError": True})
        if self.tool is not None:
            filters.append({"steps": {"$elemMatch": {"type": "tool", "name": self.tool}}})
        return filters

    def matches(self, steps: Sequence[Mapping[str, Any]]) -> bool:
        """Whether all steps of a conversation, as Chainlit gets them, have what is asked."""
        if self.feedback is not None:
            values = {step["feedback"]["value"] for step in steps if step["feedback"]}
            if not values & FEEDBACK[self.feedback]:
                return False
        if self.tool is not None and self.tool not in tools_called(steps):
            return False
        return not self.errors or any(step["isError"] for step in steps)


def tools_called(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the tools that were called, in their order."""
    return [step["name"] for step in steps if step["type"] == "tool"]
