"""The privileges the package needs in MongoDB, and how a role is made of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mongo_datalayer.documents import SEARCH_WORDS, THREADS, Document
from mongo_datalayer.indexes import BUCKET, DECLARED, SEARCH, in_bucket
from mongo_datalayer.schema import MODELS
from mongo_datalayer.views import VIEWS

COLLECTIONS: tuple[str, ...] = tuple(
    sorted({*MODELS, *(index.collection for index in (*DECLARED, *SEARCH))})
)
"""Every collection the package uses; the views are none."""

MEASURING = ("collStats", "listIndexes")
READING = (*MEASURING, "find")
WRITING = ("createIndex", "insert", "remove", "update")
VALIDATING = ("collMod",)
DEFINING = ("collMod", "createCollection")
# A deleted thread is replaced by its tombstone, and neither a file's content nor a segment of the
# search index ever changes. What is left of ChatKit's names the owner: an erasure removes it.
_NOT_NEEDED: Mapping[str, frozenset[str]] = {
    THREADS: frozenset({"remove"}),
    f"{BUCKET}.chunks": frozenset({"update"}),
    SEARCH_WORDS: frozenset({"update"}),
}
# Of these an analyst sees how large they are, and nothing of what they hold.
_UNSEEN = frozenset({f"{BUCKET}.chunks", SEARCH_WORDS})
_LISTING: Mapping[str, tuple[str, ...]] = {"": ("listCollections",)}


@dataclass(frozen=True)
class Role:
    """A role of one database.

    Attributes:
        name: Its name.
        database: The database it is for, and where it is defined.
        actions: What it allows, by collection; "" stands for the database itself.
    """

    name: str
    database: str
    actions: Mapping[str, tuple[str, ...]]

    @property
    def definition(self) -> Document:
        """The role as MongoDB's ``createRole`` takes it."""
        return {"role": self.name, "privileges": self.privileges, "roles": []}

    @property
    def privileges(self) -> list[Document]:
        """The privileges as MongoDB takes and gives them."""
        return [
            {
                "resource": {"db": self.database, "collection": collection},
                "actions": sorted(actions),
            }
            for collection, actions in self.actions.items()
        ]

    @property
    def shell_text(self) -> str:
        """A statement for the mongo shell that creates the role."""
        # JSON is JavaScript, and leaves no room for a name that means something in it.
        privileges = ",\n".join(f"    {json.dumps(privilege)}" for privilege in self.privileges)
        return (
            f"db.getSiblingDB({json.dumps(self.database)}).createRole({{\n"
            f'  "role": {json.dumps(self.name)},\n'
            f'  "privileges": [\n{privileges}\n  ],\n'
            f'  "roles": []\n'
            f"}})"
        )


def app_role(database: str, bucket: str = BUCKET) -> Role:
    """What an app and the commands need, and nothing else: no dropping, no other collection.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files; large values stay in :data:`BUCKET`.
    """
    actions = {name: _app_actions(of) for name, of in collections_with(bucket).items()}
    return Role("chainlitApp", database, {**_LISTING, **actions, **dict.fromkeys(VIEWS, DEFINING)})


def analyst_role(database: str, bucket: str = BUCKET) -> Role:
    """Reads conversations, their views and users, and the list of files without their content."""
    actions = {
        name: (MEASURING if of in _UNSEEN else READING)
        for name, of in collections_with(bucket).items()
    }
    shown = dict.fromkeys(VIEWS, ("find",))
    return Role("chainlitAnalyst", database, {**_LISTING, **actions, **shown})


def collections_with(bucket: str) -> dict[str, str]:
    """The collections where the files are in ``bucket``, each with its name in :data:`BUCKET`.

    Large values stay in :data:`BUCKET`, so its collections are always among them.
    """
    return {name: name for name in COLLECTIONS} | {in_bucket(n, bucket): n for n in COLLECTIONS}


def _app_actions(collection: str) -> tuple[str, ...]:
    actions = {*READING, *WRITING, *(VALIDATING if collection in MODELS else ())}
    return tuple(sorted(actions - _NOT_NEEDED.get(collection, frozenset())))


def missing_actions(role: Role, granted: Iterable[Mapping[str, object]]) -> dict[str, list[str]]:
    """What of ``role`` the ``granted`` privileges do not allow, by collection.

    Args:
        role: The role that is needed.
        granted: Privileges as ``connectionStatus`` shows them.
    """
    held = list(granted)
    missing = {
        collection: [a for a in actions if not allows(held, role.database, collection, a)]
        for collection, actions in role.actions.items()
    }
    return {collection: actions for collection, actions in missing.items() if actions}


def allows(
    granted: Iterable[Mapping[str, object]], database: str, collection: str, action: str
) -> bool:
    """Whether one of the privileges allows the action; "" stands for the database itself."""
    return any(
        _covers(privilege["resource"], database, collection)
        and action in _names(privilege["actions"])
        for privilege in granted
    )


def _covers(resource: object, database: str, collection: str) -> bool:
    if not isinstance(resource, Mapping):
        return False
    if resource.get("anyResource"):
        return True
    return resource.get("db") in ("", database) and resource.get("collection") in ("", collection)


def _names(actions: object) -> list[str]:
    return [str(name) for name in actions] if isinstance(actions, list) else []
