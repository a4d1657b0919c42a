"""Takes the times: round by round, each contender once in a round, so that noise hits all alike.

The order within a round is drawn by lot. In a fixed one a contender would always run behind the
same other one, and find the processor's caches full of that one's code, or of its own.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.trials import Operation, Stage

WARM_ROUNDS = 3
RESAMPLES = 200
COLLECT_ROUNDS = 8


@dataclass(frozen=True)
class Key:
    """What a series of times is of.

    Attributes:
        workload: The workload.
        operation: The operation.
        contender: The data layer.
        size: Steps of a thread, threads of a user, or tasks at once.
    """

    workload: str
    operation: str
    contender: str
    size: int


@dataclass(eq=False)
class Case:
    """An operation of one contender, and the times it took.

    Attributes:
        key: What this is.
        operation: The operation.
        stage: Where it is called.
        times: Seconds, in the order of the rounds; None where a round was left out.
        cpu: Seconds of this process's processor time, alike.
        made: The numbers of the trials that came to their end.
        wrong: What was wrong with what it returned, or with what it left; None for nothing.
        failure: Why it was given up; None when it was not.
        spent: Seconds that its trials took, preparations included.
    """

    key: Key
    operation: Operation
    stage: Stage
    times: list[float | None] = field(default_factory=list)
    cpu: list[float | None] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    wrong: str | None = None
    failure: str | None = None
    spent: float = 0.0

    async def run(self, number: int, *, warm: bool) -> None:
        """Make one trial."""
        began = time.perf_counter()
        seconds: float | None = None
        cpu: float | None = None
        try:
            trial = self.operation(self.stage, number)
            if trial.before is not None:
                await trial.before()
            cpu_start, start = time.process_time(), time.perf_counter()
            result: Any = await trial.call()
            seconds = time.perf_counter() - start
            cpu = time.process_time() - cpu_start
            self.made.append(number)
            self.wrong = self.wrong or trial.check(result)
        except Exception as exc:  # noqa: BLE001 - whatever a contender raises is a result
            self.failure = f"{type(exc).__name__}: {' '.join(str(exc).split())[:160]}"
        self.spent += time.perf_counter() - began
        if not warm:
            self.times.append(seconds)
            self.cpu.append(cpu)


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Rounds of every group, at most.
        seconds: How long one case may take; it is left out of the rounds after that.
        least: Times that are taken even so.
    """

    rounds: int
    seconds: float
    least: int


async def measure(
    cases: Sequence[Case], effort: Effort, on_round: Callable[[int], None] = lambda _: None
) -> None:
    """Run the cases in turns: each once in a round, in an order that is drawn anew.

    Python collects no garbage inside of a round.
    """
    lot = random.Random(0)  # noqa: S311 - no secret
    gc.disable()
    try:
        for number in range(WARM_ROUNDS + effort.rounds):
            active = [case for case in cases if _goes_on(case, effort)]
            if not active:
                break
            warm = number < WARM_ROUNDS
            for case in lot.sample(active, len(active)):
                await case.run(number, warm=warm)
            for case in cases:
                if case not in active and not warm:
                    case.times.append(None)
                    case.cpu.append(None)
            if number % COLLECT_ROUNDS == 0:
                gc.collect(1)  # what is young: all that there is takes a tenth of a second
            on_round(number)
    finally:
        gc.enable()


def _goes_on(case: Case, effort: Effort) -> bool:
    if case.failure is not None:
        return False
    return case.spent < effort.seconds or len(case.times) < effort.least


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie, between two of them interpolated."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True)
class Summary:
    """A series in numbers, in seconds.

    Attributes:
        p50: The median.
        p95: What 95 % stay below.
        low: What a quarter stays below.
        high: What three quarters stay below.
        count: How many times were taken.
    """

    p50: float
    p95: float
    low: float
    high: float
    count: int


def summarise(times: Sequence[float | None]) -> Summary | None:
    """The series in numbers; None when it is empty."""
    taken = [seconds for seconds in times if seconds is not None]
    if not taken:
        return None
    return Summary(
        p50=statistics.median(taken),
        p95=quantile(taken, 0.95),
        low=quantile(taken, 0.25),
        high=quantile(taken, 0.75),
        count=len(taken),
    )


@dataclass(frozen=True)
class Ratio:
    """The medians of one series by those of another.

    Attributes:
        value: The ratio.
        low: With 95 % confidence it is not below; by resampling the rounds.
        high: With 95 % confidence it is not above.
    """

    value: float
    low: float
    high: float


def ratio(one: Sequence[float | None], other: Sequence[float | None]) -> Ratio | None:
    """The ratio of the medians, of the rounds in which both took part."""
    pairs = [(a, b) for a, b in zip(one, other, strict=False) if a is not None and b is not None]
    if not pairs:
        return None
    draw = random.Random(len(pairs))  # noqa: S311 - no secret
    drawn = [_of_medians(draw.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES)]
    return Ratio(_of_medians(pairs), quantile(drawn, 0.025), quantile(drawn, 0.975))


def _of_medians(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
