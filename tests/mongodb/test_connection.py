"""One home loop: operations of other loops are handed over to it, and it can be replaced."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer.errors import ConfigurationError, MongoDataLayerError
from mongo_datalayer.mongodb import connection as connections
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.connection import Connection
from mongo_datalayer.mongodb.retries import Retries

COUNT = 50


class Front:
    """What a front does with a connection, in short."""

    def __init__(
        self,
        uri: str | None = None,
        client: Any = None,
        name: str = "front",
        timeout_ms: int = 20_000,
    ) -> None:
        self.opened = 0
        self.connection = Connection(
            "Front", uri, client, database=name, timeout_ms=timeout_ms, on_open=self._open
        )

    def _open(self, database: Database, _retries: Retries) -> None:
        self.database = database
        self.opened += 1

    async def count(self) -> int:
        return await self.connection.run(lambda: self.database.c.count_documents({}))

    async def insert(self, number: int, *, wait: bool = True) -> None:
        async def insert() -> None:
            await self.database.c.insert_one({"_id": number, "n": await self.count()})

        inserting = self.connection.in_order("key", insert)
        await (inserting if wait else self.connection.submit(inserting))


@pytest.fixture
async def front(mongo_uri: str, database_name: str) -> Any:
    front = Front(mongo_uri, name=database_name)
    yield front
    await front.connection.close()


def on_another_loop(operation: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """Run it to its end on a loop of its own in another thread."""

    async def run() -> Any:
        return await operation()

    return asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(run())))


async def test_another_loop_is_served_by_the_home_loop(front: Front) -> None:
    await front.insert(0)
    await on_another_loop(lambda: front.insert(1))
    assert await on_another_loop(front.count) == 2
    assert front.opened == 1


async def test_writes_of_all_loops_stand_in_one_line(front: Front) -> None:
    await front.insert(0)

    async def several(begin: int) -> None:
        await asyncio.gather(*(front.insert(begin + number) for number in range(COUNT)))

    await asyncio.gather(
        several(1), *(on_another_loop(partial(several, 100 * n)) for n in (1, 2, 3))
    )
    stored = await front.database.c.find().to_list(None)
    # One after the other: each counted what the ones before it had written.
    assert sorted(each["n"] for each in stored) == list(range(4 * COUNT + 1))
    place = {each["_id"]: each["n"] for each in stored}
    for begin in (1, 100, 200, 300):
        own = [place[begin + number] for number in range(COUNT)]
        assert own == sorted(own)


async def test_what_nobody_awaits_is_handed_over_while_the_home_loop_is_blocked(
    front: Front,
) -> None:
    """As LangChain's synchronous stream blocks it, until the callbacks of the chain are done."""
    await front.insert(0)

    def call() -> float:
        async def submit() -> None:
            for number in range(1, 6):
                await front.insert(number, wait=False)

        began = time.monotonic()
        asyncio.run(submit())
        return time.monotonic() - began

    seconds: list[float] = []
    thread = threading.Thread(target=lambda: seconds.append(call()))
    thread.start()
    thread.join()  # blocks the home loop
    assert seconds[0] < 1
    while await front.count() < 6:  # noqa: ASYNC110 - nobody tells when
        await asyncio.sleep(0.01)
    stored = await front.database.c.find().sort("n", 1).to_list(None)
    assert [each["_id"] for each in stored] == list(range(6))


async def test_what_is_awaited_is_refused_in_words_while_the_home_loop_is_blocked(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.0)
    front = Front(mongo_uri, name=database_name, timeout_ms=2000)
    await front.insert(0)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            asyncio.run(asyncio.wait_for(front.count(), 10))
        except MongoDataLayerError as exc:
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "did not answer within 2 s. It is blocked" in str(errors[0])
    await asyncio.sleep(0.05)
    await front.connection.close()


async def test_the_context_of_the_caller_is_the_operations(front: Front) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="home")
    await front.insert(0)

    async def read() -> str:
        async def operation() -> str:
            return variable.get()

        variable.set("elsewhere")
        return await front.connection.run(operation)

    assert await on_another_loop(read) == "elsewhere"


# A loop that ends without close() leaves its client to the garbage collector, which says so.
UNCLOSED = pytest.mark.filterwarnings("ignore:Unclosed AsyncMongoClient:ResourceWarning")


@UNCLOSED
def test_a_closed_home_loop_is_left_for_the_one_that_runs(
    mongo_uri: str, database_name: str
) -> None:
    front = Front(mongo_uri, name=database_name)
    asyncio.run(front.insert(0))
    asyncio.run(front.insert(1))

    async def last() -> int:
        count = await front.count()
        await front.connection.close()
        return count

    assert asyncio.run(last()) == 2
    assert front.opened == 3
    gc.collect()


@UNCLOSED
def test_closing_on_another_loop_than_the_first_does_not_raise(
    mongo_uri: str, database_name: str
) -> None:
    front = Front(mongo_uri, name=database_name)
    asyncio.run(front.insert(0))
    asyncio.run(front.connection.close())
    asyncio.run(front.connection.close())
    gc.collect()


async def test_closing_from_another_running_loop_finishes_the_writes(
    mongo_uri: str, database_name: str
) -> None:
    front = Front(mongo_uri, name=database_name)
    await front.insert(0)
    task = asyncio.create_task(front.insert(1))
    await asyncio.sleep(0)
    await on_another_loop(front.connection.close)
    await task
    assert front.connection.closed


async def test_a_given_client_is_not_closed(
    client: AsyncMongoClient[dict[str, Any]], database_name: str
) -> None:
    front = Front(client=client, name=database_name)
    await front.insert(0)
    await front.connection.close()
    assert await client[database_name].c.count_documents({}) == 1


@pytest.mark.parametrize("arguments", [{}, {"uri": "mongodb://localhost", "client": object()}])
def test_a_uri_or_a_client(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Front takes a MongoDB URI or client=…, exactly"):
        Front(**arguments)
