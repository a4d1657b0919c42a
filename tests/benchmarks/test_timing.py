"""How times are taken and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from benchmarks.contenders.reference import Reference
from benchmarks.timing import WARM_ROUNDS, Case, Effort, Key, measure, quantile, ratio, summarise
from benchmarks.trials import Operation, Stage, Trial


def case(name: str, operation: Operation) -> Case:
    return Case(Key("small", "call", name, 10), operation, Stage(Reference(), ()))


def logged(log: list[tuple[str, int]], name: str) -> Operation:
    def operation(stage: Stage, number: int) -> Trial:
        async def call() -> None:
            log.append((name, number))

        return Trial(call)

    return operation


async def test_every_case_runs_once_in_a_round_behind_each_of_the_others() -> None:
    log: list[tuple[str, int]] = []
    cases = [case(name, logged(log, name)) for name in "abc"]

    await measure(cases, Effort(rounds=20, seconds=60, least=1))

    rounds = [log[start : start + 3] for start in range(0, len(log), 3)]
    assert len(rounds) == WARM_ROUNDS + 20
    assert all({number for _, number in each} == {i} for i, each in enumerate(rounds))
    assert all({name for name, _ in each} == set("abc") for each in rounds)
    assert {each[0][0] + each[1][0] for each in rounds} == {"ab", "ac", "ba", "bc", "ca", "cb"}
    assert [len(each.times) for each in cases] == [20, 20, 20]


async def test_a_case_that_fails_is_given_up_and_the_others_go_on() -> None:
    def breaks(stage: Stage, number: int) -> Trial:
        async def call() -> None:
            if number == WARM_ROUNDS + 1:
                raise ValueError("no\nmore")

        return Trial(call)

    broken, whole = case("broken", breaks), case("whole", logged([], "whole"))

    await measure([broken, whole], Effort(rounds=4, seconds=60, least=1))

    assert broken.failure == "ValueError: no more"
    assert broken.made == [0, 1, 2, 3]
    assert [seconds is None for seconds in broken.times] == [False, True, True, True]
    assert whole.failure is None
    assert None not in whole.times


async def test_a_case_whose_time_is_over_is_left_out() -> None:
    slow, quick = case("slow", logged([], "slow")), case("quick", logged([], "quick"))
    slow.spent = 100.0

    await measure([slow, quick], Effort(rounds=5, seconds=10, least=2))

    assert [seconds is None for seconds in slow.times] == [False, False, True, True, True]
    assert None not in quick.times


async def test_only_the_call_is_timed_and_its_result_is_checked() -> None:
    clock: list[str] = []

    def operation(stage: Stage, number: int) -> Trial:
        async def before() -> None:
            clock.append("before")

        async def call() -> str:
            clock.append("call")
            return "odd"

        return Trial(call, lambda result: f"{result} result", before)

    measured = case("one", operation)
    await measured.run(0, warm=False)

    assert clock == ["before", "call"]
    assert measured.wrong == "odd result"


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0], 0.95, 3.0), ([1.0, 2.0, 3.0], 0.5, 2.0), ([4.0, 1.0, 2.0, 3.0], 0.25, 1.75)],
)
def test_quantile(values: Sequence[float], share: float, expected: float) -> None:
    assert quantile(values, share) == pytest.approx(expected)


def test_a_summary_leaves_out_the_rounds_that_were_not_made() -> None:
    summary: Any = summarise([None, 1.0, 2.0, None, 9.0])

    assert (summary.p50, summary.count) == (2.0, 3)
    assert summarise([None, None]) is None


def test_a_ratio_takes_only_the_rounds_that_both_were_in() -> None:
    found: Any = ratio([1.0, 1.0, None, 100.0], [2.0, 2.0, 9.0, None])

    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    assert ratio([1.0, None], [None, 1.0]) is None


def test_the_interval_of_a_ratio_grows_with_the_noise() -> None:
    steady: Any = ratio([1.0, 1.1] * 20, [1.0] * 40)
    noisy: Any = ratio([1.0, 5.0] * 20, [1.0] * 40)

    assert steady.low <= steady.value <= steady.high
    assert noisy.high - noisy.low > 10 * (steady.high - steady.low)
