"""The operations: every method of Chainlit's data layers, and whole turns of a chat.

``build_debug_url`` and ``close`` are left out: they do nothing that could be compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from chainlit.element import CustomElement
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import User

from benchmarks.conversations import (
    NEEDLE,
    Dict,
    Thread,
    made_id,
    message,
    stamp,
    step_id,
    step_time,
    text,
    turn_step,
    work,
)
from benchmarks.trials import Operation, Stage, Trial, trial_id

PAGE = 20
SHORT_PAGE = 10
_LATER = 1_000_000
"""Steps of trials come after all steps that are there."""


# Users ----------------------------------------------------------------------------------------


def get_user(stage: Stage, number: int) -> Trial:
    """A user who is there."""
    return Trial(lambda: stage.layer.get_user(identifier=stage.user), _found)


def create_user(stage: Stage, number: int) -> Trial:
    """A login of somebody new."""
    user = User(identifier=made_id("new", number), metadata={"role": "user"})
    return Trial(lambda: stage.layer.create_user(user=user), _found)


def create_user_again(stage: Stage, number: int) -> Trial:
    """A login of somebody who is there."""
    user = User(identifier=stage.user, metadata={"role": "user", "login": number})
    return Trial(lambda: stage.layer.create_user(user=user), _found)


# Threads --------------------------------------------------------------------------------------


def get_thread(stage: Stage, number: int) -> Trial:
    """A whole conversation."""
    thread = stage.thread(number)

    def complete(result: Any) -> str | None:
        count = len((result or {}).get("steps", ()))
        return None if count >= thread.length else f"{count} of {thread.length} steps"

    return Trial(lambda: stage.layer.get_thread(thread_id=thread.id), complete)


def get_thread_author(stage: Stage, number: int) -> Trial:
    """Whose a thread is."""
    thread = stage.thread(number)

    def right(result: Any) -> str | None:
        return None if result == thread.user else f"{result!r} is not the author"

    return Trial(lambda: stage.layer.get_thread_author(thread_id=thread.id), right)


def update_thread(stage: Stage, number: int) -> Trial:
    """A new thread gets its name and owner, as at the first message."""
    new = made_id("named", number)
    owner = stage.user_id
    return Trial(lambda: stage.layer.update_thread(thread_id=new, name="A new chat", user_id=owner))


def update_thread_metadata(stage: Stage, number: int) -> Trial:
    """A thread gets metadata, as when a browser disconnects."""
    thread = stage.thread(number)
    metadata = {"id": made_id("session", number), "env": "{}", "chat_profile": "Support"}
    return Trial(lambda: stage.layer.update_thread(thread_id=thread.id, metadata=metadata))


def delete_thread(stage: Stage, number: int) -> Trial:
    """A thread of ten steps goes."""
    doomed = made_id("doomed", number)

    async def before() -> None:
        owner = stage.user_id
        await stage.layer.update_thread(thread_id=doomed, name="Doomed", user_id=owner)
        begin = stage.thread(number).begin
        for index in range(10):
            await stage.layer.create_step(step_dict=turn_step(doomed, begin, index))

    return Trial(lambda: stage.layer.delete_thread(thread_id=doomed), before=before)


def list_threads(stage: Stage, number: int) -> Trial:
    """The first page of the sidebar."""
    return _listed(stage, _newest(stage.listed))


def list_threads_short_page(stage: Stage, number: int) -> Trial:
    """A first page that is as long for who has few threads as for who has many."""
    return _listed(stage, _newest(stage.listed), size=SHORT_PAGE)


def list_threads_search(stage: Stage, number: int) -> Trial:
    """The threads in which a text stands."""
    hits = [thread for thread in stage.listed if thread.needle is not None]
    return _listed(stage, _newest(hits), search=NEEDLE)


def list_threads_feedback(stage: Stage, number: int) -> Trial:
    """The threads with a thumb up."""
    hits = [thread for thread in stage.listed if thread.vote is not None]
    return _listed(stage, _newest(hits), feedback=1)


def list_threads_second_page(stage: Stage, number: int) -> Trial:
    """The page behind the first."""
    expected = _newest(stage.listed)[PAGE:]
    cursor: list[Any] = []

    async def before() -> None:
        first = Pagination(first=PAGE)
        page = await stage.layer.list_threads(first, ThreadFilter(userId=stage.user_id))
        cursor.append(_end_of(page))

    async def call() -> Any:
        following = Pagination.model_construct(first=PAGE, cursor=cursor[0])
        return await stage.layer.list_threads(following, ThreadFilter(userId=stage.user_id))

    return Trial(call, lambda result: _same_page(result, expected), before)


def _listed(stage: Stage, expected: Sequence[Thread], *, size: int = PAGE, **filters: Any) -> Trial:
    wanted = ThreadFilter(userId=stage.user_id, **filters)
    first = Pagination(first=size)
    return Trial(
        lambda: stage.layer.list_threads(pagination=first, filters=wanted),
        lambda result: _same_page(result, expected, size),
    )


def _newest(threads: Sequence[Thread]) -> list[Thread]:
    return sorted(threads, key=lambda thread: thread.end, reverse=True)


def _same_page(result: Any, expected: Sequence[Thread], size: int = PAGE) -> str | None:
    rows = result[:size] if isinstance(result, list) else result.data
    found = [row.get("id") or row.get("_id") for row in rows]
    wanted = [thread.id for thread in expected[:size]]
    if found == wanted:
        return None
    if set(found) == set(wanted):
        return "in another order"
    return f"{len(found)} threads, {len(set(found) & set(wanted))} of the {len(wanted)} wanted"


def _end_of(page: Any) -> Any:
    return page[PAGE - 1] if isinstance(page, list) else page.pageInfo.endCursor


# Steps ----------------------------------------------------------------------------------------


def create_step(stage: Stage, number: int) -> Trial:
    """An answer is added to a thread."""
    step = _answer(stage.thread(number), trial_id("create", stage.thread(number), number), number)
    return Trial(lambda: stage.layer.create_step(step_dict=step))


def update_step(stage: Stage, number: int) -> Trial:
    """The last answer of a thread is written again, as when it was streamed."""
    thread = stage.thread(number)
    last = thread.length - 1
    step = turn_step(thread.id, thread.begin, last)
    step["output"] = text(f"update {number}", 400, 1200)
    return Trial(lambda: stage.layer.update_step(step_dict=step))


def update_step_first(stage: Stage, number: int) -> Trial:
    """The first message of a thread is edited."""
    thread = stage.thread(number)
    step = turn_step(thread.id, thread.begin, 0)
    step["output"] = text(f"edit {number}", 40, 160)
    return Trial(lambda: stage.layer.update_step(step_dict=step))


def delete_step(stage: Stage, number: int) -> Trial:
    """A step goes that was just made."""
    thread = stage.thread(number)
    new = trial_id("delete", thread, number)
    step = _answer(thread, new, number)
    return Trial(
        lambda: stage.layer.delete_step(step_id=new),
        before=lambda: stage.layer.create_step(step_dict=step),
    )


def get_favorite_steps(stage: Stage, number: int) -> Trial:
    """A user's favourite messages."""
    expected = sum(thread.favorite is not None for thread in stage.listed)

    def complete(result: Any) -> str | None:
        return None if len(result) == expected else f"{len(result)} of {expected} steps"

    owner = stage.user_id
    return Trial(lambda: stage.layer.get_favorite_steps(user_id=owner), complete)


def set_step_favorite(stage: Stage, number: int) -> Trial:
    """A message becomes a favourite."""
    thread = stage.thread(number)
    step = turn_step(thread.id, thread.begin, 0)
    return Trial(lambda: stage.layer.set_step_favorite(step_dict=step, favorite=True))


# Feedback -------------------------------------------------------------------------------------


def upsert_feedback(stage: Stage, number: int) -> Trial:
    """A thumb up or down for a step."""
    given = _feedback(stage.thread(number), number)
    return Trial(lambda: stage.layer.upsert_feedback(feedback=given))


def delete_feedback(stage: Stage, number: int) -> Trial:
    """A thumb is taken back."""
    given = _feedback(stage.thread(number), number)
    return Trial(
        lambda: stage.layer.delete_feedback(feedback_id=given.id),
        before=lambda: stage.layer.upsert_feedback(feedback=given),
    )


def _feedback(thread: Thread, number: int) -> Feedback:
    return Feedback(
        id=made_id(thread.id, "a vote"),
        forId=step_id(thread.id, min(3, thread.length - 1)),
        value=1 if number % 2 else 0,
        threadId=thread.id,
    )


# Elements -------------------------------------------------------------------------------------


def create_element(stage: Stage, number: int) -> Trial:
    """An element is added to a step; its file goes nowhere."""
    element = _element(stage.thread(number), number)
    return Trial(lambda: stage.layer.create_element(element=element))


def get_element(stage: Stage, number: int) -> Trial:
    """One element of a thread."""
    thread = stage.thread(0)
    element = _element(thread, 0)
    return Trial(
        lambda: stage.layer.get_element(thread_id=thread.id, element_id=element.id),
        _found,
        None if number else lambda: stage.layer.create_element(element=element),
    )


def delete_element(stage: Stage, number: int) -> Trial:
    """An element goes that was just made."""
    thread = stage.thread(number)
    element = _element(thread, -1 - number)
    return Trial(
        lambda: stage.layer.delete_element(element_id=element.id, thread_id=thread.id),
        before=lambda: stage.layer.create_element(element=element),
    )


def _element(thread: Thread, number: int) -> CustomElement:
    return CustomElement(
        thread_id=thread.id,
        id=trial_id("element", thread, number),
        for_id=step_id(thread.id, min(3, thread.length - 1)),
        name="chart",
        props={"rows": [1, 2, 3], "title": "Orders"},
    )


# Turns ----------------------------------------------------------------------------------------


def chat_turn(stage: Stage, number: int) -> Trial:
    """What Chainlit writes for one message with a tool's step and an answer: six calls."""
    return Trial(lambda: _turn(stage, stage.thread(number), number))


def first_turn(stage: Stage, number: int) -> Trial:
    """The same for the first message of a new thread, which gets its name and owner: seven."""
    thread = Thread(
        made_id("first", stage.thread(number).id, number), "", "", stage.thread(number).begin, 0
    )

    async def call() -> None:
        owner = stage.user_id
        await stage.layer.update_thread(thread_id=thread.id, name="First", user_id=owner)
        await _turn(stage, thread, number)

    return Trial(call)


def turns_at_once(stage: Stage, number: int) -> Trial:
    """Turns in as many threads at once."""
    first = number * stage.tasks

    async def call() -> None:
        await asyncio.gather(
            *(
                _turn(stage, stage.thread(first + offset), first + offset)
                for offset in range(stage.tasks)
            )
        )

    return Trial(call)


def steps_at_once(stage: Stage, number: int) -> Trial:
    """Steps that are added to one thread at once."""
    thread = stage.thread(number)
    steps = [
        _answer(thread, trial_id("at once", thread, number * stage.tasks + offset), number)
        for offset in range(stage.tasks)
    ]

    async def call() -> None:
        await asyncio.gather(*(stage.layer.create_step(step_dict=step) for step in steps))

    return Trial(call)


async def _turn(stage: Stage, thread: Thread, number: int) -> None:
    create, update = stage.layer.create_step, stage.layer.update_step
    for kind, step in turn_calls(thread, number):
        await (create if kind == "create" else update)(step_dict=step)


def turn_calls(thread: Thread, number: int) -> list[tuple[str, Dict]]:
    """The calls of one turn: the message, the run, the tool begun and done, the answer, the run."""
    ids = [trial_id(f"turn {part}", thread, number) for part in range(4)]
    own = [
        {
            "id": new,
            "threadId": thread.id,
            "parentId": parent,
            "createdAt": stamp(step_time(thread.begin, _LATER + 4 * number + part)),
        }
        for part, (new, parent) in enumerate(zip(ids, (None, ids[0], ids[1], ids[1]), strict=True))
    ]
    question = text(ids[0], 40, 160)
    asked = '{"query": "' + text(ids[2], 20, 60) + '"}'
    run = work(own[1], "run", "on_message", question, "")
    tool = work(own[2], "tool", "search", asked, "")
    return [
        ("create", message(own[0], "user_message", "alice", question)),
        ("create", {**run, "end": None}),
        ("create", {**tool, "end": None}),
        ("update", {**tool, "output": text(ids[2], 200, 900)}),
        ("create", message(own[3], "assistant_message", "Assistant", text(ids[3], 400, 1200))),
        ("update", run),
    ]


def _answer(thread: Thread, new: str, number: int) -> Dict:
    own = {
        "id": new,
        "threadId": thread.id,
        "parentId": step_id(thread.id, 0),
        "createdAt": stamp(step_time(thread.begin, _LATER + number)),
    }
    return message(own, "assistant_message", "Assistant", text(new, 400, 1200))


def _found(result: Any) -> str | None:
    return "nothing found" if result is None else None


OPERATIONS: Mapping[str, Operation] = {
    "get_user": get_user,
    "create_user": create_user,
    "create_user again": create_user_again,
    "get_thread": get_thread,
    "get_thread_author": get_thread_author,
    "list_threads": list_threads,
    "list_threads of ten": list_threads_short_page,
    "list_threads page 2": list_threads_second_page,
    "list_threads search": list_threads_search,
    "list_threads feedback": list_threads_feedback,
    "update_thread": update_thread,
    "update_thread metadata": update_thread_metadata,
    "delete_thread": delete_thread,
    "create_step": create_step,
    "update_step": update_step,
    "update_step first": update_step_first,
    "delete_step": delete_step,
    "get_favorite_steps": get_favorite_steps,
    "set_step_favorite": set_step_favorite,
    "upsert_feedback": upsert_feedback,
    "delete_feedback": delete_feedback,
    "create_element": create_element,
    "get_element": get_element,
    "delete_element": delete_element,
    "chat turn": chat_turn,
    "first turn": first_turn,
    "chat turns at once": turns_at_once,
    "steps at once": steps_at_once,
}

READS = frozenset(
    {
        "get_user",
        "get_thread",
        "get_thread_author",
        "list_threads",
        "list_threads of ten",
        "list_threads page 2",
        "list_threads search",
        "list_threads feedback",
        "get_favorite_steps",
        "get_element",
    }
)
"""Operations that change nothing: how writes are acknowledged does not matter to them."""
