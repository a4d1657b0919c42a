"""Looks a database over, and says of each thing whether it is well. It only reads.

Each check asks the server little and hands what it learnt to a pure function, which judges.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib import metadata
from typing import Any, Literal, TypeAlias

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from mongo_datalayer.documents import (
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    OVERFLOW,
    THREADS,
    Document,
)
from mongo_datalayer.driver import Database, aggregate, open_collection
from mongo_datalayer.files.documents import StoredFile, ours
from mongo_datalayer.indexes import BUCKET, IndexReport, check_indexes
from mongo_datalayer.orphans import LEAST_AGE, unlisted_parts_pipeline
from mongo_datalayer.roles import Role, allows, app_role, missing_actions
from mongo_datalayer.schema import Validator, check_validators

SECONDS = 4.5
"""How long all checks may take together."""

SCAN_SECONDS = 1.0
"""How long all documents may be looked at, for each of two checks; then a sample must do."""

SAMPLED = 1000
DOCUMENT_BYTES = 16 * 1024 * 1024
WORRYING_SHARE = 0.5
FULL_SHARE = 0.85

NOTICED_SKEW = timedelta(seconds=2)
HARMFUL_SKEW = timedelta(seconds=60)

SUPPORTED_CHAINLIT = ((2, 12), (3,))
"""The lowest Chainlit that is supported, and the lowest that is not any more."""

LEAST_SERVER = (5, 0)  # the first whose $lookup takes a field and a pipeline, as a search does
MAINTAINED_SERVER = (7, 0)  # MongoDB ended its fixes for 6.0 in July 2025

State: TypeAlias = Literal["ok", "warning", "problem"]

_UNAUTHORIZED = 13
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Attributes:
        check: What was looked at.
        state: ``ok``; ``warning``, works but worth knowing; ``problem``, needs a person.
        finding: What was found.
        advice: What to do about it; "" when there is nothing to do.
    """

    check: str
    state: State
    finding: str
    advice: str = ""


Check: TypeAlias = Callable[[Database, str], Awaitable[Verdict]]


async def examine(database: Database, *, bucket: str = BUCKET) -> list[Verdict]:
    """Every check's verdict, in under 5 seconds: what takes longer is said not to be known.

    Args:
        database: The database.
        bucket: The GridFS bucket of the files.

    Raises:
        PyMongoError: the server stopped answering.
    """
    verdicts = []
    with pymongo.timeout(SECONDS):
        for name, check in _CHECKS.items():
            try:
                verdicts.append(await check(database, bucket))
            except PyMongoError as exc:
                verdicts.append(_not_known(name, exc))
    return verdicts


def _not_known(name: str, exc: PyMongoError) -> Verdict:
    """A check that was refused or took too long spoils no other one."""
    if isinstance(exc, OperationFailure) and exc.code == _UNAUTHORIZED:
        return Verdict(name, "warning", "not known: this login may not ask", "See the access line.")
    if exc.timeout:
        return Verdict(name, "warning", "not known: the answer took too long", "Run it again.")
    raise exc


# The server -----------------------------------------------------------------------------------


async def _connection(database: Database, _: str) -> Verdict:
    began = time.monotonic()
    await database.client.admin.command("ping")
    return judge_connection(time.monotonic() - began)


def judge_connection(seconds: float) -> Verdict:
    """The round trip to the server, which every operation pays."""
    finding = f"the server answers in {seconds * 1000:.1f} ms"
    if seconds > 0.1:
        return Verdict(
            "connection", "warning", finding, "Move the app and the database closer together."
        )
    return Verdict("connection", "ok", finding)


async def _version(database: Database, _: str) -> Verdict:
    build = await database.client.admin.command("buildInfo")
    return judge_version(build["version"])


def judge_version(version: str) -> Verdict:
    """The server's version."""
    number = _numbers(version)[:2]
    finding = f"MongoDB {version}"
    if number < LEAST_SERVER:
        least = ".".join(map(str, LEAST_SERVER))
        return Verdict("server version", "problem", finding, f"Upgrade to {least} or newer.")
    if number < MAINTAINED_SERVER:
        return Verdict(
            "server version",
            "warning",
            f"{finding}, for which MongoDB publishes no more fixes",
            "Plan an upgrade.",
        )
    return Verdict("server version", "ok", finding)


async def _topology(database: Database, _: str) -> Verdict:
    return judge_topology(await database.client.admin.command("hello"))


def judge_topology(hello: Mapping[str, Any]) -> Verdict:
    """What kind of deployment answers."""
    if hello.get("msg") == "isdbgrid":
        return Verdict("topology", "ok", "a sharded cluster")
    if "setName" not in hello:
        return Verdict(
            "topology",
            "warning",
            "a standalone server: nothing takes over when it fails, and writes are not retried",
            "Use a replica set in production.",
        )
    name, members = hello["setName"], len(hello.get("hosts", ()))
    if members < 3:
        return Verdict(
            "topology",
            "warning",
            f"the replica set {name} with {members} data-bearing member(s)",
            "Three members keep serving when one fails.",
        )
    return Verdict("topology", "ok", f"the replica set {name} with {members} members")


async def _write_concern(database: Database, _: str) -> Verdict:
    default: Mapping[str, Any] | None
    try:
        default = await database.client.admin.command("getDefaultRWConcern")
    except OperationFailure:  # a standalone server has none, and few logins may ask
        default = None
    return judge_write_concern(
        database.write_concern.document, (default or {}).get("defaultWriteConcern")
    )


def judge_write_concern(ours: Mapping[str, Any], default: Mapping[str, Any] | None) -> Verdict:
    """When a write counts as done: as the URI and this package say, and by the server's default."""
    w = ours.get("w", (default or {}).get("w", 1))
    finding = f"w: {w}" + (
        "" if default is None else f" (the server's default: {default.get('w')})"
    )
    if w == 0:
        return Verdict(
            "write concern",
            "problem",
            f"{finding}: failed writes go unnoticed",
            "Remove w=0 from the URI.",
        )
    if w == 1 or ours.get("j") is False:
        return Verdict(
            "write concern",
            "warning",
            f"{finding}{', j: false' if ours.get('j') is False else ''}: what was confirmed can be "
            "lost with the primary",
            "Remove w and journal from the URI; the default is majority.",
        )
    return Verdict("write concern", "ok", finding)


async def _clock(database: Database, _: str) -> Verdict:
    before = datetime.now(timezone.utc)
    hello = await database.client.admin.command("hello")
    after = datetime.now(timezone.utc)
    server = hello["localTime"]
    server = server.replace(tzinfo=timezone.utc) if server.tzinfo is None else server
    return judge_clock(server - (before + (after - before) / 2))


def judge_clock(ahead: timedelta) -> Verdict:
    """How far the server's clock is ahead of this machine's."""
    skew = abs(ahead)
    if skew < NOTICED_SKEW:
        return Verdict("clock", "ok", f"{skew.total_seconds():.1f} s from this machine's")
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    return Verdict(
        "clock",
        "problem" if skew >= HARMFUL_SKEW else "warning",
        f"the server's is {skew.total_seconds():.1f} s {direction} this machine's",
        "Let NTP set both: the order of threads and the life of links to files depend on it.",
    )


# Access ---------------------------------------------------------------------------------------


async def _access(database: Database, bucket: str) -> Verdict:
    status = await database.client.admin.command("connectionStatus", showPrivileges=True)
    try:
        await database.list_collection_names()
    except OperationFailure as exc:
        if exc.code != _UNAUTHORIZED:
            raise
        listable = False
    else:
        listable = True
    hosts = [host for host, _ in database.client.nodes]
    needed = app_role(database.name, bucket)
    return judge_access(status["authInfo"], needed, hosts=hosts, open_to_all=listable)


def judge_access(
    info: Mapping[str, Any], needed: Role, *, hosts: Iterable[str], open_to_all: bool
) -> Verdict:
    """Who we are, and whether the login may do what is needed, and not much more.

    Args:
        info: ``authInfo`` of ``connectionStatus``.
        needed: The role that is needed.
        hosts: Where the server is.
        open_to_all: Whether the database can be read with this login, or without one.
    """
    users = [f"{user['user']} of {user['db']}" for user in info["authenticatedUsers"]]
    if not users:
        return _without_login(hosts, open_to_all=open_to_all)
    login = f"logged in as {', '.join(users)}"
    granted: Sequence[Mapping[str, Any]] = info["authenticatedUserPrivileges"]
    missing = missing_actions(needed, granted)
    if missing:
        lacks = "; ".join(
            f"{', '.join(actions)} on {collection or 'the database'}"
            for collection, actions in missing.items()
        )
        return Verdict(
            "access",
            "problem",
            f"{login}, which may not: {lacks}",
            "Grant what `mongo-datalayer role` prints.",
        )
    if allows(granted, needed.database, "", "dropDatabase"):
        return Verdict(
            "access",
            "warning",
            f"{login}, which may even drop the database",
            "Let the app log in with the role that `mongo-datalayer role` prints.",
        )
    return Verdict("access", "ok", f"{login}, which may do all that is needed")


def _without_login(hosts: Iterable[str], *, open_to_all: bool) -> Verdict:
    if not open_to_all:
        return Verdict(
            "access", "problem", "the server demands a login", "Put user and password into the URI."
        )
    local = set(hosts) <= _LOOPBACK
    return Verdict(
        "access",
        "warning" if local else "problem",
        "the server lets everybody in, without a login",
        "Turn access control on before others can reach it.",
    )


# What is stored -------------------------------------------------------------------------------


async def _indexes(database: Database, bucket: str) -> Verdict:
    return judge_indexes(await check_indexes(database, bucket=bucket))


def judge_indexes(report: IndexReport) -> Verdict:
    """The declared indexes."""
    if report.complete:
        unknown = f", {len(report.unknown)} of others" if report.unknown else ""
        return Verdict("indexes", "ok", f"{len(report.present)} present{unknown}")
    wrong = {"missing": report.missing, "different": report.different}
    finding = "; ".join(
        f"{state}: {', '.join(map(str, group))}" for state, group in wrong.items() if group
    )
    return Verdict("indexes", "problem", finding, "Run `mongo-datalayer indexes apply`.")


async def _validators(database: Database, _: str) -> Verdict:
    return judge_validators(await check_validators(database))


def judge_validators(validators: Iterable[Validator]) -> Verdict:
    """The collections' validators; to have none is no fault."""
    states = {validator.collection: validator for validator in validators}
    finding = ", ".join(
        f"{name}: {validator.state}"
        + ("" if validator.action is None else f" ({validator.action})")
        for name, validator in states.items()
    )
    stale = [v for v in states.values() if v.state in ("outdated", "foreign")]
    if not stale:
        return Verdict("validators", "ok", finding)
    refuses = any(validator.action == "error" for validator in stale)
    foreign = any(validator.state == "foreign" for validator in stale)
    return Verdict(
        "validators",
        "problem" if refuses else "warning",
        f"{finding}{': it may refuse what this version writes' if refuses else ''}",
        f"Run `mongo-datalayer schema apply{' --replace' if foreign else ''}`.",
    )


async def _files(database: Database, bucket: str) -> Verdict:
    """The newest file stands for all: whether each is whole only reading all would tell."""
    newest = await open_collection(database, f"{bucket}.files").find_one(ours(), sort=[("_id", -1)])
    if newest is None:
        return Verdict("file store", "ok", "no files")
    stored = StoredFile.from_document(newest)
    chunks = open_collection(database, f"{bucket}.chunks")
    found = await chunks.count_documents({"files_id": stored.file_id})
    count = await open_collection(database, f"{bucket}.files").estimated_document_count()
    return judge_files(count, stored, found)


def judge_files(count: int, newest: StoredFile, chunks: int) -> Verdict:
    """The file store, by its newest file and how many pieces of its content are there."""
    expected = -(-newest.size // newest.chunk_bytes)
    if chunks != expected:
        return Verdict(
            "file store",
            "problem",
            f"{newest.object_key} has {chunks} of its {expected} pieces",
            "Restore fs.chunks together with fs.files from one backup.",
        )
    return Verdict("file store", "ok", f"about {count} file(s); the newest is whole")


async def _document_sizes(database: Database, _: str) -> Verdict:
    largest, sampled = await _looked_at(database, THREADS, _largest_pipeline)
    return judge_sizes(largest, sampled=sampled)


def _largest_pipeline(sample: list[Document]) -> list[Document]:
    """The largest of all heads and parts, largest first."""
    order: list[Document] = [{"$sort": {"bytes": -1, "thread": 1}}, {"$limit": 3}]

    def largest(thread: str) -> list[Document]:
        shown = {"bytes": {"$bsonSize": "$$ROOT"}, "thread": thread}
        return [*sample, {"$project": shown}, *order]

    others = ((OVERFLOW, "$thread"), (CHATKIT_THREADS, "$_id"), (CHATKIT_OVERFLOW, "$thread"))
    unions: list[Document] = [
        {"$unionWith": {"coll": name, "pipeline": largest(thread)}} for name, thread in others
    ]
    return [*largest("$_id"), *unions, *order]


async def _looked_at(
    database: Database, collection: str, pipeline: Callable[[list[Document]], list[Document]]
) -> tuple[list[Document], int | None]:
    """What an aggregation of all documents finds, or of a sample where all take too long."""
    documents = open_collection(database, collection)
    try:
        with pymongo.timeout(SCAN_SECONDS):
            return await aggregate(documents, pipeline([])), None
    except PyMongoError as exc:
        if not exc.timeout:
            raise
    return await aggregate(documents, pipeline([{"$sample": {"size": SAMPLED}}])), SAMPLED


def judge_sizes(largest: Sequence[Mapping[str, Any]], *, sampled: int | None) -> Verdict:
    """The largest documents against what MongoDB stores in one.

    Steps, elements, items and large values never bring a document there: they move to others
    before.

    Args:
        largest: ``thread`` (its id, or a ChatKit thread's owner and id) and ``bytes`` of the
            largest heads and parts, largest first.
        sampled: How many of each were looked at; None for all.
    """
    among = _among(sampled)
    if not largest:
        return Verdict("document sizes", "ok", f"no threads{among}")
    near = [found for found in largest if found["bytes"] >= WORRYING_SHARE * DOCUMENT_BYTES]
    if not near:
        size = _megabytes(largest[0]["bytes"])
        return Verdict("document sizes", "ok", f"the largest{among} has {size} of 16")
    full = near[0]["bytes"] >= FULL_SHARE * DOCUMENT_BYTES
    names = ", ".join(
        f"{_thread_name(found['thread'])} ({_megabytes(found['bytes'])})" for found in near
    )
    return Verdict(
        "document sizes",
        "problem" if full else "warning",
        f"near the 16 MB a document may have{among}: {names}",
        "Look what is large in these threads: metadata, or what another program wrote. Writes that "
        "would go beyond fail.",
    )


async def _leftover_parts(database: Database, _: str) -> Verdict:
    before = datetime.now(timezone.utc) - LEAST_AGE

    def pipeline(sample: list[Document]) -> list[Document]:
        of_chatkit = [*sample, *unlisted_parts_pipeline(before, CHATKIT_THREADS)]
        return [
            *sample,
            *unlisted_parts_pipeline(before),
            {"$unionWith": {"coll": CHATKIT_OVERFLOW, "pipeline": of_chatkit}},
            {"$count": "parts"},
        ]

    found, sampled = await _looked_at(database, OVERFLOW, pipeline)
    return judge_leftovers(found[0]["parts"] if found else 0, sampled=sampled)


def judge_leftovers(count: int, *, sampled: int | None) -> Verdict:
    """Parts that no thread lists: a process was killed while it moved older items to one."""
    if not count:
        return Verdict("leftover parts", "ok", f"none{_among(sampled)}")
    return Verdict(
        "leftover parts",
        "warning",
        f"{count}{_among(sampled)} that no thread lists: nobody reads them",
        "Run `mongo-datalayer files gc --delete`.",
    )


def _thread_name(thread: Any) -> str:
    if isinstance(thread, Mapping):
        return f"{thread['id']} of {thread['owner']}"
    return str(thread)


def _among(sampled: int | None) -> str:
    return "" if sampled is None else f" of {sampled} taken at random (all would take too long)"


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"


# This machine ---------------------------------------------------------------------------------


async def _chainlit(_database: Database, _bucket: str) -> Verdict:
    try:
        version = metadata.version("chainlit")
    except metadata.PackageNotFoundError:
        version = None
    return judge_chainlit(version)


def judge_chainlit(version: str | None) -> Verdict:
    """The Chainlit that is installed beside this package; None when there is none."""
    supported = "{} or newer, below {}".format(
        *(".".join(map(str, bound)) for bound in SUPPORTED_CHAINLIT)
    )
    advice = f"Install Chainlit {supported}."
    if version is None:
        return Verdict("Chainlit", "warning", "not installed here", advice)
    lowest, beyond = SUPPORTED_CHAINLIT
    if not lowest <= _numbers(version) < beyond:
        return Verdict("Chainlit", "problem", f"{version} is not supported", advice)
    return Verdict("Chainlit", "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``7.0.14-rc1`` is 7, 0, 14."""
    matched = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in matched[0].split(".")) if matched else ()


_CHECKS: Mapping[str, Check] = {
    "connection": _connection,
    "server version": _version,
    "topology": _topology,
    "write concern": _write_concern,
    "access": _access,
    "indexes": _indexes,
    "validators": _validators,
    "file store": _files,
    "clock": _clock,
    "Chainlit": _chainlit,
    "document sizes": _document_sizes,
    "leftover parts": _leftover_parts,
}
