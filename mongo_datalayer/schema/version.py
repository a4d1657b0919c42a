"""Which version of the stored schema a database has: a small document that ``setup apply`` writes.

A database that was set up in another way has none, and works as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from mongo_datalayer.model.documents import META, SCHEMA_ID
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.schema.plan import SchemaObject, State
from mongo_datalayer.version import SCHEMA_VERSION, VERSION


@dataclass(frozen=True)
class SchemaVersion(SchemaObject):
    """The version that is recorded in one database.

    Attributes:
        collection: Name of the collection.
        state: ``outdated``: an older version of this package set the database up. ``newer``: a
            newer one did, and this one may not understand what it stores.
        version: The recorded version; None without a record.
        package: The version of this package that recorded it.
    """

    collection: str
    state: State
    version: int | None = None
    package: str | None = None

    def __str__(self) -> str:
        return "schema"

    @property
    def explanation(self) -> str:
        """What the record says beside this package."""
        ours = f"mongo_datalayer {VERSION} has {SCHEMA_VERSION}"
        if self.version is None:
            return f"not recorded; {ours}"
        return f"{self.version}, set up by mongo_datalayer {self.package}; {ours}"

    @classmethod
    async def apply(
        cls, database: Database, objects: Sequence[SchemaVersion]
    ) -> list[SchemaVersion]:
        """Record this package's version."""
        record = {
            "version": SCHEMA_VERSION,
            "package": VERSION,
            "updatedAt": datetime.now(timezone.utc),
        }
        collection = open_collection(database, META)
        await collection.update_one({"_id": SCHEMA_ID}, {"$set": record}, upsert=True)
        return [
            replace(item, state="set", version=SCHEMA_VERSION, package=VERSION) for item in objects
        ]


def compare_version(record: Mapping[str, Any] | None) -> SchemaVersion:
    """The recorded version against this package's. Pure."""
    if record is None:
        return SchemaVersion(META, "missing")
    version = int(record["version"])
    state: State = "present"
    if version != SCHEMA_VERSION:
        state = "outdated" if version < SCHEMA_VERSION else "newer"
    return SchemaVersion(META, state, version, str(record["package"]))


async def check_version(database: Database) -> SchemaVersion:
    """Compare the version that ``database`` has with this package's; changes nothing."""
    return compare_version(await open_collection(database, META).find_one({"_id": SCHEMA_ID}))
