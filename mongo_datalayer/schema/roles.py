"""The privileges the package needs in MongoDB, and how a role is made of them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mongo_datalayer.config import BUCKET
from mongo_datalayer.model.documents import (
    CONSOLE_AUDIT,
    CONSOLE_REVIEWS,
    META,
    PRAISONAI_SETTINGS,
    SEARCH_WORDS,
    THREADS,
    Document,
)
from mongo_datalayer.schema.indexes import DECLARED, SEARCH, in_bucket
from mongo_datalayer.schema.validators import MODELS
from mongo_datalayer.schema.views import VIEWS

COLLECTIONS: tuple[str, ...] = tuple(
    sorted({META, *MODELS, *(index.collection for index in (*DECLARED, *SEARCH))})
)
"""Every collection that the package uses; views are not among them."""

# collStats is for `stats`, listIndexes for `indexes check` and the doctor.
MEASURING = ("collStats", "listIndexes")
READING = (*MEASURING, "find")
WRITING = ("createIndex", "insert", "remove", "update")
# MongoDB changes a validator and a view with collMod; a view is made with createCollection.
VALIDATING = ("collMod",)
DEFINING = ("collMod", "createCollection")
_IN_AGENT_COLLECTIONS = ("createIndex", "find", "insert", "listIndexes", "remove", "update")
# A deleted thread is replaced by its tombstone, and neither a file's content nor a segment of the
# search index ever changes. ChatKit's tombstones name the owner, so an erasure removes them.
_NOT_NEEDED: Mapping[str, frozenset[str]] = {
    THREADS: frozenset({"remove"}),
    f"{BUCKET}.chunks": frozenset({"update"}),
    SEARCH_WORDS: frozenset({"update"}),
    PRAISONAI_SETTINGS: frozenset({"remove"}),
    META: frozenset({"createIndex", "listIndexes", "remove"}),
}
# An analyst sees the size of these, and none of their documents. A setting may be an API key.
_UNSEEN = frozenset({f"{BUCKET}.chunks", SEARCH_WORDS, PRAISONAI_SETTINGS})
_LISTING: Mapping[str, tuple[str, ...]] = {"": ("listCollections",)}
# The doctor looks at the free disk.
_EXAMINING: Mapping[str, tuple[str, ...]] = {"": ("dbStats", "listCollections")}


_UPPER = re.compile(r"([A-Z])")


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
        """The privileges as MongoDB takes and lists them."""
        return [
            {
                "resource": {"db": self.database, "collection": collection},
                "actions": sorted(actions),
            }
            for collection, actions in self.actions.items()
        ]

    @property
    def shell_text(self) -> str:
        """A statement for the mongo shell that creates the role, or brings it up to date."""
        # JSON is JavaScript, and quotes whatever a name contains.
        name, database = json.dumps(self.name), f"db.getSiblingDB({json.dumps(self.database)})"
        privileges = ",\n".join(f"    {json.dumps(privilege)}" for privilege in self.privileges)
        return (
            f"{database}.runCommand({{\n"
            f'  [{database}.getRole({name}) ? "updateRole" : "createRole"]: {name},\n'
            f'  "privileges": [\n{privileges}\n  ],\n'
            f'  "roles": []\n'
            f"}})"
        )

    @property
    def atlas_role(self) -> Document:
        """The role as the Atlas Administration API takes a custom database role.

        It lists where each action is allowed, and calls ``listIndexes`` ``LIST_INDEXES``.
        """
        places: dict[str, list[Document]] = {}
        for collection, actions in self.actions.items():
            for action in sorted(actions):
                name = _UPPER.sub(r"_\1", action).upper()
                places.setdefault(name, []).append({"db": self.database, "collection": collection})
        actions_of = [{"action": name, "resources": places[name]} for name in sorted(places)]
        return {"roleName": self.name, "actions": actions_of, "inheritedRoles": []}


def app_role(database: str, bucket: str = BUCKET, also: Iterable[str] = ()) -> Role:
    """What an app and the commands need, and nothing else: no dropping, no other collection.

    ``also`` names collections of agent libraries, which the app fills and ``erase-user`` empties.
    """
    actions = {name: _app_actions(c) for name, c in collections_with(bucket).items()}
    shown = dict.fromkeys(VIEWS, DEFINING)
    agents = dict.fromkeys(also, _IN_AGENT_COLLECTIONS)
    return Role("chainlitApp", database, {**_EXAMINING, **agents, **actions, **shown})


def analyst_role(database: str, bucket: str = BUCKET) -> Role:
    """Reads conversations, their views and users, and the list of files without their content."""
    actions = {
        name: (MEASURING if collection in _UNSEEN else READING)
        for name, collection in collections_with(bucket).items()
    }
    views = dict.fromkeys(VIEWS, ("find",))
    return Role("chainlitAnalyst", database, {**_LISTING, **actions, **views})


def console_role(database: str, bucket: str = BUCKET) -> Role:
    """What the console needs: it reads all, and writes its audit log and marks on feedback."""
    chunks = {in_bucket(f"{BUCKET}.chunks", b): READING for b in (BUCKET, bucket)}
    own = {CONSOLE_AUDIT: ("insert",), CONSOLE_REVIEWS: ("find", "insert", "remove", "update")}
    actions = {**analyst_role(database, bucket).actions, **chunks, **own}
    return Role("chainlitConsole", database, actions)


def collections_with(bucket: str) -> dict[str, str]:
    """The collections where the files are in ``bucket``, each with its name in :data:`BUCKET`.

    Large values stay in :data:`BUCKET`, so its collections are always among them.
    """
    return {name: name for name in COLLECTIONS} | {in_bucket(n, bucket): n for n in COLLECTIONS}


def _app_actions(collection: str) -> tuple[str, ...]:
    actions = {*READING, *WRITING, *(VALIDATING if collection in MODELS else ())}
    return tuple(sorted(actions - _NOT_NEEDED.get(collection, frozenset())))


def missing_actions(role: Role, granted: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The actions of ``role`` that the ``granted`` privileges do not allow, by collection.

    Privileges are as ``connectionStatus`` lists them.
    """
    held = list(granted)
    missing = {
        collection: [a for a in actions if not allows(held, role.database, collection, a)]
        for collection, actions in role.actions.items()
    }
    return {collection: actions for collection, actions in missing.items() if actions}


def allows(
    granted: Iterable[Mapping[str, Any]], database: str, collection: str, action: str
) -> bool:
    """Whether one of the privileges allows the action; "" stands for the database itself."""
    return any(
        action in privilege["actions"] and _covers(privilege["resource"], database, collection)
        for privilege in granted
    )


def _covers(resource: Mapping[str, Any], database: str, collection: str) -> bool:
    if resource.get("anyResource"):
        return True
    # In a privilege, an empty database or collection stands for any.
    return resource.get("db") in ("", database) and resource.get("collection") in ("", collection)
