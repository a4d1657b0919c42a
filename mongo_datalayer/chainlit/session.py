"""What the running Chainlit session decides about a call: its thread, its owner, what it writes."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast

from chainlit.context import context_var
from chainlit.data.utils import queue_until_user_message
from chainlit.session import WebsocketSession
from chainlit.user import PersistedUser, User

from mongo_datalayer.chainlit import codec
from mongo_datalayer.chainlit.threads import ThreadChanges
from mongo_datalayer.chainlit.users import Users
from mongo_datalayer.errors import ConfigurationError, StorageError
from mongo_datalayer.model.bson_values import required_id, to_bson, to_id, to_text
from mongo_datalayer.model.documents import Document
from mongo_datalayer.model.times import now
from mongo_datalayer.mongodb.logger import get_logger, log_failure
from mongo_datalayer.storage.conversion import Conversion
from mongo_datalayer.storage.hooks import Hooks

if TYPE_CHECKING:
    from chainlit.element import Element
    from chainlit.session import BaseSession
    from chainlit.step import StepDict

logger = get_logger(__name__)

Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])

# Chainlit adds these to the metadata that it saves when a session disconnects.
_SAVED_BY_SESSION = frozenset({"client_type", "chat_settings"})


def current_session() -> BaseSession | None:
    """The Chainlit session this code runs in; None in scripts, tests and plain HTTP routes."""
    context = context_var.get(None)
    return None if context is None else context.session


def queued(method: Method) -> Method:
    """Chainlit's ``queue_until_user_message``, without effect outside of a session.

    In a session the call waits for the user's first message, so that a mere visit makes no thread.
    """
    in_session = queue_until_user_message()(logged_once(method))  # type: ignore[no-untyped-call]  # Chainlit's

    @functools.wraps(method)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Chainlit's own decorator raises in scripts and tests.
        run = method if current_session() is None else in_session
        return await run(self, *args, **kwargs)

    return cast(Method, wrapper)


def logged_once(method: Method) -> Method:
    """Log an error of a call in a session in one line, and keep asyncio from logging it too.

    Chainlit makes tasks of these calls and awaits none of them.
    """

    @functools.wraps(method)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except Exception as exc:
            task = asyncio.current_task()
            if current_session() is not None and task is not None:
                log_failure(logger, method.__name__, exc)
                task.add_done_callback(functools.partial(_retrieve, exc))
            raise

    return cast(Method, wrapper)


def _retrieve(logged: Exception, task: asyncio.Task[Any]) -> None:
    # An error that was asked for is none that asyncio logs as never retrieved.
    error = None if task.cancelled() else task.exception()
    if error is not None and error is not logged:
        message = "Task exception was never retrieved"
        context = {"message": message, "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)


# Users and owners -----------------------------------------------------------------------------


def stored_user(user: User) -> tuple[str, str | None, Conversion[Document]]:
    """A user's identifier, display name and metadata, as stored."""
    display_name = None if user.display_name is None else to_text(user.display_name)
    metadata = Conversion(codec.stored_fields, user.metadata or {})
    return required_id(user.identifier, "a user"), display_name, metadata


async def put_user(
    users: Users, identifier: str, display_name: str | None, metadata: Conversion[Document]
) -> Document:
    """Create or refresh what :func:`stored_user` made. One command."""
    return await users.put(identifier, display_name=display_name, metadata=await metadata.result())


def read_user(stored: Document) -> PersistedUser:
    """A stored user as Chainlit's ``PersistedUser``."""
    metadata = stored.get("metadata")
    return PersistedUser(
        id=stored["_id"],
        identifier=stored["identifier"],
        display_name=stored.get("displayName"),
        metadata=codec.read_fields(metadata) if isinstance(metadata, dict) else {},
        createdAt=codec.read_time(stored.get("createdAt")) or "",
    )


def session_owner(session: BaseSession | None, thread_id: str | None) -> Document:
    """Owner fields for a new thread of the session; empty when the session cannot tell."""
    if session is None or session.thread_id != thread_id:
        return {}
    user = session.user
    # Slack, Discord and Teams set the user last, or never.
    return _owner(user) if isinstance(user, PersistedUser) else {}


async def thread_owner(
    users: Users, user_id: str | None, session: BaseSession | None, *, naming: bool
) -> Document:
    """Owner fields for ``user_id``; without one, for the user of the session that names a thread.

    Args:
        users: Where users are stored.
        user_id: The owner that Chainlit gives.
        session: The running session.
        naming: Whether the call names the thread, as Chainlit does with the first message.
    """
    user = None if session is None else session.user
    if user_id is not None:
        if isinstance(user, PersistedUser) and user.id == user_id:
            return {**_owner(user), "userId": user_id}
        identifier = await users.identifier_of(user_id)
        if identifier is None:
            logger.warning("There is no user %s: their threads have no author.", user_id)
        return {"userId": user_id, "userIdentifier": identifier}
    # If the database was down at login, the session's user has no id, and the thread would get no
    # owner.
    if not naming or user is None or isinstance(user, PersistedUser):
        return {}
    identifier, display_name, metadata = stored_user(user)
    stored = await users.by_identifier(identifier) or await put_user(
        users, identifier, display_name, metadata
    )
    return {"userId": stored["_id"], "userIdentifier": stored["identifier"]}


def _owner(user: PersistedUser) -> Document:
    return {"userId": to_id(user.id), "userIdentifier": to_id(user.identifier)}


# Threads --------------------------------------------------------------------------------------


def take_metadata(metadata: Any) -> dict[str, Any] | None:
    """A thread's metadata as a map, also where it is given as JSON text.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(metadata, str):
        with suppress(ValueError, RecursionError):
            metadata = json.loads(metadata)
    if metadata is None or isinstance(metadata, Mapping):
        return None if metadata is None else dict(metadata)
    raise ValueError(f"A thread's metadata is a map, or the JSON text of one, not {metadata!r:.80}")


def is_saved_by_session(metadata: Mapping[str, Any]) -> bool:
    """Whether this is the metadata that Chainlit saves for a session when it disconnects."""
    return metadata.keys() >= _SAVED_BY_SESSION


def take_changes(
    *,
    name: Any,
    metadata: dict[str, Any] | None,
    tags: Iterable[Any] | None,
    session: BaseSession | None,
) -> Conversion[ThreadChanges]:
    """What a call changes of a thread, copied before the caller can change it."""
    given = {"metadata": metadata, "tags": None if tags is None else list(tags)}
    values = {} if name is None else {"name": codec.stored_name(name)}
    convert = functools.partial(_changes, values=values, session=session, called_at=now())
    return Conversion(convert, given)


def _changes(
    given: Mapping[str, Any],
    *,
    values: Document,
    session: BaseSession | None,
    called_at: datetime,
) -> ThreadChanges:
    metadata, tags = given["metadata"], given["tags"]
    if tags is not None:
        values["tags"] = to_bson(tags)
    if metadata is None:
        return ThreadChanges(values, called_at=called_at)
    if is_saved_by_session(metadata):
        if session is not None:
            # A session that was resumed while its thread was shared or pinned saves the old flag
            # again when it disconnects, which would undo what an HTTP route has changed meanwhile.
            metadata = {k: v for k, v in metadata.items() if k not in codec.ROUTE_KEYS}
        values.update(_saved_session(metadata, session))
    removed = [key for key, value in metadata.items() if value is None]
    if metadata.get("is_shared") is False:
        removed.append("shared_at")
    return ThreadChanges(
        values,
        codec.stored_fields(metadata, without=removed),
        tuple(codec.encode_field(to_text(key)) for key in removed),
        called_at,
    )


def _saved_session(metadata: Mapping[str, Any], session: BaseSession | None) -> Document:
    """Which session saved this metadata, and under which keys."""
    session_id = metadata.get("id") or (None if session is None else session.id)
    if session_id is None:
        return {}
    keys = [codec.encode_field(to_text(key)) for key in metadata if key not in codec.ROUTE_KEYS]
    return {"session": {"id": to_id(session_id), "keys": keys}}


# Steps and elements ---------------------------------------------------------------------------


class Taken(NamedTuple):
    """A step or element that a caller gave, copied at once.

    Attributes:
        thread_id: Its thread.
        id: Its id.
        owner: Owner fields of a new thread.
        conversion: Makes what is stored of it.
    """

    thread_id: str
    id: str
    owner: Document
    conversion: Conversion[Document]


def take_step(step_dict: StepDict) -> Taken:
    """A step as it is now.

    Raises:
        ValueError: the step has no id, or no thread and there is no session.
    """
    session = current_session()
    thread_id = step_dict.get("threadId") or (None if session is None else session.thread_id)
    if not step_dict.get("id") or not thread_id:
        raise ValueError(
            f"A step needs an 'id' and a 'threadId'; this one has id={step_dict.get('id')!r} "
            f"and threadId={step_dict.get('threadId')!r}."
        )
    owner = session_owner(session, thread_id)
    conversion = Conversion(codec.stored_step, step_dict)
    return Taken(to_id(thread_id), to_id(step_dict["id"]), owner, conversion)


def is_chat(session: BaseSession | None) -> bool:
    """Whether a browser sends what the session does; in an HTTP context server code decides."""
    return isinstance(session, WebsocketSession)


def own_thread(thread_id: str | None, session: BaseSession | None) -> str:
    """The thread that a call may touch: a chat's own one, whatever the browser sent.

    Outside of a chat it is the given one, else that of the HTTP context, else ``""``.
    """
    return to_id(_named_thread(thread_id, session))


def _named_thread(thread_id: str | None, session: BaseSession | None) -> str | None:
    if session is not None and (is_chat(session) or not thread_id):
        return session.thread_id
    return thread_id


def take_element(
    element: Element, hooks: Hooks
) -> tuple[Taken, bytes | BinaryIO | None, StorageError | None] | None:
    """An element as it is now, and :func:`take_content`; None when the app's hooks refuse it."""
    session = current_session()
    thread_id = _named_thread(element.thread_id, session)
    owner = session_owner(session, thread_id)
    content = element.content
    text = content if isinstance(content, str) else None
    kept = hooks.apply("element", {**element.to_dict(), "content": text})
    if kept is None:
        return None
    conversion = Conversion(codec.stored_element, kept)
    thread_id = required_id(thread_id, "an element's thread")
    taken = Taken(thread_id, required_id(kept["id"], "an element"), owner, conversion)
    if text is not None:
        content = kept.get("content")
        if not isinstance(content, (str, bytes, type(None))):
            raise ConfigurationError(
                "before_store takes text as the 'content' of an element from its function, not "
                f"{type(content).__name__}."
            )
    # The content last: it may be an open file, and ids may be refused.
    return taken, *take_content(element, content, session)


def feedback_thread(thread_id: str | None, session: BaseSession | None) -> str:
    """The thread that feedback is for; ``""`` where its step has to be looked up."""
    # Not the HTTP context's: Discord and Teams give feedback for a step of any thread.
    return own_thread(thread_id, session) if thread_id or is_chat(session) else ""


def take_content(
    element: Element, content: bytes | str | None, session: BaseSession | None
) -> tuple[bytes | BinaryIO | None, StorageError | None]:
    """An element's content, and an error when the element has a file that is gone.

    The content is None when there is none to keep. A file is opened here and read later.
    """
    if element.type == "custom":  # its content is its props, which are stored with the element
        return None, None
    if content:
        return content.encode("utf-8", "replace") if isinstance(content, str) else content, None
    uploaded = None if session is None else session.files.get(element.chainlit_key or "")
    paths: list[Any] = [element.path, None if uploaded is None else uploaded["path"]]
    failure: StorageError | None = None
    for path in filter(None, paths):
        try:
            # At once: Chainlit deletes the files of Slack, Discord and Teams sessions right after
            # sending them, and an open file outlives its name.
            return Path(path).open("rb"), None
        except OSError as exc:
            failure = StorageError(f"its file cannot be read: {exc}")
    return None, failure
