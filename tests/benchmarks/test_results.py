"""What a run found can be written, read, shown and held against the targets."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from benchmarks import page, report, results, targets
from benchmarks.results import Results, Series
from benchmarks.timing import Key
from rich.console import Console

from tests.docs.pages import DOCS


def made(**medians: float) -> Results:
    """Results of create_step in the small workload, in milliseconds."""
    series = {}
    for name, value in medians.items():
        key = Key("small", "create_step", name.replace("_", " "), 10)
        series[key] = Series(key, (value / 1000,) * 5)
    return Results({"cores": "2"}, series)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    found = made(ours=1.25, floor=1.0)
    broken = Key("long", "create_step", "floor", 20_000)
    whole = Results(
        found.machine, {**found.series, broken: Series(broken, (None,), (None,), "w", "f")}
    )

    whole.write(tmp_path / "r.json")

    assert results.read(tmp_path / "r.json") == whole


def test_the_processor_time_can_take_the_place_of_the_time_that_passed() -> None:
    key = Key("small", "create_step", "ours", 10)
    found = Results({}, {key: Series(key, (2.0,), (0.5,))})

    assert found.by_cpu().series[key].times == (0.5,)


@pytest.mark.parametrize(("ours", "met"), [(1.1, True), (1.2, False)])
def test_a_target_is_met_or_not(ours: float, met: bool) -> None:
    (outcome,) = targets.outcomes(made(ours=ours, floor=1.0))

    assert (outcome.at, outcome.limit, outcome.met) == ("create_step", 1.15, met)
    assert outcome.measured == f"{ours:.2f} ({ours:.2f}-{ours:.2f})"


def test_what_was_not_measured_is_no_target() -> None:
    assert targets.outcomes(made(ours=1.0)) == []


def test_more_turns_in_the_same_time_are_a_higher_throughput() -> None:
    keys = [Key("tasks", "chat turns at once", name, 32) for name in ("ours w:1", "asyncpg")]
    found = Results({}, {key: Series(key, (s,)) for key, s in zip(keys, (1.0, 1.2), strict=True)})

    (outcome,) = targets.outcomes(found)

    assert outcome.ratio is not None
    assert outcome.ratio.value == pytest.approx(1.2)
    assert outcome.met


def test_the_table_shows_our_time_and_the_ratios() -> None:
    shown = io.StringIO()

    report.show(made(ours=1.5, floor=1.0, asyncpg=3.0), Console(width=160, file=shown))

    line = next(line for line in shown.getvalue().splitlines() if "create_step" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        *("create_step", "10", "1.50", "1.50-1.50, p95 1.50, n 5"),
        *("1.00", "1.50", "3.00", "0.50"),
    ]


def test_a_wrong_result_is_marked_and_said() -> None:
    found = made(ours=1.0, asyncpg=1.0)
    key = Key("small", "create_step", "asyncpg", 10)
    wrong = Series(key, (0.001,), wrong="after the run, thread x: it is gone")
    marked = Results({}, {**found.series, key: wrong})

    (row,) = report.rows(marked, "small", "ours", ("asyncpg",))

    assert row.others == [("1.00†", "1.00")]
    assert report.remarks(marked) == ["asyncpg, create_step: after the run: it is gone (size 10)"]


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\n<!-- end -->\n"

    put = page.put(text, "x", ["new"])

    assert put == text.replace("\nold\n", "\n\nnew\n\n")
    assert page.put(put, "x", ["new"]) == put
    assert page.put(text, "z", ["new"]) == text


def test_the_page_has_a_place_for_every_generated_part() -> None:
    text = (DOCS / page.PAGE).read_text(encoding="utf-8")
    missing = [name for name in page.parts(made()) if f"<!-- generated: {name} -->\n" not in text]

    assert missing == ["users ours w:1"]  # reads: the acknowledgement does not matter


def test_where_another_layer_is_quicker_is_said() -> None:
    assert page.parts(made(ours=2.0, asyncpg=1.0))["quicker"] == [
        "- `create_step`, small threads: ten steps each, 10: ours takes 2.00 times asyncpg"
    ]
    assert page.parts(made(ours=1.0, asyncpg=2.0))["quicker"] == ["Nowhere in this run."]
