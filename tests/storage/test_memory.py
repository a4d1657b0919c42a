"""What the layers remember of threads: bounded, however long the ids of browsers are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit import codec, thread_documents
from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.errors import InvalidIdError
from mongo_datalayer.testing.chatkit_contract import thread as chatkit_thread
from mongo_datalayer.testing.contract import step
from tests.storage.bench import Database

LONG = "x" * 900_000
MEGABYTE = 1024 * 1024


async def test_an_id_that_is_too_long_is_refused_and_stores_nothing(
    mongo_uri: str, database: Database
) -> None:
    layer = MongoDataLayer(mongo_uri, database=database.name)
    store = MongoChatKitStore[Any](mongo_uri, database=database.name)
    ada = {"user_id": "ada"}
    for call in (
        lambda: layer.get_user(LONG),
        lambda: layer.get_thread(LONG),
        lambda: layer.create_step(step(LONG)),
        lambda: layer.create_step(step("t", id=LONG)),
        lambda: layer.delete_step(LONG),
        lambda: store.load_thread(LONG, ada),
        lambda: store.load_thread("t", {"user_id": LONG}),
        lambda: store.save_thread(chatkit_thread(LONG), ada),
    ):
        with pytest.raises(InvalidIdError, match="at most 1024 bytes"):
            await call()
    await layer.close()
    await store.close()
    assert await database.list_collection_names() == []


def test_lengths_of_threads_are_remembered_up_to_a_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    monkeypatch.setattr(thread_documents, "REMEMBERED_BYTES", MEGABYTE)
    documents = thread_documents.ThreadDocuments(database)
    tracemalloc.start()
    for number in range(3000):
        overflow_ids = [f"{number:012}{part:012}" for part in range(30)]
        documents.remember(f"{number:01024}", {"overflowIds": overflow_ids})
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert documents.overflow_ids(f"{2999:01024}")
    assert documents.overflow_ids(f"{0:01024}") is None
    assert used < 2 * MEGABYTE


def test_long_names_of_fields_are_not_remembered() -> None:
    before = codec._name_of.cache_info().currsize
    codec.stored_fields({f"{LONG}{number}": 1 for number in range(3)})
    assert codec._name_of.cache_info().currsize == before
