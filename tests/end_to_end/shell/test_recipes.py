"""The recipes and the README's queries, run by the real mongo shell on what the layer wrote."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo import MongoClient

from mongo_datalayer.schema.indexes import DECLARED, Index
from mongo_datalayer.schema.views import HEADER, VIEWS
from mongo_datalayer.storage import overflow
from tests.docs.pages import README, code_blocks
from tests.end_to_end.shell.conversations import (
    ALICE,
    BOB,
    LONG,
    RUN,
    THREAD,
    Written,
    write_conversations,
)
from tests.end_to_end.shell.page import PAGE, Recipe, read_recipes
from tests.programs import require_mongosh

SHELL_SECONDS = 60
LEAST_RECIPES = 12

RECIPES = read_recipes()
Check = Callable[[Any, Written], None]
CHECKS: dict[str, Check] = {}


def shows(title: str) -> Callable[[Check], Check]:
    """Registers what the recipe with this title must show."""

    def register(check: Check) -> Check:
        assert title not in CHECKS
        CHECKS[title] = check
        return check

    return register


@dataclass(frozen=True)
class Shell:
    """The mongo shell on the database that was filled."""

    program: Path
    uri: str
    database: str
    written: Written

    def run(self, recipe: Recipe) -> tuple[Any, list[str]]:
        """What the recipe shows, and how the server planned its queries."""
        app = f"recipe-{uuid.uuid4().hex}"
        command = [
            str(self.program),
            "--quiet",
            "--norc",
            f"{self.uri}/{self.database}?appName={app}",
        ]
        command += ["--json=relaxed", "--eval", recipe.script]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SHELL_SECONDS, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return _value(done.stdout), self._plans(app)

    def _plans(self, app: str) -> list[str]:
        with MongoClient[dict[str, Any]](self.uri) as client:
            profile = client[self.database]["system.profile"].find({"appName": app}).sort("ts")
            return [f"{entry['ns']}: {entry.get('planSummary')}" for entry in profile]


def _value(printed: str) -> Any:
    """The JSON that was printed, with dates as dates; other lines as they are."""
    try:
        return json_util.loads(
            printed, json_options=json_util.JSONOptions(tz_aware=True, tzinfo=timezone.utc)
        )
    except ValueError:
        return printed.splitlines()


@contextmanager
def opened_shell(uri: str, folder: Path, bounds: overflow.Bounds) -> Iterator[Shell]:
    program = require_mongosh()
    name = f"test_{uuid.uuid4().hex}"
    written = asyncio.run(write_conversations(uri, name, folder, bounds))
    with MongoClient[dict[str, Any]](uri) as client:
        client[name].command("profile", 2)
        yield Shell(program, uri, name, written)
        client.drop_database(name)


@pytest.fixture(scope="module")
def shell(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The shell, on a database whose every query is profiled."""
    with opened_shell(mongo_uri, tmp_path_factory.mktemp("files"), overflow.BOUNDS) as shell:
        yield shell


@pytest.fixture(scope="module")
def shell_on_long(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The same where the conversations have older steps in documents of their own."""
    with opened_shell(mongo_uri, tmp_path_factory.mktemp("files"), LONG) as shell:
        with MongoClient[dict[str, Any]](mongo_uri) as client:
            database = client[shell.database]
            thread = database.threads.find_one({"_id": THREAD}) or {}
            overflow = list(database.thread_overflow.find({"thread": THREAD}))
            assert len(overflow) == len(thread["overflowIds"]) > 1
            assert RUN in {step["id"] for stored in overflow for step in stored["steps"]}
        yield shell


def test_every_recipe_has_its_assertion() -> None:
    titles = [recipe.title for recipe in RECIPES]

    assert len(titles) >= LEAST_RECIPES
    assert len(set(titles)) == len(titles)
    assert set(CHECKS) == set(titles)


def test_no_code_of_the_page_escapes_the_tests() -> None:
    assert PAGE.read_text(encoding="utf-8").count("```js") == len(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_can_be_pasted(recipe: Recipe) -> None:
    # At the prompt a line is run as soon as it is complete: one that begins with a dot is an error.
    assert not [line for line in recipe.code.splitlines() if line.lstrip().startswith(".")]
    assert recipe.text.count(".") <= 2
    assert recipe.text.endswith(".")


@pytest.mark.parametrize("conversations", ["shell", "shell_on_long"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_shows_what_it_says(
    request: pytest.FixtureRequest, conversations: str, recipe: Recipe
) -> None:
    shell: Shell = request.getfixturevalue(conversations)
    shown, plans = shell.run(recipe)

    CHECKS[recipe.title](shown, shell.written)
    used = [_index(plan.removeprefix(f"{shell.database}.")) for plan in plans]
    allowed = recipe.indexes or [{None}]
    assert len(used) == len(allowed), plans
    assert all(index in names for index, names in zip(used, allowed, strict=True)), plans


def test_the_readme_shows_one_conversation(shell: Shell) -> None:
    shown, _ = shell.run(_of_readme(0))

    assert shown["_id"] == THREAD
    assert shown["steps"][0]["output"] == "Where is my order 1007?"


def test_the_readme_shows_the_threads_of_one_person(shell: Shell) -> None:
    shown, _ = shell.run(_of_readme(1))

    assert _ids(shown) == [THREAD, shell.written.hours]


def test_the_readme_shows_what_people_did_not_like(shell: Shell) -> None:
    shown, _ = shell.run(_of_readme(2))

    comment = "That is another order."
    assert {"user": ALICE, "thread": "Order 1007", "comment": comment} in shown
    assert {"user": BOB, "thread": "Change my address"} in shown
    assert len(shown) == 2


def test_no_query_of_the_readme_escapes_the_tests() -> None:
    assert len(code_blocks(README, "js")) == 3


def _of_readme(number: int) -> Recipe:
    return Recipe(f"README {number}", "", code_blocks(README, "js")[number])


def _index(plan: str) -> str | None:
    """The index the server used; None where it read the whole collection."""
    if plan.endswith((": COLLSCAN", ": None")):  # $indexStats has no plan
        return None
    return _INDEX_OF_PLAN[plan]


def _plan(index: Index) -> str:
    keys = ", ".join(f"{name}: {direction}" for name, direction in index.keys)
    return f"{index.collection}: IXSCAN {{ {keys} }}"


_INDEX_OF_PLAN = {
    "threads: IDHACK": "threads._id",  # what the server calls a look-up by _id
    **{_plan(index): str(index) for index in DECLARED},
    # The views', which are those of threads.
    **{f"{view}: IXSCAN {{ _id: 1 }}": "threads._id" for view in VIEWS},
    **{
        _plan(index).replace("threads", view, 1): str(index)
        for view in VIEWS
        for index in DECLARED
        if index.collection == "threads"
    },
}


# What the recipes must show ---------------------------------------------------------------------


def _ids(shown: list[dict[str, Any]]) -> list[str]:
    return [document["_id"] for document in shown]


@shows("Threads of a user")
def _(shown: Any, written: Written) -> None:
    assert _ids(shown) == [THREAD, written.hours]
    assert [thread["name"] for thread in shown] == ["Order 1007", "Opening hours"]


@shows("A conversation as lines")
def _(shown: Any, written: Written) -> None:
    second = written.days_ago(0.1).replace(microsecond=0, tzinfo=None).isoformat()
    assert shown[0] == f"{second} user_message user: Where is my order 1007?"
    assert [line.split(" ", 1)[1] for line in shown[1:]] == [
        "tool search_orders: Order 1006: delivered",
        "tool read_policy: done",
        "llm model: Order 1006 was delivered.",
        "assistant_message Assistant: Order 1006 was delivered.",
        "user_message user: No, 1007. And the refund?",
        "tool search_orders: Order 1007: returned",
        "tool refund_status: TimeoutError: no answer after 3 s",
        "llm model: The refund is on its way.",
        "assistant_message Assistant: The refund is on its way.",
    ]


@shows("A conversation whole")
def _(shown: Any, written: Written) -> None:
    assert list(shown) == ["_id", *HEADER, "steps", "elements"]
    assert (shown["_id"], shown["userIdentifier"]) == (THREAD, ALICE)
    times = [step["createdAt"] for step in shown["steps"]]
    assert len(times) == 12
    assert times == sorted(times)
    assert [element["name"] for element in shown["elements"]] == ["invoice.pdf", "terms", "map"]


@shows("A phrase in messages")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {"thread": THREAD, "type": "assistant_message", "text": "The refund is on its way."},
        {"thread": THREAD, "type": "llm", "text": "The refund is on its way."},
        {"thread": THREAD, "type": "user_message", "text": "No, 1007. And the refund?"},
    ]


@shows("Favourite messages")
def _(shown: Any, written: Written) -> None:
    assert shown == [{"thread": THREAD, "text": "The refund is on its way."}]


@shows("Shared threads")
def _(shown: Any, written: Written) -> None:
    assert _ids(shown) == [written.shared]
    assert shown[0]["userIdentifier"] == BOB
    assert shown[0]["metadata"]["shared_at"].startswith(f"{written.days_ago(1):%Y-%m-%dT%H:%M}")


@shows("The thread of a step")
def _(shown: Any, written: Written) -> None:
    assert [(found["thread"], found["step"]["id"]) for found in shown] == [(THREAD, RUN)]


@shows("Thumbs down in the last week")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {
            "thread": THREAD,
            "user": ALICE,
            "question": "Where is my order 1007?",
            "comment": "That is another order.",
        }
    ]


@shows("Thumbs up and down per week")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {"_id": _monday(written.days_ago(20)), "up": 0, "down": 1},
        {"_id": _monday(written.now), "up": 1, "down": 1},
    ]


def _monday(moment: datetime) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=moment.weekday())


@shows("Slowest tools")
def _(shown: Any, written: Written) -> None:
    assert [tool["_id"] for tool in shown] == ["refund_status", "read_policy", "search_orders"]
    assert [tool["calls"] for tool in shown] == [1, 2, 2]
    assert [tool["averageMs"] for tool in shown] == pytest.approx([3000, 2000, 300], abs=1)


@shows("Most used tools")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {"_id": "read_policy", "calls": 2, "failed": 0},
        {"_id": "search_orders", "calls": 2, "failed": 0},
        {"_id": "refund_status", "calls": 1, "failed": 1},
    ]


@shows("Failed steps")
def _(shown: Any, written: Written) -> None:
    error = "TimeoutError: no answer after 3 s"
    assert shown == [{"thread": THREAD, "user": ALICE, "step": "refund_status", "error": error}]


@shows("Tokens per user and model")
def _(shown: Any, written: Written) -> None:
    model = "example-small"
    assert shown == [
        {"_id": {"user": BOB, "model": model}, "calls": 1, "input": 200, "output": 9000},
        {"_id": {"user": ALICE, "model": model}, "calls": 2, "input": 2400, "output": 350},
    ]


@shows("Threads per day")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {"_id": f"{written.days_ago(20):%Y-%m-%d}", "threads": 1, "users": 1},
        {"_id": f"{written.days_ago(3):%Y-%m-%d}", "threads": 2, "users": 2},
        {"_id": f"{written.days_ago(0.1):%Y-%m-%d}", "threads": 1, "users": 1},
    ]


@shows("Active users")
def _(shown: Any, written: Written) -> None:
    assert [(user["_id"], user["threads"]) for user in shown] == [(ALICE, 2), (BOB, 2)]
    assert shown[0]["last"] > written.days_ago(0.1)


@shows("Biggest threads")
def _(shown: Any, written: Written) -> None:
    assert _ids(shown)[:2] == [written.shared, THREAD]
    assert _ids(shown)[-1] == written.deleted
    assert [thread["steps"] for thread in shown][:2] == [4, 12]
    assert 110_000 < shown[0]["bytes"] < 114_000


@shows("Files of a thread")
def _(shown: Any, written: Written) -> None:
    assert [(file["metadata"].get("name"), file["length"]) for file in shown] == [
        ("invoice.pdf", 900),
        (None, 8),  # the file that no element shows
    ]
    assert timedelta(0) <= shown[0]["uploadDate"] - written.now < timedelta(minutes=5)


@shows("Elements without their file")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {"thread": written.hours, "element": "photo.png"},
        {"thread": written.hours, "element": "scan.png"},
    ]


@shows("Files without their element")
def _(shown: Any, written: Written) -> None:
    assert [(file["filename"], file["length"]) for file in shown] == [(f"{THREAD}/lost", 8)]


@shows("Threads without an owner")
def _(shown: Any, written: Written) -> None:
    assert _ids(shown) == [written.ownerless]
    assert abs(shown[0]["createdAt"] - written.days_ago(40)) < timedelta(seconds=1)


@shows("Steps without their parent")
def _(shown: Any, written: Written) -> None:
    assert shown == [
        {"thread": written.ownerless, "step": written.lost_parent, "name": "on_message"}
    ]


@shows("Deleted threads")
def _(shown: Any, written: Written) -> None:
    assert _ids(shown) == [written.deleted]
    assert set(shown[0]) == {"_id", "deletedAt"}


@shows("Use of the indexes")
def _(shown: Any, written: Written) -> None:
    declared = {index.name for index in DECLARED if index.collection == "threads"}
    assert {index["index"] for index in shown} == declared | {"_id_"}
    assert shown[0]["uses"] > 0
