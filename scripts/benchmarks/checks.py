"""Reads back what each contender holds, and compares it with what the same calls leave in a model.

A contender may have been left out of some rounds. So the model repeats the trials that it came to
the end of, and no others.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.reference import Reference, seed_by_calls
from benchmarks.conversations import Dataset, Dict, Thread
from benchmarks.operations import READS
from benchmarks.timing import Case
from benchmarks.trials import Stage

SAMPLE = 4
"""Threads that are compared of each case."""


async def verify(cases: Iterable[Case]) -> None:
    """Say in each case what is wrong with the threads that it wrote."""
    by_contender: dict[Contender, list[Case]] = defaultdict(list)
    for case in cases:
        if case.key.operation not in READS and case.made:
            by_contender[case.stage.contender].append(case)
    for contender, own in by_contender.items():
        await _verify(contender, own)


async def _verify(contender: Contender, cases: Sequence[Case]) -> None:
    model = Reference()
    await model.open()
    threads = {thread.id: thread for case in cases for thread in case.stage.threads}
    users = sorted({thread.user for thread in threads.values()} | {c.stage.user for c in cases})
    await seed_by_calls(model, Dataset(tuple(users), tuple(threads.values())))
    written = [await _replay(model, case) for case in cases]
    for case, ids in zip(cases, written, strict=True):
        if case.failure is None and case.wrong is None:
            case.wrong = await _difference(model, contender, ids)


async def _replay(model: Reference, case: Case) -> list[str]:
    """Repeat a case's trials in the model; the ids of the threads that they touched."""
    threads = model.layer.threads
    before = set(threads) | model.layer.deleted
    stage = Stage(
        contender=model,
        threads=case.stage.threads,
        user=case.stage.user,
        listed=case.stage.listed,
        tasks=case.stage.tasks,
    )
    for number in case.made:
        trial = case.operation(stage, number)
        if trial.before is not None:
            await trial.before()
        await trial.call()
    made = (set(threads) | model.layer.deleted) - before
    return sorted(made) if made else [thread.id for thread in _used(case)]


def _used(case: Case) -> list[Thread]:
    used = len(case.made) * max(case.stage.tasks, 1)
    return list(case.stage.threads)[:used]


async def _difference(model: Reference, contender: Contender, ids: Sequence[str]) -> str | None:
    chosen = random.Random(0).sample(list(ids), min(SAMPLE, len(ids)))  # noqa: S311 - no secret
    for thread_id in chosen:
        expected = canonical(await model.layer.get_thread(thread_id=thread_id), model.users)
        try:
            stored = await contender.layer.get_thread(thread_id=thread_id)
        except Exception as exc:  # noqa: BLE001 - whatever a contender raises is a result
            return f"after the run, thread {thread_id}: {type(exc).__name__}: {exc}"[:200]
        found = canonical(stored, contender.users)
        if (difference := compare(expected, found)) is not None:
            return f"after the run, thread {thread_id}: {difference}"
    return None


def canonical(thread: Mapping[str, Any] | None, users: Mapping[str, str]) -> Dict | None:
    """What every contender keeps of a thread, in one form."""
    if thread is None:
        return None
    owners = {user_id: identifier for identifier, user_id in users.items()}
    return {
        "name": thread.get("name"),
        "owner": owners.get(str(thread.get("userId"))),
        "metadata": _map(thread.get("metadata")),
        "steps": {step["id"]: _step(step) for step in thread.get("steps") or ()},
        "elements": sorted(element["id"] for element in thread.get("elements") or ()),
    }


def _step(step: Mapping[str, Any]) -> Dict:
    vote = step.get("feedback")
    return {
        "type": step["type"],
        "name": step["name"],
        "parentId": step.get("parentId"),
        "output": step.get("output") or "",
        "favorite": bool(_map(step.get("metadata")).get("favorite")),
        "vote": None if vote is None else int(vote["value"]),
    }


def _map(value: Any) -> Dict:
    """Metadata; Chainlit's layer on SQLite returns it as JSON text."""
    return dict(json.loads(value) if isinstance(value, str) else value or {})


def compare(expected: Dict | None, found: Dict | None) -> str | None:
    """The first difference, in words; None when there is none."""
    if expected is None or found is None:
        return None if expected is found else "it is there" if expected is None else "it is gone"
    for name in ("name", "owner", "metadata", "elements"):
        if expected[name] != found[name]:
            return f"{name} {found[name]!r} instead of {expected[name]!r}"[:160]
    lacking = expected["steps"].keys() - found["steps"].keys()
    if lacking:
        return f"{len(lacking)} of {len(expected['steps'])} steps are not there"
    if len(found["steps"]) > len(expected["steps"]):
        return f"{len(found['steps'])} steps instead of {len(expected['steps'])}"
    for step_id, step in expected["steps"].items():
        if step != found["steps"][step_id]:
            names = [name for name in step if step[name] != found["steps"][step_id][name]]
            return f"a step's {', '.join(names)} is another"
    return None
