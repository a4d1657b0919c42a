"""Which users and threads are moved, and whose each thread is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mongo_datalayer.migrate.options import Options
from mongo_datalayer.migrate.records import (
    DocumentRecord,
    Outcome,
    Record,
    ThreadRecord,
    UserRecord,
)

NO_OWNER = "thread has no owner"
RECOVERABLE = "thread has no owner, --recover-owners would find one"


class SourceUsers:
    """The users that a source has named so far: hashes, as all may not fit into memory."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._identifiers: set[int] = set()

    def __contains__(self, identifier: object) -> bool:
        return hash(identifier) in self._identifiers

    def forget(self, identifier: str) -> None:
        """Take back a user who will not be stored."""
        self._identifiers.discard(hash(identifier))

    def is_repeated(self, record: UserRecord) -> bool:
        """Whether the source has named this user before; the row is listed then."""
        user_id, identifier = record.user["id"], record.user["identifier"]
        if identifier in self:
            tell_same_user(record)
        elif hash(user_id) in self._ids:
            reason = "another user has the same id"
            record.rows.tell(Outcome.LEFT_OUT, reason, "users", user_id, identifier)
        else:
            self._ids.add(hash(user_id))
            self._identifiers.add(hash(identifier))
            return False
        return True


def selected_user(record: UserRecord, options: Options) -> bool:
    """Whether a user was asked for."""
    return options.user is None or record.user["identifier"] == options.user


def tell_same_user(record: UserRecord) -> None:
    """List a user whose identifier is another one's: the threads are given to that one."""
    reason, identifier = "user with the same identifier", record.user["identifier"]
    record.rows.tell(Outcome.MERGED, reason, "users", record.user["id"], identifier)


def select_threads(records: Iterable[Record], options: Options) -> Iterator[Record]:
    """The threads that were asked for, and what belongs to none if all were."""
    chosen = 0
    partial = options.user is not None or options.thread is not None or options.since is not None
    for record in records:
        if isinstance(record, (ThreadRecord, DocumentRecord)):
            if not _fits(record, options):
                continue
            if options.limit is not None and chosen >= options.limit:
                return
            chosen += 1
            yield record
        # Nobody owns these rows, so they are in no part that was asked for.
        elif not partial:
            yield record


def _fits(record: ThreadRecord | DocumentRecord, options: Options) -> bool:
    if isinstance(record, ThreadRecord):
        thread_id, newest = record.thread["id"], record.thread.get("updatedAt")
        owner = record.thread.get("userIdentifier")
        if owner is None and options.recover_owners:
            owner = record.possible_owner
    else:
        key, newest = record.document["_id"], record.document["updatedAt"]
        owner, thread_id = key["owner"], key["id"]
    if options.thread not in (None, thread_id) or options.user not in (None, owner):
        return False
    return options.since is None or (newest is not None and newest >= options.since)


def owner_names(record: ThreadRecord) -> set[str]:
    """Who may own a thread, by identifier."""
    names = (record.thread.get("userIdentifier"), record.possible_owner)
    return {name for name in names if name}


def give_owner(record: ThreadRecord, ids: Mapping[str, str], options: Options) -> None:
    """Give a thread to the user of that name in the target, whatever id they have there."""
    thread, rows = record.thread, record.rows
    name = thread.get("userIdentifier")
    if name is None and "userId" not in thread:
        name = record.possible_owner
        if name not in ids or not options.recover_owners:
            reason = RECOVERABLE if name in ids else NO_OWNER
            rows.tell(Outcome.CHANGED, reason, "threads", thread["id"], name or "")
            return
        reason = "owner found by who speaks"
        rows.tell(Outcome.CHANGED, reason, "threads", thread["id"], name)
        thread["userIdentifier"] = name
    elif "userId" not in thread:
        reason = "owner found by name" if name in ids else "no user has the owner's name"
        rows.tell(Outcome.CHANGED, reason, "threads", thread["id"], name)
    if name is not None and name in ids:
        thread["userId"] = ids[name]
