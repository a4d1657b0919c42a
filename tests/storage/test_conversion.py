"""Values of many parts: copied at the call and converted in a thread, they become the same."""

from __future__ import annotations

import gc
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.storage import conversion
from mongo_datalayer.storage.conversion import Conversion, converted, has_many_parts
from tests.model.test_bson_values import anything, clean, clean_keys, odd_keys

MANY = conversion.MANY_PARTS + 1


@pytest.fixture(autouse=True, scope="module")
def few_are_many() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "MANY_PARTS", -1)
        yield


def unordered(value: Any) -> Any:
    """The value with its lists sorted: those that were sets have an order of their own."""
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted(map(unordered, value), key=json.dumps)
    return value


@given(st.dictionaries(clean_keys, clean, max_size=4))
def test_what_json_carries_comes_back_equal(value: dict[str, Any]) -> None:
    assert Conversion(to_bson, value).finish() == value


@given(st.dictionaries(odd_keys, anything, max_size=4))
def test_anything_becomes_what_it_does_at_once(value: dict[Any, Any]) -> None:
    assert unordered(Conversion(to_bson, value).finish()) == unordered(to_bson(value))


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    value["itself"] = value
    return value


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"deeper": value}
    return value


@pytest.mark.parametrize("make", [circular, deep])
def test_what_cannot_be_copied_is_converted_at_once(make: Any) -> None:
    value = make()
    assert Conversion(to_bson, value).finish() == to_bson(value)


async def test_the_callers_changes_are_not_seen() -> None:
    value = {"list": [{"n": 1}], "text": "before"}
    taken = Conversion(to_bson, value)
    value["list"][0]["n"] = 2  # type: ignore[index]  # it is a list
    value["text"] = "after"

    assert await taken.result() == {"list": [{"n": 1}], "text": "before"}
    assert await taken.result() is await taken.result()


async def test_it_is_converted_in_another_thread() -> None:
    names = [await Conversion(name, {}).result(), await converted(name, {})]

    assert threading.current_thread().name not in names


@pytest.mark.parametrize("collects", [True, False])
async def test_the_garbage_collector_waits(collects: bool) -> None:
    # Its passes over what is made would hold the event loop for a part of a second.
    if not collects:
        gc.disable()
    try:
        during = [await Conversion(is_collecting, {}).result(), await converted(is_collecting, {})]
        assert (during, gc.isenabled()) == ([False, False], collects)
        with pytest.raises(ZeroDivisionError):
            await converted(lambda _: 1 / 0, {})
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def is_collecting(_: Any) -> bool:
    return gc.isenabled()


def name(_: Any) -> str:
    return threading.current_thread().name


@pytest.mark.parametrize(
    "value",
    [[0] * MANY, {"a": [[0]] * (MANY // 2)}, ({str(number): 0 for number in range(MANY)},)],
    ids=["list", "nested", "map"],
)
def test_parts_are_counted_wherever_they_are(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MANY_PARTS", MANY - 1)
    assert has_many_parts(value)
    monkeypatch.setattr(conversion, "MANY_PARTS", 2 * MANY)
    assert not has_many_parts(value)


@pytest.mark.parametrize("value", ["text", 1, None, {}, [1]])
def test_few_parts(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MANY_PARTS", MANY - 1)
    assert not has_many_parts(value)
