"""The declared indexes against what a server lists."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mongo_datalayer.schema.indexes import DECLARED, Index, IndexReport, compare_indexes

PLAIN = Index("threads", "plain", (("a", 1), ("b", -1)))
UNIQUE = Index("users", "unique", (("a", 1),), {"unique": True})
ID: dict[str, Any] = {"v": 2, "key": {"_id": 1}, "name": "_id_"}


def listed(index: Index, **changes: Any) -> dict[str, Any]:
    """The index as a server lists it."""
    return {"v": 2, "key": dict(index.keys), "name": index.name, **index.options, **changes}


def compared(*present: dict[str, Any], index: Index = PLAIN) -> IndexReport:
    return compare_indexes([index], {index.collection: [ID, *present]})


def groups(report: IndexReport) -> dict[str, tuple[object, ...]]:
    """What the report names, but for groups without any."""
    names = ("present", "created", "missing", "different", "unknown")
    return {name: group for name in names if (group := getattr(report, name))}


def test_a_collection_that_is_not_there() -> None:
    report = compare_indexes([PLAIN, UNIQUE], {})

    assert groups(report) == {"missing": (PLAIN, UNIQUE)}
    assert not report.complete


def test_an_index_that_is_there_as_declared() -> None:
    report = compare_indexes(
        [PLAIN, UNIQUE], {"threads": [listed(PLAIN)], "users": [listed(UNIQUE)]}
    )

    assert groups(report) == {"present": (PLAIN, UNIQUE)}
    assert report.complete


def test_what_the_server_adds_by_itself_makes_no_difference() -> None:
    assert compared(listed(PLAIN, v=1, ns="db.threads", background=True)).complete


def test_an_index_of_another_name_that_does_the_same_serves() -> None:
    report = compared(listed(PLAIN, name="by_hand"))

    assert groups(report) == {"present": (PLAIN,)}


@pytest.mark.parametrize(
    "present",
    [
        listed(PLAIN, unique=True),
        listed(PLAIN, sparse=True),
        listed(PLAIN, expireAfterSeconds=60),
        listed(PLAIN, key={"a": 1}),
        listed(PLAIN, key={"b": -1, "a": 1}),
        listed(PLAIN, key={"a": 1, "b": 1}),
        listed(PLAIN, name="by_hand", partialFilterExpression={"a": 1}),
    ],
    ids=str,
)
def test_an_index_with_the_name_or_the_keys_that_differs(present: dict[str, Any]) -> None:
    report = compared(present)

    assert groups(report) == {"different": (PLAIN,)}
    assert not report.complete


def test_one_that_lacks_a_declared_option_differs() -> None:
    bare = {key: value for key, value in listed(UNIQUE).items() if key != "unique"}

    assert compared(bare, index=UNIQUE).different == (UNIQUE,)


def test_of_two_rivals_one_that_serves_is_enough() -> None:
    other = listed(PLAIN, name="by_hand", unique=True)

    assert groups(compared(other, listed(PLAIN))) == {"present": (PLAIN,)}


def test_the_same_name_in_another_collection_is_no_rival() -> None:
    report = compare_indexes([PLAIN], {"threads": [ID], "users": [listed(PLAIN)]})

    assert groups(report) == {"missing": (PLAIN,), "unknown": ("users.plain",)}


def test_indexes_of_others_are_named_and_the_one_on_the_id_is_not() -> None:
    present = {
        "threads": [ID, listed(PLAIN), listed(PLAIN, name="z", key={"z": 1})],
        "users": [ID, listed(UNIQUE, name="a", key={"y": 1})],
    }

    report = compare_indexes([PLAIN], present)

    assert report.present == (PLAIN,)
    assert report.unknown == ("threads.z", "users.a")
    assert report.complete


def test_the_declared_names_and_keys_are_unambiguous() -> None:
    names = Counter(str(index) for index in DECLARED)
    keys = Counter((index.collection, index.keys) for index in DECLARED)

    assert max(names.values()) == max(keys.values()) == 1


def test_the_driver_gets_what_is_declared() -> None:
    for index in DECLARED:
        document = index.model.document
        assert index.same_as({"v": 2, **document})
        assert document["name"] == index.name
