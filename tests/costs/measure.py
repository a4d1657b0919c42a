"""Counts what every operation costs, on a real server.

The server's profiler tells what it examined and wrote, the driver what was sent and received. All
ids and times are fixed, so the figures are the same in every run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

import bson
from chainlit.context import context_var
from chainlit.types import Feedback
from chainlit.user import User
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.files import FileLinks, GridFSStorageClient
from mongo_datalayer.storage import overflow
from tests.costs.figures import Figures
from tests.costs.operations import (
    IN_A_NEW_THREAD,
    LIKED,
    OF_FEEDBACK,
    OF_LISTS,
    OF_NEW_STEPS,
    OF_STEPS,
    OF_THREADS,
    OF_USERS,
    RATED,
    Operation,
    Target,
    image,
    step,
)

DATABASE = "costs"
APP_NAME = "counted"
SHORT, LONG, FULL = "short", "long", "full"
SHORT_STEPS, LONG_STEPS = 10, 400
OTHERS = 30
"""Further threads of each user, each of one step."""


# What the driver adds to commands, and a replica set to answers.
_OF_DRIVER = frozenset({"$db", "lsid", "$clusterTime", "$readPreference", "txnNumber", "maxTimeMS"})
_OF_CLUSTER = frozenset({"$clusterTime", "operationTime"})


class Stored(NamedTuple):
    """The documents of all collections, and the hashes of those."""

    hashes: Mapping[str, str]
    documents: Mapping[str, list[dict[str, Any]]]


class Section(NamedTuple):
    """Operations that are counted on one thread.

    Attributes:
        thread: The thread.
        number: Of the step that is worked on.
        operations: What is counted.
        new_layer: Whether the layer has not seen the thread, or its user, before.
        user: Whose lists.
    """

    thread: str
    number: int
    operations: Mapping[str, Operation]
    new_layer: bool = False
    user: str = "ada"


SECTIONS: Mapping[str, Section] = {
    f"Users and lists, {OTHERS + 3} threads": Section(SHORT, 5, OF_USERS),
    f"Lists of {OTHERS + 3} threads, and a layer that has just started": Section(
        SHORT, 5, OF_LISTS, new_layer=True
    ),
    f"Lists of {OTHERS + 1} threads, none of them long": Section(
        SHORT, 5, OF_LISTS, new_layer=True, user="cyd"
    ),
    "A thread that is not there yet": Section("new", 0, IN_A_NEW_THREAD),
    f"A thread of {SHORT_STEPS} steps": Section(
        SHORT, 5, {**OF_THREADS, **OF_STEPS, **OF_FEEDBACK}
    ),
    f"A thread of {LONG_STEPS} steps": Section(
        LONG, LONG_STEPS - 5, {**OF_THREADS, **OF_STEPS, **OF_FEEDBACK}
    ),
    f"A thread of {LONG_STEPS} steps, one of the first of them": Section(LONG, 5, OF_STEPS),
    f"A thread of {SHORT_STEPS} steps, and a layer that has just started": Section(
        SHORT, 5, {**OF_NEW_STEPS, **OF_STEPS}, new_layer=True
    ),
    f"A thread of {LONG_STEPS} steps, and a layer that has just started": Section(
        LONG, LONG_STEPS - 5, {**OF_NEW_STEPS, **OF_STEPS}, new_layer=True
    ),
    "A thread whose oldest steps are about to move to its overflow": Section(FULL, 5, OF_NEW_STEPS),
}


@dataclass
class Traffic(CommandListener):
    """Commands that were sent to the database, and how many bytes went to and fro."""

    commands: list[str] = field(default_factory=list)
    sent: int = 0
    received: int = 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.database_name == DATABASE:
            self.commands.append(event.command_name)
            self.sent += _bytes(event.command, _OF_DRIVER)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.database_name == DATABASE:
            self.received += _bytes(event.reply, _OF_CLUSTER)

    def failed(self, event: CommandFailedEvent) -> None:
        if event.database_name == DATABASE:
            self.received += _bytes(event.failure, _OF_CLUSTER)

    def clear(self) -> None:
        self.commands.clear()
        self.sent = self.received = 0


def _bytes(document: Mapping[str, Any], left_out: frozenset[str]) -> int:
    return len(bson.encode({name: of for name, of in document.items() if name not in left_out}))


@contextmanager
def profiled(database: Database[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """What the server says of each command that is sent inside the block."""
    database.command("profile", 0)
    database.drop_collection("system.profile")
    found: list[dict[str, Any]] = []
    database.command("profile", 2)
    yield found
    database.command("profile", 0)
    ours = {"appName": APP_NAME, "ns": {"$ne": f"{DATABASE}.system.profile"}}
    found.extend(database["system.profile"].find(ours))


class Call(NamedTuple):
    """An operation that is about to be called.

    Attributes:
        section: Title of the section.
        name: Name of the operation.
        operation: The operation.
        target: What it works on.
        database: Where everything is stored, on a client of its own.
    """

    section: str
    name: str
    operation: Operation
    target: Target
    database: Database[dict[str, Any]]


async def calls(uri: str, listener: CommandListener) -> AsyncIterator[Call]:
    """Every operation of every section, each on the same stored documents.

    Uses, and drops, the database :data:`DATABASE`. The ``listener`` hears what the layer sends.
    """
    context_var.set(cast("Any", None))  # outside of any chat
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as beside:
        database = beside[DATABASE]
        beside.drop_database(DATABASE)
        async with AsyncMongoClient[dict[str, Any]](
            uri, event_listeners=[listener], appname=APP_NAME
        ) as client:
            users = await store(layer_of(client), database)
            stored = snapshot(database)
            for title, section in SECTIONS.items():
                for name, operation in section.operations.items():
                    target = Target(
                        layer_of(client), users[section.user], section.thread, section.number
                    )
                    if not section.new_layer:
                        await meet(target)
                    resolve(database, stored)
                    yield Call(title, name, operation, target, database)
                    resolve(database, stored)
        beside.drop_database(DATABASE)


async def measure(uri: str) -> dict[str, dict[str, Figures]]:
    """Count everything."""
    traffic = Traffic()
    table: dict[str, dict[str, Figures]] = {title: {} for title in SECTIONS}
    async for call in calls(uri, traffic):
        traffic.clear()
        with profiled(call.database) as profile:
            await call.operation(call.target)
        table[call.section][call.name] = figures(traffic, profile)
    return table


def layer_of(client: AsyncMongoClient[dict[str, Any]]) -> MongoDataLayer:
    """A layer that has seen nothing yet."""
    files = GridFSStorageClient(
        client[DATABASE], links=FileLinks("a secret of 32 bytes and more...")
    )
    return MongoDataLayer(client=client, database=DATABASE, storage_client=files)


def figures(traffic: Traffic, profile: Sequence[Mapping[str, Any]]) -> Figures:
    """What an operation cost."""
    if len(profile) != len(traffic.commands):
        raise AssertionError(f"{traffic.commands} were sent, and {len(profile)} profiled.")

    def total(*names: str) -> int:
        return sum(entry.get(name, 0) for entry in profile for name in names)

    return Figures(
        commands=len(traffic.commands),
        keys=total("keysExamined"),
        documents=total("docsExamined"),
        written=total("keysInserted", "keysDeleted"),
        sent=traffic.sent,
        received=traffic.received,
    )


async def store(layer: MongoDataLayer, database: Database[dict[str, Any]]) -> Mapping[str, str]:
    """Store the threads; returns the ids of the users, by name."""
    await layer.create_indexes()
    user = await layer.create_user(User(identifier="ada"))
    await store_others(layer, "other", user.id)
    await store_thread(layer, SHORT, user.id, SHORT_STEPS)
    await store_thread(layer, LONG, user.id, LONG_STEPS)
    await layer.update_thread(FULL, name="Chat", user_id=user.id)
    main: Mapping[str, Any] = {}
    while main.get("bytes", 0) < overflow.BOUNDS.main:
        await layer.create_step(step(FULL, len(main.get("steps", ()))))
        main = database["threads"].find_one({"_id": FULL}) or {}
    without_long = await layer.create_user(User(identifier="cyd"))
    await store_others(layer, "cyd", without_long.id)
    await store_thread(layer, "cyd's", without_long.id, SHORT_STEPS)
    return {"ada": user.id, "cyd": without_long.id}


async def store_others(layer: MongoDataLayer, prefix: str, user_id: str) -> None:
    """Threads of one step each."""
    for number in range(OTHERS):
        await layer.update_thread(f"{prefix} {number:02}", name="Chat", user_id=user_id)
        await layer.create_step(step(f"{prefix} {number:02}", number))


async def store_thread(layer: MongoDataLayer, thread: str, user_id: str, steps: int) -> None:
    """A thread with elements, feedback and a favourite, all of the first steps."""
    saved = {"id": f"{thread} session", "client_type": "webapp", "chat_settings": {}}
    await layer.update_thread(thread, name="Chat", user_id=user_id, metadata=saved)
    for number in range(steps):
        await layer.create_step(step(thread, number))
        if number == LIKED:
            await layer.create_element(image(thread, "linked", number))
            kept = image(thread, "kept", number, content=b"some bytes", mime="image/png")
            await layer.create_element(kept)
            await layer.set_step_favorite(step(thread, number), True)
    rated = step(thread, RATED)["id"]
    feedback = Feedback(id=f"{thread} feedback", forId=rated, value=1, threadId=thread)
    await layer.upsert_feedback(feedback)


def snapshot(database: Database[dict[str, Any]]) -> Stored:
    """All that is stored; the threads were used last when their newest step was made."""
    for main in database["threads"].find():
        newest = str(max(each["createdAt"] for each in main["steps"]))
        used = datetime.fromisoformat(newest.replace("Z", "+00:00"))
        database["threads"].update_one({"_id": main["_id"]}, {"$set": {"updatedAt": used}})
    names = database.list_collection_names()
    return Stored(hashes(database), {name: list(database[name].find()) for name in names})


def resolve(database: Database[dict[str, Any]], stored: Stored) -> None:
    """Store what was there before; the server forgets which indexes it preferred."""
    for name, now in hashes(database).items():
        if now != stored.hashes.get(name):
            database[name].delete_many({})
            if documents := stored.documents.get(name):
                database[name].insert_many(documents)
        database.command("planCacheClear", name)


def hashes(database: Database[dict[str, Any]]) -> Mapping[str, str]:
    """What tells whether a collection holds the same documents."""
    found: Mapping[str, str] = database.command("dbHash")["collections"]
    return found


async def meet(target: Target) -> None:
    """Let a layer see the thread, the step and the user, as one that served the chat has."""
    if await target.layer.get_thread(target.thread) is not None:
        await target.layer.update_step(target.step())
    await OF_LISTS["list_threads feedback"](target)
