"""What is counted: every operation, on threads that are stored once and put back each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, cast

from chainlit.element import Image
from chainlit.step import StepDict
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import User

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.model.cursor import Cursor
from tests.chainlit.chats import in_chat

IMAGE = "https://example.org/i.png"
WORDS = "What a model may have answered, with some words more. " * 18
LARGE = WORDS * 310
"""A text that goes to GridFS."""

PAGE = 20
CURSOR = Cursor(datetime(2024, 3, 1, 10, 12, tzinfo=timezone.utc), "x").encode()
RATED, LIKED = 2, 3
"""Numbers of the steps that have feedback, and that are a favourite."""


class Target(NamedTuple):
    """What an operation works on: a layer, a user's thread, and the number of one of its steps."""

    layer: MongoDataLayer
    user_id: str
    thread: str
    number: int

    def step(self, **fields: Any) -> StepDict:
        return step(self.thread, self.number, **fields)

    def new_step(self, **fields: Any) -> StepDict:
        return step(self.thread, 999, **fields)

    def feedback(self, value: int, thread: str = "") -> Feedback:
        return Feedback(forId=self.step()["id"], value=value, threadId=thread)  # type: ignore[arg-type]  # 0 or 1


Operation = Callable[[Target], Awaitable[Any]]

NOT_OF_A_CHAT = frozenset(
    {"begin", "build_debug_url", "check_indexes", "close", "create_indexes", "messages"}
)
"""Methods of the layer that no chat calls."""


def step(thread: str, number: int, **fields: Any) -> StepDict:
    """A step of about 1.3 kB."""
    time = f"2024-03-01T{10 + number // 100:02}:{number % 100 // 2:02}:{number % 2 * 30:02}.000123Z"
    made = {
        "id": f"{thread} step {number:03}",
        "threadId": thread,
        "parentId": None,
        "type": "assistant_message",
        "name": "Assistant",
        "input": "",
        "output": WORDS,
        "createdAt": time,
        "start": time,
        "end": time,
        "metadata": {},
        **fields,
    }
    return cast("StepDict", made)


def image(thread: str, name: str, number: int, **fields: Any) -> Image:
    """An element of a step."""
    return Image(
        id=f"{thread} {name}",
        name="i",
        thread_id=thread,
        for_id=step(thread, number)["id"],
        **(fields or {"url": IMAGE}),
    )


def in_its_chat(operation: Operation) -> Operation:
    """An operation as Chainlit calls it, in a session of the thread."""

    async def call(target: Target) -> None:
        with in_chat(target.thread):
            await operation(target)

    return call


def page(first: int = PAGE, cursor: str | None = None, **filters: Any) -> Operation:
    return lambda t: t.layer.list_threads(
        Pagination(first=first, cursor=cursor), ThreadFilter(userId=t.user_id, **filters)
    )


OF_USERS: Mapping[str, Operation] = {
    "get_user": lambda t: t.layer.get_user("ada"),
    "create_user": lambda t: t.layer.create_user(User(identifier="bob")),
    "create_user again": lambda t: t.layer.create_user(User(identifier="ada")),
    "get_favorite_steps": lambda t: t.layer.get_favorite_steps(t.user_id),
    "list_threads": page(),
    "list_threads from a cursor": page(cursor=CURSOR),
    "list_threads feedback": page(feedback=1),
    "list_threads search": page(search="WITH SOME"),
    "list_threads search in vain": page(search="no such words"),
    "list_threads feedback and search from a cursor": page(
        feedback=1, search="with some", cursor=CURSOR
    ),
}

OF_LISTS: Mapping[str, Operation] = {
    name: OF_USERS[name]
    for name in (
        *("get_favorite_steps", "list_threads feedback", "list_threads search"),
        *("list_threads search in vain", "list_threads feedback and search from a cursor"),
    )
}
"""What is looked for inside of threads, and so in the overflow of long ones."""

OF_THREADS: Mapping[str, Operation] = {
    "get_thread": lambda t: t.layer.get_thread(t.thread),
    "get_thread_author": lambda t: t.layer.get_thread_author(t.thread),
    "update_thread name": lambda t: t.layer.update_thread(t.thread, name="Other"),
    "update_thread user": lambda t: t.layer.update_thread(t.thread, user_id=t.user_id),
    "update_thread metadata": lambda t: t.layer.update_thread(t.thread, metadata={"a": 1}),
    "update_pinned_state": lambda t: t.layer.update_pinned_state(t.thread, True),
    "delete_thread": lambda t: t.layer.delete_thread(t.thread),
    "delete_user_session": lambda t: t.layer.delete_user_session(f"{t.thread} session"),
    "delete_user_session in vain": lambda t: t.layer.delete_user_session("none"),
    "create_step": lambda t: t.layer.create_step(t.new_step()),
    "create_step large": lambda t: t.layer.create_step(t.new_step(output=LARGE)),
    "update_step new": lambda t: t.layer.update_step(t.new_step()),
    "create_element": lambda t: t.layer.create_element(image(t.thread, "new", t.number)),
    "create_element with a file": lambda t: t.layer.create_element(
        image(t.thread, "new", t.number, content=b"some bytes", mime="image/png")
    ),
    "get_element": lambda t: t.layer.get_element(t.thread, f"{t.thread} linked"),
    "delete_element": lambda t: t.layer.delete_element(f"{t.thread} linked", t.thread),
    "delete_element by its id": lambda t: t.layer.delete_element(f"{t.thread} linked"),
    "delete_element with a file": lambda t: t.layer.delete_element(f"{t.thread} kept", t.thread),
}

OF_STEPS: Mapping[str, Operation] = {
    "create_step again": lambda t: t.layer.create_step(t.step()),
    "update_step": lambda t: t.layer.update_step(t.step(output="Shorter words.")),
    "delete_step": in_its_chat(lambda t: t.layer.delete_step(t.step()["id"])),
    "delete_step by its id": lambda t: t.layer.delete_step(t.step()["id"]),
    "set_step_favorite": lambda t: t.layer.set_step_favorite(t.step(), True),
    "upsert_feedback": lambda t: t.layer.upsert_feedback(t.feedback(0, t.thread)),
    "upsert_feedback by its step": lambda t: t.layer.upsert_feedback(t.feedback(0)),
}

OF_NEW_STEPS: Mapping[str, Operation] = {
    name: OF_THREADS[name] for name in ("create_step", "update_step new", "create_element")
}

OF_FEEDBACK: Mapping[str, Operation] = {
    "delete_feedback": lambda t: t.layer.delete_feedback(f"{t.thread} feedback"),
    "delete_feedback in vain": lambda t: t.layer.delete_feedback("none"),
}

IN_A_NEW_THREAD: Mapping[str, Operation] = {
    "create_step": lambda t: t.layer.create_step(t.new_step()),
    "update_step": lambda t: t.layer.update_step(t.new_step()),
    "create_element": lambda t: t.layer.create_element(image(t.thread, "new", 1)),
    "upsert_feedback": lambda t: t.layer.upsert_feedback(t.feedback(1, t.thread)),
    "update_thread": lambda t: t.layer.update_thread(
        t.thread, name="Name", user_id=t.user_id, tags=["x"], metadata={"a": 1}
    ),
    "get_thread": lambda t: t.layer.get_thread(t.thread),
    "delete_thread": lambda t: t.layer.delete_thread(t.thread),
    "delete_step": in_its_chat(lambda t: t.layer.delete_step("none")),
}
