"""Pages of items, whatever happens between them, and whatever of the thread is in parts."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from chatkit.types import HiddenContextItem, ThreadMetadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.storage import overflow
from mongo_datalayer.testing.chatkit_contract import at

START = at()
SMALL = overflow.Bounds(main=1200, kept=300, value=100_000)

bounded = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    # Each example takes a thread of its own: sharing the database is no sharing of state.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["one document", "overflowIds"])
async def paged(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[MongoChatKitStore[Any]]:
    if request.param == "overflowIds":
        monkeypatch.setattr(overflow, "BOUNDS", SMALL)
    store = MongoChatKitStore[Any](mongo_uri, database=database_name)
    await store.create_indexes()
    yield store
    await store.close()


def item(thread_id: str, number: int, second: int) -> HiddenContextItem:
    return HiddenContextItem(
        id=f"i{number}",
        thread_id=thread_id,
        created_at=START + timedelta(seconds=second),
        content=number,
    )


@bounded
@given(data=st.data())
async def test_each_remaining_item_comes_once(
    paged: MongoChatKitStore[Any], ada: dict[str, str], data: st.DataObject
) -> None:
    """Equal times, times out of order, any page size and order, deletions between the pages."""
    seconds = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=14), label="seconds")
    limit = data.draw(st.integers(1, len(seconds)), label="limit")
    order = data.draw(st.sampled_from(["asc", "desc"]), label="order")
    thread_id = str(uuid.uuid4())
    await paged.save_thread(ThreadMetadata(id=thread_id, created_at=START), ada)
    for number, second in enumerate(seconds):
        await paged.add_thread_item(thread_id, item(thread_id, number, second), ada)
    expected = [
        f"i{number}" for number in sorted(range(len(seconds)), key=lambda n: (seconds[n], n))
    ]
    if order == "desc":
        expected.reverse()

    found: list[str] = []
    deleted: set[str] = set()
    after: str | None = None
    while True:
        page = await paged.load_thread_items(thread_id, after, limit, order, ada)
        found += [each.id for each in page.data]
        rest = [name for name in expected[_seen(expected, found) :] if name not in deleted]
        assert page.has_more == bool(rest)
        if not page.has_more:
            break
        after = page.after
        gone = data.draw(st.sets(st.sampled_from(expected)), label="deleted")
        for name in gone:
            await paged.delete_thread_item(thread_id, name, ada)
        deleted |= gone

    assert len(found) == len(set(found))
    assert found == [name for name in expected if name in set(found)]
    assert set(expected) - deleted <= set(found)


def _seen(expected: list[str], found: list[str]) -> int:
    """How much of the order lies up to the last item that was found."""
    return expected.index(found[-1]) + 1 if found else 0


@bounded
@given(data=st.data())
async def test_items_of_a_long_thread_can_be_changed_wherever_they_are(
    paged: MongoChatKitStore[Any], ada: dict[str, str], data: st.DataObject
) -> None:
    thread_id = str(uuid.uuid4())
    await paged.save_thread(ThreadMetadata(id=thread_id, created_at=START), ada)
    model: dict[str, Any] = {}
    for number in range(12):
        await paged.add_thread_item(thread_id, item(thread_id, number, number), ada)
        model[f"i{number}"] = number
    steps = data.draw(
        st.lists(st.tuples(st.sampled_from(["save", "delete", "rate"]), st.integers(0, 11))),
        label="steps",
    )
    for what, number in steps:
        name = f"i{number}"
        if what == "save":
            changed = item(thread_id, number, number).model_copy(update={"content": "x" * 90})
            await paged.save_item(thread_id, changed, ada)
            if name in model:
                model[name] = "x" * 90
        elif what == "delete":
            await paged.delete_thread_item(thread_id, name, ada)
            model.pop(name, None)
        elif name in model:
            await paged.add_feedback(thread_id, [name], "positive", ada)

    page: Any = await paged.load_thread_items(thread_id, None, 100, "asc", ada)
    assert {each.id: each.content for each in page.data} == model
    assert [each.id for each in page.data] == list(model)
    for name, content in model.items():
        loaded: Any = await paged.load_item(thread_id, name, ada)
        assert loaded.content == content


@pytest.mark.parametrize("limit", [2**31, 2**63, 10**30])
async def test_an_empty_after_is_the_first_page_and_any_limit_is_one(
    paged: MongoChatKitStore[Any], ada: dict[str, str], limit: int
) -> None:
    await paged.save_thread(ThreadMetadata(id="t", created_at=START), ada)
    for number in range(5):
        await paged.add_thread_item("t", item("t", number, number), ada)
    items = await paged.load_thread_items("t", "", limit, "asc", ada)
    assert ([each.id for each in items.data], items.has_more) == (
        [f"i{number}" for number in range(5)],
        False,
    )
    threads = await paged.load_threads(limit, "", "desc", ada)
    assert ([thread.id for thread in threads.data], threads.has_more) == (["t"], False)


async def test_an_unknown_order_is_an_error(
    paged: MongoChatKitStore[Any], ada: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="newest"):
        await paged.load_thread_items("t", None, 1, "newest", ada)
    with pytest.raises(ValueError, match="newest"):
        await paged.load_threads(1, None, "newest", ada)
