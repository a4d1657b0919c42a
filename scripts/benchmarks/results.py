"""What a run found, as data: written as JSON, and read again for tables and plots."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.timing import Case, Key, Ratio, Summary, ratio, summarise


@dataclass(frozen=True)
class Series:
    """The times of one operation of one contender.

    Attributes:
        key: What was measured.
        times: Seconds by round; None where it was left out.
        cpu: Seconds of the client's processor time by round.
        wrong: What was wrong with its results; None for nothing.
        failure: Why it was given up; None when it was not.
    """

    key: Key
    times: tuple[float | None, ...]
    cpu: tuple[float | None, ...] = ()
    wrong: str | None = None
    failure: str | None = None

    @property
    def summary(self) -> Summary | None:
        """The times in numbers; None when there are none."""
        return None if self.failure is not None else summarise(self.times)


@dataclass(frozen=True)
class Results:
    """All series of a run, and what it ran on."""

    machine: Mapping[str, str]
    series: Mapping[Key, Series]

    def find(self, workload: str, operation: str, contender: str, size: int) -> Series | None:
        """One series; None when it was not measured."""
        return self.series.get(Key(workload, operation, contender, size))

    def ratio(self, one: Key, other: Key) -> Ratio | None:
        """The medians of one series by those of another, in the rounds that both were in."""
        a, b = self.series.get(one), self.series.get(other)
        if a is None or b is None or a.summary is None or b.summary is None:
            return None
        return _ratio(a.times, b.times)

    def sizes(self, workload: str, operation: str) -> list[int]:
        """The sizes at which an operation was measured."""
        return sorted(
            {k.size for k in self.series if (k.workload, k.operation) == (workload, operation)}
        )

    def by_cpu(self) -> Results:
        """The same with the client's processor time in the place of the time that passed."""
        series = {key: replace(each, times=each.cpu) for key, each in self.series.items()}
        return Results(self.machine, series)

    def write(self, path: Path) -> None:
        """Write the JSON."""
        rows = [_row(series) for series in self.series.values()]
        text = json.dumps({"machine": dict(self.machine), "series": rows}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


_ratio = functools.lru_cache(maxsize=None)(ratio)  # tables, targets and pages ask for the same


def collect(machine: Mapping[str, str], cases: Iterable[Case]) -> Results:
    """The results of measured cases."""
    series = {
        case.key: Series(case.key, tuple(case.times), tuple(case.cpu), case.wrong, case.failure)
        for case in cases
    }
    return Results(machine, series)


def read(path: Path) -> Results:
    """What :meth:`Results.write` wrote."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    series = {}
    for row in stored["series"]:
        key = Key(row["workload"], row["operation"], row["contender"], row["size"])
        times, cpu = _seconds(row["times_ms"]), _seconds(row["cpu_ms"])
        series[key] = Series(key, times, cpu, row["wrong"], row["failure"])
    return Results(stored["machine"], series)


def _row(series: Series) -> dict[str, Any]:
    summary = series.summary
    numbers = (
        {}
        if summary is None
        else {
            "p50_ms": _ms(summary.p50),
            "p95_ms": _ms(summary.p95),
            "p25_ms": _ms(summary.low),
            "p75_ms": _ms(summary.high),
            "count": summary.count,
        }
    )
    return {
        **asdict(series.key),
        **numbers,
        "wrong": series.wrong,
        "failure": series.failure,
        "times_ms": _list_ms(series.times),
        "cpu_ms": _list_ms(series.cpu),
    }


def _seconds(stored: Iterable[float | None]) -> tuple[float | None, ...]:
    return tuple(None if ms is None else ms / 1000 for ms in stored)


def _list_ms(times: Iterable[float | None]) -> list[float | None]:
    return [None if seconds is None else _ms(seconds) for seconds in times]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 4)
