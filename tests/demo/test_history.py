from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from chainlit.types import Pagination, ThreadFilter
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.doctor import run_checks
from mongo_datalayer.admin.importer import Import
from mongo_datalayer.demo.history import CHATS, LONG_TURNS, history_records
from mongo_datalayer.files.bucket import FileBucket

NOW = datetime.now(timezone.utc)


async def test_the_history_is_weeks_of_chats_with_feedback_a_long_one_and_files(
    mongo_uri: str,
    database_name: str,
    database: AsyncDatabase[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHAINLIT_AUTH_SECRET", "a secret of the tests")
    layer = MongoDataLayer(mongo_uri, database=database_name)
    await layer.create_indexes()
    importer = Import(database, FileBucket(database), replace=False)
    await importer.store(history_records(NOW))

    user = await layer.get_user("alice")
    assert user is not None
    page = await layer.list_threads(Pagination(first=50), ThreadFilter(userId=user.id))
    threads = [await layer.get_thread(entry["id"]) for entry in page.data]
    found = [thread for thread in threads if thread is not None]

    assert len(found) == len(CHATS) >= 12
    times = [
        datetime.fromisoformat(entry["createdAt"].replace("Z", "+00:00")) for entry in page.data
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] - times[-1] > timedelta(weeks=4)
    assert times[0] < NOW
    longest = max(found, key=lambda thread: len(thread["steps"]))
    assert len(longest["steps"]) == 5 * LONG_TURNS
    assert await database.thread_overflow.count_documents({"thread": longest["id"]}) > 0
    rated = [step for thread in found for step in thread["steps"] if step.get("feedback")]
    assert {step["type"] for step in rated} == {"run"}
    assert {feedback["value"] for step in rated if (feedback := step["feedback"])} == {0, 1}
    assert len(await layer.get_favorite_steps(user.id)) == 2
    elements = [element for thread in found for element in thread["elements"] or []]
    assert [element["type"] for element in elements] == ["image", "pdf", "dataframe"]
    assert all(element["url"] for element in elements)
    checks = {result.check: result.state for result in await run_checks(database)}
    stored = ("file store", "document sizes", "unlisted overflow", "damage")
    assert {checks[name] for name in stored} == {"ok"}
    await layer.close()
