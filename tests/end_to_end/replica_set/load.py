"""Two processes that chat, what they were told was written, and what is there."""

from __future__ import annotations

import hashlib
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
from tests.end_to_end.replica_set.chatting import BEGUN

ROOT = Path(__file__).parents[3]
PROCESSES = ("first", "second")
END_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """What became of a load.

    Attributes:
        acknowledged: Steps and elements of which at least one write was acknowledged.
        files: How many of them are elements with files.
        lost: Those of them that are not there, or lack what was acknowledged.
        duplicated: Steps and elements that are stored more than once.
        failed: Calls that raised.
        longest_stall: The longest time that a call took, in seconds.
        errors: What was raised, and how often.
    """

    acknowledged: int
    files: int
    lost: int
    duplicated: int
    failed: int
    longest_stall: float
    errors: Counter[str]

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged} steps and files ({self.files}), lost {self.lost}, "
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

    def files(self) -> int:
        """How many versions of files have been acknowledged up to now."""
        entries = self._entries()
        return sum(entry["error"] is None and "sha256" in entry["fields"] for entry in entries)

    def end(self) -> None:
        """Let the turns that have begun come to their end, and the processes too."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"done\n"
            assert process.wait(END_SECONDS) == 0

    def kill(self) -> None:
        """SIGKILL the processes in the middle of their work."""
        for process in self._processes:
            process.kill()
            process.wait(END_SECONDS)

    async def outcome(self) -> Outcome:
        """Compare what was acknowledged with what is there."""
        entries = list(self._entries())
        acceptable = _acceptable(entries)
        stored = await self._stored(sorted({item_id.split()[0] for item_id in acceptable}))
        copies = await self._copies()
        errors = Counter(
            entry["error"][:160] for entry in entries if entry["error"] not in (None, BEGUN)
        )
        return Outcome(
            acknowledged=len(acceptable),
            files=sum("sha256" in fields for fields in acceptable.values()),
            lost=sum(
                not _has(stored.get(item_id), fields) for item_id, fields in acceptable.items()
            ),
            duplicated=sum(count > 1 for count in copies.values()),
            failed=errors.total(),
            longest_stall=max(entry["seconds"] for entry in entries),
            errors=errors,
        )

    def _start(self, name: str, journal: Path, resources: ExitStack) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.end_to_end.replica_set.chatting"),
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

    async def _stored(self, thread_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The steps by their ids, and for each element the hash of its file."""
        layer = MongoDataLayer(f"{self._uri}&readConcernLevel=majority", database=self._database)
        files: Any = layer.storage_client
        stored: dict[str, dict[str, Any]] = {}
        for thread_id in thread_ids:
            thread: Any = await layer.get_thread(thread_id) or {"steps": (), "elements": ()}
            stored.update({step["id"]: step for step in thread["steps"]})
            for element in thread["elements"] or ():
                key = element["objectKey"]
                content = b"" if key is None else await files.download_file(key)
                stored[element["id"]] = {"sha256": hashlib.sha256(content).hexdigest()}
        await layer.close()
        return stored

    async def _copies(self) -> Counter[str]:
        """How often each step and element is stored, wherever a part of a thread may be."""
        copies: Counter[str] = Counter()
        async with AsyncMongoClient[dict[str, Any]](self._uri) as client:
            database = client[self._database]
            for name in await database.list_collection_names():
                async for stored in database[name].find({}, {"steps.id": 1, "elements.id": 1}):
                    for field in ("steps", "elements"):
                        copies.update(item["id"] for item in stored.get(field) or ())
        return copies


def _acceptable(entries: Iterable[dict[str, Any]]) -> dict[str, dict[str, set[Any]]]:
    """For each acknowledged step or element the values that its fields may have.

    A call that failed, or did not end, may have been applied: then both values are right, the
    acknowledged one and the one that was not.
    """
    acceptable: dict[str, dict[str, set[Any]]] = {}
    for entry in entries:
        if entry["item"] is None:
            continue
        if entry["error"] is None:
            fields = acceptable.setdefault(entry["item"], {})
            fields.update({name: {value} for name, value in entry["fields"].items()})
        elif entry["item"] in acceptable:
            fields = acceptable[entry["item"]]
            for name, value in entry["fields"].items():
                if name in fields:
                    fields[name].add(value)
    return acceptable


def _has(item: dict[str, Any] | None, fields: dict[str, set[Any]]) -> bool:
    if item is None:
        return False
    held = {**item, "feedback": (item.get("feedback") or {}).get("value")}
    return all(held[name] in values for name, values in fields.items())
