"""The demo: a Chainlit app that answers from a handbook, without any model.

What keeps its conversations in MongoDB, and its files, is ``data_layer`` below.
"""

from __future__ import annotations

import asyncio
import json
import re

import chainlit as cl
from chainlit.types import ThreadDict

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.demo.handbook import Section, find_sections, read_handbook, telling_words
from mongo_datalayer.demo.samples import sample_elements

LOGINS = {"alice": "alice", "bob": "bob"}
FILES_COMMAND = "files"
TOKEN_SECONDS = 0.008
HANDBOOK = read_handbook()


@cl.data_layer
def data_layer() -> MongoDataLayer:
    """Keeps users, conversations and files in MongoDB."""
    return MongoDataLayer.from_env()


@cl.password_auth_callback
async def log_in(username: str, password: str) -> cl.User | None:
    """Let the demo's users in; the password is the name."""
    if LOGINS.get(username) != password:
        return None
    return cl.User(identifier=username, display_name=username.capitalize())


@cl.set_starters
async def starters(user: cl.User | None) -> list[cl.Starter]:
    """Questions the handbook has an answer to."""
    return [
        cl.Starter(label="Where are my messages?", message="Where are my messages kept?"),
        cl.Starter(label="What does a thumb do?", message="What happens when I give feedback?"),
        cl.Starter(label="Can I find this again?", message="How does the search work?"),
        cl.Starter(label="Look inside", message="How do I look inside with the mongo shell?"),
        cl.Starter(label="Show me files", message=FILES_COMMAND),
    ]


@cl.on_message
async def answer(message: cl.Message) -> None:
    """Answer from the handbook; to the word ``files``, send some."""
    if message.content.strip().lower() == FILES_COMMAND:
        await _send("Files of every kind; they are in MongoDB, too.", sample_elements())
        return
    sections = await search_handbook(message.content)
    reply = cl.Message(content="")
    for token in re.findall(r"\s*\S+", compose(sections)):
        await reply.stream_token(token)
        await asyncio.sleep(TOKEN_SECONDS)
    await reply.send()  # type: ignore[no-untyped-call]  # Chainlit left it without types


async def _send(text: str, elements: list[cl.Element]) -> None:
    reply = cl.Message(content=text, elements=elements)
    await reply.send()  # type: ignore[no-untyped-call]  # Chainlit left it without types


@cl.on_chat_resume
async def resume(thread: ThreadDict) -> None:
    """Nothing to bring back: the steps are all this app knows of a conversation."""


@cl.on_shared_thread_view
async def may_view(thread: ThreadDict, viewer: cl.User | None) -> bool:
    """Let people who are logged in read a shared thread by its link."""
    return (thread.get("metadata") or {}).get("is_shared") is True


async def search_handbook(question: str) -> tuple[Section, ...]:
    """The sections that answer ``question``; each part of the work is a step of its own."""
    async with cl.Step(name="Search the handbook", type="tool", show_input="text") as step:
        step.input = question
        words = await pick_words(question)
        sections = find_sections(words, HANDBOOK)
        for section in sections:
            await read_section(section)
        step.output = _titles(sections) or "No section speaks of that."
        return sections


async def pick_words(question: str) -> tuple[str, ...]:
    """The words of the question that are worth searching for."""
    async with cl.Step(name="Pick the telling words", type="tool", show_input="text") as step:
        step.input = question
        words = telling_words(question)
        step.output = ", ".join(words) or "None."
        return words


async def read_section(section: Section) -> None:
    """Show what was read."""
    async with cl.Step(name="Read a section", type="tool", show_input="text") as step:
        step.input = section.title
        step.output = section.text


def compose(sections: tuple[Section, ...]) -> str:
    """The answer to show: what was found, and how to see this conversation in the shell."""
    parts = [f"**{section.title}.** {section.text}" for section in sections] or [
        f"The handbook has nothing about that. It speaks of {_titles(HANDBOOK).lower()}."
    ]
    thread = json.dumps(cl.context.session.thread_id)
    parts.append(
        f"This conversation in the mongo shell:\n```js\ndb.threads.findOne({{_id: {thread}}})\n```"
    )
    return "\n\n".join(parts)


def _titles(sections: tuple[Section, ...]) -> str:
    return ", ".join(section.title for section in sections)
