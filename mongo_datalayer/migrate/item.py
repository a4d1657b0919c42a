"""A user or a thread on its way into the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mongo_datalayer.migrate.records import Rows
from mongo_datalayer.migrate.stored_threads import digest
from mongo_datalayer.model.documents import Document


@dataclass
class Item:
    """One of a batch.

    Attributes:
        id: Its id.
        rows: The rows that it was made of.
        document: As it is stored.
        expected: As it must be read again.
        files: The source's object key of each element that has a file to move.
        hash: The hash of ``expected``.
    """

    id: str
    rows: Rows
    document: Document
    expected: Document
    files: Mapping[str, str] = field(default_factory=dict)
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        """Hash what is expected."""
        self.hash = digest(self.expected)
