"""The process ends at any command of an operation: applied or not, and once when it is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pytest

from mongo_datalayer import MongoDataLayer
from tests.storage.bench import LIMITLESS, Database, leftovers
from tests.storage.commands import Killed, Stop, unwatched, watch
from tests.storage.conftest import Make
from tests.storage.operations import (
    KNOWLEDGE,
    LARGE,
    MOST_COMMANDS,
    OPERATIONS,
    RIVALS,
    THOROUGH,
    Operation,
    Outcomes,
    Stage,
    create,
    element,
    seen,
    update,
    vote,
)

LARGE_VALUES: Mapping[str, Operation] = {
    "append a large text": create("new", 31, output=f"elder {LARGE}", input=f"elder {LARGE}"),
    "a late large create": create("bare", 0, input=f"elder {LARGE}", output=f"wrong {LARGE}"),
    "a large text in an old step": update("old", output=f"elder {LARGE}", input=f"elder {LARGE}"),
    "a large text in the next step": update("next", output=f"elder {LARGE}", end="late"),
    "a large map": update("next", generation={"words": LARGE}, metadata={"k": LARGE}),
    "a large comment": vote("next", LARGE),
    "a large comment on an old step": vote("old", LARGE),
    "a large element": element("new element", "last", 1, words=LARGE),
    "a large old element": element("old element", "old", 1, words=LARGE),
    "large metadata": lambda layer, t: layer.update_thread(t, metadata={"a": LARGE, "b": LARGE}),
}

AFTERWARDS = ("others append", "others fill in", "others update", "others replace elements")


@pytest.mark.parametrize("afterwards", [None, *AFTERWARDS])
async def test_applied_or_not_and_once_when_repeated(
    make: Make, layers: list[MongoDataLayer], database: Database, afterwards: str | None
) -> None:
    """Also where other processes write before it is repeated, or where it never is."""
    roomy = make(LIMITLESS)
    outcomes = Outcomes(roomy, await Stage.built(roomy, database))
    trial = Trial(layers, database, await Stage.built(layers[0], database), outcomes)
    rival = () if afterwards is None else (RIVALS[afterwards],)
    await trial.every(OPERATIONS, *rival, share=4 if rival else 1)


async def test_large_values_are_applied_or_not_and_once_when_repeated(
    make: Make, small: list[MongoDataLayer], database: Database
) -> None:
    roomy = make(LIMITLESS)
    plain = await Stage.built(roomy, database)
    trial = Trial(small, database, plain, Outcomes(roomy, plain))
    trial.searched = False
    await trial.every(LARGE_VALUES, share=2)


class Trial:
    """Stops operations at their commands.

    Args:
        layers: One that is stopped, one that goes on, one that reads.
        database: Their database.
        stage: The thread.
        outcomes: What is right.

    Attributes:
        searched: Whether what an operation that was stopped leaves must not be found by its words.
    """

    def __init__(
        self, layers: list[MongoDataLayer], database: Database, stage: Stage, outcomes: Outcomes
    ) -> None:
        self._mine, self._other, self._reader = layers
        self._database = database
        self._stage = stage
        self._outcomes = outcomes
        self._wrong: list[str] = []
        self.searched = True

    async def every(
        self, operations: Mapping[str, Operation], *rival: Operation, share: int = 1
    ) -> None:
        """Stop each operation at its commands: at all, or at every ``share``-th."""
        for number, (name, operation) in enumerate(operations.items()):
            for at in range(1, MOST_COMMANDS):
                turn = at + number
                if not THOROUGH and turn % share:
                    continue
                known = KNOWLEDGE if THOROUGH else (KNOWLEDGE[turn // share % 3],)
                if not any([await self._stopped(name, operation, at, k, *rival) for k in known]):
                    break
            else:
                self._wrong.append(f"{name} does not come to an end")
        assert not self._wrong, "\n".join([f"{len(self._wrong)} wrong", *self._wrong])

    async def _stopped(
        self, name: str, operation: Operation, at: int, knowledge: str, *rival: Operation
    ) -> bool:
        """Whether the operation has so many commands."""
        thread = f"#{name} stopped at {at} knowing {knowledge}#"
        watch(self._mine, unwatched)
        await self._stage.put(thread, self._mine, knowledge)
        stop = Stop(at)
        watch(self._mine, stop)
        with suppress(Killed):
            await operation(self._mine, thread)
        place = f"{name}, knowing {knowledge}, stopped before {stop.told[:at][-1]} ({at})"
        for again in rival:
            await again(self._other, thread)
        twice = (operation, *rival, operation)
        applied = ((operation, *rival), (*rival, operation), twice)
        await self._check(thread, place, rival, *applied, searched=self.searched)
        await operation(self._other, thread)
        await self._check(thread, f"{place}, repeated", *applied)
        await self._other.delete_thread(thread)
        if left := await leftovers(self._database, thread):
            self._wrong.append(f"{place}, repeated, deleted: {left}")
        return stop.reached

    async def _check(
        self, thread: str, place: str, *orders: tuple[Operation, ...], searched: bool = True
    ) -> None:
        try:
            ends = await seen(self._reader, thread)
        except AssertionError as error:
            self._wrong.append(f"{place}: {error}")
            return
        if not searched:
            before = await self._outcomes.of(*orders[0])
            if ends["thread"] == before["thread"]:
                ends["words"] = before["words"]
        different = await self._outcomes.differences(ends, *orders)
        if different and ends["thread"] is not None:
            # The thread learns of a step's time first: so that a repetition still tells it.
            times = {(await self._outcomes.of(*order))["thread"]["createdAt"] for order in orders}
            if ends["thread"]["createdAt"] in times:
                before = await self._outcomes.of(*orders[0])
                ends["thread"]["createdAt"] = before["thread"]["createdAt"]
                different = await self._outcomes.differences(ends, *orders)
        if different:
            self._wrong.append(f"{place}: {different}")
