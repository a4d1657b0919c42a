"""The store: ChatKit's contract on MongoDB, every method inside what one owner has."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from chatkit.store import AttachmentStore, Store, StoreItemType, TContext, default_generate_id
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    FeedbackKind,
    FileAttachment,
    ImageAttachment,
    Page,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
)
from starlette.applications import Starlette
from starlette.routing import Route

from mongo_datalayer import codec, driver
from mongo_datalayer.chatkit import payloads, uploads
from mongo_datalayer.chatkit.attachments import ChatKitAttachments
from mongo_datalayer.chatkit.errors import MissingError
from mongo_datalayer.chatkit.keys import object_key
from mongo_datalayer.chatkit.statements import owned
from mongo_datalayer.chatkit.threads import ChatKitThreads, missing_thread
from mongo_datalayer.config import DEFAULT_DATABASE, DEFAULT_TIMEOUT_MS, Settings
from mongo_datalayer.documents import Document
from mongo_datalayer.errors import ConfigurationError, InvalidCursorError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.links import FileLinks
from mongo_datalayer.indexes import IndexReport, apply_indexes
from mongo_datalayer.ordering import Turns
from mongo_datalayer.recent import Recent
from mongo_datalayer.retries import Retries

CLOSE_SECONDS = 10.0
"""How long close() waits for writes that are on their way."""

ATTACHMENT_BYTES = 100 * 1024 * 1024
"""How large an attachment may be, in bytes, unless the store is told otherwise."""

REMEMBERED_CANCELLATIONS = 10_000

Result = TypeVar("Result")


def owner_of(context: Any) -> Any:
    """The ``user_id`` of a request's context: an attribute, or a key of a map."""
    if isinstance(context, Mapping):
        return context.get("user_id")
    return getattr(context, "user_id", None)


class MongoChatKitStore(Store[TContext], AttachmentStore[TContext]):
    """ChatKit's threads, items and attachments in MongoDB; pass it for both stores of a server.

    Everything belongs to the owner that ``user_id`` names for the request's context. What another
    owner has is not there, whatever ids are asked for; two owners may have the same ids.

    Nothing is connected before the first call. Errors of the database reach the caller as the
    driver raises them.

    Args:
        uri: Where MongoDB is; the store makes its own client and closes it.
        client: Your client instead: PyMongo's ``AsyncMongoClient`` or Motor's
            ``AsyncIOMotorClient``. It is never closed by the store.
        database: Name of the database.
        user_id: Names the owner: takes the context that ChatKit passes along. By default the
            context's ``user_id``, an attribute or a key.
        timeout_ms: How long one operation may take, in milliseconds, retries after transient
            faults included. ``timeoutMS`` in the URI goes before it.
        bucket: Name of the GridFS bucket of the attachments' files.
        links: Makes the links to upload and to show them; None for links as the environment sets
            them. ChatKit needs whole addresses, so the app's address must be set there.
        attachment_bytes: How large an attachment may be, in bytes.

    Attributes:
        files: The attachments' files, for :func:`~mongo_datalayer.files.files_route`.

    Raises:
        ConfigurationError: neither or both of ``uri`` and ``client`` are given, or one of the
            arguments cannot be used.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        client: Any = None,
        database: str = DEFAULT_DATABASE,
        user_id: Callable[[TContext], str] | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        bucket: str = "fs",
        links: FileLinks | None = None,
        attachment_bytes: int = ATTACHMENT_BYTES,
    ) -> None:
        if (uri is None) == (client is None):
            raise ConfigurationError(
                "MongoChatKitStore takes a MongoDB URI or client=…, exactly one of them."
            )
        self._owns_client = client is None
        self._client: driver.Client = (
            driver.connect(uri, timeout_ms=timeout_ms) if uri is not None else client
        )
        seconds = (driver.timeout(self._client) if uri else None) or timeout_ms / 1000
        self._retries = Retries(self._client, seconds)
        self._database = driver.open_database(self._client, database)
        self._user_id: Callable[[TContext], Any] = owner_of if user_id is None else user_id
        self._threads = ChatKitThreads(self._database)
        self.files = uploads.AttachmentFiles(
            FileBucket(self._database, bucket), FileLinks() if links is None else links
        )
        self.attachments = ChatKitAttachments(self._database, self.files.bucket)
        self._attachment_bytes = attachment_bytes
        self._turns: Turns[None] = Turns()
        self._cancelled: Recent[tuple[str, str, str], bool] = Recent(REMEMBERED_CANCELLATIONS)
        self._closed = False

    @classmethod
    def from_env(cls, **options: Any) -> MongoChatKitStore[TContext]:
        """A store for ``MONGODB_URI`` and ``MONGODB_DATABASE`` (default ``chainlit``).

        Args:
            options: Further arguments of the constructor; they win over the environment.

        Raises:
            ConfigurationError: ``MONGODB_URI`` is not set, or a variable cannot be used.
        """
        settings = Settings.load()
        defaults = {"database": settings.database, "timeout_ms": settings.timeout_ms}
        return cls(settings.require_uri(), **{**defaults, **options})

    async def create_indexes(self) -> IndexReport:
        """Create the indexes that are missing; safe to repeat, also by several processes."""
        return await apply_indexes(self._database)

    # Ids --------------------------------------------------------------------------------------

    def generate_thread_id(self, context: TContext) -> str:
        """A new id for a thread, of 128 bits; may be overridden."""
        return _new_id("thread")

    def generate_item_id(
        self, item_type: StoreItemType, thread: ThreadMetadata, context: TContext
    ) -> str:
        """A new id for an item, of 128 bits; may be overridden."""
        return _new_id(item_type)

    def generate_attachment_id(self, mime_type: str, context: TContext) -> str:
        """A new id for an attachment, of 128 bits; may be overridden."""
        return _new_id("attachment")

    # Threads ----------------------------------------------------------------------------------

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        """The thread, without items. One command.

        Raises:
            MissingError: the owner has no such thread.
        """
        key = self._key(thread_id, context)
        stored = await self._retried(lambda: self._threads.get(key))
        if stored is None:
            raise missing_thread(key)
        return payloads.read_thread(stored)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        """Make the thread, or set its own fields; items that come with it are left out.

        One command. Its place in lists stays. A thread that was deleted is not made again.
        """
        key = self._key(thread.id, context)
        stored = payloads.stored_thread(thread)
        created_at = thread.created_at
        await self._write(key, lambda: self._threads.put(key, stored, created_at))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: TContext
    ) -> Page[ThreadMetadata]:
        """A page of the owner's threads by the time they were made, without items. One command.

        A page goes on after the thread it ended with, also when that was deleted.

        Raises:
            InvalidCursorError: the owner never had the thread ``after``.
            ValueError: ``order`` is neither ``asc`` nor ``desc``.
        """
        owner = self._owner(context)
        place = None if after is None else codec.identifier(after)
        descending = _is_descending(order)
        limit = max(limit, 1)
        stored = await self._retried(
            lambda: self._threads.page(owner, after=place, limit=limit + 1, descending=descending)
        )
        if stored is None:
            raise InvalidCursorError(f"Thread {after} not found: it cannot be where a page ends.")
        return _page([payloads.read_thread(thread) for thread in stored], limit)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        """Delete the thread with its items and attachments; late writes do not bring it back.

        Nothing happens when there is no such thread.
        """
        key = self._key(thread_id, context)
        await self._write(key, lambda: self._threads.delete(key))
        attachments = await self._retried(
            lambda: self.attachments.of_thread(key["owner"], key["id"])
        )
        for attachment in attachments:
            await self._delete_attachment(attachment)

    # Items ------------------------------------------------------------------------------------

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        """A page of the thread's items by ``created_at``, equal times in order of arrival.

        One command. A page goes on after the item it ended with, also when that was deleted. A
        thread that is not there has no items.

        Raises:
            MissingError: ``after`` never was an item of the thread.
            ValueError: ``order`` is neither ``asc`` nor ``desc``.
        """
        key = self._key(thread_id, context)
        place = None if after is None else codec.identifier(after)
        descending = _is_descending(order)
        limit = max(limit, 1)
        stored = await self._retried(
            lambda: self._threads.items_page(
                key, after=place, limit=limit + 1, descending=descending
            )
        )
        return _page([self._read_item(key, item) for item in stored], limit)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        """One item. One command.

        Raises:
            MissingError: the owner's thread has no such item.
        """
        key = self._key(thread_id, context)
        name = codec.identifier(item_id)
        stored = await self._retried(lambda: self._threads.get_item(key, name))
        if stored is None:
            raise MissingError(f"Item {item_id} not found in thread {thread_id}")
        item: ThreadItem = self._read_item(key, stored)
        return item

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        """Append an item. One command.

        The same item may be added again: that changes nothing. A deleted thread stays deleted.

        Raises:
            MissingError: the owner has no such thread.
            AlreadyExistsError: the thread has another item with this id; it stays as it is.
        """
        key = self._key(thread_id, context)
        stored = _stored_item(item)
        created_at = item.created_at
        name = (key["owner"], key["id"], stored["id"])
        # ChatKit saves what it has of an item when its stream is cancelled, and that may be while
        # the finished item is on its way here.
        lenient = self._cancelled.get(name) is not None
        try:
            await self._write(
                key, lambda: self._threads.add_item(key, stored, created_at, lenient=lenient)
            )
        except asyncio.CancelledError:
            self._cancelled.put(name, True)
            raise

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        """Put the item in the place of the one with its id, or append it. One command, or three.

        The item keeps its place and its feedback. What was deleted stays deleted.

        Raises:
            MissingError: the owner has no such thread.
        """
        key = self._key(thread_id, context)
        stored = _stored_item(item)
        created_at = item.created_at
        await self._write(key, lambda: self._threads.put_item(key, stored, created_at))

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        """Delete an item; nothing happens when there is none."""
        key = self._key(thread_id, context)
        name = codec.identifier(item_id)
        await self._write(key, lambda: self._threads.delete_item(key, name))

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: TContext
    ) -> None:
        """Put feedback on items, in place of what was there; for ``ChatKitServer.add_feedback``.

        One command for each item.

        Raises:
            MissingError: none of them is an item of the owner's thread.
        """
        key = self._key(thread_id, context)
        names = [codec.identifier(item_id) for item_id in item_ids]
        found = [await self._write(key, self._putting(key, name, feedback)) for name in names]
        if not any(found):
            raise MissingError(f"Items {', '.join(item_ids)} not found in thread {thread_id}")

    # Attachments ------------------------------------------------------------------------------

    async def create_attachment(
        self,
        input: AttachmentCreateParams,  # noqa: A002 - ChatKit's name
        context: TContext,
    ) -> Attachment:
        """Announce an attachment: its ``upload_descriptor`` says where the file is to be sent.

        The link takes one file of the announced size and type, once, until it expires. Images get
        a ``preview_url``, signed anew whenever the attachment is loaded.

        Raises:
            ValueError: the file is empty or larger than ``attachment_bytes``.
            ConfigurationError: the app's address or the secret that signs links is not set.
        """
        if not 0 < input.size <= self._attachment_bytes:
            raise ValueError(
                f"An attachment has 1 to {self._attachment_bytes} bytes, not {input.size}."
            )
        key = self._key(self.generate_attachment_id(input.mime_type, context), context)
        fields: Document = {
            "id": key["id"],
            "name": input.name,
            "mime_type": input.mime_type,
            "upload_descriptor": self.files.upload_descriptor(key, input.mime_type),
        }
        attachment: FileAttachment | ImageAttachment = (
            ImageAttachment(**fields, preview_url=self.files.preview_url(key))
            if input.mime_type.lower().startswith("image/")
            else FileAttachment(**fields)
        )
        stored = payloads.stored_attachment(attachment)
        upload = {
            "name": codec.identifier(input.name),
            "mime": codec.identifier(input.mime_type),
            "size": input.size,
            "objectKey": object_key(key),
            "ticket": uuid.uuid4().hex,
        }
        await self._retried(lambda: self.attachments.announce(key, stored, upload))
        return attachment

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        """Set the attachment's fields, or make it. One command. A deleted one stays deleted."""
        key = self._key(attachment.id, context)
        stored = payloads.stored_attachment(attachment)
        thread_id = attachment.thread_id
        thread_id = None if thread_id is None else codec.identifier(thread_id)
        await self._retried(lambda: self.attachments.put(key, stored, thread_id))

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        """The attachment, its preview link signed anew. One command.

        Once its file is there, it has no ``upload_descriptor`` any more.

        Raises:
            MissingError: the owner has no such attachment.
        """
        key = self._key(attachment_id, context)
        stored = await self._retried(lambda: self.attachments.get(key))
        if stored is None:
            raise MissingError(f"Attachment {attachment_id} not found")
        attachment = self.files.refreshed(key["owner"], payloads.read_attachment(stored))
        if "at" in stored.get("upload", ()):
            attachment = attachment.model_copy(update={"upload_descriptor": None})
        loaded: Attachment = attachment
        return loaded

    async def read_attachment(self, attachment_id: str, context: TContext) -> bytes:
        """The whole file of an attachment, for what goes to a model.

        Raises:
            NotFoundError: the owner has no such attachment, or its file is not there yet.
        """
        key = self._key(attachment_id, context)
        return await self._retried(lambda: self.files.bucket.read(object_key(key)))

    async def delete_attachment(self, attachment_id: str, context: TContext) -> None:
        """Delete the attachment and its file; nothing happens when there is none."""
        await self._delete_attachment(self._key(attachment_id, context))

    # Life -------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish the writes that are on their way, then close what the store opened.

        Waits at most :data:`CLOSE_SECONDS`, and may be called again. A client that was given to the
        store stays open.
        """
        if self._closed:
            return
        self._closed = True
        await asyncio.sleep(0)  # tasks that were made just before begin, and stand in line
        await self._turns.drained(CLOSE_SECONDS)
        if self._owns_client:
            await driver.close(self._client)

    # Inside -----------------------------------------------------------------------------------

    def _owner(self, context: TContext) -> str:
        """The owner's id.

        Raises:
            ConfigurationError: the context names none.
        """
        owner = self._user_id(context)
        if owner is None or owner == "":
            raise ConfigurationError(
                "The request's context names no owner. Pass ChatKitServer.process a context with "
                "a user_id, or give MongoChatKitStore a function: user_id=lambda context: …"
            )
        name = str(owner)
        if codec.identifier(name) != name:
            raise ConfigurationError(f"{name!r} cannot be an owner's id: it is no valid Unicode.")
        return name

    def _key(self, id: str, context: TContext) -> Document:  # noqa: A002 - what it is called
        return owned(self._owner(context), codec.identifier(id))

    def _read_item(self, key: Document, stored: Document) -> Any:
        item = payloads.read_item(stored)
        if isinstance(item, UserMessageItem) and item.attachments:
            attachments = [self.files.refreshed(key["owner"], each) for each in item.attachments]
            return item.model_copy(update={"attachments": attachments})
        return item

    def _putting(
        self, key: Document, item_id: str, feedback: FeedbackKind
    ) -> Callable[[], Awaitable[bool]]:
        return lambda: self._threads.put_feedback(key, item_id, feedback)

    async def _delete_attachment(self, key: Document) -> None:
        await self._retried(lambda: self.attachments.delete(key, object_key(key)))

    async def _retried(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        return await _cancellable(self._retries.run(operation))

    async def _write(self, key: Document, operation: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``operation`` at its turn among the writes to a thread."""
        async with self._turns.turn((key["owner"], key["id"])):
            return await self._retried(operation)


def chatkit_routes(store: MongoChatKitStore[Any], prefix: str = "") -> list[Route]:
    """The routes that take and serve the attachments of a store, for a Starlette or FastAPI app.

    Uploads go to ``/mongo/uploads`` (PUT), files are read below ``/mongo/files``. Each link carries
    its own permission: the routes need no login.

    Args:
        store: The store.
        prefix: Path before ``/mongo``, as this app sees it.
    """
    return uploads.routes(store.attachments, store.files, prefix)


def mount_chatkit(store: MongoChatKitStore[Any], app: Starlette, prefix: str = "") -> None:
    """Put :func:`chatkit_routes` on an app; calling it again replaces them.

    Args:
        store: The store.
        app: A Starlette or FastAPI app.
        prefix: Path before ``/mongo``, as this app sees it.
    """
    uploads.mount(app, chatkit_routes(store, prefix))


async def _cancellable(operation: Coroutine[Any, Any, Result]) -> Result:
    """What ``operation`` returns, or the cancellation of whoever waits for it.

    Up to Python 3.11 the driver loses a cancellation that comes together with the answer of the
    server (``asyncio.wait_for`` does), and a stream would go on that somebody has stopped.
    """
    running = asyncio.ensure_future(operation)
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise
    return running.result()


def _new_id(item_type: StoreItemType) -> str:
    """ChatKit's own prefix with four times its random bits: its ids meet after some 77,000."""
    return f"{default_generate_id(item_type).rpartition('_')[0]}_{uuid.uuid4().hex}"


def _stored_item(item: Any) -> Document:
    return {
        "id": codec.identifier(item.id),
        "type": codec.identifier(item.type),
        **payloads.stored_item(item),
    }


def _page(found: list[Any], limit: int) -> Page[Any]:
    """What was found of ``limit`` + 1, as a page."""
    data = found[:limit]
    has_more = len(found) > limit
    return Page(data=data, has_more=has_more, after=data[-1].id if has_more else None)


def _is_descending(order: str) -> bool:
    if order not in ("asc", "desc"):
        raise ValueError(f"order is 'asc' or 'desc', not {order!r}.")
    return order == "desc"
