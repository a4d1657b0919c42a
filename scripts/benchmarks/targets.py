"""The targets that the data layer is held to, and whether a run met them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.results import Results
from benchmarks.timing import Key, Ratio

QUICK = ("get_thread", "list_threads", "create_step", "update_step")
WRITES = ("create_step", "update_step", "chat turn")
LISTS = ("list_threads", "list_threads page 2", "list_threads search", "list_threads feedback")


@dataclass(frozen=True)
class Outcome:
    """One target, and what was measured.

    Attributes:
        what: What is compared.
        at: The operation and the size.
        ratio: What was measured; None when it was not.
        limit: What the ratio should be at most, or at least.
        least: Whether the limit is the least.
    """

    what: str
    at: str
    ratio: Ratio | None
    limit: float
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None when it was not measured."""
        if self.ratio is None:
            return None
        value = self.ratio.value
        return value >= self.limit if self.least else value <= self.limit

    @property
    def measured(self) -> str:
        """The ratio, and between which values it is with 95 % confidence."""
        if self.ratio is None:
            return ""
        return f"{self.ratio.value:.2f} ({self.ratio.low:.2f}-{self.ratio.high:.2f})"


def outcomes(results: Results) -> list[Outcome]:
    """All targets, those that were not measured left out."""
    found = [outcome for part in _PARTS for outcome in part(results)]
    return [outcome for outcome in found if outcome.ratio is not None]


def _floor(results: Results) -> Iterator[Outcome]:
    for key in _ours(results, "small"):
        limit = 1.15 if key.operation in QUICK else 1.25
        value = results.ratio(key, _other(key, key.contender.replace("ours", "floor")))
        yield Outcome(f"{key.contender} against the floor", key.operation, value, limit)


def _asyncpg_writes(results: Results) -> Iterator[Outcome]:
    for key in _ours(results, "long", WRITES):
        if key.contender == "ours w:1":
            if key.size == 10:
                yield _against(results, key, "asyncpg", 0.7)
            continue
        yield _against(results, key, "asyncpg", 1.2 if key.size == 10 else 1.6)
        yield _against(results, key, "sqlalchemy", 0.8)
        if key.size > 10:
            value = results.ratio(key, Key("long", key.operation, "ours", 10))
            yield Outcome("ours against ours at 10 steps", _at(key), value, 2.0)


def _asyncpg_reads(results: Results) -> Iterator[Outcome]:
    for key in _ours(results, "long", ("get_thread",)):
        if key.size <= 5000:
            yield _against(results, key, "asyncpg", 0.6)


def _lists(results: Results) -> Iterator[Outcome]:
    for workload, size in (("small", 10), ("users", 200)):
        for key in _ours(results, workload, LISTS):
            if key.size == size:
                yield _against(results, key, "sqlalchemy", 0.05)
    page = "list_threads of ten"  # of twenty there would be two answers of different length
    sizes = results.sizes("users", page)
    if len(sizes) > 1:
        many, few = (Key("users", page, "ours", size) for size in (sizes[-1], sizes[0]))
        what = f"ours, {sizes[-1]} threads a user against {sizes[0]}"
        yield Outcome(what, page, results.ratio(many, few), 1.2)


def _throughput(results: Results) -> Iterator[Outcome]:
    key = Key("tasks", "chat turns at once", "ours w:1", 32)
    value = results.ratio(_other(key, "asyncpg"), key)
    yield Outcome("ours w:1 against asyncpg, throughput", "32 chat turns", value, 1.1, least=True)


_PARTS: tuple[Callable[[Results], Iterator[Outcome]], ...] = (
    _floor,
    _asyncpg_writes,
    _asyncpg_reads,
    _lists,
    _throughput,
)


def _ours(results: Results, workload: str, operations: Sequence[str] = ()) -> list[Key]:
    return [
        key
        for key in results.series
        if key.workload == workload
        and key.contender in ("ours", "ours w:1")
        and (not operations or key.operation in operations)
    ]


def _other(key: Key, contender: str) -> Key:
    return Key(key.workload, key.operation, contender, key.size)


def _against(results: Results, key: Key, contender: str, limit: float) -> Outcome:
    value = results.ratio(key, _other(key, contender))
    return Outcome(f"{key.contender} against {contender}", _at(key), value, limit)


def _at(key: Key) -> str:
    return f"{key.operation}, {key.size:,}"


def show(results: Results, console: Console) -> None:
    """Print each target with what was measured."""
    table = Table(title="Targets: ratios of medians", title_justify="left")
    table.add_column("what")
    table.add_column("operation, size")
    table.add_column("measured", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    found = outcomes(results)
    for outcome in found:
        sign = "[green]met[/]" if outcome.met else "[red]not met[/]"
        limit = f"{'at least' if outcome.least else 'at most'} {outcome.limit:g}"
        table.add_row(outcome.what, outcome.at, outcome.measured, limit, sign)
    console.print(table)
    met = sum(bool(outcome.met) for outcome in found)
    console.print(f"{met} of {len(found)} targets that were measured are met.", highlight=False)
