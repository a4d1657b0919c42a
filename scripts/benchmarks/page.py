"""The generated parts of ``docs/performance.md``: tables between markers, and the plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import report, targets
from benchmarks.results import Results

PAGE = "performance.md"
NAMES = {
    "floor": "floor",
    "floor w:1": "floor, w:1",
    "asyncpg": "asyncpg",
    "sqlalchemy": "SQLAlchemy",
    "sqlite": "SQLite",
}
CLEARLY = 1.05
"""From which ratio on another layer counts as quicker."""


def write(results: Results, docs: Path) -> None:
    """Bring the page and its pictures up to date."""
    from benchmarks import plots  # matplotlib is needed for nothing else

    page = docs / PAGE
    text = page.read_text(encoding="utf-8")
    for name, lines in parts(results).items():
        text = put(text, name, lines)
    page.write_text(text, encoding="utf-8")
    plots.draw(results, docs / "images")


def parts(results: Results) -> dict[str, list[str]]:
    """The generated parts, by the names of their markers."""
    made = {"machine": [f"- {name}: {value}" for name, value in results.machine.items()]}
    for workload in report.TITLES:
        for ours, others in report.PAIRS:
            made[f"{workload} {ours}"] = list(_table(results, workload, ours, others))
    made["remarks"] = [f"- {remark}" for remark in report.remarks(results)] or ["None."]
    made["quicker"] = _quicker(results)
    made["targets"] = list(_targets(results))
    return made


def put(text: str, name: str, lines: Sequence[str]) -> str:
    """The page with these lines between the markers of ``name``; unchanged where it has none."""
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    body = "\n".join(["", *lines, "", ""])
    return pattern.sub(lambda found: found[1] + body + found[2], text)


def _table(results: Results, workload: str, ours: str, others: Sequence[str]) -> Iterator[str]:
    lines = list(report.rows(results, workload, ours, others))
    if not lines:
        yield "Not measured."
        return
    several = len({line.key.size for line in lines}) > 1
    heads = ["operation", *(["size"] if several else []), f"{ours}, ms", "half of them, p95"]
    heads += [NAMES[other] for other in others]
    yield f"| {' | '.join(heads)} |"
    yield "|---" + "|--:" * (len(heads) - 1) + "|"
    for line in lines:
        size = [f"{line.key.size:,}"] if several else []
        cells = [f"{time} (**{ratio}**)" if ratio else time or "" for time, ratio in line.others]
        yield f"| {' | '.join([f'`{line.key.operation}`', *size, line.own, line.spread, *cells])} |"


def _quicker(results: Results) -> list[str]:
    """Where another layer beats ours, the largest lead first."""
    found: list[tuple[float, str]] = []
    for key in results.series:
        if key.contender not in ("ours", "ours w:1"):
            continue
        for other in ("asyncpg", "sqlalchemy", "sqlite"):
            theirs = results.find(key.workload, key.operation, other, key.size)
            if theirs is None or theirs.wrong is not None:
                continue
            ratio = results.ratio(key, theirs.key)
            if ratio is not None and ratio.value > CLEARLY:
                where = f"`{key.operation}`, {report.TITLES[key.workload].lower()}, {key.size:,}"
                line = f"- {where}: {key.contender} takes {ratio.value:.2f} times {NAMES[other]}"
                found.append((ratio.value, line))
    return [line for _, line in sorted(found, reverse=True)] or ["Nowhere in this run."]


def _targets(results: Results) -> Iterator[str]:
    yield "| what | operation, size | measured | target | |"
    yield "|---|---|--:|--:|---|"
    for outcome in targets.outcomes(results):
        limit = f"{'at least' if outcome.least else 'at most'} {outcome.limit:g}"
        sign = "met" if outcome.met else "**not met**"
        yield f"| {outcome.what} | {outcome.at} | {outcome.measured} | {limit} | {sign} |"
