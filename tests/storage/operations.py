"""A long thread, what may be done to it, and what its readers see afterwards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from chainlit.element import CustomElement
from chainlit.types import Feedback

from mongo_datalayer import MongoDataLayer, NotFoundError
from tests.storage.bench import Database, Dict, found, step

TEMPLATE = "#template#"

Operation = Callable[[MongoDataLayer, str], Awaitable[Any]]

WORDS = ("cherry", "elder", "hazel")

LARGE = "w" * 500

KNOWLEDGE = ("nothing", "the truth", "what was true")
"""What a layer knows of the thread when an operation begins."""

MOST_COMMANDS = 80

THOROUGH = "MONGO_DATALAYER_TESTS_THOROUGH" in os.environ


async def begin(layer: MongoDataLayer, thread: str, user: str) -> None:
    """A new thread."""
    await layer.update_thread(thread, name="chat", user_id=user, metadata={"a": 1})
    await layer.update_step({"id": f"{thread}/bare", "threadId": thread, "output": "apple"})


async def prepare(layer: MongoDataLayer, thread: str) -> None:
    """Write on: the older half moves to parts where bounds are tiny, the next append moves more.

    ``old`` and ``bare`` are in parts, ``next`` is the oldest in the head, ``last`` the newest. Each
    of old and next has a child, a verdict and an element.
    """
    for number, name in enumerate(("old", "next")):
        second = 10 * number + 1
        await layer.create_step(step(thread, name, second, output="banana", metadata={"k": 1}))
        await layer.create_element(_element(thread, f"{name} element", name, 0))
        parent = f"{thread}/{name}"
        child = step(thread, f"{name} child", second + 1, parentId=parent, output="cherry")
        await layer.create_step(child)
        await layer.upsert_feedback(_verdict(thread, name, 1))
        if name == "old":
            await layer.upsert_feedback(_verdict(thread, "late", 0))
            for filler in range(3):
                long = "filler " * 40
                await layer.create_step(step(thread, f"f{filler}", second + 2, output=long))
                await layer.create_element(_element(thread, f"e{filler}", "old", 0, long=long))
    await layer.create_step(step(thread, "last", 30, output="damson " * 100))


def _verdict(thread: str, name: str, value: Any, comment: str | None = None) -> Feedback:
    return Feedback(
        id=f"{thread}/{name} vote",
        forId=f"{thread}/{name}",
        threadId=thread,
        value=value,
        comment=comment,
    )


def _element(thread: str, name: str, for_name: str, version: int, **props: Any) -> CustomElement:
    return CustomElement(
        thread_id=thread,
        id=f"{thread}/{name}",
        for_id=f"{thread}/{for_name}",
        name=name,
        props={"version": version, **props},
    )


def create(name: str, second: int, **fields: Any) -> Operation:
    return lambda layer, t: layer.create_step(step(t, name, second, **fields))


def update(name: str, **fields: Any) -> Operation:
    return lambda layer, t: layer.update_step(
        {"id": f"{t}/{name}", "threadId": t, "type": "tool", **fields}  # type: ignore[typeddict-item]  # a StepDict of this thread
    )


def vote(name: str, comment: str | None = None) -> Operation:
    return _unless_gone(
        lambda layer, t: layer.upsert_feedback(_verdict(t, name, 0, comment or "figfig"))
    )


def unvote(name: str) -> Operation:
    return lambda layer, t: layer.delete_feedback(f"{t}/{name} vote")


def favorite(name: str, value: bool) -> Operation:
    return lambda layer, t: layer.set_step_favorite(
        {"id": f"{t}/{name}", "threadId": t, "metadata": {"k": 1}}, value
    )


def element(name: str, for_name: str, version: int, **props: Any) -> Operation:
    return lambda layer, t: layer.create_element(_element(t, name, for_name, version, **props))


def delete_element(name: str) -> Operation:
    return lambda layer, t: layer.delete_element(f"{t}/{name}", t)


def delete_step(name: str) -> Operation:
    return lambda layer, t: layer.delete_step(f"{t}/{name}")


def several(*operations: Operation) -> Operation:
    """One after the other; another process does all of it between two commands."""

    async def run(layer: MongoDataLayer, thread: str) -> None:
        for operation in operations:
            await operation(layer, thread)

    return run


def _unless_gone(operation: Operation) -> Operation:
    async def run(layer: MongoDataLayer, thread: str) -> None:
        with suppress(NotFoundError):
            await operation(layer, thread)

    return run


def grow(prefix: str, count: int = 4) -> Operation:
    """Moves everything that was there to parts."""
    return several(*(create(f"{prefix}{n}", 40 + n, output="grape " * 100) for n in range(count)))


OPERATIONS: Mapping[str, Operation] = {
    "append": create("new", 31, output="elder"),
    "append what a verdict waits for": create("late", 32, output="elder"),
    "create again": create("last", 30, output="damson"),
    "fill in an old step": create("bare", 0, input="elder", output="wrong"),
    "update an old step": update("old", output="elder", end="2024-05-06T13:00:00Z"),
    "update the next step": update("next", output="elder", end="2024-05-06T13:00:00Z"),
    "update before create": update("early", output="elder"),
    "vote on an old step": vote("old"),
    "vote on the next step": vote("next"),
    "vote on a step to come": vote("unborn"),
    "take back an old vote": unvote("old"),
    "take back the next vote": unvote("next"),
    "favour an old step": favorite("old", True),
    "favour the next step": favorite("next", True),
    "a new element": element("new element", "last", 1),
    "replace an old element": element("old element", "old", 1),
    "replace the next element": element("next element", "next", 1),
    "delete an old element": delete_element("old element"),
    "delete the next element": delete_element("next element"),
    "delete an old step": delete_step("old"),
    "delete the next step": delete_step("next"),
    "delete the thread": lambda layer, t: layer.delete_thread(t),
    "change the thread": lambda layer, t: layer.update_thread(t, metadata={"b": 2, "a": None}),
}

RIVALS: Mapping[str, Operation] = {
    "others append": several(grow("grown")),
    "others update": several(
        update("old", input="hazel"), update("next", input="hazel"), update("bare", input="hazel")
    ),
    "others fill in": several(
        create("bare", 0, input="hazel"), create("next", 11, input="hazel"), create("new", 31)
    ),
    "others vote": several(vote("old"), vote("next"), vote("late")),
    "others take votes back": several(unvote("old"), unvote("next")),
    "others favour": several(favorite("old", True), favorite("next", True)),
    "others replace elements": several(
        element("old element", "old", 2),
        element("next element", "next", 2),
        element("new element", "last", 2),
    ),
    "others delete elements": several(
        delete_element("old element"), delete_element("next element")
    ),
    "others delete the old step": delete_step("old"),
    "others delete the next step and append": several(delete_step("next"), grow("grown")),
    "others update the next step and append": several(update("next", input="hazel"), grow("grown")),
    "others delete the thread": lambda layer, t: layer.delete_thread(t),
}


class Stage:
    """The long thread, prepared once and then put on stage under as many ids as are needed.

    Its owner's id is its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._first: dict[str, list[Dict]] = {}
        self._last: dict[str, list[Dict]] = {}

    @classmethod
    async def built(cls, layer: MongoDataLayer, database: Database) -> Stage:
        """Prepare the thread through ``layer``."""
        stage = cls(database)
        await begin(layer, TEMPLATE, TEMPLATE)
        stage._first = await stage._stored()
        await prepare(layer, TEMPLATE)
        stage._last = await stage._stored()
        await database.threads.delete_one({"_id": TEMPLATE})
        await database.thread_overflow.delete_many({"thread": TEMPLATE})
        return stage

    async def put(self, thread: str, layer: MongoDataLayer, knowledge: str = "nothing") -> None:
        """Store the thread under this id; ``layer`` then has this knowledge of it."""
        if knowledge == "what was true":
            await self._store(self._first, thread)
            await layer.get_thread(thread)
            await self._database.threads.delete_one({"_id": thread})
        await self._store(self._last, thread)
        if knowledge == "the truth":
            await layer.get_thread(thread)

    async def _stored(self) -> dict[str, list[Dict]]:
        return {
            name: await self._database[name].find({condition: TEMPLATE}).to_list()
            for name, condition in (("threads", "_id"), ("thread_overflow", "thread"))
        }

    async def _store(self, stored: dict[str, list[Dict]], thread: str) -> None:
        prefix = f"{thread}/part "
        ids = {part["_id"]: f"{prefix}{n}" for n, part in enumerate(stored["thread_overflow"])}
        for name, documents in stored.items():
            if documents:
                await self._database[name].insert_many(
                    [_replaced(document, {TEMPLATE: thread, **ids}) for document in documents]
                )


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value.replace(TEMPLATE, names[TEMPLATE]))
    if isinstance(value, dict):
        return {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, names) for item in value]
    return value


async def seen(layer: MongoDataLayer, thread: str) -> Dict:
    """All that readers see of the thread, told alike of threads with different ids."""
    whole: Any = await layer.get_thread(thread)
    stored = await layer._threads.documents.get(thread) or {}
    if whole is not None:
        for name in ("steps", "elements"):
            # What is shown leaves doubles out: look at what is stored.
            ids = Counter(item["id"] for item in stored.get(name) or ())
            whole[name] = {item["id"]: item for item in whole[name]}
            assert ids == Counter(whole[name].keys()), ids
        for item in whole["steps"].values():
            if item["start"] is None and not item["name"]:
                del item["createdAt"]  # when it arrived
    names = ("old element", "next element", "new element")
    everything = {
        "thread": whole,
        "favorites": sorted(step["id"] for step in await layer.get_favorite_steps(thread)),
        "words": {word: await found(layer, thread, search=word) for word in WORDS},
        "votes": {str(n): await found(layer, thread, feedback=n) for n in (0, 1)},
        "elements": {name: await layer.get_element(thread, f"{thread}/{name}") for name in names},
    }
    told: Dict = json.loads(json.dumps(everything).replace(thread, "THREAD"))
    return told


class Outcomes:
    """What readers see after operations that ran one after the other, where nothing overflows."""

    def __init__(self, layer: MongoDataLayer, stage: Stage) -> None:
        self._layer = layer
        self._stage = stage
        self._seen: dict[tuple[Operation, ...], Dict] = {}

    async def of(self, *operations: Operation) -> Dict:
        """After these operations; None among them is none."""
        if operations not in self._seen:
            thread = f"#outcome {len(self._seen)}#"
            await self._stage.put(thread, self._layer)
            for operation in operations:
                await operation(self._layer, thread)
            self._seen[operations] = await seen(self._layer, thread)
        return self._seen[operations]

    async def differences(self, ends: Dict, *orders: Sequence[Operation]) -> str:
        """What differs from the outcome of each order; empty when one of them is the same."""
        different: list[str] = []
        for order in orders:
            lines = _different(ends, await self.of(*order), "")
            if not lines:
                return ""
            different.append("; ".join(lines))
        return " | ".join(different)


def _different(one: Any, other: Any, path: str) -> list[str]:
    if one == other:
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(key, one.get(key), other.get(key)) for key in {**one, **other}]
        return [line for key, a, b in pairs for line in _different(a, b, f"{path}.{key}")]
    return [f"{path}: {str(one)[:60]} != {str(other)[:60]}"]
