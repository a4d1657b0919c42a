"""What a migration can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate.chainlit_rows import Reading
from mongo_datalayer.migrate.files import ElementFiles, FolderFiles, StorageFiles, open_storage
from mongo_datalayer.migrate.reflection import NameMapping


@dataclass(frozen=True)
class Options:
    """How to read a source, and what of it to move where.

    Attributes:
        files: The folder that holds the elements' files by object key.
        storage: The storage that holds them: ``s3://BUCKET``, ``gs://BUCKET``,
            ``azure://CONTAINER``, or one of Chainlit's storage clients.
        source_timezone: The zone of the times of users and threads, ``Europe/Berlin`` for example:
            Chainlit's SQLAlchemy layer stored local times as if they were UTC.
        recover_owners: Give a thread without an owner to the user who speaks in it.
        orphans: What to do with rows whose thread has no row of its own: list them, or make a
            thread without an owner of them.
        user: Only this user and their threads, by identifier.
        thread: Only this thread, by id.
        since: Only threads that were active at this time or later.
        limit: At most so many threads.
        dry_run: Say what would be done; change nothing.
        on_conflict: What to do with what the target has under the same id with other content.
        rate: At most so many steps a second.
        mapping: Names of tables and columns that cannot be guessed.
    """

    files: Path | None = None
    storage: Any = None
    source_timezone: str | None = None
    recover_owners: bool = False
    orphans: Literal["report", "import"] = "report"
    user: str | None = None
    thread: str | None = None
    since: datetime | None = None
    limit: int | None = None
    dry_run: bool = False
    on_conflict: Literal["skip", "replace", "fail"] = "skip"
    rate: float | None = None
    mapping: Path | Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def moves_files(self) -> bool:
        """Whether there is somewhere to read files from."""
        return self.files is not None or self.storage is not None

    def reading(self) -> Reading:
        """How rows are to be understood.

        Raises:
            ConfigurationError: there is no such time zone.
        """
        zone = None
        if self.source_timezone is not None:
            try:
                zone = ZoneInfo(self.source_timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
                raise ConfigurationError(
                    f"There is no time zone {self.source_timezone!r}: name one like Europe/Berlin."
                ) from exc
        return Reading(zone, import_orphans=self.orphans == "import")

    def names(self) -> NameMapping:
        """The names that cannot be guessed.

        Raises:
            ConfigurationError: they cannot be read, or name what is none of ours.
        """
        if self.mapping is None:
            return NameMapping()
        if isinstance(self.mapping, Path):
            return NameMapping.load(self.mapping)
        return NameMapping.of(self.mapping)

    def open_files(self) -> ElementFiles | None:
        """Where the elements' files are; None when they stay where they are.

        Raises:
            ConfigurationError: there are two places, or it is none that can be read.
        """
        # One missing in the one might be found in the other, and nobody would know which it was.
        if self.files is not None and self.storage is not None:
            raise ConfigurationError("Files come from a folder or from a storage, not from both.")
        if self.files is not None:
            return FolderFiles(self.files)
        if isinstance(self.storage, str):
            return open_storage(self.storage)
        return None if self.storage is None else StorageFiles(self.storage)
