"""A chat that counts words. MongoDB keeps the conversations."""

from __future__ import annotations

import chainlit as cl
from chainlit.types import ThreadDict

from mongo_datalayer import MongoDataLayer


@cl.data_layer
def data_layer() -> MongoDataLayer:
    """Keep users, conversations and files in MongoDB; make its indexes at the start."""
    return MongoDataLayer.from_env(indexes="create")


@cl.password_auth_callback
async def log_in(username: str, password: str) -> cl.User | None:
    """Replace this with a real login: https://docs.chainlit.io/authentication/overview."""
    if (username, password) == ("alice", "alice"):
        return cl.User(identifier="alice", display_name="Alice")
    return None


@cl.on_message
async def answer(message: cl.Message) -> None:
    """Replace this with your model."""
    async with cl.Step(name="Count", type="tool") as step:
        step.input = message.content
        step.output = f"{len(message.content.split())} words"
    reply = cl.Message(content=f"You wrote {step.output} and sent {len(message.elements)} files.")
    await reply.send()  # type: ignore[no-untyped-call]


@cl.on_chat_resume
async def resume(thread: ThreadDict) -> None:
    """Users can resume a conversation only if this function exists."""
