"""The tables that a run prints and that the documentation shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from benchmarks.results import Results, Series
from benchmarks.timing import Key

WRONG = "†"
FAILED = "—"
TITLES = {
    "small": "Small threads: ten steps each",
    "users": "Threads per user",
    "long": "Steps per thread",
    "tasks": "Tasks at once",
}
# Ours, and what it is divided by. The one with w:1 is compared with what has PostgreSQL's default
# all the same: that is what people would use.
PAIRS = (
    ("ours", ("floor", "asyncpg", "sqlalchemy", "sqlite")),
    ("ours w:1", ("floor w:1", "asyncpg", "sqlalchemy", "sqlite")),
)


@dataclass(frozen=True)
class Row:
    """One line of a table: our own time, and how it compares.

    Attributes:
        key: Our series.
        own: Our time.
        spread: Half of the times lie between these.
        others: For each other contender its time, and ours divided by it.
    """

    key: Key
    own: str
    spread: str
    others: Sequence[tuple[str, str]]


def rows(results: Results, workload: str, ours: str, others: Sequence[str]) -> Iterator[Row]:
    """The lines of a workload's table."""
    for key, series in results.series.items():
        if key.workload == workload and key.contender == ours:
            yield Row(
                key,
                time_text(series),
                _spread(series),
                [_other(results, key, other) for other in others],
            )


def _other(results: Results, key: Key, other: str) -> tuple[str, str]:
    theirs = replace(key, contender=other)
    series = results.series.get(theirs)
    if series is None:
        return "", ""
    found = results.ratio(key, theirs)
    return time_text(series), "" if found is None else f"{found.value:.2f}"


def time_text(series: Series | None) -> str:
    """The median in milliseconds; a sign where there is none, or where the result was wrong."""
    if series is None:
        return ""
    summary = series.summary
    if summary is None:
        return FAILED
    return f"{summary.p50 * 1000:.2f}" + (WRONG if series.wrong else "")


def _spread(series: Series) -> str:
    summary = series.summary
    if summary is None:
        return ""
    quarters = f"{summary.low * 1000:.2f}-{summary.high * 1000:.2f}"
    return f"{quarters}, p95 {summary.p95 * 1000:.2f}, n {summary.count}"


def remarks(results: Results) -> list[str]:
    """What the signs in the tables stand for."""
    found: dict[str, list[str]] = {}
    for key, series in results.series.items():
        problem = series.failure or series.wrong
        if problem is not None:
            place = f"{key.contender}, {key.operation}"
            found.setdefault(f"{place}: {_general(problem)}", []).append(f"{key.size}")
    return [f"{what} (size {', '.join(dict.fromkeys(sizes))})" for what, sizes in found.items()]


def _general(problem: str) -> str:
    before, separator, after = problem.partition(", thread ")
    return problem if not separator else f"{before}: {after.partition(': ')[2]}"


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    for workload, title in TITLES.items():
        for ours, others in PAIRS:
            lines = list(rows(results, workload, ours, others))
            present = [i for i, _ in enumerate(others) if any(line.others[i][0] for line in lines)]
            if lines:
                console.print(_table(f"{title}, {ours}", lines, others, present))
    for remark in remarks(results):
        console.print(f"[yellow]{WRONG}[/] {remark}", highlight=False)


def _table(title: str, lines: Sequence[Row], others: Sequence[str], present: list[int]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("operation")
    table.add_column("size", justify="right")
    table.add_column("ours, ms", justify="right")
    table.add_column("half of them", style="dim")
    for index in present:
        table.add_column(others[index], justify="right")
        table.add_column("ratio", justify="right", style="bold")
    for line in lines:
        cells = [cell for index in present for cell in line.others[index]]
        table.add_row(line.key.operation, str(line.key.size), line.own, line.spread, *cells)
    return table
