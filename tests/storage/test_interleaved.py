"""Another process writes between any two commands of an operation: as if one had come first.

Each operation is tried with another process at the boundaries between its commands. What readers
see in the end must be what they see where one operation ran after the other, in one of the two
orders, and where nothing overflows.

With ``MONGO_DATALAYER_TESTS_THOROUGH`` in the environment all boundaries are tried, whatever the
layer knows of the thread before; otherwise a third of them, so that each pair has its own.
"""

from __future__ import annotations

import pytest

from mongo_datalayer import MongoDataLayer
from tests.storage.bench import LIMITLESS, Database
from tests.storage.commands import Meanwhile, unwatched, watch
from tests.storage.conftest import Make
from tests.storage.operations import (
    KNOWLEDGE,
    MOST_COMMANDS,
    OPERATIONS,
    RIVALS,
    THOROUGH,
    Outcomes,
    Stage,
    seen,
)


@pytest.mark.parametrize("rival", RIVALS)
async def test_as_if_one_came_first(
    make: Make, layers: list[MongoDataLayer], database: Database, rival: str
) -> None:
    mine, other, reader = layers
    roomy, second, nth = make(LIMITLESS), RIVALS[rival], list(RIVALS).index(rival)
    outcomes = Outcomes(roomy, await Stage.built(roomy, database))
    long = await Stage.built(mine, database)
    wrong: list[str] = []
    for number, (name, first) in enumerate(OPERATIONS.items()):
        for at in range(1, MOST_COMMANDS):
            turn = at + number + nth
            if not THOROUGH and turn % 3:
                continue
            reached = False
            for knowledge in KNOWLEDGE if THOROUGH else (KNOWLEDGE[turn // 3 % 3],):
                thread = f"#{name} at {at} knowing {knowledge}#"
                watch(mine, unwatched)
                await long.put(thread, mine, knowledge)
                rush = Meanwhile(at, second, other, thread)
                watch(mine, rush)
                await first(mine, thread)
                if rush.reached:
                    reached = True
                    ends = await seen(reader, thread)
                    different = await outcomes.differences(ends, (first, second), (second, first))
                    if different:
                        where = f"{name}, knowing {knowledge}, {rival} before {rush.told[at - 1]}"
                        wrong.append(f"{where} ({at}): {different}")
            if not reached:
                break
        else:
            wrong.append(f"{name} does not come to an end")
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong])
