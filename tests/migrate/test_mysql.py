"""MySQL and MariaDB, which give one result at a time and compare texts in their own way."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from sqlalchemy.engine import make_url

from mongo_datalayer import MongoDataLayer, migrate
from mongo_datalayer.errors import ConfigurationError

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


def execute(url: str, *statements: Any) -> None:
    """Run statements, each with or without values."""
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
        for statement in statements:
            cursor.execute(*([statement] if isinstance(statement, str) else statement))


@pytest.mark.usefixtures("mariadb")
async def test_mariadb(mariadb: Callable[[str], str], database: Documents) -> None:
    url = mariadb("chat")
    execute(url, *TABLES.split(";")[:-1])

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


async def test_uuids_as_bytes(mariadb: Callable[[str], str], database: Documents) -> None:
    """Their bytes are no text: CAST would make the same question marks of many."""
    url = mariadb("bytes")
    ids = [uuid.uuid5(uuid.NAMESPACE_URL, name) for name in "utso"]
    user, thread, step, other = (each.bytes for each in ids)
    execute(
        url,
        "CREATE TABLE users (id BINARY(16), identifier VARCHAR(9))",
        "CREATE TABLE threads (id BINARY(16), userId BINARY(16), createdAt DATETIME)",
        "CREATE TABLE steps (id BINARY(16), threadId BINARY(16), parentId BINARY(16))",
        ("INSERT INTO users VALUES (%s, 'ada')", [user]),
        ("INSERT INTO threads VALUES (%s, %s, NULL)", [thread, user]),
        (
            "INSERT INTO steps VALUES (%s, %s, NULL), (%s, %s, %s)",
            [step, thread, other, thread, step],
        ),
        "CREATE TABLE gone (x INT)",
        "CREATE VIEW broken AS SELECT * FROM gone",
        "DROP TABLE gone",
    )

    with await migrate.run(f"{url}?charset=latin1", database) as report:
        assert report.complete, report.as_dict(findings=True)

    stored = await database.threads.find_one({})
    assert stored is not None
    assert (stored["userId"], stored["_id"]) == (str(ids[0]), str(ids[1]))
    assert {step["id"]: step.get("parentId") for step in stored["steps"]} == {
        str(ids[2]): None,
        str(ids[3]): str(ids[2]),
    }


async def test_ids_that_differ_in_spaces_at_their_end(
    mariadb: Callable[[str], str], database: Documents
) -> None:
    url = mariadb("spaces")
    names = ["t\t", "t", "t "]
    execute(
        url,
        "CREATE TABLE threads (id VARCHAR(9) COLLATE utf8mb4_bin)",
        "CREATE TABLE steps (id VARCHAR(9), threadId VARCHAR(9), output TEXT)",
        *(("INSERT INTO threads VALUES (%s)", [name]) for name in names),
        *(("INSERT INTO steps VALUES (%s, %s, %s)", [name, name, name]) for name in names[1:]),
    )

    with await migrate.run(url, database) as report:
        assert report.complete, report.as_dict(findings=True)

    found = {thread["_id"]: thread["steps"] async for thread in database.threads.find({})}
    assert found.pop("t\t") == []
    assert {each: [step["output"] for step in steps] for each, steps in found.items()} == {
        name: [name] for name in names[1:]
    }


@pytest.mark.parametrize("option", ["useSSL=false", "ssl=true"])
async def test_an_option_that_the_driver_does_not_know(
    mariadb: Callable[[str], str], option: str
) -> None:
    url = mariadb(f"options_{option[:3]}")

    with pytest.raises(ConfigurationError, match="option"):
        await migrate.inspect(f"{url}?{option}")
