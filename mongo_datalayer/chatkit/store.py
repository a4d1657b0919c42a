"""The store: ChatKit's contract on MongoDB. Every method sees the data of one owner only."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from chatkit.store import StoreItemType, TContext, default_generate_id
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    FeedbackKind,
    FileAttachment,
    Page,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
)

from mongo_datalayer.chatkit import codec
from mongo_datalayer.chatkit.attachments import new_upload
from mongo_datalayer.chatkit.connected_store import ConnectedStore
from mongo_datalayer.chatkit.errors import MissingError, UploadRefusedError
from mongo_datalayer.chatkit.object_keys import object_key
from mongo_datalayer.chatkit.owners import owner_name
from mongo_datalayer.chatkit.pages import page_request, read_one, read_page
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.errors import InvalidCursorError
from mongo_datalayer.model.bson_values import required_id, to_id
from mongo_datalayer.model.documents import Document
from mongo_datalayer.storage.conversion import Conversion
from mongo_datalayer.storage.hooks import StoredFeedback

CHATKIT_LINKS_ATTACHMENTS = "thread_id" in FileAttachment.model_fields
"""Whether ChatKit saves a message's attachments with their thread; it does from 1.6 on."""

Result = TypeVar("Result")


class MongoChatKitStore(ConnectedStore[TContext]):
    """ChatKit's threads, items and attachments in MongoDB; pass it for both stores of a server.

    Everything belongs to the owner that ``user_id`` names for the request's context. No id reaches
    another owner's data, and two owners may have the same ids.

    The store connects with the first call. You see errors of the database as the driver raises
    them.

    Args:
        uri: Where MongoDB is; the store makes its own client and closes it.
        client: Your client instead: PyMongo's ``AsyncMongoClient`` or Motor's
            ``AsyncIOMotorClient``. It is never closed by the store.
        database: Name of the database; None for the one that the URI names, else ``chainlit``.
        user_id: Names the owner, by a non-blank str, an int or a UUID: takes the context that
            ChatKit passes along. By default the context's ``user_id``, an attribute or a key.
        timeout_ms: How long one operation may take, retries included. ``timeoutMS`` in the URI
            takes precedence.
        server_api: MongoDB's Stable API that a client made of ``uri`` declares: ``"1"``, or
            ``"1-strict"`` to refuse all that is not in it. None for all that the server offers.
        bucket: Name of the GridFS bucket of the attachments' files.
        links: Makes the links that upload and show them; by default with the environment's
            settings. ChatKit needs whole addresses, so the app's address must be set.
        attachment_bytes: How large an attachment may be, in bytes.

    Attributes:
        files: The attachments' files, for :func:`~mongo_datalayer.files.files_route`.

    Raises:
        ConfigurationError: neither or both of ``uri`` and ``client`` are given, or one of the
            arguments cannot be used.
    """

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
        stored = await self._connection.read(lambda: self._threads.get(key))
        if stored is None:
            raise MissingError(f"Thread {thread_id} not found")
        thread: ThreadMetadata = await read_one(stored, codec.read_thread)
        return thread

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        """Make the thread, or set its own fields; items that come with it are left out.

        One command. The thread keeps its position in lists. A deleted thread stays deleted.
        """
        key = self._key(thread.id, context, to_write="a thread")
        taken = codec.take_thread(thread)
        created_at = thread.created_at
        await self._put("save_thread", key, taken, lambda t: self._threads.put(key, t, created_at))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: TContext
    ) -> Page[ThreadMetadata]:
        """A page of the owner's threads by ``created_at``, without items. One command.

        The next page begins after the thread that this one ended with, even if it is deleted.

        Raises:
            InvalidCursorError: the owner never had the thread ``after``.
            ValueError: ``order`` is neither ``asc`` nor ``desc``.
        """
        owner = owner_name(self._user_id(context))
        request = page_request(limit, after, order)
        stored = await self._connection.read(lambda: self._threads.page(owner, request))
        if stored is None:
            raise InvalidCursorError(f"Thread {after!r} not found: it cannot be where a page ends.")
        return await read_page(stored, request, codec.read_thread)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        """Delete the thread with its items and attachments; late writes do not bring it back.

        Attachments that another thread has as well stay. Nothing happens when there is no such
        thread.
        """
        key = self._key(thread_id, context)
        retried = self._connection.retried

        async def delete() -> None:
            await retried(lambda: self._threads.delete(key))
            for attachment in await retried(lambda: self.attachments.of_thread(key)):
                await retried(partial(self.attachments.leave, attachment, key["id"]))

        queue, name = _slot("delete_thread", key)
        await self._connection.in_order(queue, delete, name=name)

    # Items ------------------------------------------------------------------------------------

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        """A page of the thread's items by ``created_at``, equal times in order of arrival.

        One command. The next page begins after the item that this one ended with, even if it is
        deleted. A thread that does not exist has no items.

        Raises:
            MissingError: ``after`` never was an item of the thread.
            ValueError: ``order`` is neither ``asc`` nor ``desc``.
        """
        key = self._key(thread_id, context)
        request = page_request(limit, after, order)
        stored = await self._connection.read(lambda: self._threads.items_page(key, request))
        return await read_page(stored, request, partial(self._read_item, key))

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        """One item. One command.

        Raises:
            MissingError: the owner's thread has no such item.
        """
        key = self._key(thread_id, context)
        stored_id = to_id(item_id)
        stored = await self._connection.read(lambda: self._threads.get_item(key, stored_id))
        if stored is None:
            raise MissingError(f"Item {item_id} not found in thread {thread_id}")
        item: ThreadItem = await read_one(stored, partial(self._read_item, key))
        return item

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        """Append an item. One command.

        Adding the same item again changes nothing, and a later version of it (same id, type and
        ``created_at``) replaces it in place. A deleted thread stays deleted.

        Raises:
            MissingError: the owner has no such thread.
            AlreadyExistsError: the thread has another item with this id; it stays as it is.
        """
        key = self._key(thread_id, context, to_write="a thread")
        kept = self._kept(item)
        if kept is None:
            return
        taken = codec.take_item(kept)
        if isinstance(item, UserMessageItem) and not CHATKIT_LINKS_ATTACHMENTS:
            for attachment in item.attachments:
                await self._put_attachment(attachment, key["id"], context)
        name = (key["owner"], key["id"], to_id(item.id))
        # When a stream is cancelled while its finished item is being stored, ChatKit adds the
        # unfinished one under the same id: the first one wins, and that is no error.
        created_at, lenient = item.created_at, self._cancelled.pop(name, False)
        try:
            await self._put(
                "add_thread_item",
                key,
                taken,
                lambda stored: self._threads.add_item(key, stored, created_at, lenient=lenient),
                item.id,
            )
        except asyncio.CancelledError:
            self._cancelled[name] = True
            raise

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        """Replace the item with its id, or append it. One command, or three.

        The item keeps its position and its feedback. A deleted item or thread stays deleted.

        Raises:
            MissingError: the owner has no such thread.
        """
        key = self._key(thread_id, context, to_write="a thread")
        kept = self._kept(item)
        if kept is None:
            return
        taken = codec.take_item(kept)
        created_at = item.created_at
        await self._put(
            "save_item",
            key,
            taken,
            lambda stored: self._threads.put_item(key, stored, created_at),
            item.id,
        )

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        """Delete an item; nothing happens when there is none."""
        key = self._key(thread_id, context)
        stored_id = to_id(item_id)
        await self._write(
            "delete_thread_item", key, lambda: self._threads.delete_item(key, stored_id), item_id
        )

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: TContext
    ) -> None:
        """Set the feedback on items; call it in ``ChatKitServer.add_feedback``.

        One command for each item. Without items nothing happens.

        Raises:
            MissingError: none of them is an item of the owner's thread.
        """
        key = self._key(thread_id, context)
        names = list(map(to_id, item_ids))

        async def put() -> bool:
            puts = [partial(self._threads.put_feedback, key, name, feedback) for name in names]
            return any([await self._connection.retried(put) for put in puts])

        queue, name = _slot("add_feedback", key)
        if not names:
            return
        if not await self._connection.in_order(queue, put, name=name):
            raise MissingError(f"Items {', '.join(item_ids)} not found in thread {thread_id}")
        positive = feedback == "positive"
        await self._hooks.feedback_stored(StoredFeedback(key["id"], tuple(names), positive))

    # Attachments ------------------------------------------------------------------------------

    async def create_attachment(
        self,
        input: AttachmentCreateParams,  # noqa: A002 - ChatKit's name
        context: TContext,
    ) -> Attachment:
        """Announce an attachment; its ``upload_descriptor`` tells browsers where to send the file.

        The link takes one file of the announced size and type, once, until it expires. An image
        has a ``preview_url``, which is signed again whenever you load the attachment.

        Raises:
            UploadRefusedError: the file is empty or larger than ``attachment_bytes``.
            ConfigurationError: the app's address or the secret that signs links is not set.
        """
        if not 0 < input.size <= self._attachment_bytes:
            raise UploadRefusedError(
                413 if input.size > 0 else 400,
                f"An attachment has 1 to {self._attachment_bytes} bytes, not {input.size}.",
            )
        key = self._new_attachment(input.mime_type, context)
        attachment = self.files.announced(key, input)
        upload = new_upload(key, input.name, input.mime_type, input.size, self._bucket)
        await self._put(
            "create_attachment",
            key,
            codec.take_attachment(attachment),
            lambda stored: self.attachments.announce(key, stored, upload),
        )
        return attachment

    async def add_attachment(
        self, thread_id: str, name: str, mime_type: str, content: bytes, context: TContext
    ) -> Attachment:
        """Store a file that your server made, such as a generated image, for a thread.

        The attachment's file is there when this returns. It is deleted with the thread. An image
        has a ``preview_url``; put it into a ``GeneratedImageItem``, and the store signs it again
        whenever you load the item.

        Raises:
            ConfigurationError: the app's address or the secret that signs links is not set.
        """
        key = self._new_attachment(mime_type, context)
        attachment: Attachment = self.files.made(key, name, mime_type)
        upload = new_upload(key, name, mime_type, len(content), self._bucket)
        thread_id = required_id(thread_id, "a thread")
        await self._put(
            "add_attachment",
            key,
            codec.take_attachment(attachment),
            lambda stored: self.attachments.keep(key, stored, thread_id, upload, content),
        )
        return attachment

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        """Set the attachment's fields, or make it. A deleted one stays deleted.

        One command, and those of a file for fields of 1 MiB and more. An attachment lives as long
        as one of the threads that it was saved with.
        """
        thread_id = getattr(attachment, "thread_id", None)
        await self._put_attachment(
            attachment, None if thread_id is None else to_id(thread_id), context
        )

    async def _put_attachment(
        self, attachment: Attachment, thread_id: str | None, context: TContext
    ) -> None:
        key = self._key(attachment.id, context, to_write="an attachment")
        await self._put(
            "save_attachment",
            key,
            codec.take_attachment(attachment),
            lambda stored: self.attachments.put(key, stored, thread_id),
        )

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        """The attachment with a new preview link. One command.

        Once its file is stored, it has no ``upload_descriptor`` any more.

        Raises:
            MissingError: the owner has no such attachment.
        """
        key = self._key(attachment_id, context)
        stored = await self._connection.read(lambda: self.attachments.get(key))
        if stored is None:
            raise MissingError(f"Attachment {attachment_id} not found")
        attachment = await read_one(stored, codec.read_attachment)
        loaded: Attachment = self.files.refreshed(key["owner"], attachment)
        upload = stored.get("upload")
        if isinstance(upload, dict) and "at" in upload:
            loaded = loaded.model_copy(update={"upload_descriptor": None})
        return loaded

    async def read_attachment(self, attachment_id: str, context: TContext) -> bytes:
        """The whole file of an attachment, to pass to a model.

        Raises:
            NotFoundError: the owner has no such attachment, or its file is not there yet.
        """
        key = self._key(attachment_id, context)
        return await self._connection.read(lambda: self.files.bucket.read(object_key(key)))

    async def delete_attachment(self, attachment_id: str, context: TContext) -> None:
        """Delete the attachment and its file; nothing happens when there is none."""
        key = self._key(attachment_id, context)
        await self._write("delete_attachment", key, lambda: self.attachments.delete(key))

    # Inside -----------------------------------------------------------------------------------

    def _key(self, id: str, context: TContext, to_write: str = "") -> Document:  # noqa: A002
        """The ``_id`` of an owner's thread or attachment; ``to_write`` says what is written."""
        owner = owner_name(self._user_id(context))
        return owned(owner, required_id(id, to_write) if to_write else to_id(id))

    def _new_attachment(self, mime_type: str, context: TContext) -> Document:
        """The key of a new attachment."""
        new = self.generate_attachment_id(mime_type, context)
        return self._key(new, context, to_write="an attachment")

    def _kept(self, item: ThreadItem) -> ThreadItem | None:
        """The item as the app's hooks let it be stored; None when they refuse it."""
        if not self._hooks.before:
            return item
        kept = self._hooks.apply("item", item.model_dump(mode="json"))
        # Validated again: what cannot be read must not be stored.
        return None if kept is None else codec.ITEMS.validate_python(kept)

    def _read_item(self, key: Document, stored: Document) -> Any:
        item = codec.read_item(stored)
        if isinstance(item, UserMessageItem) and item.attachments:
            attachments = [self.files.sent(key["owner"], a) for a in item.attachments]
            return item.model_copy(update={"attachments": attachments})
        if item.type == "generated_image" and item.image is not None:
            image = self.files.shown(key["owner"], item.image)
            return item.model_copy(update={"image": image})
        return item

    async def _put(
        self,
        method: str,
        key: Document,
        taken: Conversion[Document],
        put: Callable[[Document], Awaitable[object]],
        item_id: str | None = None,
    ) -> None:
        """As :meth:`_write`, for what was taken at the call and is converted in its turn."""

        async def operation() -> None:
            stored = await taken.result()
            await self._connection.retried(lambda: put(stored))

        queue, name = _slot(method, key, item_id)
        await self._connection.in_order(queue, operation, name=name)

    async def _write(
        self,
        method: str,
        key: Document,
        operation: Callable[[], Awaitable[Result]],
        item_id: str | None = None,
    ) -> Result:
        """Run ``operation``, retried, behind the earlier writes to a thread or attachment."""
        queue, name = _slot(method, key, item_id)
        return await self._connection.write(queue, operation, name=name)


def _slot(method: str, key: Document, item_id: str | None = None) -> tuple[tuple[str, ...], str]:
    """The queue in which a write waits, and what the log calls it."""
    target = f"{key['id']!r}" if item_id is None else f"{item_id!r} in thread {key['id']!r}"
    return (key["owner"], key["id"]), f"{method} of {target}"


def _new_id(item_type: StoreItemType) -> str:
    # ChatKit's prefix with 128 random bits: among 77,000 of its ids of 32 bits two are the same.
    return f"{default_generate_id(item_type).rpartition('_')[0]}_{uuid.uuid4().hex}"
