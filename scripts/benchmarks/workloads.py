"""The workloads: which conversations are there, and which operations are measured on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.checks import verify
from benchmarks.contenders.contender import Contender, SeedError
from benchmarks.conversations import Dataset, Thread, threads
from benchmarks.operations import OPERATIONS, PAGE, READS
from benchmarks.timing import Case, Effort, Key, measure
from benchmarks.trials import Stage

ALICE = "alice"
SMALL = (
    *("get_user", "create_user", "create_user again", "get_thread", "get_thread_author"),
    *("list_threads", "list_threads page 2", "list_threads search", "list_threads feedback"),
    *("update_thread", "update_thread metadata", "delete_thread", "create_step", "update_step"),
    *("delete_step", "get_favorite_steps", "set_step_favorite", "upsert_feedback"),
    *("delete_feedback", "create_element", "get_element", "delete_element"),
    *("chat turn", "first turn"),
)
LISTS = (
    *("list_threads", "list_threads of ten", "list_threads page 2", "list_threads search"),
    "list_threads feedback",
)
LONG = ("create_step", "update_step", "update_step first", "chat turn", "get_thread")
AT_ONCE = ("chat turns at once", "steps at once")


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        effort: How long.
        workloads: Names of the workloads.
        operations: Only these operations; None for all.
        steps: Steps per thread, of long threads.
        users: Threads per user.
        tasks: Tasks at once.
        per_operation: Threads that each operation has for itself.
        stored_steps: Steps of all threads of one length, at most, if that is not a single thread.
        listed: Threads of the user whose threads are listed, among small threads.
    """

    effort: Effort
    workloads: Sequence[str]
    operations: Sequence[str] | None
    steps: Sequence[int]
    users: Sequence[int]
    tasks: Sequence[int]
    per_operation: int
    stored_steps: int
    listed: int = 200

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that are measured."""
        return [name for name in names if self.operations is None or name in self.operations]


@dataclass(frozen=True)
class Scene:
    """A dataset of one size, and which threads each operation has.

    Attributes:
        size: What the workload varies.
        dataset: What is stored.
        own: The threads of each operation.
        user: The user of lists.
        listed: The threads of that user.
        tasks: Tasks at once.
    """

    size: int
    dataset: Dataset
    own: Mapping[str, Sequence[Thread]]
    user: str
    listed: Sequence[Thread]
    tasks: int = 1


Notify = Callable[[str], None]


def scenes(plan: Plan, workload: str) -> list[Scene]:
    """The scenes of a workload."""
    return {"small": _small, "users": _users, "long": _long, "tasks": _tasks}[workload](plan)


def _small(plan: Plan) -> list[Scene]:
    """Many small threads, of many users."""
    names = plan.chosen(SMALL)
    listed = threads(ALICE, plan.listed, 10, name="list", marked=True)
    own = {
        name: threads(f"user {index}", plan.per_operation, 10, name=name)
        for index, name in enumerate(names)
    }
    return [_scene(10, own, ALICE, listed)] if names else []


def _users(plan: Plan) -> list[Scene]:
    """Users with few and with many threads, all in one database."""
    made = []
    for count in plan.users:
        names = [n for n in plan.chosen(LISTS) if count > PAGE or n != "list_threads page 2"]
        user = f"user of {count}"
        listed = threads(user, count, 4, name=f"list of {count}", marked=True)
        if names:
            made.append(_scene(count, dict.fromkeys(names, listed), user, listed))
    return made


def _long(plan: Plan) -> list[Scene]:
    """Threads of few and of many steps, all in one database.

    Operations that leave a thread's length as it is share their threads.
    """
    made = []
    for length in plan.steps:
        names = plan.chosen(LONG)
        count = max(1, min(plan.per_operation * 4, plan.stored_steps // length))
        user = f"user of {length} steps"
        steady = threads(user, count, length, name="steady")
        growing = threads(user, count, length, name="growing")
        own = {n: growing if n in ("create_step", "chat turn") else steady for n in names}
        if names:
            made.append(_scene(length, own, user, ()))
    return made


def _tasks(plan: Plan) -> list[Scene]:
    """Threads of ten steps, written by one and by many tasks at once."""
    names = plan.chosen(AT_ONCE)
    made = []
    for tasks in plan.tasks:
        user = f"user of {tasks} tasks"
        count = max(tasks, 16)
        own = {name: threads(user, count, 10, name=f"{name} {tasks}") for name in names}
        if names:
            made.append(_scene(tasks, own, user, (), tasks))
    return made


def _scene(
    size: int,
    own: Mapping[str, Sequence[Thread]],
    user: str,
    listed: Sequence[Thread],
    tasks: int = 1,
) -> Scene:
    unique = {thread.id: thread for each in (*own.values(), listed) for thread in each}
    users = sorted({thread.user for thread in unique.values()} | {user})
    return Scene(size, Dataset(tuple(users), tuple(unique.values())), own, user, listed, tasks)


async def run(
    plan: Plan, workload: str, contenders: Sequence[Contender], notify: Notify
) -> list[Case]:
    """Measure a workload, and check what it left."""
    stages = scenes(plan, workload)
    failures: dict[Contender, list[str | None]] = {}
    for contender in contenders if stages else ():
        notify(f"{workload}: storing the threads, {contender.name}")
        failures[contender] = await _stored(stages, contender, failures)
    cases = [
        case
        for index, scene in enumerate(stages)
        for contender, failed in failures.items()
        for case in _cases(workload, scene, contender, failed[index])
    ]
    for name, group in _groups(cases).items():
        notify(f"{workload}: {name}")
        await measure(group, plan.effort)
    notify(f"{workload}: comparing what was stored")
    await verify(cases)
    return cases


def _groups(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """What is measured in turns: an operation, with all sizes.

    But threads of one length by themselves: where a thread is one document of megabytes each write
    of it, by the floor, disturbs the server for longer than the next writes take.
    """
    groups: dict[str, list[Case]] = {}
    operations = list(dict.fromkeys(case.key.operation for case in cases))
    for case in sorted(cases, key=lambda case: operations.index(case.key.operation)):
        key = case.key
        name = f"{key.operation}, {key.size:,}" if key.workload == "long" else key.operation
        if case.failure is None:
            groups.setdefault(name, []).append(case)
    return groups


async def _stored(
    stages: Sequence[Scene], contender: Contender, failures: Mapping[Contender, list[str | None]]
) -> list[str | None]:
    """Store the scenes; for each why that is not possible, or None."""
    await contender.clear()
    for other, known in failures.items():
        if await contender.copy(other):
            return known
    return [await _seeded(scene, contender) for scene in stages]


async def _seeded(scene: Scene, contender: Contender) -> str | None:
    try:
        await contender.seed(scene.dataset)
    except SeedError as exc:
        return f"not measured: {exc}"
    return None


def _cases(
    workload: str, scene: Scene, contender: Contender, failure: str | None
) -> Iterator[Case]:
    for name, own in scene.own.items():
        if is_measured(contender.name, name):
            stage = Stage(contender, own, scene.user, scene.listed, scene.tasks)
            key = Key(workload, name, contender.name, scene.size)
            yield Case(key, OPERATIONS[name], stage, failure=failure)


def is_measured(contender: str, operation: str) -> bool:
    """Whether an operation is measured with a contender: reads only once with each database."""
    return not (contender.endswith("w:1") and operation in READS)
