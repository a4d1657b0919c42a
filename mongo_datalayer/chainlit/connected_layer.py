"""The connection of a data layer: how it is made, opened and closed, and what its calls share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cachetools import LRUCache
from chainlit.data.base import BaseDataLayer
from chainlit.types import Feedback
from typing_extensions import Self

from mongo_datalayer.chainlit import codec, session, startup
from mongo_datalayer.chainlit.element_files import ElementFiles
from mongo_datalayer.chainlit.feedback import no_step
from mongo_datalayer.chainlit.messages import MessageFormat, to_messages
from mongo_datalayer.chainlit.startup import IndexSetup
from mongo_datalayer.chainlit.threads import Threads
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.config import DEFAULT_TIMEOUT_MS
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files import FileBucket, GridFSStorageClient
from mongo_datalayer.model.bson_values import required_id
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.arguments import check_methods, check_switches, from_environment
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.connection import Connection
from mongo_datalayer.mongodb.retries import Retries
from mongo_datalayer.mongodb.write_queue import is_named
from mongo_datalayer.schema.indexes import IndexReport, apply_indexes, check_indexes
from mongo_datalayer.storage.hooks import Hooked

if TYPE_CHECKING:
    from chainlit.data.storage_clients.base import BaseStorageClient

REMEMBERED_FEEDBACK = 1000
"""Of how much feedback the queue is remembered, for deletions that name the feedback alone."""

_STORAGE_METHODS = ("upload_file", "delete_file", "get_read_url")
_TIME_FIELDS = {"activity": "updatedAt", "creation": "createdAt"}

Result = TypeVar("Result")


class ConnectedLayer(Hooked, BaseDataLayer):
    """A data layer with a connection, and with what Chainlit's calls share; it has none of them.

    The arguments and attributes are those of :class:`.data_layer.MongoDataLayer`.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        client: Any = None,
        database: str | None = None,
        storage_client: BaseStorageClient | None = None,
        order_by: Literal["activity", "creation"] = "activity",
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        server_api: str | None = None,
        search_index: bool = False,
        serve_files: bool = True,
        indexes: IndexSetup = "check",
    ) -> None:
        if order_by not in _TIME_FIELDS:
            raise ConfigurationError(f"order_by is 'activity' or 'creation', not {order_by!r}.")
        if indexes not in ("check", "create"):
            raise ConfigurationError(f"indexes is 'check' or 'create', not {indexes!r}.")
        check_switches(search_index=search_index, serve_files=serve_files)
        if storage_client is not None:
            accepted = "one of Chainlit's storage clients, or your own BaseStorageClient"
            check_methods("storage_client", storage_client, accepted, _STORAGE_METHODS)
        super().__init__()
        self._time_field = _TIME_FIELDS[order_by]
        self._given_storage_client = storage_client
        self._search_index = search_index
        self._indexes: IndexSetup | None = indexes
        self._beginning: asyncio.Future[None] | None = None
        self._feedback_queues: LRUCache[str, Hashable] = LRUCache(REMEMBERED_FEEDBACK)
        self._connection = Connection(
            type(self).__name__,
            uri,
            client,
            database=database,
            timeout_ms=timeout_ms,
            server_api=server_api,
            on_first_use=self._begin_in_background,
            on_open=self._open,
        )
        if serve_files:
            startup.serve_files(self.storage_client)

    def _open(self, database: Database, retries: Retries) -> None:
        """Use ``database``: at first, and again when the event loop was another one's."""
        self._database = database
        if self._given_storage_client is not None:
            self.storage_client: BaseStorageClient = self._given_storage_client
        else:
            # The same object as ever: the route that serves files holds it.
            own = getattr(self, "storage_client", None) or GridFSStorageClient(database)
            own.bucket = FileBucket(database, retry=retries.run)
            self.storage_client = own
        self._files = ElementFiles(self.storage_client)
        self._users = Users(database)
        self._threads = Threads(database, search_index=self._search_index)
        self._elements = self._threads.elements

    @classmethod
    def from_env(
        cls,
        *,
        database: str | None = None,
        storage_client: BaseStorageClient | None = None,
        order_by: Literal["activity", "creation"] = "activity",
        timeout_ms: int | None = None,
        server_api: str | None = None,
        search_index: bool = False,
        serve_files: bool = True,
        indexes: IndexSetup = "check",
    ) -> Self:
        """A data layer for ``MONGODB_URI``, ``MONGODB_DATABASE`` and the timeout's variable.

        The arguments are those of the constructor. They override the environment.

        Raises:
            ConfigurationError: ``MONGODB_URI`` is not set, or a variable cannot be used; the
                message names it.
        """
        environment = from_environment(cls.__name__, database, timeout_ms, server_api)
        return cls(
            environment.uri,
            database=environment.database,
            storage_client=storage_client,
            order_by=order_by,
            timeout_ms=environment.timeout_ms,
            server_api=environment.server_api,
            search_index=search_index,
            serve_files=serve_files,
            indexes=indexes,
        )

    async def begin(self) -> None:
        """Say in the log which database is in use and what is missing; create indexes if asked to.

        Chainlit's server calls this when it starts. An app that mounts Chainlit calls it in its
        lifespan. Only the first call does something.

        Raises:
            ConfigurationError: MongoDB refuses the login.
        """
        if self._beginning is None:
            self._beginning = asyncio.ensure_future(self._connection.in_order("begin", self._check))
        await self._beginning

    async def _check(self) -> None:
        await startup.check_database(
            self._database, self.storage_client, indexes=self._indexes, search=self._search_index
        )

    def _begin_in_background(self) -> None:
        # Scripts and tests have nothing to be told at their start.
        if self._beginning is None and (self._indexes == "create" or startup.is_served()):
            startup.log_failure(asyncio.ensure_future(self.begin()))

    async def create_indexes(self) -> IndexReport:
        """Create missing indexes, those of the GridFS bucket included. Safe to repeat."""

        async def create() -> IndexReport:
            bucket = startup.bucket_name(self.storage_client)
            return await apply_indexes(self._database, bucket=bucket, search=self._search_index)

        # The start need not say that they are missing: they are on their way.
        self._indexes = None
        return await self._connection.run(create)

    async def check_indexes(self) -> IndexReport:
        """Say which indexes are there and which are missing; nothing is retried."""

        async def check() -> IndexReport:
            bucket = startup.bucket_name(self.storage_client)
            return await check_indexes(self._database, bucket=bucket, search=self._search_index)

        return await self._connection.call(check())

    async def messages(
        self,
        thread_id: str,
        format: MessageFormat = "openai",
    ) -> list[Any] | None:
        """A thread as the messages a model takes, oldest first; None when there is no such thread.

        Users' and assistants' messages keep their order. A tool step becomes a call and its result.
        A picture of a user becomes a part with a link, other attachments become links in the text.
        The links are those of ``get_thread``: a model's provider must be able to reach them.

        Args:
            thread_id: The thread.
            format: ``"openai"`` for dicts of Chat Completions, ``"anthropic"`` for dicts of
                Messages (without system messages, which Anthropic takes as an argument), or
                ``"langchain"`` for LangChain's message objects.

        Raises:
            ConfigurationError: the format is unknown, or LangChain is not installed.
        """
        thread = await self.get_thread(thread_id)
        return None if thread is None else to_messages(thread, format)

    async def close(self) -> None:
        """Finish the running writes, then close what the layer opened.

        Waits at most :data:`~mongo_datalayer.config.CLOSE_SECONDS`. Never raises, and may be
        repeated. A client that was given to the layer stays open.
        """

        async def close_others() -> None:
            await self._threads.lists.close()
            await self._files.close()

        await self._connection.close(close_others)

    async def _thread_with(self, list_name: str, item_id: str) -> str | None:
        """The thread that has an item; the writes that came before must be done."""
        return await self._connection.retried(lambda: self._threads.thread_with(list_name, item_id))

    async def _is_stored(self, thread_id: str, element_id: str) -> bool:
        stored = await self._connection.retried(
            lambda: self._elements.get(thread_id, element_id), patient=False
        )
        return stored is not None

    async def _write(
        self, name: str, thread_id: str, operation: Callable[[], Awaitable[Result]]
    ) -> Result:
        """Run ``operation`` behind the earlier writes to the thread; its error is logged too."""
        name = f"{name} in thread {thread_id}"
        return await self._connection.write(thread_id, operation, name=name)

    async def _put_feedback(self, feedback: Feedback) -> tuple[str, Document]:
        """Put feedback on its step; the thread, and the feedback as stored with its id."""
        step_id = required_id(feedback.forId, "a step")
        stored = codec.stored_feedback(
            id=feedback.id, step_id=step_id, value=feedback.value, comment=feedback.comment
        )
        given = session.feedback_thread(feedback.threadId, session.current_session())
        queue: Hashable = given or ("feedback", step_id)

        async def put() -> tuple[str, Document]:
            # A deletion, which names the feedback alone, waits in the same queue.
            if "id" in stored:
                self._feedback_queues[stored["id"]] = queue
            if given:
                return await put_in(given)
            return await self._connection.in_order(queue, find_and_put, behind=is_named)

        async def find_and_put() -> tuple[str, Document]:
            if thread_id := await self._thread_with("steps", step_id):
                return await put_in(thread_id)
            raise no_step(step_id, "in any thread")

        async def put_in(thread_id: str) -> tuple[str, Document]:
            identified = codec.identified_feedback(stored, thread_id)
            self._feedback_queues[identified["id"]] = queue
            await self._write(
                f"upsert_feedback of {step_id}",
                thread_id,
                lambda: self._threads.feedback.put(thread_id, identified),
            )
            return thread_id, identified

        return await self._connection.call(put())
