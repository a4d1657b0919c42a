"""What is used: conversations, messages and people by day and week, tools, tokens, storage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

from mongo_datalayer.console.usage_queries import (
    activity_counts,
    chatkit_counts,
    last_activity_by_day,
    model_counts,
    tool_counts,
)
from mongo_datalayer.model.documents import CHATKIT_THREADS, THREADS, Document
from mongo_datalayer.model.times import midnight
from mongo_datalayer.mongodb.client import Database, aggregate, open_collection

Row = Mapping[str, Any]

MOST = 12_000
"""How many conversations a page counts, unless a person asks for all of them."""

TOP = 20
"""How many tools and models are listed."""

TOOL_ORDERS: Mapping[str, Callable[[Row], Any]] = {
    "busiest": lambda tool: tool["calls"],
    "slowest": lambda tool: tool["mean"] or 0,
    "failing": lambda tool: tool["errors"],
}
"""What tools are listed by, most first."""

_THUMBS = {1: "up", 0: "down", "positive": "up", "negative": "down"}
_DAY = timedelta(days=1)


@dataclass
class Period:
    """A day or a week.

    Attributes:
        begins: Its first day, in UTC.
        conversations: Conversations with a message or a thumb in it.
        messages: Messages of people.
        people: People who wrote.
        up: Thumbs up on steps of this time.
        down: Thumbs down.
    """

    begins: date
    conversations: int = 0
    messages: int = 0
    people: int = 0
    up: int = 0
    down: int = 0


class Span(NamedTuple):
    """The days that a page counts, in UTC.

    Attributes:
        asked: The first day that was asked for.
        first: The first day that is counted. It is a later one when there are too many
            conversations.
        middle: About half of the conversations had their last activity on this day or later.
        last: The last day.
    """

    asked: date
    first: date
    middle: date
    last: date

    @property
    def windows(self) -> list[Document]:
        """Filters on the threads with activity in these days, in halves.

        The last has no end: the clock of another machine may be ahead.
        """
        first, middle = midnight(self.first), midnight(self.middle)
        return [{"updatedAt": {"$gte": first, "$lt": middle}}, {"updatedAt": {"$gte": middle}}]


class Activity(NamedTuple):
    """The days and the weeks of one front, oldest first. Weeks begin on Monday."""

    days: list[Period]
    weeks: list[Period]

    @property
    def is_empty(self) -> bool:
        """Nothing was said."""
        return not any(day.conversations for day in self.days)


class Models(NamedTuple):
    """What models generated.

    Attributes:
        models: Rows with ``name``, ``calls``, ``input``, ``output`` and ``total`` tokens.
        days: For each day its ``begins``, ``input`` and ``output`` tokens, oldest first.
    """

    models: list[Document]
    days: list[Document]


async def read_span(database: Database, *, days: int, today: date, most: int | None) -> Span:
    """The last ``days``, today included, or as many of them as have ``most`` conversations."""
    asked = today - (days - 1) * _DAY
    first, middle = asked, today
    if most is None:
        most = 2**31 - 1
    pipeline = last_activity_by_day(midnight(asked), most)
    rows = await aggregate(open_collection(database, THREADS), pipeline)
    total = sum(row["count"] for row in rows)
    if total == most:
        # The oldest of these days is not whole.
        first = min(date.fromisoformat(rows[-1]["_id"]) + _DAY, today)
    newer = 0
    for row in rows:
        newer += row["count"]
        if 2 * newer >= total:
            middle = date.fromisoformat(row["_id"])
            break
    return Span(asked, first, max(first, min(middle, today)), today)


async def read_activity(database: Database, span: Span) -> tuple[Activity, Activity]:
    """What people did in Chainlit, and in ChatKit."""
    chatkit = open_collection(database, CHATKIT_THREADS)
    window = {"updatedAt": {"$gte": midnight(span.first)}}
    in_chainlit, in_chatkit = await asyncio.gather(
        _counts(database, span, activity_counts),
        aggregate(chatkit, chatkit_counts(window, span.first)),
    )
    return _activity(in_chainlit, span), _activity(in_chatkit, span)


async def read_tools(database: Database, span: Span, order: str) -> list[Document]:
    """The first tools in one of :data:`TOOL_ORDERS`.

    Rows with ``name``, ``calls``, ``errors``, and ``mean`` and ``slowest`` seconds.
    """
    by_name: dict[str, list[Row]] = {}
    for row in await _counts(database, span, tool_counts):
        by_name.setdefault(row["_id"]["name"], []).append(row)
    key = TOOL_ORDERS[order]
    tools = [_tool(name, calls) for name, calls in by_name.items()]
    return sorted(tools, key=lambda tool: (-key(tool), tool["name"]))[:TOP]


async def read_models(database: Database, span: Span) -> Models:
    """The generations of each model, and the tokens of each day."""
    totals: dict[str, Counter[str]] = {}
    days: dict[date, Counter[str]] = {}
    for row in await _counts(database, span, model_counts):
        given, returned = row["inputTokenCount"], row["outputTokenCount"]
        tokens = {"input": given, "output": returned}
        # Some integrations give the sum alone, others the parts alone.
        total = max(row["tokenCount"], given + returned)
        count = Counter(calls=row["count"], total=total, **tokens)
        totals.setdefault(row["_id"]["name"], Counter()).update(count)
        if (day := _day(row["_id"]["day"])) is not None:
            days.setdefault(day, Counter()).update(tokens)
    models: list[Document] = [{"name": name, **total} for name, total in totals.items()]
    models.sort(key=lambda model: (-model["total"], model["name"]))
    length = (span.last - span.first).days + 1
    return Models(
        models[:TOP],
        [
            {"begins": day, "input": 0, "output": 0, **days.get(day, {})}
            for day in (span.first + number * _DAY for number in range(length))
        ],
    )


async def _counts(
    database: Database, span: Span, counts: Callable[[Document, date], list[Document]]
) -> list[Document]:
    """The rows of an aggregation of Chainlit's threads, of both halves at once."""
    threads = open_collection(database, THREADS)
    halves = [aggregate(threads, counts(window, span.first)) for window in span.windows]
    return [row for rows in await asyncio.gather(*halves) for row in rows]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:  # edited by hand
        return None


def _activity(rows: Sequence[Row], span: Span) -> Activity:
    monday = span.first - span.first.weekday() * _DAY
    return Activity(_periods(rows, span.first, span.last, 1), _periods(rows, monday, span.last, 7))


def _periods(rows: Iterable[Row], first: date, last: date, length: int) -> list[Period]:
    """The rows added up to periods of ``length`` days."""
    count = (last - first).days // length + 1
    periods = [Period(first + number * length * _DAY) for number in range(count)]
    threads: list[set[str]] = [set() for _ in periods]
    people: list[set[str]] = [set() for _ in periods]
    for row in rows:
        kind = row["_id"]
        day = _day(kind["day"])
        number = -1 if day is None else (day - first).days // length
        if not 0 <= number < count:
            continue
        period = periods[number]
        threads[number].update(map(str, row["threads"]))
        if kind["message"]:
            period.messages += row["count"]
            people[number].update(map(str, _given(row["people"])))
        value = kind.get("value")
        # A map, which somebody wrote by hand, is no key.
        thumb = _THUMBS.get(value) if isinstance(value, (int, str)) else None
        if thumb is not None:
            setattr(period, thumb, getattr(period, thumb) + row["count"])
    for period, own_threads, own_people in zip(periods, threads, people, strict=True):
        period.conversations, period.people = len(own_threads), len(own_people)
    return periods


def _given(values: Iterable[Any]) -> Iterator[Any]:
    return (value for value in values if value is not None)


def _tool(name: str, rows: Sequence[Row]) -> Document:
    timed = sum(row["timed"] for row in rows)
    return {
        "name": name,
        "calls": sum(row["count"] for row in rows),
        "errors": sum(row["count"] for row in rows if row["_id"].get("failed") is True),
        "mean": sum(row["seconds"] for row in rows) / timed if timed else None,
        "slowest": max(_given(row["slowest"] for row in rows), default=None),
    }
