"""The conversations are whole, and the same in every run."""

from __future__ import annotations

import uuid

from benchmarks.conversations import NEEDLE, threads
from benchmarks.operations import turn_calls

THREAD = threads("alice", 8, 10, name="test", marked=True)[7]


def test_the_same_thread_is_made_again() -> None:
    again = threads("alice", 8, 10, name="test", marked=True)[7]

    assert list(again.steps()) == list(THREAD.steps())


def test_every_id_is_a_uuid_and_used_once() -> None:
    ids = [step["id"] for each in threads("a", 5, 9, name="x") for step in each.steps()]

    assert len({uuid.UUID(each) for each in ids}) == 45


def test_a_parent_comes_before_its_children() -> None:
    seen: set[str] = set()
    for step in THREAD.steps():
        assert step["parentId"] is None or step["parentId"] in seen
        seen.add(step["id"])


def test_the_marks_are_where_they_are_said_to_be() -> None:
    steps = list(THREAD.steps())

    assert [NEEDLE in step["output"] for step in steps] == [False] * 9 + [True]
    assert [vote.step_id for each in threads("a", 4, 10, name="x", marked=True)[3:]
            for vote in each.votes()]  # fmt: skip
    assert not list(threads("a", 4, 10, name="x")[3].votes())


def test_a_turn_is_six_calls_of_which_two_complete_a_step() -> None:
    calls = turn_calls(THREAD, 5)

    assert [kind for kind, _ in calls] == [
        *("create", "create", "create"),
        *("update", "create", "update"),
    ]
    assert len({step["id"] for kind, step in calls if kind == "create"}) == 4
    assert {step["id"] for kind, step in calls if kind == "update"} <= {
        step["id"] for kind, step in calls if kind == "create"
    }
    assert not {s["id"] for _, s in calls} & {s["id"] for _, s in turn_calls(THREAD, 6)}
