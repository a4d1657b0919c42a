"""MySQL and MariaDB, which give one result at a time and compare texts in their own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from sqlalchemy.engine import make_url

from mongo_datalayer import MongoDataLayer, migrate

Documents = AsyncDatabase[dict[str, Any]]

TABLES = """
CREATE TABLE users (id VARCHAR(36) PRIMARY KEY, identifier VARCHAR(255), metadata JSON,
  createdAt TEXT);
CREATE TABLE threads (id VARCHAR(36) PRIMARY KEY, createdAt DATETIME(6), name TEXT,
  userId VARCHAR(36), tags JSON, metadata JSON);
CREATE TABLE steps (id VARCHAR(36) PRIMARY KEY, threadId VARCHAR(36), type TEXT, output LONGTEXT,
  createdAt TEXT, isError TINYINT(1), `end` TEXT);
CREATE TABLE feedbacks (id VARCHAR(36) PRIMARY KEY, forId VARCHAR(36), value INT);
INSERT INTO users VALUES ('u', 'ada', '{"a": 1}', '2026-09-09T12:00:00Z');
INSERT INTO threads VALUES ('B', '2026-09-09 12:00:00.5', 'Größe', 'u', '["x"]', '{}');
INSERT INTO threads VALUES ('a', '2026-09-09 12:00:00', 'second', 'u', NULL, NULL);
INSERT INTO threads VALUES ('z', '2026-09-09 12:00:00', 'third', NULL, NULL, NULL);
INSERT INTO steps VALUES ('s1', 'a', 'run', 'one', '2026-09-09T12:00:00Z', 1, NULL);
INSERT INTO steps VALUES ('s2', 'B', 'run', 'two 名', '2026-09-09T12:00:00Z', 0, NULL);
INSERT INTO steps VALUES ('s3', 'A', 'run', 'whose', '2026-09-09T12:00:00Z', 0, NULL);
INSERT INTO steps VALUES ('s4', 'z', 'run', 'four', '2026-09-09T12:00:00Z', 0, NULL);
INSERT INTO feedbacks VALUES ('f', 's1', 1);
"""


@pytest.mark.usefixtures("mariadb")
async def test_mariadb(mariadb: Callable[[str], str], database: Documents) -> None:
    url = mariadb("chat")
    address = make_url(url)
    connection = pymysql.connect(
        host=address.host or "",
        port=address.port or 0,
        user=address.username,
        password=str(address.password),
        database=address.database,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        for statement in TABLES.split(";")[:-1]:
            cursor.execute(statement)

    with await migrate.run(url.replace("mysql", "mysql+aiomysql"), database) as report:
        assert {each["id"] for each in report.findings() if each["outcome"] == "left out"} == {"s3"}
        assert "MySQL" in report.kind
    with await migrate.verify(url, database) as report:
        assert not report.counts["threads"]["differs"]

    layer = MongoDataLayer(client=database.client, database=database.name)
    found: dict[str, Any] = {each: await layer.get_thread(each) for each in ("B", "a", "z")}
    await layer.close()
    assert {each: len(thread["steps"]) for each, thread in found.items()} == dict.fromkeys(found, 1)
    assert (found["B"]["name"], found["B"]["tags"]) == ("Größe", ["x"])
    assert found["B"]["createdAt"] == "2026-09-09T12:00:00.500000Z"
    assert found["a"]["steps"][0]["feedback"]["value"] == 1
