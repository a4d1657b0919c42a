"""How one document, and all of an aggregation, are read."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer.mongodb import client as driver
from tests.costs.commands import Commands, name

Dict = dict[str, Any]
LARGE = "x" * 6_000_000
FIND = {"_id": 1}


async def read(uri: str, database: str, **options: Any) -> tuple[list[Any], list[Dict]]:
    """What is read with a client that has these options, and the commands for it."""
    commands = Commands()
    async with AsyncMongoClient[Dict](uri, event_listeners=[commands], **options) as client:
        collection = driver.open_collection(client[database], "c")
        with commands.counted() as sent:
            found = [
                await collection.find_one(FIND),
                await collection.find_one(FIND, {"_id": 1}),
                await collection.find_one({"_id": "none"}),
                await driver.aggregate(collection, [{"$sort": {"_id": 1}}]),
            ]
        return found, list(sent)


@pytest.fixture
async def stored(mongo_uri: str, database_name: str) -> Dict:
    async with AsyncMongoClient[Dict](mongo_uri) as client:
        await client[database_name].c.insert_many([{"_id": n, "n": n} for n in range(150)])
    return {"uri": mongo_uri, "database": database_name}


async def test_each_is_one_command(stored: Dict) -> None:
    (one, shown, none, all_of_them), sent = await read(**stored)

    assert (one, shown, none) == ({"_id": 1, "n": 1}, {"_id": 1}, None)
    assert [each["n"] for each in all_of_them] == list(range(150))
    assert [name(command) for command in sent] == ["find", "find", "find", "aggregate"]


async def test_the_read_concern_is_the_clients(stored: Dict) -> None:
    _, sent = await read(**stored, readConcernLevel="majority", readPreference="secondary")

    assert [command["readConcern"] for command in sent] == [{"level": "majority"}] * 4
    _, sent = await read(**stored)
    assert not any("readConcern" in command for command in sent)


async def test_an_aggregation_may_be_larger_than_an_answer(
    mongo_uri: str, database_name: str
) -> None:
    async with AsyncMongoClient[Dict](mongo_uri) as client:
        for number in range(4):
            await client[database_name].c.insert_one({"_id": number, "text": LARGE})

    (one, _, _, all_of_them), _ = await read(mongo_uri, database_name)

    assert one["_id"] == 1
    assert [each["_id"] for each in all_of_them] == [0, 1, 2, 3]
    assert all(each["text"] == LARGE for each in all_of_them)
