"""What the running Chainlit session says about a call: whose it is, and what it may write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from chainlit.context import context_var
from chainlit.user import PersistedUser

from mongo_datalayer import codec
from mongo_datalayer.documents import Document
from mongo_datalayer.errors import StorageError
from mongo_datalayer.threads import ThreadChanges
from mongo_datalayer.values import plain, plain_text

if TYPE_CHECKING:
    from chainlit.element import Element
    from chainlit.session import BaseSession

# Chainlit puts these into the metadata that it saves when a session disconnects.
_SAVED_BY_SESSION = frozenset({"client_type", "chat_settings"})


def current_session() -> BaseSession | None:
    """The Chainlit session this code runs in; None in scripts, tests and plain HTTP routes."""
    context = context_var.get(None)
    return None if context is None else context.session


def session_owner(session: BaseSession | None, thread_id: str) -> Document:
    """Owner fields for a new thread of the session; empty when the session cannot tell.

    Slack, Discord and Teams name the owner last, or never.
    """
    if session is None or session.thread_id != thread_id:
        return {}
    user = session.user
    if not isinstance(user, PersistedUser):
        return {}
    return {
        "userId": codec.identifier(user.id),
        "userIdentifier": codec.identifier(user.identifier),
    }


def is_saved_by_session(metadata: Mapping[str, Any]) -> bool:
    """Whether this is the metadata that Chainlit saves for a session when it disconnects."""
    return metadata.keys() >= _SAVED_BY_SESSION


def thread_changes(
    *,
    name: Any,
    metadata: Mapping[str, Any] | None,
    tags: Iterable[Any] | None,
    session: BaseSession | None,
) -> ThreadChanges:
    """What a caller may change of a thread, taken before the caller can change it.

    A session that was resumed while its thread was shared carries the old sharing flag and saves
    it again when it disconnects: that would undo an un-share. Such a save leaves sharing alone;
    it is set by Chainlit's HTTP route, outside of any session.
    """
    values: Document = {}
    if name is not None:
        values["name"] = codec.stored_name(name)
    if tags is not None:
        values["tags"] = plain(list(tags))
    if metadata is None:
        return ThreadChanges(values)
    saved = is_saved_by_session(metadata)
    if saved and session is not None:
        metadata = {k: v for k, v in metadata.items() if k not in codec.SHARING_KEYS}
    if saved:
        values.update(_saved_session(metadata, session))
    removed = [key for key, value in metadata.items() if value is None]
    if metadata.get("is_shared") is False:
        removed.append("shared_at")
    return ThreadChanges(
        values,
        codec.stored_fields(metadata, without=removed),
        tuple(codec.field_name(plain_text(key)) for key in removed),
    )


def _saved_session(metadata: Mapping[str, Any], session: BaseSession | None) -> Document:
    """Which session saved this metadata, and under which keys."""
    session_id = metadata.get("id") or (None if session is None else session.id)
    if session_id is None:
        return {}
    keys = [codec.field_name(plain_text(key)) for key in metadata if key not in codec.SHARING_KEYS]
    return {"session": {"id": codec.identifier(session_id), "keys": keys}}


def element_thread(thread_id: str | None, session: BaseSession | None) -> str:
    """The thread whose elements a call may touch.

    Ids of elements and threads come from the browser: inside a chat only the chat's own thread
    counts.
    """
    return codec.identifier(thread_id or "" if session is None else session.thread_id)


def take_content(
    element: Element, session: BaseSession | None
) -> tuple[bytes | BinaryIO | None, StorageError | None]:
    """An element's content, taken hold of at once; None when there is none to keep.

    A file is only opened here and read later: an open file outlives its name, and Chainlit
    removes the files of Slack, Discord and Teams sessions right after sending them.

    Returns:
        The content, and an error when the element has a file that is gone.
    """
    if element.type == "custom":  # its content is its props, which are stored with the element
        return None, None
    if element.content:
        content = element.content
        return content.encode("utf-8", "replace") if isinstance(content, str) else content, None
    uploaded = None if session is None else session.files.get(element.chainlit_key or "")
    paths: list[Any] = [element.path, None if uploaded is None else uploaded["path"]]
    failure: StorageError | None = None
    for path in filter(None, paths):
        try:
            return Path(path).open("rb"), None
        except OSError as exc:
            failure = StorageError(f"its file cannot be read: {exc}")
    return None, failure
