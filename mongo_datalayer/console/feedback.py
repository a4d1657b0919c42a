"""The queue of feedback, newest first, each with its question and answer; and counts of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mongo_datalayer.chainlit.codec import read_name, read_steps
from mongo_datalayer.chainlit.thread_contents import drop_damaged, maps
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.console.conversation import beginning_of, question_and_answer
from mongo_datalayer.console.feedback_queries import feedback_counts, queue_pipeline
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import (
    Document,
    is_reference,
)
from mongo_datalayer.mongodb.client import aggregate

PAGE = 20
MOST_WEEKS = 53
"""How many weeks are counted at most, the newest ones."""

TOP = 50
"""How many tools and profiles are listed."""

_WEEK = timedelta(weeks=1)
_SHOWN = ("id", "type", "name", "parentId", "createdAt", "start", "output", "feedback")


@dataclass
class Verdict:
    """One feedback of the queue.

    Attributes:
        id: Its id.
        thread_id: The conversation.
        step_id: The rated step.
        value: 1 is thumbs up, 0 thumbs down.
        comment: What the person wrote.
        at: When.
        name: The conversation's name.
        user: Whose conversation.
        profile: The conversation's chat profile.
        tools: The tools that were called for the answer.
        question: The question before.
        answer: The rated answer.
    """

    id: str
    thread_id: str
    step_id: str
    value: int
    comment: str
    at: datetime | None
    profile: str = ""
    tools: list[str] = field(default_factory=list)
    name: str | None = None
    user: str | None = None
    question: str = ""
    answer: str = ""


@dataclass
class Counts:
    """How much feedback there is; rows with ``name``, ``up`` and ``down``.

    Attributes:
        tools: For each tool that was called for a rated answer, the most thumbs down first.
        profiles: The same for each chat profile.
        weeks: For each week, from its Monday as ``name``, oldest first.
    """

    tools: list[Document]
    profiles: list[Document]
    weeks: list[Document]


async def read_queue(
    documents: ThreadDocuments, filters: Filters, *, open_only: bool, cursor: Cursor | None
) -> tuple[list[Verdict], str | None]:
    """A page of the queue, and the cursor of the next one.

    One query on the index of feedback, which reads the threads that have some; one more for the
    texts of the page, and one for long threads.

    Args:
        documents: Where threads are stored.
        filters: Which feedback, by its value, tool, profile and time.
        open_only: Only what nobody has looked at.
        cursor: Where the page before ended.
    """
    pipeline = queue_pipeline(filters, limit=PAGE + 1, open_only=open_only, cursor=cursor)
    rows = await aggregate(documents.collection, pipeline)
    following = None
    if len(rows) > PAGE:
        rows = rows[:PAGE]
        following = Cursor(rows[-1]["feedback"]["updatedAt"], rows[-1]["feedback"]["id"]).encode()
    verdicts = [_verdict(row) for row in rows]
    threads = await _threads(documents, [verdict.thread_id for verdict in verdicts])
    for verdict in verdicts:
        thread, steps = threads.get(verdict.thread_id, ({}, []))
        verdict.name = read_name(thread)
        verdict.user = thread.get("userIdentifier")
        verdict.question, verdict.answer = question_and_answer(steps, verdict.step_id)
    return verdicts, following


async def count_feedback(documents: ThreadDocuments, filters: Filters) -> Counts:
    """Count feedback by tool, profile and week. One query, which reads what the queue does."""
    rows = await aggregate(documents.collection, feedback_counts(filters))
    tools: dict[Any, Counter[str]] = {}
    profiles: dict[Any, Counter[str]] = {}
    weeks: dict[Any, Counter[str]] = {}
    for row in rows:
        found = row["_id"]
        count = {"up" if found["value"] == 1 else "down": row["count"]}
        for tool in _texts(found["tools"]):
            tools.setdefault(tool, Counter()).update(count)
        for profile in _texts([found.get("profile")]):
            profiles.setdefault(profile, Counter()).update(count)
        weeks.setdefault(found["week"].date(), Counter()).update(count)
    last = max(weeks, default=None)
    first = None if last is None else max(min(weeks), last - (MOST_WEEKS - 1) * _WEEK)
    begins = (
        [] if first is None else [first + n * _WEEK for n in range((last - first).days // 7 + 1)]
    )
    return Counts(
        _worst_first(tools),
        _worst_first(profiles),
        [_row(monday, weeks.get(monday, Counter())) for monday in begins],
    )


def _row(name: Any, counts: Counter[str]) -> Document:
    return {"name": name, "up": counts["up"], "down": counts["down"]}


def _worst_first(counts: dict[Any, Counter[str]]) -> list[Document]:
    rows = [_row(name, count) for name, count in counts.items()]
    return sorted(rows, key=lambda row: (-row["down"], -row["up"], row["name"]))[:TOP]


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _verdict(row: Document) -> Verdict:
    feedback = row["feedback"]
    comment: Any = feedback.get("comment")
    if is_reference(comment):
        comment = beginning_of(comment)
    return Verdict(
        id=feedback["id"],
        thread_id=str(row["thread"]),
        step_id=str(row["step"]),
        value=int(feedback["value"]),
        comment=comment if isinstance(comment, str) else "",
        at=feedback["updatedAt"],
        profile=next(iter(_texts([row.get("profile")])), ""),
        tools=_texts(row["tools"]),
    )


async def _threads(
    documents: ThreadDocuments, ids: list[str]
) -> dict[str, tuple[Document, list[Document]]]:
    """Threads by id with the texts of their steps; large texts by their first characters."""
    fields = ("name", "metadata.name", "userIdentifier", "overflowIds")
    shown = {**dict.fromkeys(fields, 1), "steps": dict.fromkeys(_SHOWN, 1)}
    found: dict[str, tuple[Document, list[Document]]] = {}
    mains = await documents.collection.find({"_id": {"$in": ids}}, shown).to_list(None)
    for main in mains:
        thread = await documents.overflow.whole(main, partial=True) or main
        drop_damaged(thread)
        for values in maps([thread]):
            for name, value in values.items():
                if is_reference(value):
                    values[name] = beginning_of(value)
        found[thread["_id"]] = thread, read_steps(thread["steps"], thread["_id"])
    return found
