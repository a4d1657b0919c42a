"""Which conversations a page lists, from the address of the page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from urllib.parse import urlencode

from mongo_datalayer.admin.selection import Selection
from mongo_datalayer.chainlit.queries import content_filters
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.model.documents import OWN_THREAD, Document
from mongo_datalayer.model.times import midnight
from mongo_datalayer.search.pattern import search_patterns

MAX_VALUE = 256
"""How long the value of a filter may be, in characters."""

MAX_STEPS = 1_000_000
"""The largest number of steps that a filter takes."""


@dataclass(frozen=True)
class Filters:
    """What a page of the list asks for; an empty text asks for nothing.

    Attributes:
        user: The user's identifier.
        since: The first day of activity, ``YYYY-MM-DD`` in UTC.
        until: The last day.
        tag: One of the thread's tags.
        profile: The chat profile.
        feedback: ``up`` or ``down``.
        errors: ``1`` for threads with a step that failed.
        tool: The name of a tool that was called.
        shared: ``1`` for shared threads.
        min_steps: How many steps a thread has at least.
        max_steps: How many it has at most.
        search: A text of a message, or of the name.
    """

    user: str = ""
    since: str = ""
    until: str = ""
    tag: str = ""
    profile: str = ""
    feedback: str = ""
    errors: str = ""
    tool: str = ""
    shared: str = ""
    min_steps: str = ""
    max_steps: str = ""
    search: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Filters:
        """Read the query of an address; unknown names are left alone.

        Raises:
            ConfigurationError: a value cannot be used; the message names it.
        """
        values = {name: query.get(name, "").strip() for name in cls.__dataclass_fields__}
        for name, value in values.items():
            if len(value) > MAX_VALUE:
                raise ConfigurationError(
                    f"The filter {name!r} has {len(value)} characters; at most {MAX_VALUE} work."
                )
        if values["feedback"] not in ("", "up", "down"):
            raise ConfigurationError("The filter 'feedback' is 'up' or 'down'.")
        filters = cls(**{name: _storable(value) for name, value in values.items()})
        _day("since", filters.since)
        _day("until", filters.until)
        _number("min_steps", filters.min_steps)
        _number("max_steps", filters.max_steps)
        return filters

    @property
    def given(self) -> dict[str, str]:
        """The filters that ask for something."""
        return {name: value for name, value in asdict(self).items() if value}

    def query(self, **more: str | None) -> str:
        """The query of an address with these filters."""
        return urlencode({**self.given, **{k: v for k, v in more.items() if v}})

    def narrowed(self, **values: str) -> str:
        """The query of an address with other values for some filters."""
        return replace(self, **values).query()

    @property
    def selection(self) -> Selection:
        """The same but for the text, as what is asked of conversations."""
        last = _day("until", self.until)
        return Selection(
            since=_day("since", self.since),
            before=None if last is None else last + timedelta(days=1),
            tag=self.tag or None,
            profile=self.profile or None,
            feedback=self.feedback or None,
            tool=self.tool or None,
            errors=bool(self.errors),
            shared=bool(self.shared),
        )

    def main_filter(self, user_id: str | None) -> Document:
        """The filter on what only the main document has.

        Args:
            user_id: The id of the user that :attr:`user` names, if there is one.
        """
        owner: Document = {}
        if self.user:
            owner = {"userIdentifier": self.user} if user_id is None else {"userId": user_id}
        return {"$and": [dict(OWN_THREAD), self.selection.main_filter()], **owner}

    @property
    def asks_for_length(self) -> bool:
        """Whether the number of steps matters."""
        return bool(self.min_steps or self.max_steps)

    def length_filter(self) -> Document:
        """The filter on the number of steps of a thread that is in one document."""
        # Of an array without the item of a number all later ones are missing, too.
        conditions: Document = {}
        if least := _number("min_steps", self.min_steps):
            conditions[f"steps.{least - 1}"] = {"$exists": True}
        if most := _number("max_steps", self.max_steps):
            conditions[f"steps.{most}"] = {"$exists": False}
        return conditions

    def has_length(self, steps: int) -> bool:
        """Whether a thread with so many steps is asked for."""
        least, most = _number("min_steps", self.min_steps), _number("max_steps", self.max_steps)
        return steps >= (least or 0) and (most is None or steps <= most)

    def contents(self) -> list[tuple[Document, Document]]:
        """What is asked of steps: filters on the main and on an overflow document.

        Raises:
            ValueError: the search text is too long.
        """
        patterns = search_patterns(self.search) if self.search else ()
        of_steps = [(filter, filter) for filter in self.selection.step_filters()]
        return [*of_steps, *content_filters(patterns, None)]


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_STEPS):
        raise ConfigurationError(f"The filter {name!r} is a number of steps such as 10.")
    return int(text)


def _day(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return midnight(date.fromisoformat(text))
    except ValueError as exc:
        raise ConfigurationError(f"The filter {name!r} is a day such as 2026-01-31.") from exc
