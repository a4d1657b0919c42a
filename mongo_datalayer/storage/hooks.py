"""The app's own functions: before content is stored, and after feedback is. For both fronts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)

Kind = Literal["step", "element", "feedback", "item"]
"""Chainlit's steps, elements and feedback, or an item of a ChatKit thread."""

BeforeStore = Callable[[Kind, dict[str, Any]], Mapping[str, Any] | None]
"""Takes the kind and the fields; returns the fields to store, or None to store nothing."""


@dataclass(frozen=True)
class StoredFeedback:
    """Feedback that was stored.

    Attributes:
        thread_id: The thread.
        item_ids: The step, or ChatKit's items, that it is for.
        positive: Whether the thumb was up.
        comment: What the person wrote, or None.
    """

    thread_id: str
    item_ids: tuple[str, ...]
    positive: bool
    comment: str | None = None


OnFeedback = Callable[[StoredFeedback], Awaitable[None] | None]
"""Called once feedback is stored; plain or async."""

# What decides where content belongs.
_PLACE = ("id", "threadId", "thread_id", "forId", "parentId", "type")

Hook = TypeVar("Hook", bound=Callable[..., Any])


class Hooks:
    """The functions that an app has registered with a layer or store.

    Attributes:
        before: Those that see content before it is stored.
    """

    def __init__(self) -> None:
        self.before: list[BeforeStore] = []
        self._on_feedback: list[OnFeedback] = []

    def add_before_store(self, callback: Hook) -> Hook:
        """Call ``callback`` before content is stored.

        Raises:
            ConfigurationError: it is async: the order of writes is decided before anything waits.
        """
        if not callable(callback) or inspect.iscoroutinefunction(callback):
            raise ConfigurationError(
                f"before_store takes a plain function (kind, fields), not {callback!r}."
            )
        self.before.append(callback)
        return callback

    def add_on_feedback(self, callback: Hook) -> Hook:
        """Call ``callback`` once feedback is stored.

        Raises:
            ConfigurationError: it cannot be called.
        """
        if not callable(callback):
            raise ConfigurationError(f"on_feedback takes a function, not {callback!r}.")
        self._on_feedback.append(callback)
        return callback

    def apply(self, kind: Kind, fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The fields to store; None when a callback refused them.

        A callback gets a copy, so that it cannot change what the app goes on with. Its errors are
        the caller's, and nothing is stored: a redaction that fails must not let content through.

        Raises:
            ConfigurationError: a callback returned something else than fields, or changed what
                tells where the content belongs.
        """
        kept = fields
        for callback in self.before:
            changed = callback(kind, {name: _copied(value) for name, value in kept.items()})
            if changed is None:
                logger.info("before_store refused the %s %s.", kind, fields.get("id"))
                return None
            _check_returned(changed, kind, callback)
            for name in _PLACE:
                # In lists, as a list with NaN equals itself.
                if [changed.get(name)] != [fields.get(name)]:
                    raise ConfigurationError(f"before_store may not change {name!r} of the {kind}.")
            kept = changed
        return kept

    async def feedback_stored(self, feedback: StoredFeedback) -> None:
        """Tell the callbacks; their errors are logged, as the feedback is stored already."""
        for callback in self._on_feedback:
            try:
                outcome = callback(feedback)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                logger.exception("on_feedback failed for thread %s", feedback.thread_id)


def _copied(value: Any) -> Any:
    """A copy; what cannot be copied as the text that is stored of it."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - raised by an object of the app, such as a lock
        return to_bson(value)


def _check_returned(changed: object, kind: Kind, callback: BeforeStore) -> None:
    if isinstance(changed, Mapping):
        return
    if inspect.iscoroutine(changed):
        changed.close()  # Python would warn that nobody awaited it
    raise ConfigurationError(
        f"before_store takes the fields of the {kind} or None from its function. {callback!r} "
        f"returned {type(changed).__name__}."
    )


class Hooked:
    """A front whose app may register functions; as methods or as decorators."""

    def __init__(self) -> None:
        self._hooks = Hooks()

    def before_store(self, callback: Hook) -> Hook:
        """Call ``callback(kind, fields)`` before a step, element, feedback or item is stored.

        It returns the fields to store, perhaps with texts redacted, or None to store nothing. What
        it raises reaches the caller of the write, and nothing is stored. It may not change ids or
        types, and it should be quick: the app's event loop waits for it. The bytes of files are
        not passed to it, only the text of an element that has one.

        Args:
            callback: A plain function. ``kind`` is one of :data:`.Kind`; ``fields`` is a copy of
                Chainlit's or ChatKit's dict. Several functions are called in turn.

        Raises:
            ConfigurationError: it is async or cannot be called.
        """
        return self._hooks.add_before_store(callback)

    def on_feedback(self, callback: Hook) -> Hook:
        """Call ``callback(feedback)`` once feedback is stored; its errors are logged.

        Args:
            callback: A plain or async function; it gets a :class:`.StoredFeedback`.

        Raises:
            ConfigurationError: it cannot be called.
        """
        return self._hooks.add_on_feedback(callback)
