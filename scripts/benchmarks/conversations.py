"""The conversations that every contender holds: made from a seed, the same in each of them.

Ids are UUIDs, as Chainlit makes them, and each is derived from its name. So a step has the same id
in every database, in every run.
"""

from __future__ import annotations

import functools
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

Dict = dict[str, Any]

START = datetime(2025, 3, 1, 10, 0, 0, 123456, tzinfo=timezone.utc)
NEEDLE = "Wolpertinger 4711"
"""A text that stands in a few messages only."""

_NAMESPACE = uuid.UUID("0b8f3f6a-6c1e-4b0e-9d0e-3a5f0e6c7d21")
_TEXT = (
    "the order was sent on Monday and arrives in two days please look at page four of the handbook "
    "where returns are explained a customer may send back what is not used within thirty days we "
    "pay the postage if the parcel was damaged ask for a photograph of it before anything else"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Vote:
    """Feedback on a step."""

    id: str
    step_id: str
    value: int


@dataclass(frozen=True)
class Thread:
    """A conversation as Chainlit would write it.

    Attributes:
        id: Its id.
        name: Its name.
        user: Identifier of its owner.
        begin: When its first step was made.
        length: How many steps it has.
        needle: The number of the step whose text has :data:`NEEDLE`; None for no step.
        vote: The number of the step with a thumb up; None for no step.
        favorite: The number of the favourite step; None for no step.
    """

    id: str
    name: str
    user: str
    begin: datetime
    length: int
    needle: int | None = None
    vote: int | None = None
    favorite: int | None = None

    def steps(self) -> Iterator[Dict]:
        """The steps, in order: turns of a question, a run, a tool's work and an answer."""
        for number in range(self.length):
            step = turn_step(self.id, self.begin, number)
            if number == self.needle:
                step["output"] += f" {NEEDLE}"
            if number == self.favorite:
                step["metadata"] = {"favorite": True}
            yield step

    def votes(self) -> Iterator[Vote]:
        """The feedback."""
        if self.vote is not None:
            yield Vote(made_id(self.id, "vote"), step_id(self.id, self.vote), 1)

    @property
    def end(self) -> datetime:
        """When its last step was made."""
        return step_time(self.begin, max(self.length - 1, 0))


@dataclass(frozen=True)
class Dataset:
    """Users, by identifier, and their threads."""

    users: tuple[str, ...]
    threads: tuple[Thread, ...] = field(default=())


def made_id(*names: object) -> str:
    """The id of what has this name."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, names))))


def step_id(thread_id: str, number: int) -> str:
    """The id of a thread's step."""
    return made_id(thread_id, number)


def step_time(begin: datetime, number: int) -> datetime:
    """When a thread's step was made."""
    return begin + timedelta(milliseconds=1500 * number)


def stamp(moment: datetime) -> str:
    """A time as Chainlit writes it."""
    return moment.replace(tzinfo=None).isoformat() + "Z"


def text(name: object, low: int, high: int) -> str:
    """Words of between ``low`` and ``high`` characters, the same for the same name."""
    return _text(random.Random(str(name)).randrange(64), low, high)  # noqa: S311 - no secret


@functools.lru_cache(maxsize=1024)
def _text(variant: int, low: int, high: int) -> str:
    choice = random.Random(variant)  # noqa: S311 - no secret
    length = choice.randint(low, high)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < length:
        words.append(choice.choice(_WORDS))
    return " ".join(words)[:length]


def turn_step(thread_id: str, begin: datetime, number: int) -> Dict:
    """Step ``number`` of a thread, as Chainlit gives it to ``create_step`` when it is done."""
    part = number % 4
    question = number - part
    times = {"createdAt": stamp(step_time(begin, number))}
    own_id = step_id(thread_id, number)
    parent = None if part == 0 else step_id(thread_id, question + (0 if part == 1 else 1))
    own = {"id": own_id, "threadId": thread_id, "parentId": parent}
    if part == 0:
        return message({**own, **times}, "user_message", "alice", text(own_id, 40, 160))
    if part == 3:
        return message({**own, **times}, "assistant_message", "Assistant", text(own_id, 400, 1200))
    if part == 1:
        return work({**own, **times}, "run", "on_message", text(own_id, 40, 160), "")
    asked = '{"query": "' + text(own_id, 20, 60) + '"}'
    return work({**own, **times}, "tool", "search", asked, text(own_id, 200, 900))


def message(own: Dict, kind: str, name: str, output: str) -> Dict:
    """A step as Chainlit's ``Message.to_dict`` makes it."""
    return {
        **own,
        "command": None,
        "modes": None,
        "start": own["createdAt"],
        "end": own["createdAt"],
        "output": output,
        "name": name,
        "type": kind,
        "language": None,
        "streaming": False,
        "isError": False,
        "waitForAnswer": False,
        "metadata": {},
        "tags": None,
    }


def work(own: Dict, kind: str, name: str, given: str, output: str) -> Dict:
    """A step as Chainlit's ``Step.to_dict`` makes it."""
    return {
        **own,
        "name": name,
        "type": kind,
        "streaming": False,
        "metadata": {},
        "tags": None,
        "input": given,
        "isError": False,
        "output": output,
        "start": own["createdAt"],
        "end": own["createdAt"],
        "language": None,
        "defaultOpen": False,
        "autoCollapse": False,
        "showInput": "json",
        "generation": None,
    }


def threads(user: str, count: int, length: int, *, name: str, marked: bool = False) -> list[Thread]:
    """``count`` threads of one user, one every seven minutes.

    Args:
        user: Identifier of the user.
        count: How many.
        length: Steps of each.
        name: What their names begin with.
        marked: Whether a few have the needle, a vote, or a favourite step.
    """
    return [
        Thread(
            id=made_id(name, user, number),
            name=f"{name} {number}",
            user=user,
            begin=START + timedelta(minutes=7) * number,
            length=length,
            needle=length - 1 if marked and number % 50 == 7 else None,
            vote=1 if marked and number % 20 == 3 else None,
            favorite=0 if marked and number % 50 == 11 else None,
        )
        for number in range(count)
    ]
