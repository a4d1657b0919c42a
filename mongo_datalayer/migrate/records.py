"""What a source yields: users and whole threads, and what became of every row it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

from mongo_datalayer.model.bson_values import to_text
from mongo_datalayer.model.documents import Document


class Outcome(str, Enum):
    """What became of a row that was not simply stored."""

    LEFT_OUT = "left out"
    """It is not in the target, and a person should know."""
    SKIPPED = "skipped"
    """It is not in the target, as it should be: it was deleted, for example."""
    MERGED = "merged"
    """It became part of something else that is stored."""
    CHANGED = "changed"
    """It is stored, with a value that differs from the source's."""


@dataclass(frozen=True)
class Finding:
    """One row that a person may ask about.

    Attributes:
        outcome: What became of the row.
        reason: Why, in a few words; the reports count by it.
        table: Its table: ``users``, ``threads``, ``steps``, ``elements``, ``feedbacks``, ``files``.
        id: Its id.
        detail: The value in question, shortened.
    """

    outcome: Outcome
    reason: str
    table: str
    id: str
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as JSON has it."""
        shown = {"outcome": self.outcome.value, "reason": self.reason, "table": self.table}
        return {**shown, "id": self.id, **({"detail": self.detail} if self.detail else {})}


@dataclass
class Rows:
    """The rows of one record.

    Attributes:
        read: How many rows were read, by table.
        findings: What is to be said of them.
    """

    read: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def tell(self, outcome: Outcome, reason: str, table: str, id: Any, detail: Any = "") -> None:  # noqa: A002
        """Add a finding."""
        text = to_text(detail)  # str() refuses a number of too many digits
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        self.findings.append(Finding(outcome, reason, table, to_text(id), shown))

    def stored(self) -> Counter[str]:
        """The rows that are stored, by table."""
        lost = Counter(
            finding.table for finding in self.findings if finding.outcome is not Outcome.CHANGED
        )
        return self.read - lost


SHOWN = 200
"""How many characters of an odd value a report shows."""


@dataclass
class UserRecord:
    """A user.

    Attributes:
        user: As Chainlit has it: ``id``, ``identifier``, ``createdAt``, ``metadata``.
        rows: The row that it was made of.
    """

    user: Document
    rows: Rows


@dataclass
class ThreadRecord:
    """A whole thread.

    Attributes:
        thread: As Chainlit's ``ThreadDict``. Values are plain, times of steps are texts,
            ``createdAt`` and ``updatedAt`` are datetimes, and fields that are None are left out.
        rows: The rows that it was made of.
        possible_owner: Who speaks in a thread that names no owner, if that is one person.
    """

    thread: Document
    rows: Rows
    possible_owner: str | None = None


@dataclass
class DocumentRecord:
    """A ChatKit thread or attachment, which belongs to nobody's user document.

    Attributes:
        shelf: Where it goes: ``chatkit_threads`` or ``chatkit_attachments``.
        document: As it is stored.
        expected: As it must be read again.
        rows: The rows that it was made of.
    """

    shelf: str
    document: Document
    expected: Document
    rows: Rows


@dataclass
class Leftover:
    """Rows from which nothing is stored; each has its finding."""

    rows: Rows


Record: TypeAlias = "UserRecord | ThreadRecord | DocumentRecord | Leftover"


@dataclass(frozen=True)
class MatchedTable:
    """A table of the source, and what is known of it.

    Attributes:
        table: What it holds: ``threads``, for example.
        name: Its name in the source, with the schema.
        columns: The columns in use: the source's name by ours.
        extra: Columns that are kept as extra fields.
        missing: Columns that newer versions of the old layer write and the table lacks.
        rows: How many rows it has.
    """

    table: str
    name: str
    columns: dict[str, str]
    extra: tuple[str, ...]
    missing: tuple[str, ...]
    rows: int


class Source(Protocol):
    """Where conversations come from. All methods run in one worker thread.

    Attributes:
        kind: What it is, for people.
        identity: Names the source in the target's record of what was migrated; no password.
        tables: The tables that were matched.
        warnings: What the old layer is known to have lost, and what else a person should know.
    """

    kind: str
    identity: str
    tables: list[MatchedTable]
    warnings: list[str]

    def users(self) -> Iterator[Record]:
        """Every user."""

    def threads(self) -> Iterator[Record]:
        """Every thread, in the order of ids, and the rows that belong to none."""

    def close(self) -> None:
        """End the snapshot."""
