"""Checks a database, and says of each thing whether it is well. It only reads.

Each check asks the server little and hands the answer to a pure function, which judges.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from mongo_datalayer.admin.doctor_checks import server, stored
from mongo_datalayer.admin.doctor_checks.check_result import CheckResult
from mongo_datalayer.admin.garbage import LEAST_AGE, unlisted_overflow_pipeline
from mongo_datalayer.chainlit.thread_contents import drop_damaged, value_keys
from mongo_datalayer.config import BUCKET
from mongo_datalayer.files.stored_file import StoredFile, ours
from mongo_datalayer.model.documents import (
    CHATKIT_ATTACHMENTS,
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    LONG,
    NOT_DELETED,
    OVERFLOW,
    OWN_KEY,
    SEARCH_WORDS,
    TEXT,
    THREADS,
    Document,
)
from mongo_datalayer.model.stored_lists import array
from mongo_datalayer.mongodb.client import Database, aggregate, open_collection
from mongo_datalayer.mongodb.error_reason import error_reason, is_unauthorized
from mongo_datalayer.schema.indexes import check_indexes
from mongo_datalayer.schema.roles import app_role
from mongo_datalayer.schema.validators import check_validators
from mongo_datalayer.schema.version import check_version

# The command promises less than 5 seconds, and has to connect and print as well.
SECONDS = 4.5
"""How long all checks may take together."""

SCAN_SECONDS = 1.0
"""How long an aggregation of all documents may take; after that a sample must do."""

SAMPLED = 1000

LONG_SAMPLED = 200
"""How many long threads and overflow documents are read for their large values."""

_UNKNOWN_COMMAND = 59
_NOT_IN_STABLE_API = 323

_CHATKIT = frozenset({CHATKIT_THREADS, CHATKIT_OVERFLOW, CHATKIT_ATTACHMENTS})


async def run_checks(database: Database, *, bucket: str = BUCKET) -> list[CheckResult]:
    """The result of every check, in under 5 seconds. What takes longer is reported as not known.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.

    Raises:
        PyMongoError: the server stopped answering.
    """
    results = []
    with pymongo.timeout(SECONDS):
        for name, check in _CHECKS.items():
            try:
                result = await check(database, bucket)
            except PyMongoError as exc:
                # A check that was refused or took too long must not spoil the others.
                result = _not_known(exc)
            results.append(replace(result, check=name))
    return results


def _not_known(error: PyMongoError) -> CheckResult:
    if error.timeout:
        return CheckResult("warning", "not known: the answer took too long", "Run it again.")
    if not isinstance(error, OperationFailure):
        raise error
    if is_unauthorized(error):
        return CheckResult("warning", "not known: this login may not ask", "See the access line.")
    if error.code == _UNKNOWN_COMMAND:
        reason = "this server does not know the command"
    elif error.code == _NOT_IN_STABLE_API:
        reason = "the strict Stable API does not let it ask"
    else:
        reason = f"the server refused: {error_reason(error)}"
    return CheckResult("warning", f"not known: {reason}", "docs/which-mongodb.md says what works.")


async def _unused(database: Database) -> frozenset[str]:
    """The collections of ChatKit and of the search index where the database does without them."""
    try:
        present = set(await database.list_collection_names())
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        return frozenset()
    chatkit = frozenset() if _CHATKIT & present else _CHATKIT
    return chatkit | ({SEARCH_WORDS} - present)


async def _connection(database: Database, _bucket: str) -> CheckResult:
    began = time.monotonic()
    await database.client.admin.command("ping")
    return server.judge_connection(time.monotonic() - began)


async def _version(database: Database, _bucket: str) -> CheckResult:
    build = await database.client.admin.command("buildInfo")
    # The answer names those of the client's compressors that the server takes.
    hello = await database.client.admin.command("hello", compression=["zlib"])
    offers_zlib = "zlib" in hello.get("compression", ())
    today = datetime.now(timezone.utc).date()
    return server.judge_version(build["version"], today, offers_zlib=offers_zlib)


async def _topology(database: Database, _bucket: str) -> CheckResult:
    return server.judge_topology(await database.client.admin.command("hello"))


async def _write_concern(database: Database, _bucket: str) -> CheckResult:
    try:
        defaults: Mapping[str, Any] = await database.client.admin.command("getDefaultRWConcern")
    except OperationFailure:  # a standalone server has none, and few logins may ask
        defaults = {}
    ours = database.write_concern.document
    return server.judge_write_concern(ours, defaults.get("defaultWriteConcern"))


async def _clock(database: Database, _bucket: str) -> CheckResult:
    before = datetime.now(timezone.utc)
    hello = await database.client.admin.command("hello")
    after = datetime.now(timezone.utc)
    now = hello["localTime"]
    now = now if now.tzinfo else now.replace(tzinfo=timezone.utc)  # the caller's client decides
    # The server read its clock about in the middle of the round trip.
    return server.judge_clock(now - (before + (after - before) / 2))


async def _chainlit(_database: Database, _bucket: str) -> CheckResult:
    try:
        version = metadata.version("chainlit")
    except metadata.PackageNotFoundError:
        version = None
    return server.judge_chainlit(version)


async def _access(database: Database, bucket: str) -> CheckResult:
    status = await database.client.admin.command("connectionStatus", showPrivileges=True)
    open_to_all = True
    try:
        await database.list_collection_names()
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        open_to_all = False
    hosts = [host for host, _ in database.client.nodes]
    role = app_role(database.name, bucket)
    unused = await _unused(database)
    actions = {name: role.actions[name] for name in role.actions if name not in unused}
    needed = replace(role, actions=actions)
    return server.judge_access(status["authInfo"], needed, hosts=hosts, open_to_all=open_to_all)


async def _indexes(database: Database, bucket: str) -> CheckResult:
    report = await check_indexes(database, bucket=bucket)
    unused = await _unused(database)
    used = tuple(index for index in report.indexes if index.collection not in unused)
    return stored.judge_indexes(replace(report, indexes=used))


async def _validators(database: Database, _bucket: str) -> CheckResult:
    found, unused = await check_validators(database), await _unused(database)
    used = [validator for validator in found if validator.collection not in unused]
    return stored.judge_validators(used)


async def _disk(database: Database, _bucket: str) -> CheckResult:
    return server.judge_disk(await database.command("dbStats"))


async def _schema_version(database: Database, _bucket: str) -> CheckResult:
    return stored.judge_schema_version(await check_version(database))


async def _files(database: Database, bucket: str) -> CheckResult:
    files = open_collection(database, f"{bucket}.files")
    # The newest stands for all: whether each is whole only reading all would tell.
    newest = await files.find_one(ours(), sort=[("_id", -1)])
    if newest is None:
        return CheckResult("ok", "no files")
    file = StoredFile.from_document(newest)
    chunks = open_collection(database, f"{bucket}.chunks")
    found = await chunks.count_documents({"files_id": file.file_id})
    return stored.judge_files(await files.estimated_document_count(), file, found)


async def _document_sizes(database: Database, _bucket: str) -> CheckResult:
    largest, sampled = await _aggregate_all(database, THREADS, _largest_pipeline)
    return stored.judge_sizes(largest, sampled=sampled)


def _largest_pipeline(sample: list[Document]) -> list[Document]:
    largest_first: list[Document] = [{"$sort": {"bytes": -1, "thread": 1}}, {"$limit": 3}]

    def largest(thread: str, own: Mapping[str, Any]) -> list[Document]:
        projection = {"bytes": {"$bsonSize": "$$ROOT"}, "thread": thread}
        return [*sample, {"$match": dict(own)}, {"$project": projection}, *largest_first]

    others: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        (OVERFLOW, "$thread", {}),
        (CHATKIT_THREADS, "$_id", OWN_KEY),
        (CHATKIT_OVERFLOW, "$thread", {}),
    )
    unions: list[Document] = [
        {"$unionWith": {"coll": name, "pipeline": largest(thread, own)}}
        for name, thread, own in others
    ]
    return [*largest("$_id", {"_id": TEXT}), *unions, *largest_first]


async def _unlisted_overflow(database: Database, _bucket: str) -> CheckResult:
    before = datetime.now(timezone.utc) - LEAST_AGE

    def pipeline(sample: list[Document]) -> list[Document]:
        chatkit = [*sample, *unlisted_overflow_pipeline(before, CHATKIT_THREADS)]
        return [
            *sample,
            *unlisted_overflow_pipeline(before),
            {"$unionWith": {"coll": CHATKIT_OVERFLOW, "pipeline": chatkit}},
            {"$count": "unlisted"},
        ]

    found, sampled = await _aggregate_all(database, OVERFLOW, pipeline)
    return stored.judge_unlisted_overflow(found[0]["unlisted"] if found else 0, sampled=sampled)


async def _damage(database: Database, _bucket: str) -> CheckResult:
    odd, sampled = await _aggregate_all(database, THREADS, _odd_pipeline)
    incomplete = [
        stored.thread_name(thread["_id"])
        for threads, overflow in ((THREADS, OVERFLOW), (CHATKIT_THREADS, CHATKIT_OVERFLOW))
        for thread in await _incomplete(database, threads, overflow)
    ]
    lost = await _lost_values(database)
    names = list(dict.fromkeys(stored.thread_name(row["thread"]) for row in odd))
    return stored.judge_damage(names, incomplete, lost, sampled=sampled)


def _odd_pipeline(sample: list[Document]) -> list[Document]:
    """The documents of both fronts that were edited by hand so that a part cannot be read."""

    def odd(thread: str, lists: Sequence[str], *others: Document) -> list[Document]:
        no_text = {"$not": {"$type": "string"}}
        odd_lists: list[Document] = [
            *({name: {"$exists": True, "$not": {"$type": "array"}}} for name in lists),
            *({name: {"$elemMatch": {"$not": {"$type": "object"}}}} for name in lists),
            *({name: {"$elemMatch": {"id": no_text}}} for name in lists),
        ]
        match = {**NOT_DELETED, "$or": [*odd_lists, *others]}
        return [*sample, {"$match": match}, {"$project": {"thread": thread}}]

    listing: list[Document] = [
        {"overflowIds": {"$exists": True, "$not": {"$type": "array"}}},
        {"overflowIds": {"$size": 0}},
        {"overflowIds": {"$elemMatch": {"$not": {"$type": "string"}}}},
    ]
    times: list[Document] = [{n: {"$not": {"$type": "date"}}} for n in ("createdAt", "updatedAt")]
    steps, items = ("steps", "elements"), ("items",)
    unions = (
        (OVERFLOW, odd("$thread", steps)),
        (CHATKIT_THREADS, odd("$_id", items, *listing, {"thread": {"$not": {"$type": "object"}}})),
        (CHATKIT_OVERFLOW, odd("$thread", items)),
    )
    return [
        *odd("$_id", steps, *times, *listing),
        *({"$unionWith": {"coll": name, "pipeline": pipeline}} for name, pipeline in unions),
    ]


async def _incomplete(database: Database, threads: str, overflow: str) -> list[Document]:
    """The long threads of which an overflow document is missing."""
    listed = {"$size": array("$overflowIds")}
    found = {
        "from": overflow,
        "localField": "overflowIds",
        "foreignField": "_id",
        "pipeline": [{"$project": {"_id": 1}}],
        "as": "found",
    }
    pipeline: list[Document] = [
        {"$match": {**LONG, **NOT_DELETED}},
        # Each costs a join, and the time is for all checks together.
        {"$limit": SAMPLED},
        {"$project": {"overflowIds": 1}},
        {"$lookup": found},
        {"$match": {"$expr": {"$lt": [{"$size": "$found"}, listed]}}},
        {"$project": {"_id": 1}},
    ]
    return await aggregate(open_collection(database, threads), pipeline)


async def _lost_values(database: Database) -> list[str]:
    """The keys of large values of long threads that are not in GridFS."""
    keys: set[str] = set()
    # In thread_overflow only pieces of large texts have a `value`; they refer to no files.
    for name, filter in ((THREADS, {**LONG, **NOT_DELETED}), (OVERFLOW, {"value": None})):
        fields = dict.fromkeys(("metadata", "steps", "elements", "pendingFeedback"), 1)
        found = open_collection(database, name).find(filter, fields).limit(LONG_SAMPLED)
        async for document in found:
            drop_damaged(document)
            keys |= value_keys([document])
    files = open_collection(database, f"{BUCKET}.files")
    there = files.find({"filename": {"$in": sorted(keys)}}, {"filename": 1})
    return sorted(keys - {file["filename"] async for file in there})


async def _aggregate_all(
    database: Database, collection: str, pipeline: Callable[[list[Document]], list[Document]]
) -> tuple[list[Document], int | None]:
    """An aggregation of all documents, or of a sample of this size where all take too long."""
    documents = open_collection(database, collection)
    try:
        with pymongo.timeout(SCAN_SECONDS):
            return await aggregate(documents, pipeline([])), None
    except PyMongoError as exc:
        if not exc.timeout:
            raise
    return await aggregate(documents, pipeline([{"$sample": {"size": SAMPLED}}])), SAMPLED


# Those that read all documents come last: they may use up the time of the others.
_CHECKS: Mapping[str, Callable[[Database, str], Awaitable[CheckResult]]] = {
    "connection": _connection,
    "server version": _version,
    "topology": _topology,
    "write concern": _write_concern,
    "access": _access,
    "indexes": _indexes,
    "validators": _validators,
    "schema version": _schema_version,
    "file store": _files,
    "disk": _disk,
    "clock": _clock,
    "Chainlit": _chainlit,
    "document sizes": _document_sizes,
    "unlisted overflow": _unlisted_overflow,
    "damage": _damage,
}
