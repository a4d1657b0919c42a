"""Two processes that chat, what they were told was written, and what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pymongo import AsyncMongoClient
from typing_extensions import Self

from mongo_datalayer import MongoDataLayer

ROOT = Path(__file__).parents[2]
PROCESSES = ("first", "second")
END_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """What became of a load.

    Attributes:
        acknowledged: Steps of which at least one write was acknowledged.
        lost: Those of them that are not there, or lack what was acknowledged.
        duplicated: Steps that are stored more than once.
        failed: Calls that raised.
        longest_stall: The longest time that a call took, in seconds.
        errors: What was raised, and how often.
    """

    acknowledged: int
    lost: int
    duplicated: int
    failed: int
    longest_stall: float
    errors: Counter[str]

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged} steps, lost {self.lost}, "
            f"duplicated {self.duplicated}, failed {self.failed} calls, "
            f"longest stall {self.longest_stall:.1f} s"
        )


class Load:
    """Two processes that chat; a context manager.

    Args:
        uri: The replica set's URI, with the options that the processes use.
        database: Where they write.
        folder: Where they keep their journals.
    """

    def __init__(self, uri: str, database: str, folder: Path) -> None:
        self._uri = uri
        self._database = database
        self._journals = [folder / f"{database}-{name}.jsonl" for name in PROCESSES]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            for name, journal in zip(PROCESSES, self._journals, strict=True):
                self._processes.append(self._start(name, journal, resources))
            for process in self._processes:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def acknowledged(self, since: float = 0.0) -> int:
        """How many calls have been acknowledged up to now.

        Args:
            since: Of those that began at this time or later, of the clock ``time.monotonic``.
        """
        entries = self._entries()
        return sum(entry["error"] is None and entry["began"] >= since for entry in entries)

    def end(self) -> None:
        """Let the turns that have begun come to their end, and the processes too."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"done\n"
            assert process.wait(END_SECONDS) == 0

    async def outcome(self) -> Outcome:
        """Compare what was acknowledged with what is there."""
        entries = list(self._entries())
        acceptable = _acceptable(entries)
        stored = await self._stored_steps(sorted({step_id.split()[0] for step_id in acceptable}))
        copies = await self._copies()
        errors = Counter(entry["error"][:160] for entry in entries if entry["error"] is not None)
        return Outcome(
            acknowledged=len(acceptable),
            lost=sum(
                not _has(stored.get(step_id), fields) for step_id, fields in acceptable.items()
            ),
            duplicated=sum(count > 1 for count in copies.values()),
            failed=errors.total(),
            longest_stall=max(entry["seconds"] for entry in entries),
            errors=errors,
        )

    def _start(self, name: str, journal: Path, resources: ExitStack) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.replica_set.chatting"),
                *(self._uri, self._database, name, str(journal)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        resources.enter_context(process)  # closes its pipes
        resources.callback(process.kill)
        return process

    def _entries(self) -> Iterator[dict[str, Any]]:
        for journal in self._journals:
            # The last line may be on its way.
            for line in journal.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)

    async def _stored_steps(self, thread_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        layer = MongoDataLayer(f"{self._uri}&readConcernLevel=majority", database=self._database)
        steps = {}
        for thread_id in thread_ids:
            thread: Any = await layer.get_thread(thread_id)
            steps.update({step["id"]: step for step in (thread or {"steps": ()})["steps"]})
        await layer.close()
        return steps

    async def _copies(self) -> Counter[str]:
        """How often each step is stored, wherever a part of a thread may be."""
        copies: Counter[str] = Counter()
        async with AsyncMongoClient[dict[str, Any]](self._uri) as client:
            database = client[self._database]
            for name in await database.list_collection_names():
                async for stored in database[name].find({}, {"steps.id": 1}):
                    copies.update(step["id"] for step in stored.get("steps") or ())
        return copies


def _acceptable(entries: Iterable[dict[str, Any]]) -> dict[str, dict[str, set[Any]]]:
    """For each acknowledged step the values that its fields may have.

    A call that failed may have been applied: then both values are right, the acknowledged one and
    the one that was not.
    """
    acceptable: dict[str, dict[str, set[Any]]] = {}
    for entry in entries:
        if entry["step"] is None:
            continue
        if entry["error"] is None:
            fields = acceptable.setdefault(entry["step"], {})
            fields.update({name: {value} for name, value in entry["fields"].items()})
        elif entry["step"] in acceptable:
            fields = acceptable[entry["step"]]
            for name, value in entry["fields"].items():
                if name in fields:
                    fields[name].add(value)
    return acceptable


def _has(step: dict[str, Any] | None, fields: dict[str, set[Any]]) -> bool:
    if step is None:
        return False
    held = {**step, "feedback": (step["feedback"] or {}).get("value")}
    return all(held[name] in values for name, values in fields.items())
