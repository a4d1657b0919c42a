"""A tiny run on a real MongoDB: ours and the floor do every operation, and do it right."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks import workloads
from benchmarks.command import main
from benchmarks.contenders.contender import Contender, SeedError
from benchmarks.contenders.floor import Floor, FloorLayer
from benchmarks.contenders.ours import Ours
from benchmarks.conversations import Dataset
from benchmarks.operations import OPERATIONS
from benchmarks.timing import Case, Effort
from benchmarks.workloads import AT_ONCE, LISTS, LONG, SMALL, Plan
from click.testing import CliRunner

TINY = Plan(
    effort=Effort(rounds=2, seconds=60, least=1),
    workloads=("small", "users", "long", "tasks"),
    operations=None,
    steps=(10, 30),
    users=(10, 30),
    tasks=(1, 3),
    per_operation=2,
    stored_steps=60,
    listed=25,
)


async def run(contenders: list[Contender], workload: str) -> list[Case]:
    try:
        for contender in contenders:
            await contender.open()
        return await workloads.run(TINY, workload, contenders, lambda _: None)
    finally:
        for contender in contenders:
            await contender.close()


@pytest.mark.parametrize("workload", TINY.workloads)
async def test_every_operation_runs_and_leaves_what_it_should(
    mongo_uri: str, database_name: str, workload: str
) -> None:
    ours = Ours("ours", mongo_uri, f"{database_name}_o")
    copied = Ours("ours w:1", mongo_uri, f"{database_name}_c")
    floor = Floor("floor", mongo_uri, f"{database_name}_f", journal=False)

    cases = await run([ours, copied, floor], workload)

    assert [(c.key, c.failure, c.wrong) for c in cases if c.failure or c.wrong] == []
    assert all(len(case.times) == 2 for case in cases)
    assert {case.key.contender for case in cases} >= {"ours", "floor"}


def test_the_workloads_have_every_operation_between_them() -> None:
    assert {*SMALL, *LISTS, *LONG, *AT_ONCE} == set(OPERATIONS)


class Forgetful(FloorLayer):
    """Loses every other new step, and says nothing."""

    calls = 0

    async def create_step(self, step_dict: dict[str, Any]) -> None:
        self.calls += 1
        if self.calls % 2:
            await super().create_step(step_dict)


class ForgetfulFloor(Floor):
    async def open(self) -> None:
        await super().open()
        self.layer = Forgetful(self._database, self._concern)


async def test_a_layer_that_loses_writes_is_found_out(mongo_uri: str, database_name: str) -> None:
    cases = await run([ForgetfulFloor("floor", mongo_uri, database_name, journal=False)], "long")

    wrong = {case.key.operation for case in cases if case.wrong is not None}
    assert {"create_step", "chat turn"} <= wrong
    assert "get_thread" not in wrong


class FullFloor(Floor):
    async def seed(self, dataset: Dataset) -> None:
        raise SeedError("full")


async def test_a_layer_that_cannot_hold_a_dataset_is_not_measured(
    mongo_uri: str, database_name: str
) -> None:
    full = FullFloor("floor", mongo_uri, database_name, journal=False)

    cases = await run([full], "users")

    assert {case.failure for case in cases} == {"not measured: full"}
    assert not any(case.times for case in cases)


def test_a_name_that_is_unknown_is_refused() -> None:
    done = CliRunner().invoke(main, ["--only", "ours,oracle"])

    assert done.exit_code == 2
    assert "'oracle' is none of: ours, floor" in done.output
