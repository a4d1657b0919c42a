"""Compares a source with the target again: users, whole threads, and files."""

from __future__ import annotations

from mongo_datalayer.migrate.engine import GONE, Migration
from mongo_datalayer.migrate.item import Item
from mongo_datalayer.migrate.records import Outcome
from mongo_datalayer.migrate.report import ALREADY
from mongo_datalayer.migrate.stored_threads import differences, digest
from mongo_datalayer.migrate.target import Shelf

NOT_THERE = "not in the target"


class Verification(Migration):
    """Reads everything that the source says back from the target; writes nothing."""

    async def _say(self, phase: str, **fields: object) -> None:
        """A comparison leaves no trace."""

    async def _settle(self, shelf: Shelf, items: list[Item]) -> None:
        if not items:
            return
        by_id = {item.id: item for item in items}
        given = await shelf.read(by_id)
        recorded = await self._target.recorded(self._source, shelf.table, by_id)
        present = await shelf.present(by_id)
        for item in items:
            found = given.get(item.id)
            # What was recorded once and is gone was deleted, even if its tombstone has expired.
            if found is None and (item.id in recorded or item.id in present):
                self._end(item, Outcome.SKIPPED.value, GONE)
            elif found is None:
                self._end(item, Outcome.LEFT_OUT.value, NOT_THERE)
            else:
                self._end(item, ALREADY)
                if digest(found) != item.hash:
                    detail = ", ".join(differences(item.expected, found)[:10])
                    self._report.differs(shelf.table, item.id, detail)
        if shelf.table == "threads" and self._files is not None:
            await self._files.verify([item for item in items if item.id in given], self._report)
