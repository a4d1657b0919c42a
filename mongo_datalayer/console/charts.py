"""The numbers that ``static/charts.js`` draws as bars. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from mongo_datalayer.console.usage import Period
from mongo_datalayer.model.documents import Document


class Series(NamedTuple):
    """What one colour shows: its name, a number for each label, and a colour of the style."""

    name: str
    values: Sequence[float]
    colour: str = "accent"


class Chart(NamedTuple):
    """A stacked bar chart.

    Attributes:
        title: What it shows.
        labels: The names of the bars.
        series: What is stacked.
        is_horizontal: Whether the bars lie, which leaves room for long names.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    is_horizontal: bool = False


def activity_charts(days: Sequence[Period]) -> list[Chart]:
    """The charts of one front, by day."""
    labels = [day_label(day.begins) for day in days]
    return [
        *(
            Chart(f"{name.capitalize()} per day", labels, [Series(name, _column(days, name))])
            for name in ("conversations", "messages", "people")
        ),
        Chart("Feedback per day", labels, _thumbs(_column(days, "up"), _column(days, "down"))),
    ]


def token_chart(days: Sequence[Document]) -> Chart:
    """The tokens of each day."""
    given = Series("input tokens", [day["input"] for day in days])
    generated = Series("output tokens", [day["output"] for day in days], "quiet")
    return Chart("Tokens per day", [day_label(day["begins"]) for day in days], [given, generated])


def thumbs_chart(weeks: Sequence[Document]) -> Chart:
    """The feedback of each week."""
    series = _thumbs([week["up"] for week in weeks], [week["down"] for week in weeks])
    return Chart("Feedback per week", [day_label(week["name"]) for week in weeks], series)


def tool_chart(tools: Sequence[Document], order: str) -> Chart:
    """What tools are listed by: their calls, their mean time or their errors."""
    failed = Series("failed", [tool["errors"] for tool in tools], "bad")
    if order == "slowest":
        title = "Mean time in seconds"
        series = [Series("seconds", [round(tool["mean"] or 0, 3) for tool in tools])]
    elif order == "failing":
        title, series = "Errors", [failed]
    else:
        well = Series("without an error", [tool["calls"] - tool["errors"] for tool in tools])
        title, series = "Calls", [well, failed]
    return Chart(title, [tool["name"] for tool in tools], series, is_horizontal=True)


def _column(days: Sequence[Period], name: str) -> list[int]:
    return [getattr(day, name) for day in days]


def _thumbs(up: Sequence[int], down: Sequence[int]) -> list[Series]:
    return [Series("thumbs up", up), Series("thumbs down", down, "bad")]


def day_label(day: date) -> str:
    """A day as a chart names it."""
    return f"{day:%d %b}"
