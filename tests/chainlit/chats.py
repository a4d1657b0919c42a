"""Chainlit's sessions of browsers, for calls as a chat makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from chainlit.context import ChainlitContext, context_var
from chainlit.session import WebsocketSession, ws_sessions_id, ws_sessions_sid
from chainlit.user import PersistedUser, User

from mongo_datalayer.testing.contract import new_id


def websocket(user: User | PersistedUser | None, thread_id: str | None = None) -> WebsocketSession:
    """A browser's session, as Chainlit makes it on connect, and the context of its calls."""

    async def emit(*_: Any) -> None:
        pass

    session = WebsocketSession(
        id=new_id(),
        socket_id=new_id(),
        emit=cast("Any", emit),
        emit_call=cast("Any", emit),
        user_env={},
        client_type="webapp",
        user=user,
        thread_id=thread_id,
    )
    context_var.set(ChainlitContext(session))
    return session


@contextmanager
def in_chat(thread_id: str, user: PersistedUser | None = None) -> Iterator[WebsocketSession]:
    """Calls of a thread's chat, after the person's first message."""
    before = context_var.get(cast("Any", None))
    session = websocket(user, thread_id)
    session.has_first_interaction = True
    try:
        yield session
    finally:
        context_var.set(before)
        ws_sessions_id.pop(session.id)
        ws_sessions_sid.pop(session.socket_id)
