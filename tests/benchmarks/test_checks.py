"""What a contender holds is compared with what it should hold."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from benchmarks.checks import canonical, compare

USERS = {"alice": "u1"}
THREAD: dict[str, Any] = {
    "name": "Chat",
    "userId": "u1",
    "metadata": {"a": 1},
    "steps": [
        {"id": "s1", "type": "run", "name": "n", "parentId": None, "output": "", "feedback": None},
        {
            "id": "s2",
            "type": "tool",
            "name": "n",
            "parentId": "s1",
            "output": "found",
            "metadata": {"favorite": True},
            "feedback": {"value": 1},
        },
    ],
    "elements": [{"id": "e1"}],
}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    thread = copy.deepcopy(THREAD)
    place: Any = thread
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return thread


def test_the_same_thread_has_no_difference_whatever_its_order_and_its_own_form() -> None:
    other = copy.deepcopy(THREAD)
    other["steps"].reverse()
    other["steps"][0]["metadata"] = '{"favorite": true}'  # as SQLite returns it
    other["steps"][0]["feedback"]["value"] = 1.0
    other["steps"][1]["output"] = None

    assert compare(canonical(THREAD, USERS), canonical(other, USERS)) is None


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("name",), "Other", "name"),
        (("userId",), "u2", "owner"),
        (("metadata",), {}, "metadata"),
        (("elements",), [], "elements"),
        (("steps", 1, "output"), "lost", "output"),
        (("steps", 1, "parentId"), None, "parentId"),
        (("steps", 1, "metadata"), {}, "favorite"),
        (("steps", 1, "feedback"), None, "vote"),
        (("steps",), THREAD["steps"][:1], "1 of 2 steps are not there"),
        (("steps",), [*THREAD["steps"], {**THREAD["steps"][0], "id": "s3"}], "3 steps"),
    ],
)
def test_every_difference_is_found(path: tuple[Any, ...], value: Any, said: str) -> None:
    found = compare(canonical(THREAD, USERS), canonical(changed(path, value), USERS))

    assert found is not None
    assert said in found


def test_a_thread_that_is_gone_or_back_is_a_difference() -> None:
    thread = canonical(THREAD, USERS)

    assert compare(thread, None) == "it is gone"
    assert compare(None, thread) == "it is there"
    assert compare(None, None) is None
