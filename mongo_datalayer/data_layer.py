"""The data layer: Chainlit's contract on MongoDB.

Chainlit calls the methods that write steps and elements from tasks that nobody awaits, in any
order. Each method therefore takes what it needs from its arguments before it awaits anything, and
waits its turn behind the earlier writes to its thread.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from chainlit.data.base import BaseDataLayer
from chainlit.data.utils import queue_until_user_message
from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User
from pymongo.errors import PyMongoError

from mongo_datalayer import chat, codec, driver
from mongo_datalayer.config import DEFAULT_DATABASE, DEFAULT_TIMEOUT_MS, Settings
from mongo_datalayer.cursor import Cursor
from mongo_datalayer.documents import Document
from mongo_datalayer.elements import ElementFiles
from mongo_datalayer.errors import ConfigurationError, StorageError
from mongo_datalayer.files import GridFSStorageClient
from mongo_datalayer.indexes import BUCKET, IndexReport, apply_indexes
from mongo_datalayer.ordering import Turn, Turns
from mongo_datalayer.recent import Recent
from mongo_datalayer.retries import Retries
from mongo_datalayer.search_index import SearchIndexer, SearchUpkeep
from mongo_datalayer.threads import AT_ONCE, NewStep, ThreadChanges, Threads
from mongo_datalayer.users import Users
from mongo_datalayer.values import plain_text

if TYPE_CHECKING:
    from chainlit.data.storage_clients.base import BaseStorageClient
    from chainlit.element import Element, ElementDict
    from chainlit.session import BaseSession
    from chainlit.step import StepDict
    from chainlit.types import ThreadDict

logger = logging.getLogger(__name__)

PAGE_LIMIT = 200
"""Most threads on one page of list_threads."""

CLOSE_SECONDS = 10.0
"""How long close() waits for writes that are on their way."""

REMEMBERED_STEPS = 10_000
"""Of how many steps the layer remembers the thread, for calls that name only the step."""

_TIME_FIELDS = {"activity": "updatedAt", "creation": "createdAt"}
_FEEDBACK_IDS = uuid.UUID("6f1ed3a2-64a5-4e1f-9a3c-0f2d0a0b5c11")

Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])


def queued(method: Method) -> Method:
    """Chainlit's ``queue_until_user_message``, which this leaves out where there is no chat.

    Inside a chat the call waits for the user's first message, so that a mere visit makes no
    thread. Outside of one, in a script or a test, Chainlit's decorator would raise.
    """
    in_chat = queue_until_user_message()(method)  # type: ignore[no-untyped-call]  # Chainlit's

    @functools.wraps(method)
    async def wrapper(self: MongoDataLayer, *args: Any, **kwargs: Any) -> Any:
        run = method if chat.current_session() is None else in_chat
        return await run(self, *args, **kwargs)

    return cast(Method, wrapper)


class MongoDataLayer(BaseDataLayer):
    """Chainlit's users, threads, steps, elements and feedback in MongoDB.

    Nothing is connected before the first call. Errors of the database reach the caller as the
    driver raises them; writes that Chainlit does not await are logged as well.

    Args:
        uri: Where MongoDB is; the layer makes its own client and closes it.
        client: Your client instead: PyMongo's ``AsyncMongoClient``, Motor's
            ``AsyncIOMotorClient`` or mongomock-motor's. It is never closed by the layer.
        database: Name of the database.
        storage_client: Where the files of elements go: any Chainlit storage client. None for
            GridFS in the same database; :func:`~mongo_datalayer.files.mount_files` serves them.
        order_by: What lists of threads are ordered by: ``"activity"``, the newest step, or
            ``"creation"``.
        timeout_ms: How long one operation may take, in milliseconds, retries after transient
            faults included. ``timeoutMS`` in the URI goes before it.
        search_index: Keep an index of the words in each user's threads, so that keyword search is
            quick among thousands of them.

    Attributes:
        storage_client: Where the files of elements go.

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
        storage_client: BaseStorageClient | None = None,
        order_by: Literal["activity", "creation"] = "activity",
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        search_index: bool = False,
    ) -> None:
        if (uri is None) == (client is None):
            raise ConfigurationError(
                "MongoDataLayer takes a MongoDB URI or client=…, exactly one of them."
            )
        if order_by not in _TIME_FIELDS:
            raise ConfigurationError(f"order_by is 'activity' or 'creation', not {order_by!r}.")
        self._owns_client = client is None
        self._client: driver.Client = (
            driver.connect(uri, timeout_ms=timeout_ms) if uri is not None else client
        )
        self._database = driver.open_database(self._client, database)
        self.storage_client: BaseStorageClient = (
            GridFSStorageClient(self._database) if storage_client is None else storage_client
        )
        self._files = ElementFiles(self.storage_client)
        self._time_field = _TIME_FIELDS[order_by]
        seconds = (driver.timeout(self._client) if uri else None) or timeout_ms / 1000
        self._retries = Retries(self._client, seconds)
        self._users = Users(self._database)
        self._threads = Threads(self._database, search_index=search_index)
        self._search_upkeep: SearchUpkeep | None = None
        if search_index:
            if driver.is_mongomock(self._database):
                raise ConfigurationError("search_index=True needs MongoDB; mongomock cannot do it.")
            self._search_upkeep = SearchUpkeep(SearchIndexer(self._database))
        self._turns: Turns[NewStep] = Turns()
        self._step_threads: Recent[str, str] = Recent(REMEMBERED_STEPS)
        self._closed = False

    @classmethod
    def from_env(cls, **options: Any) -> MongoDataLayer:
        """A data layer for ``MONGODB_URI`` and ``MONGODB_DATABASE`` (default ``chainlit``).

        Args:
            options: Further arguments of the constructor; they win over the environment.

        Raises:
            ConfigurationError: ``MONGODB_URI`` is not set, or a variable cannot be used.
        """
        settings = Settings.load()
        defaults = {"database": settings.database, "timeout_ms": settings.timeout_ms}
        return cls(settings.require_uri(), **{**defaults, **options})

    async def create_indexes(self) -> IndexReport:
        """Create the indexes that are missing; safe to repeat, also by several processes.

        Those of the GridFS bucket that the files are in are among them.
        """
        storage = self.storage_client
        bucket = storage.bucket.name if isinstance(storage, GridFSStorageClient) else BUCKET
        return await apply_indexes(
            self._database, bucket=bucket, search=self._search_upkeep is not None
        )

    # Users ------------------------------------------------------------------------------------

    async def get_user(self, identifier: str) -> PersistedUser | None:
        """The user, or None."""
        identifier = codec.identifier(identifier)
        stored = await self._retried(lambda: self._users.get(identifier))
        return None if stored is None else _persisted_user(stored)

    async def create_user(self, user: User) -> PersistedUser:
        """Make the user, or refresh the metadata and display name of the one that is there."""
        identifier = codec.identifier(user.identifier)
        display_name = None if user.display_name is None else plain_text(user.display_name)
        metadata = codec.stored_fields(user.metadata or {})
        stored = await self._retried(
            lambda: self._users.put(identifier, display_name=display_name, metadata=metadata)
        )
        return _persisted_user(stored)

    # Threads ----------------------------------------------------------------------------------

    async def get_thread_author(self, thread_id: str) -> str:
        """The identifier of the thread's owner; ``""`` when there is no such thread or owner."""
        thread_id = codec.identifier(thread_id)
        return await self._retried(lambda: self._threads.author(thread_id)) or ""

    async def get_thread(self, thread_id: str) -> ThreadDict | None:
        """The whole thread, or None; steps in reading order, element links freshly signed."""
        thread_id = codec.identifier(thread_id)
        stored = await self._retried(lambda: self._threads.get(thread_id))
        if stored is None:
            return None
        thread = codec.read_thread(stored)
        await self._files.link(thread["elements"])
        return cast("ThreadDict", thread)

    async def list_threads(
        self, pagination: Pagination, filters: ThreadFilter
    ) -> PaginatedResponse[ThreadDict]:
        """A page of a user's threads, newest first, without steps.

        One aggregation. With a filter one more, the first time that the layer meets a long thread
        of the user; a search with the search index takes two more commands.

        An entry's ``createdAt`` is the time the list is ordered by: Chainlit's frontend groups
        by it.

        Args:
            pagination: ``first`` is brought between 1 and :data:`PAGE_LIMIT`; ``cursor`` is the
                ``endCursor`` of the page before.
            filters: ``userId`` is required. ``search`` is a literal text, looked for in names
                and messages without regard to case. ``feedback`` is 0 or 1.

        Raises:
            ValueError: ``userId`` is missing, or the search text is too long.
            InvalidCursorError: the cursor is not one of ours.
        """
        if not filters.userId:
            raise ValueError("list_threads needs filters.userId: it lists one user's threads.")
        first = min(max(pagination.first, 1), PAGE_LIMIT)
        cursor = None if pagination.cursor is None else Cursor.decode(pagination.cursor)
        user_id = codec.identifier(filters.userId)
        search = None if filters.search is None else plain_text(filters.search)
        if search and self._search_upkeep is not None:
            self._search_upkeep.begin(user_id)
        stored = await self._retried(
            lambda: self._threads.page(
                user_id,
                limit=first + 1,
                time_field=self._time_field,
                cursor=cursor,
                search=search,
                feedback=filters.feedback,
            )
        )
        page = stored[:first]
        start, end = (
            (
                Cursor(thread[self._time_field], thread["_id"]).encode()
                for thread in (page[0], page[-1])
            )
            if page
            else (None, None)
        )
        return PaginatedResponse(
            pageInfo=PageInfo(hasNextPage=len(stored) > first, startCursor=start, endCursor=end),
            data=[
                cast("ThreadDict", codec.read_list_entry(thread, self._time_field))
                for thread in page
            ],
        )

    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """Change what is given of a thread, or make the thread. None leaves a value as it is.

        Metadata is merged per top-level key; a value of None removes the key. Writing metadata
        is not activity: it does not move the thread in lists. A deleted thread stays deleted.

        Args:
            thread_id: The thread.
            name: Cut to :data:`~mongo_datalayer.codec.NAME_LENGTH` characters.
            user_id: Id of the owner; the owner's identifier is stored beside it.
            metadata: ``metadata["name"]`` names only a thread that has no name.
            tags: They replace the thread's tags.
        """
        session = chat.current_session()
        thread_id = codec.identifier(thread_id)
        changes = chat.thread_changes(name=name, metadata=metadata, tags=tags, session=session)
        user_id = None if user_id is None else codec.identifier(user_id)
        ends_session = session is not None and metadata is not None and name is None
        try:
            await self._write(
                "update_thread",
                thread_id,
                lambda: self._update_thread(
                    thread_id, changes, user_id, session, naming=name is not None
                ),
            )
        except PyMongoError:
            # Chainlit awaits this write when a browser disconnects, and an error would make it
            # skip the clean-up of the session and its files. It was logged.
            if not (ends_session and chat.is_saved_by_session(metadata or {})):
                raise

    async def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with everything in it; late writes do not bring it back."""
        thread_id = codec.identifier(thread_id)
        object_keys = await self._write(
            "delete_thread", thread_id, lambda: self._threads.delete(thread_id)
        )
        await self._files.discard(object_keys)

    async def delete_user_session(self, id: str) -> bool:  # noqa: A002 - the name Chainlit documents
        """Remove what a Chainlit session saved in its thread's metadata; False if there is none."""
        session_id = codec.identifier(id)
        return await self._retried(lambda: self._threads.forget_session(session_id))

    # Steps ------------------------------------------------------------------------------------

    @queued
    async def create_step(self, step_dict: StepDict) -> None:
        """Append a step to its thread, or fill in what the stored one lacks.

        Steps that wait for their turn one behind the other are appended together.
        """
        thread_id, step = self._take_step(step_dict)
        new = NewStep(step, chat.session_owner(chat.current_session(), thread_id))
        try:
            async with self._turns.turn(thread_id, new) as turn:
                if not turn.done and not await self._create_with_others(thread_id, turn):
                    await self._retried(
                        lambda: self._threads.steps.create(thread_id, step, owner=new.owner)
                    )
        except Exception as exc:
            _log("create_step", thread_id, step["id"], exc)
            raise

    @queued
    async def update_step(self, step_dict: StepDict) -> None:
        """Set the given fields of a step, or append it. None leaves a field as it is."""
        thread_id, step = self._take_step(step_dict)
        owner = chat.session_owner(chat.current_session(), thread_id)
        await self._write(
            "update_step",
            thread_id,
            lambda: self._threads.steps.update(thread_id, step, owner=owner),
            item_id=step["id"],
        )

    @queued
    async def delete_step(self, step_id: str) -> None:
        """Delete a step, the steps below it, their elements and their feedback."""
        step_id = codec.identifier(step_id)
        expected = self._expected_thread(step_id)
        async with self._turns.turn(("deletion", step_id)):  # close() waits for the search too
            if expected is not None and await self._delete_step(expected, step_id):
                return
            thread_id = await self._retried(lambda: self._threads.steps.find(step_id))
            if thread_id is not None and thread_id != expected:
                await self._delete_step(thread_id, step_id)

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """A user's favourite steps, newest first.

        One aggregation; one more the first time that the layer meets a long thread of the user.
        """
        user_id = codec.identifier(user_id)
        stored = await self._retried(lambda: self._threads.steps.favorites(user_id))
        steps = [codec.read_step(step, thread_id) for thread_id, step in stored]
        return cast("list[StepDict]", codec.newest_first(steps))

    async def set_step_favorite(self, step_dict: StepDict, favorite: bool) -> StepDict:
        """Mark a step as favourite or not, and nothing else of it.

        Returns:
            A copy of the step with the mark.
        """
        thread_id, step = self._take_step(step_dict)
        favorite = bool(favorite)
        marked = cast(
            "StepDict",
            {**step_dict, "metadata": {**(step_dict.get("metadata") or {}), "favorite": favorite}},
        )
        whole = self._take_step(marked)[1]

        async def mark() -> None:
            if not await self._threads.steps.set_favorite(thread_id, step["id"], favorite):
                await self._threads.steps.create(thread_id, whole)

        await self._write("set_step_favorite", thread_id, mark, item_id=step["id"])
        return marked

    # Feedback ---------------------------------------------------------------------------------

    async def upsert_feedback(self, feedback: Feedback) -> str:
        """Put feedback on its step, in place of the step's earlier feedback.

        Feedback that comes before its step waits for it.

        Returns:
            The feedback's id.

        Raises:
            ValueError: the value is not 0 or 1.
            NotFoundError: the thread or the step was deleted; or no thread is given and the step
                is not stored.
        """
        if feedback.value not in (0, 1):
            raise ValueError(f"Feedback is 0 (down) or 1 (up), not {feedback.value!r}.")
        step_id = codec.identifier(feedback.forId)
        stored = codec.stored_feedback(
            id=feedback.id or str(uuid.uuid5(_FEEDBACK_IDS, step_id)),
            step_id=step_id,
            value=feedback.value,
            comment=feedback.comment,
        )
        thread_id = (
            codec.identifier(feedback.threadId)
            if feedback.threadId
            else self._step_threads.get(step_id)
        )
        await self._write(
            "upsert_feedback",
            thread_id or step_id,
            lambda: self._threads.feedback.put(thread_id, stored),
            item_id=step_id,
        )
        return str(stored["id"])

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Remove feedback; False when there was none with this id."""
        feedback_id = codec.identifier(feedback_id)
        return await self._write(
            "delete_feedback", feedback_id, lambda: self._threads.feedback.delete(feedback_id)
        )

    # Elements ---------------------------------------------------------------------------------

    @queued
    async def create_element(self, element: Element) -> None:
        """Store an element and its file, in place of the element with its id.

        In a chat the element goes into the chat's own thread, whatever the browser asked for.

        Raises:
            StorageError: the file is gone or the storage client failed; the element itself is
                stored all the same.
        """
        session = chat.current_session()
        thread_id = chat.element_thread(element.thread_id, session)
        stored = codec.stored_element(element.to_dict())
        owner = chat.session_owner(session, thread_id)
        content, failure = chat.take_content(element, session)
        # The last of several versions of an element must win, however long each file takes; but
        # the thread must not wait for files.
        async with self._turns.turn(("element", stored["id"])):
            if content is not None:
                try:
                    stored["objectKey"] = await self._files.keep(stored, thread_id, content)
                except StorageError as exc:
                    failure = exc
            kept, before = await self._write(
                "create_element",
                thread_id,
                lambda: self._threads.elements.put(thread_id, stored, owner=owner),
                item_id=stored["id"],
            )
            await self._files.discard(_left_over(stored, kept=kept, before=before))
        if failure is not None:
            logger.error("The element %s of thread %s: %s", stored["id"], thread_id, failure)
            raise failure

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        """One element of a thread with a freshly signed link, or None."""
        thread_id = codec.identifier(thread_id)
        element_id = codec.identifier(element_id)
        stored = await self._retried(lambda: self._threads.elements.get(thread_id, element_id))
        if stored is None:
            return None
        element = codec.read_element(stored, thread_id)
        await self._files.link([element])
        return cast("ElementDict", element)

    @queued
    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        """Delete an element and its file; in a chat, only of the chat's own thread."""
        element_id = codec.identifier(element_id)
        thread_id = chat.element_thread(thread_id, chat.current_session()) or None
        async with self._turns.turn(("element", element_id)):
            removed = await self._write(
                "delete_element",
                thread_id or element_id,
                lambda: self._threads.elements.delete(thread_id, element_id),
                item_id=element_id,
            )
            await self._files.discard(_left_over({}, kept=True, before=removed))

    # Life -------------------------------------------------------------------------------------

    async def build_debug_url(self) -> str:
        """``""``: there is no page outside of Chainlit to look at a thread."""
        return ""

    async def close(self) -> None:
        """Finish the writes that are on their way, then close what the layer opened.

        Waits at most :data:`CLOSE_SECONDS`. Never raises, and may be called again. A client that
        was given to the layer stays open.
        """
        if self._closed:
            return
        self._closed = True
        await asyncio.sleep(0)  # tasks that were made just before begin, and stand in line
        if not await self._turns.drained(CLOSE_SECONDS):
            logger.error("Writes were still on their way %s s after close().", CLOSE_SECONDS)
        if self._search_upkeep is not None:
            await self._search_upkeep.stop()
        await self._files.close()
        if self._owns_client:
            await driver.close(self._client)

    # Inside -----------------------------------------------------------------------------------

    async def _retried(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        return await self._retries.run(operation)

    async def _write(
        self,
        name: str,
        key: str,
        operation: Callable[[], Awaitable[Result]],
        *,
        item_id: str | None = None,
    ) -> Result:
        """Run ``operation`` at its turn among the writes to ``key``.

        An error is logged before it is raised: Chainlit may not be listening.
        """
        try:
            async with self._turns.turn(key):
                return await self._retried(operation)
        except Exception as exc:
            _log(name, key, item_id, exc)
            raise

    async def _create_with_others(self, thread_id: str, turn: Turn[NewStep]) -> bool:
        """Create the step of a turn, and those that wait right behind it, if that is one command.

        Where it is not, or fails, each is left to its own turn: there it learns its own outcome.
        """
        behind = turn.behind(AT_ONCE - 1)
        new = [each.item for each in (turn, *behind) if each.item is not None]
        if not behind or not await self._retried(
            lambda: self._threads.steps.create_together(thread_id, new)
        ):
            return False
        for each in behind:
            each.done = True
        return True

    async def _update_thread(
        self,
        thread_id: str,
        changes: ThreadChanges,
        user_id: str | None,
        session: BaseSession | None,
        *,
        naming: bool,
    ) -> None:
        owner = await self._owner(user_id, session, naming=naming)
        await self._threads.update(
            thread_id,
            replace(changes, values={**changes.values, **owner}),
            owner={} if owner else chat.session_owner(session, thread_id),
        )

    def _take_step(self, step_dict: StepDict) -> tuple[str, Document]:
        """Thread id and fields of a step, taken before the caller can change them."""
        session = chat.current_session()
        thread_id = step_dict.get("threadId") or (None if session is None else session.thread_id)
        if not step_dict.get("id") or not thread_id:
            raise ValueError(
                f"A step needs an 'id' and a 'threadId'; this one has id={step_dict.get('id')!r} "
                f"and threadId={step_dict.get('threadId')!r}."
            )
        thread_id = codec.identifier(thread_id)
        step = {"id": codec.identifier(step_dict["id"]), **codec.stored_step(step_dict)}
        self._step_threads.put(step["id"], thread_id)
        return thread_id, step

    def _expected_thread(self, step_id: str) -> str | None:
        """Where a step is most likely, without asking the database."""
        session = chat.current_session()
        known = self._step_threads.get(step_id)
        return known or (None if session is None else codec.identifier(session.thread_id))

    async def _delete_step(self, thread_id: str, step_id: str) -> bool:
        found, object_keys = await self._write(
            "delete_step",
            thread_id,
            lambda: self._threads.steps.delete(thread_id, step_id),
            item_id=step_id,
        )
        await self._files.discard(object_keys)
        return found

    async def _owner(
        self, user_id: str | None, session: BaseSession | None, *, naming: bool
    ) -> Document:
        """Owner fields for ``user_id``; without one, for the user of the session that names it.

        Where the database could not be reached at login, Chainlit's session holds a user without
        an id and the thread would have no owner.
        """
        user = None if session is None else session.user
        if user_id is not None:
            if isinstance(user, PersistedUser) and user.id == user_id:
                return {"userId": user_id, "userIdentifier": codec.identifier(user.identifier)}
            identifier = await self._users.identifier_of(user_id)
            if identifier is None:
                logger.warning("There is no user %s: their threads have no author.", user_id)
            return {"userId": user_id, "userIdentifier": identifier}
        if not naming or user is None or isinstance(user, PersistedUser):
            return {}
        stored = await self.get_user(user.identifier) or await self.create_user(user)
        return {"userId": stored.id, "userIdentifier": stored.identifier}


def _log(name: str, key: str, item_id: str | None, error: Exception) -> None:
    item = "" if item_id is None else f" of {item_id}"
    logger.error("%s%s in thread %s failed: %s", name, item, key, error)


def _persisted_user(stored: Document) -> PersistedUser:
    return PersistedUser(
        id=stored["_id"],
        identifier=stored["identifier"],
        display_name=stored.get("displayName"),
        metadata=codec.read_fields(stored.get("metadata") or {}),
        createdAt=codec.read_time(stored.get("createdAt")) or "",
    )


def _left_over(stored: Document, *, kept: bool, before: Document | None) -> list[str]:
    """Object keys of files that no element points to any more."""
    new = stored.get("objectKey")
    old = None if before is None else before.get("objectKey")
    if not kept:
        return [] if new is None else [new]
    return [] if old is None or old == new else [old]
