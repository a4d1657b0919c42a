"""One connection for a front: its client, its event loop, retries, the order of writes, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, TypeVar, cast

import anyio

from mongo_datalayer.config import CLOSE_SECONDS
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.mongodb import client as driver
from mongo_datalayer.mongodb.arguments import check_arguments
from mongo_datalayer.mongodb.client import Client, Database
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.mongodb.retries import Retries
from mongo_datalayer.mongodb.write_queue import Behind, WriteQueue

logger = get_logger(__name__)

Result = TypeVar("Result")

CLIENT_CLOSE_SECONDS = 1.0
"""How long close() waits for the driver, after the writes."""

GRACE_SECONDS = 1.0
"""How much longer another loop waits than the operation itself may take."""


class Connection:
    """A client with the event loop, the retries and the order of writes that belong to it.

    Nothing is connected before the first operation. The loop of the first operation is the *home
    loop*, and all operations run there: the driver's sockets belong to one loop. LangChain, for
    example, runs callbacks of a synchronous ``invoke`` on a temporary loop in another thread. Such
    an operation is handed over to the home loop, thread-safely and in the order of the calls. When
    the home loop has been closed, the next caller's loop takes its place.

    Args:
        front: Name of the class that connects, for messages.
        uri: Where MongoDB is; the connection makes its own client and closes it.
        client: A client instead, which is never closed here.
        database: Name of the database; None for the one that the URI names, else ``chainlit``.
        timeout_ms: How long one operation may take, retries included. ``timeoutMS`` in the URI goes
            before it.
        server_api: MongoDB's Stable API: ``1`` or ``1-strict``; only with a URI.
        on_first_use: Called when the first operation begins, on its loop.
        on_open: Called with the database and its retries now, and again with each new client's.

    Attributes:
        closed: Whether :meth:`close` was called.

    Raises:
        ConfigurationError: neither or both of ``uri`` and ``client`` are given, or one of the
            arguments cannot be used.
    """

    def __init__(
        self,
        front: str,
        uri: str | None,
        client: Any,
        *,
        database: str | None,
        timeout_ms: int,
        server_api: str | None = None,
        on_first_use: Callable[[], object] = lambda: None,
        on_open: Callable[[Database, Retries], None],
    ) -> None:
        check_arguments(
            front, uri, client, database=database, timeout_ms=timeout_ms, server_api=server_api
        )
        self._uri = uri
        self._database_name = database
        self._timeout_ms = timeout_ms
        self._server_api = server_api
        self._on_open = on_open
        self._on_first_use = on_first_use
        self._home: asyncio.AbstractEventLoop | None = None
        # Threads with loops of their own may call first at the same moment.
        self._choosing = threading.Lock()
        self.closed = False
        self._open(client)

    def read(self, operation: Callable[[], Awaitable[Result]]) -> Awaitable[Result]:
        """The same as :meth:`run` for what a person waits for.

        While MongoDB is known to be away it ends after 5 seconds: a login or a page must not hang.
        """
        return self.run(operation, patient=False)

    def run(
        self, operation: Callable[[], Awaitable[Result]], *, patient: bool = True
    ) -> Awaitable[Result]:
        """What ``operation`` returns, retried after transient errors, on the home loop.

        When the caller is cancelled the operation goes on until it ends by itself: a task that is
        cancelled twice inside the driver can leave the driver's locks taken for ever.

        Raises:
            MongoDataLayerError: the caller is on another loop, and the home loop did not answer.
        """
        is_home = self._is_home()  # first, as it may open the client anew, with other retries
        attempts = self._retries.run(operation, patient=patient)
        if is_home:
            return asyncio.shield(asyncio.ensure_future(attempts))
        return self._at_home(attempts)

    def retried(
        self, operation: Callable[[], Awaitable[Result]], *, patient: bool = True
    ) -> Awaitable[Result]:
        """The same, for a part of what runs :meth:`in_order`."""
        return self._retries.run(operation, patient=patient)

    async def in_order(
        self,
        key: Hashable,
        operation: Callable[[], Awaitable[Result]],
        *,
        name: str | None = None,
        at_once: Callable[[], None] | None = None,
        behind: Behind | None = None,
    ) -> Result:
        """Run ``operation`` behind the earlier ones of ``key``; its parts are retried, not it.

        Args:
            key: Which queue.
            operation: The operation.
            name: What the log calls it when it fails; None logs nothing.
            at_once: Called on the home loop before the operation waits for its slot.
            behind: Wait also for the earlier writes for which it returns True.
        """
        if self._is_home():
            if at_once is not None:
                at_once()
            # An ASGI server cancels a request's scope again at every await until it is left. What
            # is written there (a partial answer, for example) must get through.
            with anyio.CancelScope(shield=True):
                return await self._writes.submit(key, operation, name, behind=behind)
        return await self._at_home(
            self.in_order(key, operation, name=name, at_once=at_once, behind=behind)
        )

    def write(
        self, key: Hashable, operation: Callable[[], Awaitable[Result]], *, name: str | None = None
    ) -> Coroutine[Any, Any, Result]:
        """What ``operation`` returns, in order, and retried as a whole.

        The arguments are those of :meth:`in_order`.
        """
        return self.in_order(key, lambda: self._retries.run(operation), name=name)

    def call(self, called: Coroutine[Any, Any, Result]) -> Awaitable[Result]:
        """What a coroutine of several operations returns, run on the home loop."""
        return called if self._is_home() else self._at_home(called)

    async def submit(self, submitted: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that writes and that nobody awaits, and whose failures are logged.

        From another loop this returns at once. The home loop may be blocked until the caller is
        done, as it is by LangChain's synchronous ``stream``, so waiting for it could last for ever.
        """
        if self._is_home() or self._home is None:
            await submitted
        else:
            asyncio.run_coroutine_threadsafe(submitted, self._home)

    async def close(self, also: Callable[[], Awaitable[None]] | None = None) -> None:
        """Finish the writes that have begun, then close the client if it is the connection's own.

        Waits at most :data:`~mongo_datalayer.config.CLOSE_SECONDS`. Never raises, and may be called
        again, from any loop.

        Args:
            also: What else to close, after the writes.
        """
        if self.closed:
            return
        # Before anything is awaited: a second close() meanwhile finds nothing to do.
        self.closed = True
        try:
            if self._is_home():
                await self._close_at_home(also)
            else:
                await self._at_home(self._close_at_home(also), seconds=CLOSE_SECONDS)
        except Exception as exc:  # noqa: BLE001 - any storage client's own errors
            # Chainlit closes while the server shuts down: what follows must still run.
            logger.error("The connection could not be closed: %s", exc)  # noqa: TRY400

    async def _close_at_home(self, also: Callable[[], Awaitable[None]] | None) -> None:
        await asyncio.sleep(0)  # tasks that were made just before begin, and take their places
        # Writes first: they need the client, and the storage client that `also` closes.
        for name in await self._writes.drain(CLOSE_SECONDS):
            logger.error("Still on its way %s s after close(): %s", CLOSE_SECONDS, name)
        if also is not None:
            await also()
        if self._uri is not None:
            # The driver looks for a server to end its sessions on; while MongoDB is away it may
            # take its time, and the process has to end.
            closing = asyncio.ensure_future(driver.close(self._client))
            await asyncio.wait({closing}, timeout=CLIENT_CLOSE_SECONDS)

    def _open(self, client: Any) -> None:
        uri = self._uri
        self._client: Client = (
            client
            if uri is None
            else driver.connect(uri, timeout_ms=self._timeout_ms, server_api=self._server_api)
        )
        seconds = (driver.timeout(self._client) if uri else None) or self._timeout_ms / 1000
        self._seconds = seconds
        self._writes = WriteQueue()
        self._retries = Retries(self._client, seconds, queued=self._writes.count_queued)
        self._on_open(driver.open_database(self._client, self._database_name), self._retries)

    def _is_home(self) -> bool:
        """Whether the running loop is the home loop; it becomes that when there is none."""
        running = asyncio.get_running_loop()
        # Without the lock: while this loop runs, no other one can take its place.
        if running is self._home:
            return True
        with self._choosing:
            home = self._home
            if home is not None and home.is_running():
                return False
            self._home = running
            if home is not None:
                # The old client's sockets were the old loop's, and what waited there is gone.
                self._open(self._client)
        if home is None:
            self._on_first_use()
        return True

    async def _at_home(
        self, operation: Coroutine[Any, Any, Result], seconds: float | None = None
    ) -> Result:
        """What a coroutine returns that runs on the home loop, for a caller on another one."""
        home = cast("asyncio.AbstractEventLoop", self._home)  # there is one: it is not this one
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(operation, home))
        bound = self._seconds if seconds is None else seconds
        # Not wait_for, and no cancellation: either would cancel the task on the home loop.
        await asyncio.wait({future}, timeout=bound + GRACE_SECONDS if bound else None)
        if not future.done():
            raise MongoDataLayerError(
                f"The event loop on which MongoDB is used did not answer within {bound:g} s. It is "
                "blocked: synchronous code runs there that waits for this call."
            )
        return future.result()
