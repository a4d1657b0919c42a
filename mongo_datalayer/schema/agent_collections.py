"""Where agent libraries keep conversations in the same database, beside this package. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.schema.roles import COLLECTIONS

_FORBIDDEN = ("$", "\0")


@dataclass(frozen=True)
class AgentCollections:
    """The collections of one library.

    Attributes:
        library: What ``--also`` calls it.
        field: The field whose value, or one of whose values, is the id of a session or thread.
        collections: Their names.
        renamed: Whether the app gave them other names than the library.
    """

    library: str
    field: str
    collections: tuple[str, ...]
    renamed: bool = False


LIBRARIES: Mapping[str, AgentCollections] = {
    each.library: each
    for each in (
        # https://openai.github.io/openai-agents-python/sessions/
        AgentCollections("agents-sdk", "session_id", ("agent_messages", "agent_sessions")),
        # Its async class had collections of its own until langgraph-checkpoint-mongodb 0.3.
        AgentCollections(
            "langgraph",
            "thread_id",
            ("checkpoint_writes", "checkpoints", "checkpoint_writes_aio", "checkpoints_aio"),
        ),
        AgentCollections("langgraph-store", "namespace", ("persistent-store",)),
    )
}
"""Every library that is known, with the names that it gives its collections."""


def parse_collections(text: str) -> AgentCollections:
    """Read ``LIBRARY`` or ``LIBRARY:COLLECTION,COLLECTION``.

    Raises:
        ConfigurationError: the library is not known, or a name is not one of its collections.
    """
    name, colon, listed = text.partition(":")
    if name not in LIBRARIES:
        raise ConfigurationError(f"{name!r} is not known. Choose from {', '.join(LIBRARIES)}.")
    if not colon:
        return LIBRARIES[name]
    collections = tuple(dict.fromkeys(listed.split(",")))
    for collection in collections:
        if not collection.strip() or any(character in collection for character in _FORBIDDEN):
            raise ConfigurationError(
                f"{collection!r} cannot be the name of a collection. Write, for example, "
                f"{name}:{','.join(LIBRARIES[name].collections[:2])}."
            )
        if collection in COLLECTIONS:
            raise ConfigurationError(
                f"{collection!r} is a collection of mongo_datalayer. Name those of {name}."
            )
    return replace(LIBRARIES[name], collections=collections, renamed=True)
