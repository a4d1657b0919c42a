"""The connection of a store: how it is made, opened and closed, and what works on it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from cachetools import LRUCache
from chatkit.store import AttachmentStore, Store, TContext
from typing_extensions import Self

from mongo_datalayer.chatkit.attachment_files import AttachmentFiles
from mongo_datalayer.chatkit.attachments import ChatKitAttachments
from mongo_datalayer.chatkit.owners import context_user
from mongo_datalayer.chatkit.threads import ChatKitThreads
from mongo_datalayer.config import DEFAULT_TIMEOUT_MS
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.links import FileLinks
from mongo_datalayer.mongodb.arguments import from_environment
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.connection import Connection
from mongo_datalayer.mongodb.retries import Retries
from mongo_datalayer.schema.indexes import IndexReport, apply_indexes, check_indexes
from mongo_datalayer.storage.hooks import Hooked

ATTACHMENT_BYTES = 100 * 1024 * 1024
"""How large an attachment may be by default."""

REMEMBERED_CANCELLATIONS = 10_000
"""Of how many cancelled writes of items it is remembered that a later one may find them there."""


class ConnectedStore(Hooked, Store[TContext], AttachmentStore[TContext]):
    """A store with a connection, and with what it works on; it has none of ChatKit's calls.

    The arguments and attributes are those of :class:`.store.MongoChatKitStore`.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        client: Any = None,
        database: str | None = None,
        user_id: Callable[[TContext], str | int | uuid.UUID] | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        server_api: str | None = None,
        bucket: str = "fs",
        links: FileLinks | None = None,
        attachment_bytes: int = ATTACHMENT_BYTES,
    ) -> None:
        if user_id is not None and not callable(user_id):
            raise ConfigurationError(
                f"user_id={user_id!r} cannot be used: it takes a function of the request's context."
            )
        if links is not None and not isinstance(links, FileLinks):
            kind = type(links).__name__  # not the value, which may be the secret itself
            raise ConfigurationError(f"links takes a FileLinks, not {kind}.")
        is_number = isinstance(attachment_bytes, int) and not isinstance(attachment_bytes, bool)
        if not is_number or attachment_bytes < 1:
            raise ConfigurationError(
                f"attachment_bytes={attachment_bytes!r} cannot be used: it takes a positive int."
            )
        super().__init__()
        self._user_id: Callable[[TContext], Any] = context_user if user_id is None else user_id
        self._bucket = bucket
        self.files = AttachmentFiles(FileLinks() if links is None else links)
        self._attachment_bytes = attachment_bytes
        self._cancelled: LRUCache[tuple[str, str, str], bool] = LRUCache(REMEMBERED_CANCELLATIONS)
        self._connection = Connection(
            type(self).__name__,
            uri,
            client,
            database=database,
            timeout_ms=timeout_ms,
            server_api=server_api,
            on_open=self._open,
        )

    def _open(self, database: Database, retries: Retries) -> None:
        """Use ``database``: at first, and again when the event loop was another one's."""
        self._database = database
        self._threads = ChatKitThreads(database)
        # The same object as ever: routes hold it.
        self.files.bucket = FileBucket(database, self._bucket, retry=retries.run)
        self.attachments = ChatKitAttachments(database, self.files.bucket, retries.run)

    @classmethod
    def from_env(
        cls,
        *,
        database: str | None = None,
        user_id: Callable[[TContext], str | int | uuid.UUID] | None = None,
        timeout_ms: int | None = None,
        server_api: str | None = None,
        bucket: str = "fs",
        links: FileLinks | None = None,
        attachment_bytes: int = ATTACHMENT_BYTES,
    ) -> Self:
        """A store for ``MONGODB_URI``, ``MONGODB_DATABASE`` and the timeout's variable.

        The arguments are those of the constructor. They override the environment.

        Raises:
            ConfigurationError: ``MONGODB_URI`` is not set, or a variable cannot be used; the
                message names it.
        """
        environment = from_environment(cls.__name__, database, timeout_ms, server_api)
        return cls(
            environment.uri,
            database=environment.database,
            user_id=user_id,
            timeout_ms=environment.timeout_ms,
            server_api=environment.server_api,
            bucket=bucket,
            links=links,
            attachment_bytes=attachment_bytes,
        )

    async def create_indexes(self) -> IndexReport:
        """Create missing indexes, those of the GridFS bucket included. Safe to repeat."""
        return await self._connection.run(
            lambda: apply_indexes(self._database, bucket=self._bucket)
        )

    async def check_indexes(self) -> IndexReport:
        """Say which indexes are there and which are missing; nothing is retried."""

        async def check() -> IndexReport:
            return await check_indexes(self._database, bucket=self._bucket)

        return await self._connection.call(check())

    async def close(self) -> None:
        """Finish pending writes, for at most 10 seconds, then close the store's own client.

        A client that you passed stays open. You may call this again.
        """
        await self._connection.close()
