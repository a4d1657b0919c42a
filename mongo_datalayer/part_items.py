"""Which items the parts of heads hold, as far as this process knows.

Items come to a part only when it is made, so what was once seen of one stays true but for items
that were removed. That is enough to see that an item is in none of them, which every append to a
long document has to know, without asking the database each time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mongo_datalayer.documents import Document
from mongo_datalayer.driver import Collection
from mongo_datalayer.recent import Recent

REMEMBERED_ITEMS = 200_000
"""Of how many items it is remembered that a part holds them; about 15 MB."""

MOST_ITEMS = 50_000
"""Of a head with more of them in its parts they are not remembered."""


class PartItems:
    """The ids of the items in parts.

    Args:
        parts: The collection of the parts.
        lists: Names of the embedded lists.
    """

    def __init__(self, parts: Collection, lists: Sequence[str]) -> None:
        self._parts = parts
        self._lists = tuple(lists)
        self._held: Recent[Hashable, _Held] = Recent(REMEMBERED_ITEMS, weight=_weight)

    def may_hold(self, head_id: Any, parts: Sequence[str], item_id: str) -> bool | None:
        """Whether one of these parts of a head may hold the item; None when that is not known."""
        if not parts:
            return False
        held = self._held.get(_key(head_id))
        if held is None or held.items is None or held.parts != tuple(parts):
            return None
        return hash(item_id) in held.items

    def learn(
        self, head_id: Any, parts: Sequence[str], stored: Iterable[Mapping[str, Any]]
    ) -> None:
        """Remember all parts of a head, as they were read."""
        held = self._held.get(_key(head_id))
        if held is not None and held.parts == tuple(parts):
            return  # as ever, but for items that were removed
        self._remember(head_id, parts, _NOTHING, stored)

    def learn_one(self, head_id: Any, parts: Sequence[str], added: Mapping[str, Any]) -> None:
        """Remember the last of these parts, if the others are known."""
        held = self._held.get(_key(head_id)) if len(parts) > 1 else _NOTHING
        if held is not None and held.parts == tuple(parts[:-1]):
            self._remember(head_id, parts, held, [added])

    async def look_up(self, head_id: Any, parts: Sequence[str], item_id: str) -> None:
        """Read what these parts hold, when that was asked for a second time and is not known.

        No command ordinarily; one to read.
        """
        if self.may_hold(head_id, parts, item_id) is not None:
            return
        held = self._held.get(_key(head_id))
        if held is None:  # who asks but once would wait longer for all ids than for this one
            self._held.put(_key(head_id), _NOTHING)
        elif held.items is not None:
            await self._read(head_id, parts, held)

    async def _read(self, head_id: Any, parts: Sequence[str], held: _Held) -> None:
        """Learn what parts of a head hold beyond those that are known."""
        if held.parts != tuple(parts[: len(held.parts)]):
            held = _NOTHING
        unknown = list(parts[len(held.parts) :])
        ids = {f"{name}.id": 1 for name in self._lists}
        stored: list[Document] = await self._parts.find({"_id": {"$in": unknown}}, ids).to_list(
            None
        )
        self._remember(head_id, parts, held, stored)

    def _remember(
        self,
        head_id: Any,
        parts: Sequence[str],
        before: _Held,
        stored: Iterable[Mapping[str, Any]],
    ) -> None:
        added = frozenset(
            hash(item["id"])
            for document in stored
            for name in self._lists
            for item in document.get(name) or ()
        )
        items = None if before.items is None else before.items | added
        if items is not None and len(items) > MOST_ITEMS:
            items = None
        self._held.put(_key(head_id), _Held(tuple(parts), items))


@dataclass(frozen=True)
class _Held:
    """What is known of a head.

    Attributes:
        parts: Its parts.
        items: The hashes of the ids in them: two ids that share one do no harm. None when they are
            too many.
    """

    parts: tuple[str, ...] = ()
    items: frozenset[int] | None = frozenset()


_NOTHING = _Held()


def _key(head_id: Any) -> Hashable:
    """The id of a head, which may be a document."""
    return tuple(head_id.items()) if isinstance(head_id, dict) else head_id


def _weight(held: _Held) -> int:
    return (
        4 + len(held.items or ()) + len(held.parts)
    )  # the key and what holds it are as large as four
