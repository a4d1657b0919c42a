"""A replica set of three members on this machine, whose primary can be hurt in several ways."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError
from typing_extensions import Self

from mongo_datalayer.server import LocalServer

NAME = "three"
SIZE = 3
ELECTION_SECONDS = 1.5  # the default is 10; a failover then takes one to two seconds, not twelve
ELECTION_FREEZE_SECONDS = 60
PATIENCE_SECONDS = 60.0
FAIL_POINT = "stopReplProducer"
_SMALL = ("--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25")
# Else a member that copied from a frozen one waits for it ten seconds longer.
_HASTY = ("--setParameter", "oplogNetworkTimeoutBufferSeconds=1")


class Member(LocalServer):
    """One mongod of the set, with a connection of its own."""

    def __init__(self, folder: Path) -> None:
        test_commands = ("--setParameter", "enableTestCommands=1")
        super().__init__(folder, arguments=("--replSet", NAME, *_SMALL, *_HASTY, *test_commands))
        self.frozen = False
        self._connection: MongoClient[dict[str, Any]] | None = None

    @property
    def host(self) -> str:
        """Its address in the set."""
        return f"127.0.0.1:{self.port}"

    @property
    def connection(self) -> MongoClient[dict[str, Any]]:
        """To this very member, whatever it is in the set."""
        if self._connection is None:
            self._connection = MongoClient(self.uri, directConnection=True, timeoutMS=15_000)
        return self._connection

    def order(self, command: str, value: Any = 1, **arguments: Any) -> dict[str, Any]:
        """Run an administrative command on this very member."""
        return self.connection.admin.command(command, value, **arguments)

    def newest(self) -> Timestamp:
        """The place in the oplog of the latest write that it has applied."""
        place: Timestamp = self.order("replSetGetStatus")["optimes"]["appliedOpTime"]["ts"]
        return place

    def is_primary(self) -> bool:
        """Whether it can be asked, and says that it accepts writes."""
        if not self.running or self.frozen:
            return False
        try:
            return bool(self.order("hello")["isWritablePrimary"])
        except PyMongoError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self.pid is not None
        os.kill(self.pid, number)
        self.frozen = number is signal.SIGSTOP

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        wait_for(lambda: not self.running, "the end of a member")

    def close(self) -> None:
        """Close the connection and end the process."""
        if self._connection is not None:
            self._connection.close()
        if self.running:
            self.kill()
        self.stop()


@dataclass(frozen=True)
class Lag:
    """What the primary gets while its secondaries get nothing.

    Attributes:
        primary: The member that accepts writes.
        secondaries: The others.
        point: The place in the oplog after which no other member has anything.
        since: What begins later comes after that point; of the clock ``time.monotonic``.
    """

    primary: Member
    secondaries: Sequence[Member]
    point: Timestamp
    since: float

    def writes(self, database: str) -> int:
        """How many writes of a database the primary alone has."""
        shared = max(member.newest() for member in self.secondaries)
        return self.primary.connection.local["oplog.rs"].count_documents(
            {"ts": {"$gt": shared}, "ns": {"$regex": f"^{re.escape(database)}\\."}}
        )

    def check(self) -> None:
        """Raises AssertionError when another member has got something new."""
        for member in self.secondaries:
            assert member.newest() <= self.point


class ReplicaSet:
    """Three members on 127.0.0.1; a context manager. Its data is gone at the end."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._resources = ExitStack()

    @property
    def uri(self) -> str:
        """The URI of the set, without options."""
        return f"mongodb://{','.join(m.host for m in self.members)}/?replicaSet={NAME}"

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="replica-")))
            for number in range(SIZE):
                member = Member(folder / str(number))
                resources.callback(member.close)
                member.start()
                self.members.append(member)
            self.members[0].order("replSetInitiate", self._config())
            self.settle()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # All at once, not by shutting down: a primary takes its time to hand over.
        self._resources.close()

    def primary(self) -> Member:
        """The member that accepts writes; waits for one."""
        found: Member = wait_for(
            lambda: next((m for m in self.members if m.is_primary()), None), "a primary"
        )
        return found

    def settle(self) -> None:
        """Wait until one member is the primary and the others follow it."""
        wait_for(self._is_settled, "a primary that the others follow")

    # What happens to primaries ----------------------------------------------------------------

    def kill_primary(self) -> None:
        """SIGKILL the primary; when there is another one, start it again as a member."""
        killed = self.primary()
        killed.kill()
        self.primary()
        killed.start()
        self.settle()

    def step_primary_down(self) -> None:
        """Make the primary give up its office; it stays a member."""
        stepping = self.primary()

        def step_down() -> bool:
            try:
                stepping.order("replSetStepDown", 4, secondaryCatchUpPeriodSecs=3)
            except AutoReconnect:
                return True
            except OperationFailure:
                return False  # no other member had caught up yet
            return True

        wait_for(step_down, "a primary that steps down")
        wait_for(lambda: self.primary() is not stepping, "another primary")
        self.settle()

    def freeze_primary(self, until: Callable[[], bool], *, seconds: float) -> None:
        """SIGSTOP the primary: connections stand, answers do not come. Then let it go on.

        Args:
            until: Whether it has been frozen for long enough.
            seconds: How long to wait for that.

        Raises:
            TimeoutError: it was not.
        """
        frozen = self.primary()
        # All members have this from it before it freezes. One that is only just turning to it would
        # wait for its first answer, and without that member no majority acknowledges anything.
        frozen.order("appendOplogNote", data={"note": "freeze"}, writeConcern={"w": SIZE})
        frozen.signal(signal.SIGSTOP)
        try:
            wait_for(until, "what was to happen while the primary is frozen", seconds=seconds)
        finally:
            frozen.signal(signal.SIGCONT)
        self.settle()

    def lose_primary_before_replication(
        self, until: Callable[[Lag], bool], *, seconds: float = 30.0
    ) -> None:
        """Kill the primary while no other member has its latest writes, and elect one of those.

        Args:
            until: Whether the primary has accepted enough of them.
            seconds: How long to wait for that.

        Raises:
            TimeoutError: it had not.
        """
        with self.lagging_secondaries() as lag:
            wait_for(lambda: until(lag), "writes that only the primary has", seconds=seconds)
            lag.primary.kill()
            lag.check()
        self.primary()
        lag.primary.start()
        self.settle()

    @contextmanager
    def lagging_secondaries(self) -> Iterator[Lag]:
        """While it lasts, the members that are secondaries now get nothing new."""
        primary = self.primary()
        secondaries = [member for member in self.members if member is not primary]
        for member in secondaries:
            # On a busy machine one may stand for election otherwise, and end the lag.
            member.order("replSetFreeze", ELECTION_FREEZE_SECONDS)
        try:
            _stop_replication(secondaries)
            yield Lag(primary, secondaries, primary.newest(), time.monotonic())
        finally:
            for member in secondaries:
                member.order("configureFailPoint", FAIL_POINT, mode="off")
                member.order("replSetFreeze", 0)

    def _config(self) -> dict[str, Any]:
        return {
            "_id": NAME,
            "members": [{"_id": i, "host": m.host} for i, m in enumerate(self.members)],
            "settings": {
                "electionTimeoutMillis": int(ELECTION_SECONDS * 1000),
                "heartbeatIntervalMillis": 300,
            },
        }

    def _is_settled(self) -> bool:
        try:
            members = self.primary().order("replSetGetStatus")["members"]
        except PyMongoError:
            return False
        states = sorted(member["stateStr"] for member in members)
        return states == ["PRIMARY"] + ["SECONDARY"] * (SIZE - 1)


def _stop_replication(members: Sequence[Member]) -> None:
    """Return when each of them has come to the point where it fetches nothing any more.

    The first time that it comes there it may be at the end of a fetch, the second time it is not.
    """
    before = [
        member.order("configureFailPoint", FAIL_POINT, mode="alwaysOn")["count"]
        for member in members
    ]
    for member, count in zip(members, before, strict=True):
        member.order("waitForFailPoint", FAIL_POINT, timesEntered=count + 2, maxTimeMS=10_000)


def wait_for(answer: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until there is an answer that is true.

    Raises:
        TimeoutError: there was none in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        given = answer()
        if given:
            return given
        time.sleep(0.05)
    raise TimeoutError(f"Waited {seconds:.0f} s in vain for {what}.")
