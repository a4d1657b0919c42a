"""MongoDB's rules, as its manual gives them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scaling.routing import Keys, Route, route

HASHED: Keys = {"c": {"_id": "hashed"}}
BY_FIELD: Keys = {"c": {"k": "hashed"}}
RANGED: Keys = {"c": {"k": 1, "n": 1}}


@pytest.mark.parametrize(
    ("query", "keys", "expected"),
    [
        ({"_id": 1}, HASHED, Route.ONE),
        ({"_id": {"$eq": 1}, "x": 2}, HASHED, Route.ONE),
        ({"_id": {"owner": "a", "id": "b"}}, HASHED, Route.ONE),
        ({"$and": [{"_id": 1}, {"x": 2}]}, HASHED, Route.ONE),
        ({"_id": {"$in": [1, 2]}}, HASHED, Route.SOME),
        ({"$or": [{"_id": 1}, {"_id": 2}]}, HASHED, Route.SOME),
        ({"$or": [{"_id": 1}, {"x": 2}]}, HASHED, Route.ALL),
        ({"$or": [{"x": 1}, {"x": 2}], "_id": 3}, HASHED, Route.ONE),
        ({"_id": {"$gt": 1}}, HASHED, Route.ALL),
        ({"x": 1}, HASHED, Route.ALL),
        ({"k": 1}, RANGED, Route.ONE),
        ({"k": {"$gt": 1}}, RANGED, Route.SOME),
        ({"n": 1}, RANGED, Route.ALL),
        ({"x": 1}, {}, Route.ONE),
    ],
)
def test_reads(query: dict[str, Any], keys: Keys, expected: Route) -> None:
    assert route({"find": "c", "filter": query}, keys) is expected


@pytest.mark.parametrize(
    ("query", "options", "keys", "expected"),
    [
        ({"_id": 1, "x": 2}, {}, HASHED, Route.ONE),
        ({"_id": 1}, {"upsert": True}, HASHED, Route.ONE),
        ({"_id": 1}, {}, BY_FIELD, Route.ALL),
        ({"_id": 1}, {"upsert": True}, BY_FIELD, Route.REFUSED),
        ({"x": 1}, {}, HASHED, Route.REFUSED),
        ({"x": 1}, {"multi": True}, HASHED, Route.ALL),
        ({"k": 1}, {}, RANGED, Route.REFUSED),
        ({"k": 1}, {"multi": True}, RANGED, Route.ONE),
        ({"k": 1, "n": 2}, {}, RANGED, Route.ONE),
    ],
)
def test_updates(query: Any, options: Any, keys: Keys, expected: Route) -> None:
    assert route({"update": "c", "updates": [{"q": query, **options}]}, keys) is expected


@pytest.mark.parametrize(
    ("query", "keys", "expected"),
    [
        ({"_id": 1, "x": 2}, HASHED, Route.ONE),
        ({"_id": 1}, BY_FIELD, Route.REFUSED),
        ({"x": 1}, HASHED, Route.REFUSED),
        ({"x": 1}, {}, Route.ONE),
    ],
)
def test_find_and_modify(query: dict[str, Any], keys: Keys, expected: Route) -> None:
    assert route({"findAndModify": "c", "query": query}, keys) is expected


def test_aggregations_with_what_they_join() -> None:
    keys: Keys = {"c": {"_id": "hashed"}, "other": {"k": "hashed"}}
    union = {"$unionWith": {"coll": "c", "pipeline": [{"$match": {"x": 1}}]}}

    def routed(*stages: dict[str, Any]) -> Route:
        return route({"aggregate": "c", "pipeline": [{"$match": {"_id": 1}}, *stages]}, keys)

    assert routed() is Route.ONE
    assert routed(union) is Route.ALL
    assert routed({"$lookup": {"from": "other", "foreignField": "k"}}) is Route.SOME
    assert routed({"$lookup": {"from": "other", "foreignField": "_id"}}) is Route.ALL
    assert routed({"$lookup": {"from": "unsharded", "foreignField": "_id"}}) is Route.ONE


def test_deletions_and_inserts() -> None:
    def deleted(query: dict[str, Any], limit: int) -> Route:
        return route({"delete": "c", "deletes": [{"q": query, "limit": limit}]}, HASHED)

    assert deleted({"_id": 1}, 1) is Route.ONE
    assert deleted({"_id": {"$in": [1, 2]}}, 0) is Route.SOME
    assert deleted({"x": 1}, 1) is Route.REFUSED
    assert route({"insert": "c", "documents": [{}]}, HASHED) is Route.ONE
    assert route({"insert": "c", "documents": [{}, {}]}, HASHED) is Route.SOME
