"""Moves what a source yields into the target, batch by batch, and reads each batch back.

What was stored and read back is recorded in the target by the hash of what the source said. So a
run may be killed at any moment: the next one finds by the record, or by reading, what is there. The
record also tells a thread that was deleted since from one that never came, and a thread that the
app changed since from one that is as it was moved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import NamedTuple, TypeGuard

from mongo_datalayer.errors import ConfigurationError, MigrationConflictError
from mongo_datalayer.migrate.choosing import (
    SourceUsers,
    give_owner,
    owner_names,
    select_threads,
    selected_user,
    tell_same_user,
)
from mongo_datalayer.migrate.file_mover import FileMover
from mongo_datalayer.migrate.item import Item
from mongo_datalayer.migrate.options import Options
from mongo_datalayer.migrate.reader import Reader
from mongo_datalayer.migrate.records import (
    DocumentRecord,
    Leftover,
    Outcome,
    Record,
    ThreadRecord,
    UserRecord,
)
from mongo_datalayer.migrate.report import ALREADY, STORED, Report
from mongo_datalayer.migrate.stored_threads import (
    canonical_user,
    differences,
    digest,
    expected_thread,
    stored_thread,
    stored_user,
)
from mongo_datalayer.migrate.target import Shelf, Target, chatkit_id
from mongo_datalayer.model.documents import Document

Progress = Callable[[str, int], None]
"""Told the phase and how many more rows are done."""

GONE = "deleted in the target"
OWNER_GONE = "its user was deleted in the target"
CONFLICT = "the target has another one"
REFUSED = "MongoDB refused it"
FOREIGN = "its user's id is another user's in the target"


class UnknownOwner(NamedTuple):
    """A user whom the target has under another name, or has no more.

    Attributes:
        identifier: The name in the target.
        lost: What becomes of the threads, and why, if they cannot be given to that user.
    """

    identifier: str
    lost: tuple[Outcome, str] | None


class Migration:
    """One run from one source into one target.

    Args:
        reader: The source.
        target: The target.
        options: What to move.
        report: Told what becomes of each row.
        files: Moves the elements' files; None leaves them where they are.
        progress: Told how far the run is.
    """

    def __init__(
        self,
        reader: Reader,
        target: Target,
        options: Options,
        report: Report,
        files: FileMover | None,
        progress: Progress,
    ) -> None:
        self._reader = reader
        self._source = reader.source.identity
        self._target = target
        self._options = options
        self._report = report
        self._files = files
        self._progress = progress
        self._named = SourceUsers()
        self._begin = time.monotonic()
        self._steps = 0

    async def run(self) -> None:
        """Move all users, then all threads with their files.

        A document that MongoDB refuses, by a validator for example, is listed.

        Raises:
            MigrationConflictError: the target has something else under an id, and that was to be a
                failure. What came before is stored.
            SourceError: the source could not be read to its end.
            PyMongoError: the target could not be written for longer than writes are retried.
        """
        await self._require_same_files()
        await self._say("users", startedAt=datetime.now(timezone.utc))
        # Users first: a thread is given to the id that its user has in the target.
        async for batch in self._reader.batches(self._reader.source.users):
            await self._move_users(batch)
        await self._say("threads")
        async for batch in self._reader.batches(self._selected):
            await self._move_threads(batch)
            await self._pace()
        counts = {table: dict(count) for table, count in self._report.counts.items()}
        await self._say("finished", finishedAt=datetime.now(timezone.utc), counts=counts)

    async def _require_same_files(self) -> None:
        """Without the files, elements would get the source's keys again and lose their files."""
        state = await self._target.load_state(self._source)
        if state.get("files") and not self._options.moves_files:
            raise ConfigurationError(
                "An earlier run moved the files of this source. Give it the same --files or "
                "--storage again."
            )

    async def _say(self, phase: str, **fields: object) -> None:
        if not self._options.dry_run:
            state = {"phase": phase, "files": self._options.moves_files, **fields}
            await self._target.save_state(self._source, state)

    async def _pace(self) -> None:
        if self._options.rate:
            due = self._begin + self._steps / self._options.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    # Choosing ---------------------------------------------------------------------------------

    def _selected(self) -> Iterator[Record]:
        """The threads that were asked for; runs in the reader's thread."""
        return select_threads(self._reader.source.threads(), self._options)

    # Users ------------------------------------------------------------------------------------

    async def _move_users(self, batch: list[Record]) -> None:
        records = []
        for record in batch:
            if isinstance(record, UserRecord):
                if not selected_user(record, self._options):
                    continue
                if not self._named.is_repeated(record):
                    records.append(record)
                    continue
            self._report.add(record.rows, None)
        names = [record.user["identifier"] for record in records]
        ids = await self._target.users.ids_of(names)
        items = []
        for record in records:
            user_id, identifier = record.user["id"], record.user["identifier"]
            # Also within a batch: the unique index would refuse the second one.
            if ids.setdefault(identifier, user_id) != user_id:
                tell_same_user(record)
                self._report.add(record.rows, None)
            else:
                expected = canonical_user(record.user)
                items.append(Item(user_id, record.rows, stored_user(record.user), expected))
        await self._settle(self._target.users, items)

    # Threads ----------------------------------------------------------------------------------

    async def _move_threads(self, batch: list[Record]) -> None:
        records = []
        for record in batch:
            if isinstance(record, ThreadRecord):
                records.append(record)
            elif isinstance(record, Leftover):
                self._report.add(record.rows, None)
        for name, shelf in self._target.chatkit.items():
            await self._settle(shelf, [_chatkit_item(each) for each in batch if is_of(each, name)])
        ids = await self._owners(records)
        unknown = await self._unknown_owners(records, ids)
        items = []
        for record in records:
            is_known = record.thread.get("userIdentifier") in ids
            owner = None if is_known else unknown.get(record.thread.get("userId"))
            if owner is not None and owner.lost is not None:
                outcome, reason = owner.lost
                self._report.add(record.rows, outcome.value, reason, record.thread["id"])
            else:
                if owner is not None:  # renamed, or gone in the source, since the user was moved
                    record.thread["userIdentifier"] = owner.identifier
                give_owner(record, ids, self._options)
                items.append(self._item(record))
        await self._settle(self._target.threads, items)

    def _item(self, record: ThreadRecord) -> Item:
        files = {} if self._files is None else self._files.take_over(record)
        thread = record.thread
        expected = expected_thread(thread)
        return Item(thread["id"], record.rows, stored_thread(thread), expected, files)

    async def _owners(self, records: list[ThreadRecord]) -> dict[str, str]:
        """The ids in the target of those who may own these threads, by identifier."""
        names = {name for record in records for name in owner_names(record)}
        found = await self._target.users.ids_of(names)
        if self._options.dry_run:
            # A run would have stored the source's users by now, under ids that nobody asks for.
            found |= {name: name for name in names - found.keys() if name in self._named}
        return found

    async def _unknown_owners(
        self, records: list[ThreadRecord], ids: dict[str, str]
    ) -> dict[str | None, UnknownOwner]:
        """By id, the users whom the target does not know by the name that the source has."""
        unknown = {
            record.thread["userId"]
            for record in records
            if "userId" in record.thread and record.thread.get("userIdentifier") not in ids
        }
        if not unknown:
            return {}
        moved = await self._target.recorded(self._source, "users", sorted(unknown))
        names = await self._target.users.names_of(unknown)
        found: dict[str | None, UnknownOwner] = {}
        for user_id in moved.keys() | names.keys():
            lost = None
            if user_id not in names:
                lost = (Outcome.SKIPPED, OWNER_GONE)
            elif user_id not in moved:
                lost = (Outcome.LEFT_OUT, FOREIGN)
            found[user_id] = UnknownOwner(names.get(user_id, ""), lost)
        return found

    # Both -------------------------------------------------------------------------------------

    async def _settle(self, shelf: Shelf, items: list[Item]) -> None:
        """Bring a batch to its end: stored and read back, or listed."""
        if not items:
            return
        by_id = {item.id: item for item in items}
        recorded = await self._target.recorded(self._source, shelf.table, by_id)
        present = await shelf.present(by_id)
        new: list[Item] = []
        other: list[Item] = []
        already: list[Item] = []
        for item in items:
            if not present.get(item.id, item.id not in recorded):
                # A tombstone lives for a day; afterwards the record remembers.
                self._end(item, Outcome.SKIPPED.value, GONE)
            elif item.id not in present:
                new.append(item)
            elif recorded.get(item.id) == item.hash:
                already.append(item)
            else:
                other.append(item)
        changed = await self._changed(shelf, other, recorded, already)
        # Before the threads: an element must not point to a file that has yet to come.
        if shelf.table == "threads" and self._files is not None:
            await self._files.move(already, self._report, missing=True)
            await self._files.move([*new, *changed], self._report)
        await self._write(shelf, new, changed)
        for item in already:
            self._end(item, ALREADY)

    async def _changed(
        self, shelf: Shelf, items: list[Item], recorded: dict[str, str], already: list[Item]
    ) -> list[Item]:
        """Those of what the target has in another form that may be replaced."""
        if not items:
            return []
        current = await shelf.read([item.id for item in items])
        changed, same = [], []
        for item in items:
            found = current.get(item.id, {})
            hashed = digest(found)
            # Two people with one id: whoever replaces the other gets the other's threads.
            is_other = item.id not in recorded and _is_other_person(item.document, found)
            replaces = self._options.on_conflict == "replace" and not is_other
            # The last run was killed between storing and recording it.
            if hashed == item.hash:
                same.append(item)
            # As the last run left it: only the source has gone on since.
            elif hashed == recorded.get(item.id) or replaces:
                changed.append(item)
            elif self._options.on_conflict == "fail":
                raise MigrationConflictError(
                    f"The target has another {shelf.table[:-1]} {item.id!r}, and --on-conflict is "
                    "fail. What came before it is stored; run this again with skip or replace."
                )
            else:
                self._end(item, Outcome.LEFT_OUT.value, CONFLICT)
                if shelf is self._target.users:
                    self._named.forget(item.document["identifier"])
        if not self._options.dry_run:
            hashes = {item.id: item.hash for item in same}
            await self._target.record(self._source, shelf.table, hashes)
        already += same
        return changed

    async def _write(self, shelf: Shelf, new: list[Item], changed: list[Item]) -> None:
        """Store a batch, read it back, and record what is as it should be."""
        items = [*new, *changed]
        if not items:
            return
        if self._options.dry_run:
            for item in items:
                self._end(item, STORED)
            return
        # Documents are stored as they are: the driver adds nothing, as all have an id.
        refused = await shelf.insert([item.document for item in new])
        for item in changed:
            refused |= await shelf.replace(item.document)
        given = await shelf.read([item.id for item in items])
        right: dict[str, str] = {}
        for item in items:
            if item.id in refused:
                self._end(item, Outcome.LEFT_OUT.value, f"{REFUSED}: {refused[item.id]}")
                continue
            self._end(item, STORED)
            found = given.get(item.id, {})
            if digest(found) == item.hash:
                right[item.id] = item.hash
            else:
                detail = ", ".join(differences(item.expected, found)[:10])
                self._report.differs(shelf.table, item.id, detail)
        # Last: a run that is killed before this reads the documents again, and records them then.
        await self._target.record(self._source, shelf.table, right)

    def _end(self, item: Item, outcome: str, reason: str = "") -> None:
        self._report.add(item.rows, outcome, reason, item.id)
        self._steps += item.rows.read["steps"]
        self._progress("moving", sum(item.rows.read.values()))


def _is_other_person(document: Document, current: Document) -> bool:
    """Whether two users with one id are two people; of threads it is never so."""
    return "identifier" in current and current["identifier"] != document.get("identifier")


def is_of(record: Record, shelf: str) -> TypeGuard[DocumentRecord]:
    """Whether a record goes to a shelf of ChatKit."""
    return isinstance(record, DocumentRecord) and record.shelf == shelf


def _chatkit_item(record: DocumentRecord) -> Item:
    return Item(chatkit_id(record.document), record.rows, record.document, record.expected)
