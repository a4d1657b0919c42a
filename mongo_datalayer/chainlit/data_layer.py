"""The data layer: Chainlit's contract on MongoDB.

Chainlit calls the methods that write steps and elements from tasks that nobody awaits, in any
order. So each method copies what it needs from its arguments before it awaits anything, and its
write waits behind the earlier ones to the same thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User
from pymongo.errors import PyMongoError

from mongo_datalayer.chainlit import codec, session, startup
from mongo_datalayer.chainlit.connected_layer import ConnectedLayer
from mongo_datalayer.chainlit.session import logged_once, queued
from mongo_datalayer.chainlit.threads import ThreadChanges
from mongo_datalayer.model.bson_values import required_id, to_id, to_text
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.times import now
from mongo_datalayer.mongodb.logger import get_logger, log_failure
from mongo_datalayer.mongodb.write_queue import is_named
from mongo_datalayer.storage.conversion import converted
from mongo_datalayer.storage.hooks import StoredFeedback

if TYPE_CHECKING:
    from chainlit.element import Element, ElementDict
    from chainlit.step import StepDict
    from chainlit.types import ThreadDict

logger = get_logger(__name__)

PAGE_LIMIT = 200
"""Most threads on one page of list_threads."""


class MongoDataLayer(ConnectedLayer):
    """Chainlit's users, threads, steps, elements and feedback in MongoDB.

    It connects with the first call, or when Chainlit's server starts. Errors of the database reach
    the caller as the driver raises them; writes that Chainlit does not await are logged as well.

    Args:
        uri: Where MongoDB is; the layer makes its own client and closes it.
        client: Your client instead: PyMongo's ``AsyncMongoClient``, Motor's
            ``AsyncIOMotorClient`` or mongomock-motor's. It is never closed by the layer.
        database: Name of the database; None for the one that the URI names, else ``chainlit``.
        storage_client: Where the files of elements go: any Chainlit storage client. None for
            GridFS in the same database.
        order_by: Whether lists begin with the thread of the newest step (``"activity"``) or the
            newest thread (``"creation"``).
        timeout_ms: How long one operation may take with its retries, in milliseconds.
            ``timeoutMS`` in the URI takes precedence.
        server_api: MongoDB's Stable API that a client made of ``uri`` declares: ``"1"``, or
            ``"1-strict"`` to refuse all that is not in it. None for all that the server offers.
        search_index: Keep an index of the words in each user's threads, so that keyword search is
            quick among thousands of them.
        serve_files: Serve the files in GridFS from Chainlit's server, where it runs in this
            process. The first data layer counts; :func:`~mongo_datalayer.files.mount_files` puts
            another one, or another app, in its place.
        indexes: ``"create"`` makes missing indexes at the start of the app, or with the first call.
            ``"check"`` logs which are missing when an app starts.

    Attributes:
        storage_client: Where the files of elements go.

    Raises:
        ConfigurationError: not exactly one of ``uri`` and ``client`` is given, or one is wrong.
    """

    # Users ------------------------------------------------------------------------------------

    async def get_user(self, identifier: str) -> PersistedUser | None:
        """The user, or None."""
        identifier = to_id(identifier)
        stored = await self._connection.read(lambda: self._users.by_identifier(identifier))
        return None if stored is None else await converted(session.read_user, stored)

    async def create_user(self, user: User) -> PersistedUser:
        """Create a user, or refresh the metadata and display name of an existing one."""
        taken = session.stored_user(user)
        stored = await self._connection.read(lambda: session.put_user(self._users, *taken))
        return await converted(session.read_user, stored)

    # Threads ----------------------------------------------------------------------------------

    async def get_thread_author(self, thread_id: str) -> str:
        """The identifier of the thread's owner; ``""`` when there is no such thread or owner."""
        thread_id = to_id(thread_id)
        return await self._connection.read(lambda: self._threads.author(thread_id)) or ""

    async def get_thread(self, thread_id: str) -> ThreadDict | None:
        """The whole thread, or None; steps in reading order, element links freshly signed."""
        thread_id = to_id(thread_id)
        stored = await self._connection.read(lambda: self._threads.documents.get(thread_id))
        if stored is None:
            return None
        thread = await converted(codec.read_thread, stored)
        if thread["elements"]:
            await self._connection.call(self._files.link(thread["elements"]))
        return cast("ThreadDict", thread)

    async def list_threads(
        self, pagination: Pagination, filters: ThreadFilter
    ) -> PaginatedResponse[ThreadDict]:
        """A page of a user's threads, newest first, without steps.

        ``createdAt`` of an entry is the time the list is ordered by.

        Args:
            pagination: ``first`` is at most :data:`PAGE_LIMIT`; ``cursor`` is the ``endCursor`` of
                the page before.
            filters: ``userId`` is required. ``search`` is a literal text to find in names and
                messages, ignoring case. ``feedback`` is 0 or 1.

        Raises:
            ValueError: ``userId`` is missing, or the search text is too long.
            InvalidCursorError: the cursor is not one of ours.
        """
        if not filters.userId:
            raise ValueError("list_threads needs filters.userId: it lists one user's threads.")
        limit = min(max(pagination.first, 1), PAGE_LIMIT)
        cursor = Cursor.decode(pagination.cursor) if pagination.cursor else None
        user_id = to_id(filters.userId)
        search = None if filters.search is None else to_text(filters.search)
        stored = await self._connection.read(
            lambda: self._threads.lists.page(
                user_id,
                limit=limit + 1,
                time_field=self._time_field,
                cursor=cursor,
                search=search,
                feedback=filters.feedback,
            )
        )
        read_page = partial(codec.read_page, limit=limit, time_field=self._time_field)
        entries, info = await converted(read_page, stored)
        return PaginatedResponse(pageInfo=PageInfo(**info), data=cast("list[ThreadDict]", entries))

    @logged_once
    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """Change what is given of a thread, or make the thread. None leaves a value unchanged.

        Metadata is merged per top-level key; a value of None removes the key. A deleted thread
        stays deleted, unless name and owner are given: Chainlit begins a conversation with both.

        Args:
            thread_id: The thread.
            name: Cut to :data:`~mongo_datalayer.chainlit.codec.NAME_LENGTH` characters.
            user_id: Id of the owner; the owner's identifier is stored beside it.
            metadata: A map or its JSON text, else ValueError. Its ``name`` names a nameless thread.
            tags: They replace the thread's tags.
        """
        current = session.current_session()
        thread_id = required_id(thread_id, "a thread")
        metadata = session.take_metadata(metadata)
        taken = session.take_changes(name=name, metadata=metadata, tags=tags, session=current)
        user_id = None if user_id is None else required_id(user_id, "a user")

        naming = name is not None

        async def update(changes: ThreadChanges) -> None:
            owner = await session.thread_owner(self._users, user_id, current, naming=naming)
            changes = replace(changes, values={**changes.values, **owner})
            fallback = {} if owner else session.session_owner(current, thread_id)
            await self._threads.update(thread_id, changes, owner=fallback)

        async def put() -> None:
            await self._connection.retried(partial(update, await taken.result()))

        try:
            call = f"update_thread in thread {thread_id}"
            await self._connection.in_order(thread_id, put, name=call)
        except PyMongoError:
            # Chainlit awaits this write when a browser disconnects, and an error would make it
            # skip the clean-up of the session and its files. The error is in the log.
            if current is None or naming or not session.is_saved_by_session(metadata or {}):
                raise

    async def update_pinned_state(self, thread_id: str, pinned: bool) -> None:
        """Pin a thread or not: ``metadata.pinned``, which ``prune --keep-pinned`` spares.

        Chainlit's proposal #2906 names this method. Until Chainlit has it, your app calls it.
        Nothing happens when there is no such thread.
        """
        thread_id = required_id(thread_id, "a thread")
        await self._write(
            "update_pinned_state", thread_id, lambda: self._threads.pin(thread_id, bool(pinned))
        )

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with everything in it; late writes do not bring it back.

        What a person writes afterwards under the same id begins a new thread.
        """
        thread_id = required_id(thread_id, "a thread")
        # Not when its slot comes: what a person writes behind it is newer.
        called_at = now()
        object_keys = await self._write(
            "delete_thread", thread_id, lambda: self._threads.delete(thread_id, called_at)
        )
        await self._files.delete(object_keys)

    async def delete_user_session(self, id: str) -> bool:  # noqa: A002 - the name Chainlit documents
        """Remove what a Chainlit session saved in its thread's metadata; False if there is none."""
        session_id = to_id(id)
        return await self._connection.read(
            lambda: self._threads.delete_session_metadata(session_id)
        )

    # Steps ------------------------------------------------------------------------------------

    @queued
    async def create_step(self, step_dict: StepDict) -> None:
        """Append a step to its thread, or fill in what the stored one lacks."""
        await self._write_step("create_step", lambda: self._threads.steps.create, step_dict)

    @queued
    async def update_step(self, step_dict: StepDict) -> None:
        """Set the given fields of a step, or append it. None leaves a field unchanged."""
        await self._write_step("update_step", lambda: self._threads.steps.update, step_dict)

    @queued
    async def delete_step(self, step_id: str) -> None:
        """Delete a step, the steps below it, their elements and their feedback.

        In a chat only a step of the chat's own thread, as browsers choose the ids of messages.

        Raises:
            MongoDataLayerError: outside of a chat, where several threads have a step with this id.
        """
        step_id = required_id(step_id, "a step")
        current = session.current_session()
        own = session.own_thread(None, current)

        async def delete_from(thread_id: str) -> bool:
            found, object_keys = await self._write(
                f"delete_step of {step_id}",
                thread_id,
                lambda: self._threads.steps.delete(thread_id, step_id),
            )
            await self._files.delete(object_keys)
            return found

        async def delete() -> None:
            if (own and await delete_from(own)) or session.is_chat(current):
                return
            thread_id = await self._thread_with("steps", step_id)
            if thread_id:
                await delete_from(thread_id)

        # In a queue, so that close() waits for the lookup too.
        behind = None if session.is_chat(current) else is_named
        deletion = self._connection.in_order(("deletion", own, step_id), delete, behind=behind)
        await self._connection.submit(deletion)

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """A user's favourite steps, newest first."""
        user_id = to_id(user_id)
        stored = await self._connection.read(lambda: self._threads.lists.favorites(user_id))
        return cast("list[StepDict]", await converted(codec.read_favorites, stored))

    async def set_step_favorite(self, step_dict: StepDict, favorite: bool) -> StepDict:
        """Mark a step as favourite or not; other fields are written only where it is not stored.

        Returns:
            A copy of the step with the mark.
        """
        metadata = {**(step_dict.get("metadata") or {}), "favorite": bool(favorite)}
        marked = cast("StepDict", {**step_dict, "metadata": metadata})
        await self._write_step(
            "set_step_favorite", lambda: self._threads.steps.put_favorite, marked
        )
        return marked

    # Feedback ---------------------------------------------------------------------------------

    async def upsert_feedback(self, feedback: Feedback) -> str:
        """Put feedback on its step, in place of the step's earlier feedback.

        It may arrive before its step. In a chat it is for a step of the chat's own thread.

        Returns:
            The feedback's id; ``""`` when ``before_store`` refused it.

        Raises:
            ValueError: the value is not 0 or 1.
            NotFoundError: the step was deleted, is in no thread, or too much waits for other steps.
            MongoDataLayerError: several threads have such a step, and none is given.
        """
        kept = self._hooks.apply("feedback", vars(feedback))
        if kept is None:
            return ""
        feedback = Feedback(**kept)
        thread_id, stored = await self._put_feedback(feedback)
        # Outside of the queue, so that the callback may write to the thread.
        await self._hooks.feedback_stored(
            StoredFeedback(thread_id, (stored["forId"],), feedback.value == 1, feedback.comment)
        )
        return str(stored["id"])

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Remove feedback; False when there was none with this id."""
        feedback_id = to_id(feedback_id)

        async def delete() -> bool:
            return await self._connection.write(
                self._feedback_queues.get(feedback_id, ("feedback", feedback_id)),
                lambda: self._threads.feedback.delete(feedback_id),
                name=f"delete_feedback of {feedback_id}",
            )

        return await self._connection.call(delete())

    # Elements ---------------------------------------------------------------------------------

    @queued
    async def create_element(self, element: Element) -> None:
        """Store an element and its file, in place of the element with its id.

        In a chat the element goes into the chat's own thread, whatever the browser sent.

        Raises:
            StorageError: the file is gone or the storage client failed. An earlier version stays
                with its file; a new element is stored without one.
        """
        given = session.take_element(element, self._hooks)
        if given is None:
            return
        (thread_id, element_id, owner, conversion), content, failure = given
        name = f"create_element of {element_id} in thread {thread_id}"
        place: dict[str, Any] = {}

        async def create() -> None:
            stored = {**await conversion.result(), **place}
            error = failure
            if content is not None:
                error = await self._files.store(stored, thread_id, content)
            if error is not None:
                log_failure(logger, name, error)
                if await self._is_stored(thread_id, element_id):
                    raise error
            unused = await self._connection.write(
                thread_id,
                lambda: self._elements.put(thread_id, stored, owner=owner),
                name=name,
            )
            if unused:
                await self._files.delete(unused)
            if error is not None:
                raise error

        # In a queue of its own: the last of several versions must win, however long each upload
        # takes, while other writes to the thread do not wait for files.
        key = ("element", thread_id, element_id)
        take_place = partial(self._elements.take_place, place)
        await self._connection.submit(self._connection.in_order(key, create, at_once=take_place))

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        """One element of a thread with a freshly signed link, or None."""
        thread_id = to_id(thread_id)
        element_id = to_id(element_id)
        stored = await self._connection.read(lambda: self._elements.get(thread_id, element_id))
        if stored is None:
            return None
        element = await converted(partial(codec.read_element, thread_id=thread_id), stored)
        await self._connection.call(self._files.link([element]))
        return cast("ElementDict", element)

    @queued
    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        """Delete an element and its file; in a chat, only of the chat's own thread.

        Raises:
            MongoDataLayerError: no thread is given, and several have an element with this id.
        """
        element_id = required_id(element_id, "an element")
        given = session.own_thread(thread_id, session.current_session())

        async def delete() -> None:
            thread_id = given or await self._thread_with("elements", element_id)
            if thread_id:
                object_keys = await self._write(
                    f"delete_element of {element_id}",
                    thread_id,
                    lambda: self._elements.delete(thread_id, element_id),
                )
                await self._files.delete(object_keys)

        def may_create(key: Hashable, name: str | None) -> bool:
            # Its upload too, which has no name: the lookup would find nothing until then.
            is_its = isinstance(key, tuple) and key[0] == "element" and key[-1] == element_id
            return is_its or is_named(key, name)

        key = ("element", given, element_id)
        await self._connection.in_order(key, delete, behind=None if given else may_create)

    async def build_debug_url(self) -> str:
        """``""``: there is no page outside of Chainlit to look at a thread."""
        return ""

    async def _write_step(
        self, method: str, write: Callable[[], Callable[..., Awaitable[bool]]], step_dict: StepDict
    ) -> None:
        if self._hooks.before:
            kept = self._hooks.apply("step", step_dict)
            if kept is None:
                return
            step_dict = cast("StepDict", kept)
        thread_id, step_id, owner, conversion = session.take_step(step_dict)

        async def put() -> None:
            step = await conversion.result()
            await self._connection.retried(lambda: write()(thread_id, step, owner=owner))

        name = f"{method} of {step_id} in thread {thread_id}"
        await self._connection.submit(self._connection.in_order(thread_id, put, name=name))


startup.check_at_start(MongoDataLayer)
