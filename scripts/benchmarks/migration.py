"""What a migration takes: steps a second, peak memory, and where the processor time goes.

Run by ``scripts/bench_migrate``. The source is a PostgreSQL with the documented tables.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

import psycopg
from pymongo import AsyncMongoClient

from benchmarks.postgres import LocalPostgres
from mongo_datalayer import migrate
from mongo_datalayer.migrate import engine, sql_source
from mongo_datalayer.migrate.item import Item
from mongo_datalayer.migrate.reader import Reader
from mongo_datalayer.migrate.target import ThreadShelf
from mongo_datalayer.server import LocalServer

FILL = """
CREATE TABLE users (id TEXT PRIMARY KEY, identifier TEXT, metadata JSONB, "createdAt" TEXT);
CREATE TABLE threads (id TEXT PRIMARY KEY, "createdAt" TEXT, name TEXT, "userId" TEXT,
  "userIdentifier" TEXT, tags TEXT[], metadata JSONB);
CREATE TABLE steps (id TEXT PRIMARY KEY, name TEXT, type TEXT, "threadId" TEXT, "parentId" TEXT,
  streaming BOOLEAN, "isError" BOOLEAN, metadata JSONB, tags TEXT[], input TEXT, output TEXT,
  "createdAt" TEXT, start TEXT, "end" TEXT, generation JSONB, "showInput" TEXT);
CREATE TABLE elements (id TEXT PRIMARY KEY, "threadId" TEXT, name TEXT, "forId" TEXT);
CREATE TABLE feedbacks (id TEXT PRIMARY KEY, "forId" TEXT, "threadId" TEXT, value INT,
  comment TEXT);
INSERT INTO users SELECT 'u' || n, 'user' || n || '@example.com', '{{"role": "user"}}',
  '2026-01-01T00:00:00.000000Z' FROM generate_series(1, 100) n;
INSERT INTO threads SELECT md5('t' || n), '2026-01-01T00:00:00.000000Z', 'Conversation ' || n,
  'u' || (n % 100 + 1), NULL, NULL, '{{"chat_profile": "Support"}}'
  FROM generate_series(0, {threads} - 1) n;
INSERT INTO steps SELECT md5('s' || n), CASE n % 4 WHEN 0 THEN 'user' ELSE 'Assistant' END,
  CASE n % 4 WHEN 0 THEN 'user_message' WHEN 1 THEN 'run' WHEN 2 THEN 'tool'
  ELSE 'assistant_message' END, md5('t' || n / {each}), NULL, false, false, '{{}}', NULL,
  '', repeat('What a model may have answered. ', 20),
  to_char(timestamp '2026-01-01' + n % {each} * interval '1 s', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  '2026-01-01T00:00:00.000001Z', '2026-01-01T00:00:01.000001Z', 'null', 'json'
  FROM generate_series(0, {steps} - 1) n;
ANALYZE;
"""

MIB = 1024

Seconds: TypeAlias = defaultdict[str, float]


def timed(spent: Seconds, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its processor time added to ``spent``."""

    @functools.wraps(function)
    def measured(*arguments: Any, **options: Any) -> Any:
        begin = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += time.thread_time() - begin

    @functools.wraps(function)
    async def awaited(*arguments: Any, **options: Any) -> Any:
        begin = time.thread_time()
        try:
            return await function(*arguments, **options)
        finally:
            spent[name] += time.thread_time() - begin

    return awaited if asyncio.iscoroutinefunction(function) else measured


async def measure(source: str, uri: str, spent: Seconds) -> migrate.Report:
    """Run one migration."""
    for owner, name, part in (
        (Reader, "_batch", "read"),
        (sql_source, "thread_record", "convert"),
        (engine, "stored_thread", "hash"),
        (engine, "expected_thread", "hash"),
        (Item, "__post_init__", "hash"),
        (ThreadShelf, "insert", "write"),
        (ThreadShelf, "read", "verify"),
    ):
        setattr(owner, name, timed(spent, part, getattr(owner, name)))
    async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        report = await migrate.run(source, client["migrated"])
    spent["read"] -= spent["convert"]
    return report


def main() -> None:
    """Fill a source, migrate it, print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=50_000)
    arguments = parser.parse_args()
    each = arguments.steps // arguments.threads
    spent: Seconds = defaultdict(float)
    with LocalPostgres() as postgres, LocalServer() as mongo:
        source = postgres.url("postgres")
        with psycopg.connect(source) as connection:
            statements = FILL.format(steps=arguments.steps, threads=arguments.threads, each=each)
            connection.execute(statements)
        begin = time.process_time()
        with asyncio.run(measure(source, mongo.uri, spent)) as report:
            processor = time.process_time() - begin
            print(f"{arguments.steps:,} steps, {arguments.threads:,} threads: {report.complete}")
            rate = arguments.steps / report.seconds
            minutes = 10_000_000 / rate / 60
            print(f"{report.seconds:.1f} s, {rate:,.0f} steps/s; 10 million: {minutes:.0f} min")
            print(f"processor: {processor:.1f} s, {arguments.steps / processor:,.0f} steps/s")
            for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
                print(f"  {name:8} {seconds:6.1f} s {seconds / processor:5.0%}")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
            print(f"peak memory: {peak:.0f} MB")


if __name__ == "__main__":
    main()
