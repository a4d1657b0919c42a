"""Objects that should exist in the database: compared with what is there, and applied.

An index, a validator and a view are three kinds of :class:`SchemaObject`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Database

State: TypeAlias = Literal[
    "present",
    "missing",
    "outdated",
    "different",
    "foreign",
    "collection",
    "created",
    "set",
    "failed",
    "newer",
]
"""What the database has in an object's place.

``present``: the object as declared. ``missing``: nothing. ``outdated``: one that another version of
this package made. ``different``: an index with the same name or keys, but other options.
``foreign``: one that somebody else made. ``collection``: a collection in the place of a view.
``created`` and ``set``: the object as declared, since just now. ``failed``: an index that the
server could not create. ``newer``: a version that this package does not know.
"""

MADE_BY = "mongo_datalayer: "
"""Begins the title of every validator and the comment of every view that this package makes."""

Kind = TypeVar("Kind", bound="SchemaObject")


class SchemaObject(ABC):
    """An object that should exist, and its state in one database. Kinds are frozen dataclasses.

    Attributes:
        collection: The collection it is for; a view's own name.
        state: What the database has in its place.
    """

    collection: str
    state: State

    def __str__(self) -> str:
        return self.collection

    def changes(self, *, replace: bool = False) -> bool:
        """Whether applying changes it; ``replace`` also changes what differs or others made."""
        replaceable = ("different", "foreign") if replace else ()
        return self.state in ("missing", "outdated", *replaceable)

    @classmethod
    @abstractmethod
    async def apply(cls: type[Kind], database: Database, objects: Sequence[Kind]) -> list[Kind]:
        """Make objects of one collection as declared; returns them in their new state."""

    @classmethod  # noqa: B027 - most kinds need nothing of the server
    async def require(cls, database: Database) -> None:
        """Raise MongoDataLayerError where the server cannot have objects of this kind."""


def compare(declared: Document, listed: Document | None, mark: str) -> State:
    """The state of an object; ``mark`` is its title or comment, which tells if we made it."""
    if listed is None:
        return "missing"
    if listed == declared:
        return "present"
    return "outdated" if mark.startswith(MADE_BY) else "foreign"


async def list_collections(database: Database, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The collections and views of these names, as the server lists them. One command."""
    cursor = await database.list_collections(filter={"name": {"$in": list(names)}})
    return {listed["name"]: dict(listed) for listed in await cursor.to_list(None)}


async def apply_plan(
    database: Database,
    objects: Sequence[Kind],
    *,
    replace: bool = False,
    dry_run: bool = False,
    on_applied: Callable[[Kind, float], None] | None = None,
) -> list[Kind]:
    """Make what is missing or outdated; safe to repeat. Returns the objects in their new state.

    Args:
        database: The database.
        objects: The plan: objects with their state in ``database``.
        replace: Also replace what differs or what somebody else made.
        dry_run: Only check that the server can have them; change nothing.
        on_applied: Called after each object, with it in its new state and the seconds it took.

    Raises:
        MongoDataLayerError: the server is too old for one of them; nothing was changed.
    """
    pending = [item for item in objects if item.changes(replace=replace)]
    # All kinds first: a server too old for views must not be left with half of the plan.
    for kind in {type(item): item for item in pending}:
        await kind.require(database)
    if dry_run:
        return list(objects)
    # Indexes of a collection are made together: MongoDB then reads its documents only once.
    groups: dict[object, list[Kind]] = {}
    for number, item in enumerate(pending):
        # With on_applied each alone: on a large collection a person sees which one takes long.
        key = (type(item), item.collection) if on_applied is None else number
        groups.setdefault(key, []).append(item)
    applied: dict[object, Kind] = {}
    for group in groups.values():
        began = time.monotonic()
        results = await type(group[0]).apply(database, group)
        applied.update({(type(item), str(item)): item for item in results})
        if on_applied is not None:
            on_applied(results[0], time.monotonic() - began)
    return [applied.get((type(item), str(item)), item) for item in objects]
