"""One run: starts the servers, connects the contenders, measures, and stops everything."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

from pymongo import MongoClient

from benchmarks import machine, workloads
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.floor import Floor
from benchmarks.contenders.ours import JOURNALED, UNJOURNALED, Ours
from benchmarks.postgres import LocalPostgres
from benchmarks.results import Results, collect
from benchmarks.timing import Case
from benchmarks.workloads import Notify, Plan
from mongo_datalayer.server import LocalServer

CONTENDERS = ("ours", "floor", "asyncpg", "sqlalchemy", "sqlite")
ON_POSTGRES = frozenset({"asyncpg", "sqlalchemy"})
_NO_LONGER_HEARD = ("chainlit", "mongo_datalayer", "sqlalchemy")


async def run(
    plan: Plan,
    only: Sequence[str],
    *,
    acknowledged: Sequence[str],
    seed_seconds: float,
    notify: Notify,
) -> Results:
    """Measure.

    Args:
        plan: What to measure.
        only: Names of contenders.
        acknowledged: How MongoDB's writes are acknowledged: ``journaled``, ``w:1``, or both.
        seed_seconds: How long our layer may take to store a dataset.
        notify: Takes what is being done, for the one who waits.
    """
    for name in _NO_LONGER_HEARD:  # what they fail at shows in the results
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        notify("starting the servers")
        found = machine.describe(folder)
        mongo = stack.enter_context(LocalServer())
        found["MongoDB"] = _mongo_version(mongo.uri)
        postgres = None
        if ON_POSTGRES & set(only):
            postgres = stack.enter_context(LocalPostgres())
            found["PostgreSQL"] = postgres.version
        made = _contenders(only, acknowledged, mongo.uri, postgres, folder, seed_seconds)
        cases: list[Case] = []
        async with _opened(made) as contenders:
            for workload in plan.workloads:
                cases += await workloads.run(plan, workload, contenders, notify)
    return collect(found, cases)


def _contenders(
    only: Sequence[str],
    acknowledged: Sequence[str],
    mongo: str,
    postgres: LocalPostgres | None,
    folder: Path,
    seed_seconds: float,
) -> list[Contender]:
    made: list[Contender] = []
    for suffix, journal in (("", True), (" w:1", False)):
        if ("journaled" if journal else "w:1") not in acknowledged:
            continue
        tag = "journaled" if journal else "w1"
        if "ours" in only:
            options = JOURNALED if journal else UNJOURNALED
            made.append(
                Ours(
                    f"ours{suffix}",
                    mongo,
                    f"ours_{tag}",
                    acknowledgement=options,
                    seed_seconds=seed_seconds,
                )
            )
        if "floor" in only:
            made.append(Floor(f"floor{suffix}", mongo, f"floor_{tag}", journal=journal))
    return made + _peers(only, postgres, folder)


def _peers(only: Sequence[str], postgres: LocalPostgres | None, folder: Path) -> list[Contender]:
    if not set(only) - {"ours", "floor"}:
        return []
    # Loaded only here: they need packages that a run without them can do without.
    from benchmarks.contenders.peers import (
        Asyncpg,
        SQLAlchemyOnPostgres,
        SQLAlchemyOnSQLite,
    )

    made: list[Contender] = []
    if postgres is not None and "asyncpg" in only:
        made.append(Asyncpg("asyncpg", postgres))
    if postgres is not None and "sqlalchemy" in only:
        made.append(SQLAlchemyOnPostgres("sqlalchemy", postgres))
    if "sqlite" in only:
        made.append(SQLAlchemyOnSQLite("sqlite", folder))
    return made


@asynccontextmanager
async def _opened(contenders: Sequence[Contender]) -> AsyncIterator[Sequence[Contender]]:
    async with AsyncExitStack() as stack:
        for contender in contenders:
            stack.push_async_callback(contender.close)
            await contender.open()
        yield contenders


def _mongo_version(uri: str) -> str:
    with MongoClient[dict[str, object]](uri) as client:
        return str(client.server_info()["version"])
