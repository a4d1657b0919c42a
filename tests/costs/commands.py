"""Counts the commands that reach the server, and asks the server how it runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

EXPLAINED = ("find", "aggregate", "update", "findAndModify")
_NOT_PLANS = ("command", "rejectedPlans")
_NOT_EXPLAINED = (
    "$db",
    "lsid",
    "$clusterTime",
    "writeConcern",
    "ordered",
    "maxTimeMS",
    "txnNumber",
)


class Commands(CommandListener):
    """The commands a client sent, in order."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    @contextmanager
    def counted(self) -> Iterator[list[dict[str, Any]]]:
        """The commands sent inside the block."""
        before = len(self.sent)
        inside: list[dict[str, Any]] = []
        yield inside
        inside.extend(self.sent[before:])


def name(command: Mapping[str, Any]) -> str:
    """A command's name: its first key."""
    return next(iter(command))


async def explain(
    database: AsyncDatabase[dict[str, Any]], command: Mapping[str, Any]
) -> dict[str, Any]:
    """How the server runs the command, with what it examined."""
    bare = {key: value for key, value in command.items() if key not in _NOT_EXPLAINED}
    return await database.command("explain", bare, verbosity="executionStats")


def stages(plan: Any) -> set[str]:
    """Names of all stages of the winning plan; aggregation stages begin with a dollar."""
    if isinstance(plan, list):
        return set().union(*(stages(item) for item in plan))
    if not isinstance(plan, dict):
        return set()
    found = {plan["stage"]} if isinstance(plan.get("stage"), str) else set()
    found |= {key for key in plan if key.startswith("$")}
    return found.union(*(stages(value) for key, value in plan.items() if key not in _NOT_PLANS))


def examined(explained: Mapping[str, Any]) -> int:
    """Documents examined."""
    if "stages" in explained:
        explained = explained["stages"][0]["$cursor"]
    return int(explained["executionStats"]["totalDocsExamined"])
