"""The plots of the documentation: how cost grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.results import Results
from benchmarks.timing import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that people with any colour vision tell apart (Okabe and Ito), and the marks besides.
LOOKS = {
    "ours": ("#0072B2", "o", "-"),
    "ours w:1": ("#0072B2", "o", "--"),
    "floor": ("#7F7F7F", "s", "-"),
    "floor w:1": ("#7F7F7F", "s", "--"),
    "asyncpg": ("#D55E00", "^", "-"),
    "sqlalchemy": ("#009E73", "D", "-"),
    "sqlite": ("#CC79A7", "v", "-"),
}
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "mongo-datalayer",  # the same figures make the same file
}


@dataclass(frozen=True)
class Panel:
    """One diagram: an operation, by size.

    Attributes:
        operation: The operation.
        label: What the vertical axis shows.
        value: What is shown of a series, from its size and a time of it.
    """

    operation: str
    label: str = "ms"
    value: Callable[[int, float], float] = lambda size, seconds: seconds * 1000


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        name: The file's name, without its ending.
        workload: The workload.
        across: What the horizontal axis shows.
        panels: The diagrams, at most two in a row.
    """

    name: str
    workload: str
    across: str
    panels: Sequence[Panel]


PLOTS = (
    Plot(
        "performance-steps",
        "long",
        "steps in the thread",
        [Panel("create_step"), Panel("update_step"), Panel("chat turn"), Panel("get_thread")],
    ),
    Plot(
        "performance-users",
        "users",
        "threads of the user",
        [Panel("list_threads of ten"), Panel("list_threads search")],
    ),
    Plot(
        "performance-tasks",
        "tasks",
        "tasks at once",
        [
            Panel("chat turns at once", "turns per second", lambda size, s: size / s),
            Panel("steps at once", "steps of one thread per second", lambda size, s: size / s),
        ],
    ),
)


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw each plot that the results have at least two sizes for; the files that were made."""
    with mpl.rc_context(_STYLE):
        return [path for plot in PLOTS if (path := _draw(results, plot, folder)) is not None]


def _draw(results: Results, plot: Plot, folder: Path) -> Path | None:
    panels = [p for p in plot.panels if len(results.sizes(plot.workload, p.operation)) > 1]
    if not panels:
        return None
    height = (len(panels) + 1) // 2
    figure = Figure(figsize=(8, 2.8 * height + 0.5), layout="constrained")
    FigureCanvasSVG(figure)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(height, min(2, len(panels)), number + 1)
        _fill(axes, results, plot, panel)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    path = folder / f"{plot.name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _fill(axes: Axes, results: Results, plot: Plot, panel: Panel) -> None:
    sizes = results.sizes(plot.workload, panel.operation)
    for contender, (color, marker, line) in LOOKS.items():
        points = [
            (size, series.summary)
            for size in sizes
            if (series := results.find(plot.workload, panel.operation, contender, size)) is not None
        ]
        known = [(size, summary) for size, summary in points if summary is not None]
        if known:
            _line(axes, panel, contender, known, color=color, marker=marker, linestyle=line)
    axes.set(xscale="log", yscale="log", xlabel=plot.across, ylabel=panel.label)
    axes.set_title(panel.operation, loc="left")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _line(
    axes: Axes,
    panel: Panel,
    contender: str,
    points: Sequence[tuple[int, Summary]],
    **look: Any,
) -> None:
    """The medians, and between which values half of the times lie."""
    across = [size for size, _ in points]
    axes.plot(
        across,
        [panel.value(size, summary.p50) for size, summary in points],
        label=contender,
        markersize=4,
        linewidth=1.4,
        **look,
    )
    axes.fill_between(
        across,
        [panel.value(size, summary.low) for size, summary in points],
        [panel.value(size, summary.high) for size, summary in points],
        color=look["color"],
        alpha=0.12,
        linewidth=0,
    )
