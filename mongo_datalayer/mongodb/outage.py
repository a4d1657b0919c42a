"""Says in the log that MongoDB is away, why, and when it is back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import pymongo
from pymongo.errors import ConnectionFailure, PyMongoError
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TopologyDescription

from mongo_datalayer.model.printable import counted
from mongo_datalayer.mongodb.client import Client
from mongo_datalayer.mongodb.error_reason import meaning
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)

NOTICE_SECONDS = 1.25
"""How long an operation waits before somebody asks what it waits for."""

PING_SECONDS = 0.5
"""How long a server may take to answer that it lives; the log line follows within 2 s."""

REPEAT_SECONDS = 10.0
"""How often the log says it again."""


class OutageWatch:
    """Counts the operations that wait, and finds out why they do.

    A timer asks, and not the driver's events: those reach only listeners that a client was made
    with, and most apps bring a client without.

    Args:
        client: The client that the operations use.
        queued: How many more operations wait for one of these.

    Attributes:
        waiting: When each operation began that has not ended yet.
        next_look: When it is looked next whether they wait for long; 0 when nobody looks.
        away_since: Since when MongoDB is known to be away; None when it is not.
    """

    def __init__(self, client: Client, queued: Callable[[], int] = lambda: 0) -> None:
        self._client = client
        self._queued = queued
        # The driver removes a server that does not belong to the replica set.
        self._configured = _names(_servers(client) or ())
        self.waiting: dict[object, float] = {}
        self.next_look = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None  # the loop holds tasks weakly
        self._said_at: float | None = None
        self.away_since: float | None = None

    def look_in(self, seconds: float) -> None:
        """Look after so many seconds whether an operation waits for long."""
        if self._timer is not None:
            self._timer.cancel()
        self.next_look = time.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ask)

    def answered(self) -> None:
        """An operation succeeded while MongoDB was away: it is back."""
        if self.away_since is not None and self._reason() is None:
            logger.info("MongoDB is back after %.1f s.", time.monotonic() - self.away_since)
            self.away_since = self._said_at = None

    def login_refused(self) -> None:
        """An operation failed because the login did."""
        if self._is_time_to_say():
            names = _names(_servers(self._client) or ()) or self._configured
            logger.error(
                "MongoDB at %s refused the login: check user name, password and authSource.", names
            )

    def _ask(self) -> None:
        if not self.waiting:
            self.next_look = 0.0
            return
        began = next(iter(self.waiting.values()))
        waited = time.monotonic() - began
        if waited < NOTICE_SECONDS:
            self.look_in(NOTICE_SECONDS - waited)
        else:
            self.next_look = math.inf
            self._looking = asyncio.ensure_future(self._look(began))

    async def _look(self, began: float) -> None:
        pause = NOTICE_SECONDS
        try:
            reason = self._reason() or await self._silence()
            if reason is not None:
                self.away_since = began if self.away_since is None else self.away_since
                pause = self._say(reason, self.away_since)
        finally:
            self.next_look = 0.0
            if self.waiting:
                self.look_in(pause)

    def _say(self, reason: str, since: float) -> float:
        """Log it unless that was done a moment ago; how long to wait with the next line."""
        if self._is_time_to_say():
            logger.warning(
                "MongoDB has been away for %.1f s, %s waiting. %s",
                time.monotonic() - since,
                counted(len(self.waiting) + self._queued(), "operation"),
                reason,
            )
        return (self._said_at or 0.0) + REPEAT_SECONDS - time.monotonic()

    def _is_time_to_say(self) -> bool:
        now = time.monotonic()
        if self._said_at is not None and now < self._said_at + REPEAT_SECONDS:
            return False
        self._said_at = now
        return True

    def _reason(self) -> str | None:
        """Why no server takes writes, as far as the driver knows; None when one does."""
        servers = _servers(self._client)
        if servers is None or any(server.is_writable for server in servers):
            return None
        if not servers:
            name = self._client.topology_description.replica_set_name
            return f"{self._configured}: not in the replica set {name!r}. Is replicaSet= right?"
        if all(server.error is None and server.is_server_type_known for server in servers):
            return f"{_names(servers)}: the replica set has no primary"
        return "; ".join(f"{_names([server])}: {_explain(server)}" for server in servers)

    async def _silence(self) -> str | None:
        """The same for a server that froze, or was cut off: the driver learns of it much later."""
        servers = _servers(self._client)
        if servers is None:
            return None
        began = time.monotonic()
        try:
            with pymongo.timeout(PING_SECONDS):
                await self._client.admin.command("ping")
        except PyMongoError as exc:
            # Where the app's own code blocked the event loop, the answer may have been there.
            blocked = time.monotonic() - began > 2 * PING_SECONDS
            if not blocked and (exc.timeout or isinstance(exc, ConnectionFailure)):
                writable = [server for server in servers if server.is_writable]
                return self._reason() or f"{_names(writable)}: it does not answer"
        return None


def _servers(client: Client) -> list[ServerDescription] | None:
    """What the driver knows of each server; None for clients that do not tell, as mongomock's."""
    description = client.topology_description
    if not isinstance(description, TopologyDescription):
        return None
    return list(description.server_descriptions().values())


def _names(servers: list[ServerDescription] | tuple[()]) -> str:
    addresses = [server.address for server in servers]
    return ", ".join(host if port is None else f"{host}:{port}" for host, port in addresses)


def _explain(server: ServerDescription) -> str:
    if server.error is None:
        return "it is no primary" if server.is_server_type_known else "it does not answer"
    text = f"{type(server.error).__name__}: {server.error}"
    return meaning(text) or text
