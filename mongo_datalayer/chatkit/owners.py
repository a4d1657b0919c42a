"""Who owns what a request asks for: the user of its context."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Mapping
from typing import Any

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.model.bson_values import to_id


def context_user(context: Any) -> Any:
    """The ``user_id`` of a request's context: an attribute, or a key of a map."""
    if isinstance(context, Mapping):
        return context.get("user_id")
    return getattr(context, "user_id", None)


def _text(owner: Any) -> str:
    """The name itself: an enum's text depends on the version of Python, and on its class."""
    if isinstance(owner, str):
        return str.__str__(owner)
    return int.__repr__(owner) if isinstance(owner, int) else str(owner)


def owner_name(owner: Any) -> str:
    """The owner's id as it is stored, from what the app names the owner by.

    Raises:
        ConfigurationError: it is no non-blank str, int or UUID.
    """
    if inspect.isawaitable(owner):
        if inspect.iscoroutine(owner):
            owner.close()  # else Python warns that nobody awaited it
        raise ConfigurationError(
            "user_id= is an async function, which cannot name the owner. Find the owner out before "
            "ChatKitServer.process, and pass it along in the context."
        )
    # The repr of anything else has its address in memory, where the next one's will be.
    is_name = isinstance(owner, str | int | uuid.UUID) and not isinstance(owner, bool)
    name = _text(owner) if is_name else ""
    if not name.strip():
        kind = repr(owner) if isinstance(owner, str | bool) else type(owner).__name__
        raise ConfigurationError(
            "The request's context names no owner: that is a non-blank str, an int or a UUID, not "
            f"{kind}. Pass ChatKitServer.process a context with a user_id, or give "
            "MongoChatKitStore a function: user_id=lambda context: …"
        )
    if to_id(name) != name:
        raise ConfigurationError(f"{name!r} cannot be an owner's id: it is no valid Unicode.")
    return name
