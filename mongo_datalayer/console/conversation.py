"""One conversation for the console: its steps as a tree, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import OperationFailure

from mongo_datalayer.chainlit.codec import read_feedback, read_name, read_steps
from mongo_datalayer.chainlit.thread_contents import drop_damaged, drop_deleted, maps
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.model.bson_values import to_text
from mongo_datalayer.model.documents import OWN_THREAD, Document, is_reference
from mongo_datalayer.model.times import parse_time
from mongo_datalayer.mongodb.error_reason import is_unauthorized

STEPS = 100
"""How many steps a page shows."""

SHOWN_BYTES = 64 * 1024
"""A larger value in GridFS is shown by its first characters."""

SHOWN_CHARS = 20_000
"""How much of a text is shown; the rest is behind a link."""

_PLACED = ("id", "parentId", "createdAt", "receivedAt", "start", "end")


@dataclass
class ShownStep:
    """A step as the page shows it.

    Attributes:
        stored: The stored step.
        depth: How many steps are above it.
        seconds: How long it took; None when that is unknown.
        cut: Which of ``input`` and ``output`` are not shown in full.
        elements: Its elements.
    """

    stored: Document
    depth: int
    seconds: float | None
    cut: set[str] = field(default_factory=set)
    elements: list[Document] = field(default_factory=list)

    def text(self, name: str) -> str:
        """What is shown of ``input`` or ``output``."""
        value = self.stored.get(name)
        return value if isinstance(value, str) else "" if value is None else str(value)

    @property
    def feedback(self) -> Document | None:
        """What people thought of it."""
        return read_feedback(self.stored.get("feedback"))


@dataclass
class Conversation:
    """A page of a conversation.

    Attributes:
        main: The thread without its lists.
        name: Its name.
        steps: The steps of this page.
        count: How many steps there are.
        page: The number of this page, from 1.
        pages: How many pages there are.
        elements: Elements of no step; on the last page.
        damaged: What was left out, as no step or no element.
    """

    main: Document
    name: str | None
    steps: list[ShownStep]
    count: int
    page: int
    pages: int
    elements: list[Document]
    damaged: list[str]


async def read_conversation(
    documents: ThreadDocuments, thread_id: str, *, page: int, step_id: str | None = None
) -> Conversation | None:
    """A page of a conversation; None when there is none with this id.

    Two queries, and one for each value in GridFS that the page shows.

    Args:
        documents: Where threads are stored.
        thread_id: The thread.
        page: Which page, from 1.
        step_id: A step; its page is taken instead.
    """
    main = await documents.collection.find_one({"$and": [{"_id": thread_id}, dict(OWN_THREAD)]})
    if main is None:
        return None
    damaged = drop_damaged(main)
    whole = await documents.overflow.whole(main, partial=True) or main
    damaged += drop_damaged(whole)
    drop_deleted(whole)
    stored = {step["id"]: step for step in whole.get("steps") or ()}
    # Ordered by what places them alone: texts in GridFS are read for this page only.
    places = [{name: step[name] for name in _PLACED if name in step} for step in stored.values()]
    ordered = read_steps(places, thread_id)
    pages = max(1, -(-len(ordered) // STEPS))
    at = next((n for n, step in enumerate(ordered) if step["id"] == step_id), None)
    page = min(max(page, 1), pages) if at is None else at // STEPS + 1
    shown = _shown(ordered, stored, page)
    await _resolve(documents, shown, whole)
    by_step = {step.stored["id"]: step for step in shown}
    others = []
    for element in whole.get("elements") or ():
        step_of = str(element.get("forId"))
        if step_of in by_step:
            by_step[step_of].elements.append(element)
        elif step_of not in stored and page == pages:
            others.append(element)
    header = {k: v for k, v in whole.items() if k not in ("steps", "elements", "searchSegment")}
    return Conversation(header, read_name(whole), shown, len(ordered), page, pages, others, damaged)


async def read_text(
    documents: ThreadDocuments, thread_id: str, step_id: str, name: str
) -> str | None:
    """The whole ``input`` or ``output`` of a step; None when there is none."""
    thread = await documents.get(thread_id)
    steps = [] if thread is None else thread.get("steps") or []
    step: Document = next((step for step in steps if step["id"] == step_id), {})
    value = step.get(name)
    return None if value is None else str(value)


def _shown(ordered: list[Document], stored: dict[str, Document], page: int) -> list[ShownStep]:
    depths: dict[str, int] = {}
    for step in ordered:
        depths[step["id"]] = depths.get(step["parentId"], -1) + 1
    start = (page - 1) * STEPS
    return [
        ShownStep(stored[step["id"]], depths[step["id"]], seconds_of(stored[step["id"]]))
        for step in ordered[start : start + STEPS]
    ]


async def _resolve(documents: ThreadDocuments, shown: list[ShownStep], whole: Document) -> None:
    """Put the texts in place that are in GridFS, and cut the long ones."""
    small = {"metadata": whole.get("metadata"), "steps": [step.stored for step in shown]}
    for fields in maps([small, {"elements": whole.get("elements")}]):
        for name, value in tuple(fields.items()):
            if is_reference(value) and _is_long(value["bytes"]):
                fields[name] = beginning_of(value)
                fields[f"{name} is cut"] = True
    values = maps([small, {"elements": whole.get("elements")}])
    try:
        await documents.values.resolve(values)
    except OperationFailure as exc:
        if not is_unauthorized(exc):
            raise
        # An analyst's role reads no content of files.
        for fields in values:
            fields |= {k: beginning_of(v) for k, v in fields.items() if is_reference(v)}
    for step in shown:
        for name in ("input", "output"):
            text = step.text(name)
            if step.stored.pop(f"{name} is cut", False) or len(text) > SHOWN_CHARS:
                step.stored[name] = text[:SHOWN_CHARS]
                step.cut.add(name)


def beginning_of(reference: Mapping[str, Any]) -> str:
    """The first characters of a value in GridFS."""
    return f"{to_text(reference['preview'])}…"


def _is_long(size: Any) -> bool:
    return isinstance(size, int | float) and size > SHOWN_BYTES


def seconds_of(step: Document) -> float | None:
    """How long a step took; None when that is unknown. Pure."""
    start, end = parse_time(step.get("start")), parse_time(step.get("end"))
    return None if start is None or end is None else (end - start).total_seconds()


def question_and_answer(steps: list[Document], step_id: str) -> tuple[str, str]:
    """The last question before a rated step, and the answer that was rated. Pure.

    Args:
        steps: The thread's steps as ``read_steps`` orders them.
        step_id: The rated step: an answer, or the run or tool that it belongs to.
    """
    at = next((n for n, step in enumerate(steps) if step["id"] == step_id), None)
    if at is None:
        return "", ""
    asked = [step for step in steps[: at + 1] if step["type"] == "user_message"]
    rated = steps[at]
    if rated["type"] != "assistant_message":
        below = {step_id}
        for step in steps[at + 1 :]:
            if step["parentId"] in below:
                below.add(step["id"])
                if step["type"] == "assistant_message":
                    rated = step
    return (_text(asked[-1]["output"]) if asked else ""), _text(rated["output"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
