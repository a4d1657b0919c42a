"""Rows of the old layers' tables as Chainlit's dicts. Pure.

Rows are maps by logical column; columns that are NULL are left out, and unknown ones keep their
names. The same code reads the tables of Chainlit's two layers and of PraisonAI: where they differ,
:mod:`~mongo_datalayer.migrate.reflection` gives a column its logical name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from typing import Any

from mongo_datalayer.chainlit.codec import identified_feedback
from mongo_datalayer.migrate import values
from mongo_datalayer.migrate.records import Leftover, Outcome, Rows, ThreadRecord, UserRecord
from mongo_datalayer.migrate.values import TOO_LONG, DamagedText, OddValueError, is_too_long
from mongo_datalayer.model.documents import Document, ThreadDocument
from mongo_datalayer.model.times import EPOCH, parse_time

Row = Mapping[str, Any]

NAME_LENGTH = 255
DELETED = "thread was deleted in the source"
USER_FEEDBACK = "user_feedback"
"""The name of Prisma's feedback that a person gave; other names are evaluations."""

NOBODY = frozenset({"", "User", "user", "anonymous"})
"""How Chainlit names who speaks when nobody is logged in."""

_FLAGS = frozenset({"isError", "waitForAnswer", "defaultOpen", "autoCollapse"})
_TEXTS = frozenset({"type", "name", "input", "output", "language", "command", "icon"})
# Of the row, not of the step: `streaming` is false in everything that was stored to its end.
_ROW_ONLY = frozenset({"id", "threadId", "streaming", "rowCreatedAt", "updatedAt"})
_ROW_ONLY |= {"home", "homeKey"}
# Columns of a thread's row that say something of it, or of the row.
_THREAD_COLUMNS = frozenset(
    {"id", "name", "userId", "userIdentifier", "metadata", "tags", "createdAt", "updatedAt"}
)
_THREAD_COLUMNS |= {"deletedAt", "ownerName", "rowCreatedAt", "home", "homeKey"}
_USER_COLUMNS = frozenset({"id", "identifier", "metadata", "createdAt", "updatedAt", "displayName"})
# Names that mean something in what is stored, and are no column's.
_TAKEN = frozenset(ThreadDocument.model_fields) | {"_id", "incomplete", "feedback", "receivedAt"}
_TAKEN |= {"sequence"}
_TAKEN -= {"id", "name", "tags", "metadata", "createdAt"}


@dataclass(frozen=True)
class Reading:
    """How rows are to be understood.

    Attributes:
        zone: The zone of the times of users and threads; UTC when None.
        import_orphans: Make an ownerless thread of rows whose thread is missing.
    """

    zone: tzinfo | None = None
    import_orphans: bool = False


@dataclass
class ThreadRows:
    """The rows that name one thread.

    Attributes:
        thread_id: The id.
        threads: Its own row; none, or several, in a damaged source.
        steps: In the order of rows.
        elements: In the order of rows.
        feedbacks: In the order of rows.
    """

    thread_id: str
    threads: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    elements: list[Row] = field(default_factory=list)
    feedbacks: list[Row] = field(default_factory=list)

    def each(self) -> Iterable[tuple[str, list[Row]]]:
        """The rows by table."""
        tables = ("threads", "steps", "elements", "feedbacks")
        return ((table, getattr(self, table)) for table in tables)


def user_record(row: Row, reading: Reading) -> UserRecord | Leftover:
    """A user's row as Chainlit's user."""
    rows = Rows(Counter(users=1))
    user_id, identifier = values.text(row.get("id")), values.text(row.get("identifier"))
    if not user_id or not identifier:
        rows.tell(Outcome.LEFT_OUT, "user without id or identifier", "users", user_id or identifier)
        return Leftover(rows)
    if is_too_long(user_id) or is_too_long(identifier):
        reason = TOO_LONG if is_too_long(user_id) else TOO_LONG.replace("id", "identifier", 1)
        rows.tell(Outcome.LEFT_OUT, reason, "users", user_id)
        return Leftover(rows)
    _tell_damaged(rows, "users", [row])
    user: Document = {"id": user_id, "identifier": identifier}
    user["metadata"] = _without_none(_map(rows, "users", user_id, row, "metadata"))
    created = _time(rows, "users", user_id, row, reading)
    if created is None:
        rows.tell(Outcome.CHANGED, "user's time is 1970", "users", user_id)
    user["createdAt"] = created or EPOCH
    if "displayName" in row:
        user["displayName"] = values.text(row["displayName"])
    user |= _extra(row, _USER_COLUMNS)
    return UserRecord(user, rows)


def thread_record(found: ThreadRows, reading: Reading) -> ThreadRecord | Leftover:
    """All rows of one thread as Chainlit's ``ThreadDict``."""
    rows = Rows(Counter({table: len(each) for table, each in found.each() if each}))
    row = found.threads[-1] if found.threads else None
    if reason := _why_left_out(found, row, reading):
        outcome = Outcome.SKIPPED if reason == DELETED else Outcome.LEFT_OUT
        for table, each in found.each():
            for lost in each:
                rows.tell(outcome, reason, table, lost.get("id", ""), found.thread_id)
        return Leftover(rows)
    for table, each in found.each():
        _tell_damaged(rows, table, each)
    for other in found.threads[:-1]:
        rows.tell(Outcome.MERGED, "thread with the same id", "threads", other["id"])
    thread: Document = {"id": found.thread_id}
    if row is None:
        rows.tell(Outcome.CHANGED, "thread made for rows without one", "steps", found.thread_id)
    else:
        _add_thread(thread, rows, row, reading)
    thread["steps"] = _steps(found.steps, rows)
    thread["elements"] = _elements(found.elements, rows, thread["steps"])
    _add_feedback(found.feedbacks, rows, thread["steps"], found.thread_id)
    _add_times(thread, rows)
    return ThreadRecord(thread, rows, _speaker(thread))


def _why_left_out(found: ThreadRows, row: Row | None, reading: Reading) -> str | None:
    if not found.thread_id:
        return "belongs to no thread"
    if is_too_long(found.thread_id):
        return TOO_LONG
    if row is None:
        return None if reading.import_orphans else "its thread is missing"
    # Chainlit's official layer keeps a deleted thread's rows, and hides it by this column.
    deleted = values.is_set(row.get("deletedAt", False))
    return DELETED if deleted else None


# Threads --------------------------------------------------------------------------------------


def _add_thread(thread: Document, rows: Rows, row: Row, reading: Reading) -> None:
    thread_id = thread["id"]
    if "name" in row:
        name = values.text(row["name"])
        if len(name) > NAME_LENGTH:
            rows.tell(Outcome.CHANGED, "name was shortened", "threads", thread_id, name)
            name = name[: NAME_LENGTH - 1] + "…"
        thread["name"] = name
    _add_owner(thread, rows, row)
    thread["metadata"] = _without_none(_map(rows, "threads", thread_id, row, "metadata"))
    thread["tags"] = _tags(rows, "threads", thread_id, row)
    if (created := _time(rows, "threads", thread_id, row, reading)) is not None:
        thread["createdAt"] = created
    thread |= _extra(row, _THREAD_COLUMNS)


def _add_owner(thread: Document, rows: Rows, row: Row) -> None:
    """The owner, as the user's row names it: that decides who may open the thread."""
    # The thread's row has a copy of the name, from when it was written.
    user_id, named = values.text(row.get("userId")), values.text(row.get("userIdentifier"))
    current = values.text(row.get("ownerName"))
    if user_id:
        thread["userId"] = user_id
        if not current:
            rows.tell(Outcome.CHANGED, "thread's user is gone", "threads", thread["id"], user_id)
        elif named and named != current:
            rows.tell(
                Outcome.CHANGED, "owner's name follows the user", "threads", thread["id"], named
            )
    if current or named:
        thread["userIdentifier"] = current or named


def _add_times(thread: Document, rows: Rows) -> None:
    """``createdAt``, the first step's where the thread has none, and ``updatedAt``."""
    times = [time for step in thread["steps"] if (time := parse_time(step.get("createdAt")))]
    if "createdAt" not in thread and times:
        thread["createdAt"] = min(times)
        if rows.read["threads"]:
            rows.tell(Outcome.CHANGED, "thread's time is the first step's", "threads", thread["id"])
    elif "createdAt" not in thread:
        # A thread without a time would be in no list.
        thread["createdAt"] = EPOCH
        rows.tell(Outcome.CHANGED, "thread's time is 1970", "threads", thread["id"])
    newest = max(times, default=thread["createdAt"])
    # A clock that was ahead must not keep the thread on top of the list.
    thread["updatedAt"] = min(newest, datetime.now(timezone.utc))


def _speaker(thread: Document) -> str | None:
    if thread.get("userId") or thread.get("userIdentifier"):
        return None
    # On SQLite Chainlit loses the owner of a tagged thread, as it cannot store the tags.
    # The page still names a message after the identifier of its writer.
    names = {step.get("name", "") for step in thread["steps"] if step["type"] == "user_message"}
    names -= NOBODY
    return names.pop() if len(names) == 1 else None


# Steps ----------------------------------------------------------------------------------------


def _steps(found: list[Row], rows: Rows) -> list[Document]:
    """The steps in the order of their times; equal times stay in the order of rows."""
    by_id: dict[str, Document] = {}
    for row in found:
        step_id = values.text(row.get("id"))
        if not _has_id(step_id, "step", row, rows):
            continue
        if step_id in by_id:
            rows.tell(Outcome.MERGED, "step with the same id", "steps", step_id)
        # A dict keeps the first place of a key, and the last row is the newest.
        by_id.pop(step_id, None)
        by_id[step_id] = _step(step_id, row, rows)
    _cut_loops(by_id, rows)
    return sorted(by_id.values(), key=_step_time)


def _step(step_id: str, row: Row, rows: Rows) -> Document:
    step: Document = {"id": step_id, "type": "undefined"}
    for name, value in row.items():
        if name in _ROW_ONLY:
            continue
        if name in _TEXTS:
            step[name] = values.text(value)
        elif name in _FLAGS:
            step[name] = values.flag(value)
        elif name == "parentId":
            step |= {name: parent} if (parent := values.text(value)) else {}
        elif name in {"metadata", "modes", "generation"}:
            step |= {name: found} if (found := _map(rows, "steps", step_id, row, name)) else {}
        elif name == "tags":
            step |= {name: tags} if (tags := _tags(rows, "steps", step_id, row)) else {}
        elif name == "showInput":
            step[name] = values.show_input(value)
        elif name in {"createdAt", "start", "end"}:
            step |= {name: time} if (time := _step_time_text(rows, step_id, name, value)) else {}
        else:
            step |= _extra({name: value}, ())
    # Without a time get_thread takes the step for one of 1970, before all others.
    if "createdAt" not in step and (begin := step.get("start") or step.get("end")):
        step["createdAt"] = begin
    return step


def _step_time_text(rows: Rows, step_id: str, name: str, value: Any) -> str | None:
    time = values.time_text(value)
    if time is None and value != "":
        rows.tell(Outcome.CHANGED, f"{name} is not a time", "steps", step_id, value)
    return time


def _step_time(step: Document) -> str:
    # As text: all are ISO 8601 in UTC, of one length up to the second.
    time = step.get("createdAt", "")
    return time if len(time) == len("2026-01-01T00:00:00.000000Z") else _padded(time)


def _padded(time: str) -> str:
    parsed = parse_time(time)
    return "" if parsed is None else f"{parsed.isoformat(timespec='microseconds')[:26]}Z"


def _cut_loops(steps: dict[str, Document], rows: Rows) -> None:
    """A step in a loop of parents has none; one whose parent is elsewhere keeps the parent's id."""
    done: set[str] = set()
    for step_id, step in steps.items():
        if (parent := step.get("parentId")) and parent not in steps:
            rows.tell(Outcome.CHANGED, "step's parent is missing", "steps", step_id, parent)
        seen: dict[str, None] = {}
        current: str | None = step_id
        while current in steps and current not in done and current not in seen:
            seen[current] = None
            current = steps[current].get("parentId")
        if current in seen:
            for member in list(seen)[list(seen).index(current) :]:
                parent = steps[member].pop("parentId")
                rows.tell(Outcome.CHANGED, "step's parents form a loop", "steps", member, parent)
        done.update(seen)


# Elements and feedback ------------------------------------------------------------------------

_ELEMENT_TEXTS = frozenset({"type", "url", "chainlitKey", "name", "display", "objectKey", "size"})
_ELEMENT_TEXTS |= {"language", "mime"}


def _elements(found: list[Row], rows: Rows, steps: list[Document]) -> list[Document]:
    by_id: dict[str, Document] = {}
    step_ids = {step["id"] for step in steps}
    for row in found:
        element_id = values.text(row.get("id"))
        if not _has_id(element_id, "element", row, rows):
            continue
        if element_id in by_id:
            rows.tell(Outcome.MERGED, "element with the same id", "elements", element_id)
        element = by_id[element_id] = _element(element_id, row, rows)
        step_id = element.get("forId")
        if step_id and step_id not in step_ids:
            rows.tell(Outcome.CHANGED, "element's step is missing", "elements", element_id, step_id)
    return list(by_id.values())


def _element(element_id: str, row: Row, rows: Rows) -> Document:
    element: Document = {"id": element_id}
    for name, value in row.items():
        if name in _ROW_ONLY or name == "metadata":
            continue
        if name in _ELEMENT_TEXTS or name == "forId":
            element |= {name: stored} if (stored := values.text(value)) else {}
        elif name in {"props", "playerConfig"}:
            element |= (
                {name: item} if (item := _map(rows, "elements", element_id, row, name)) else {}
            )
        elif name == "autoPlay":
            element[name] = values.flag(value)
        elif name == "page":
            element[name] = values.whole_number(value)
        else:
            element |= _extra({name: value}, ())
    details = _map(rows, "elements", element_id, row, "metadata")
    # Chainlit's official layer has the type there alone, and repeats other columns.
    for name, value in details.items():
        if name not in element and name in _ELEMENT_TEXTS | {"page", "autoPlay"}:
            element[name] = values.text(value) if name in _ELEMENT_TEXTS else value
    if extra := {name: item for name, item in details.items() if name not in element}:
        element["metadata"] = extra
    if element.get("objectKey"):
        element.pop("url", None)  # signed when it was uploaded, and expired
    return element


def _add_feedback(found: list[Row], rows: Rows, steps: list[Document], thread_id: str) -> None:
    """Put on each step the newest of its votes."""
    by_id = {step["id"]: step for step in steps}
    kept: dict[str, Row] = {}
    # Chainlit's SQL layer adds a row for each vote that comes without an id.
    for row in sorted(found, key=_age):
        feedback_id, step_id = row.get("id", ""), values.text(row.get("forId"))
        if values.text(row.get("name", USER_FEEDBACK)) != USER_FEEDBACK:
            name = row["name"]
            rows.tell(Outcome.LEFT_OUT, "evaluation, no person's", "feedbacks", feedback_id, name)
        elif step_id not in by_id:
            reason = "feedback's step is missing"
            rows.tell(Outcome.LEFT_OUT, reason, "feedbacks", feedback_id, step_id)
        elif values.vote(row.get("value")) is None:
            reason = "feedback is neither up nor down"
            rows.tell(Outcome.LEFT_OUT, reason, "feedbacks", feedback_id, row.get("value"))
        else:
            if before := kept.get(step_id):
                reason = "older feedback on the same step"
                rows.tell(Outcome.MERGED, reason, "feedbacks", before.get("id", ""), step_id)
            kept[step_id] = row
    for step_id, row in kept.items():
        by_id[step_id]["feedback"] = identified_feedback(_feedback(row, by_id[step_id]), thread_id)


def _age(row: Row) -> tuple[str, str]:
    times = (values.moment(row.get(name)) for name in ("updatedAt", "createdAt"))
    updated, created = ("" if time is None else time.isoformat() for time in times)
    return updated, created


def _feedback(row: Row, step: Document) -> Document:
    value = values.vote(row["value"])
    feedback = {"forId": step["id"], "value": value}
    if feedback_id := values.text(row.get("id")):
        feedback["id"] = feedback_id
    if "comment" in row:
        feedback["comment"] = values.text(row["comment"])
    times = (row.get("updatedAt"), row.get("createdAt"), step.get("end"), step.get("createdAt"))
    known = [time for value in times if (time := values.moment(value)) is not None]
    return {**feedback, "updatedAt": known[0] if known else datetime.now(timezone.utc)}


# What all have --------------------------------------------------------------------------------


def _has_id(id: str, what: str, row: Row, rows: Rows) -> bool:  # noqa: A002
    """Whether a row has an id that can be stored; it is listed if not."""
    if not id:
        rows.tell(Outcome.LEFT_OUT, f"{what} without id", f"{what}s", "", row.get("name", ""))
    elif is_too_long(id):
        rows.tell(Outcome.LEFT_OUT, TOO_LONG, f"{what}s", id)
    return bool(id) and not is_too_long(id)


def _extra(row: Row, known: Collection[str]) -> Document:
    """Columns that nobody knows; one whose name has a meaning here gets another one."""
    return {
        f"source_{name}" if name in _TAKEN else name: values.to_plain(value)
        for name, value in row.items()
        if name not in known
    }


def _tell_damaged(rows: Rows, table: str, found: list[Row]) -> None:
    """List the rows with texts that are not UTF-8."""
    for row in found:
        for name, value in row.items():
            if type(value) is DamagedText and name not in {"home", "threadId"}:
                reason = f"{name} is not UTF-8"
                rows.tell(Outcome.CHANGED, reason, table, row.get("id", ""), value)


def _map(rows: Rows, table: str, id: str, row: Row, name: str) -> dict[str, Any]:  # noqa: A002
    try:
        return values.mapping(row.get(name))
    except OddValueError as exc:
        # Nearly every step's generation is JSON's null: that is how the layers say "none".
        if exc.reason != values.JSON_NULL or name == "metadata":
            reason = exc.reason.replace("metadata", name)
            rows.tell(Outcome.CHANGED, reason, table, id, row[name])
        kept: dict[str, Any] = exc.kept
        return kept


def _without_none(found: dict[str, Any]) -> dict[str, Any]:
    """As Chainlit reads them: a key of a thread's or user's metadata that is None is to go."""
    return {key: item for key, item in found.items() if item is not None}


def _tags(rows: Rows, table: str, id: str, row: Row) -> list[str]:  # noqa: A002
    try:
        return values.tags(row.get("tags"))
    except OddValueError as exc:
        rows.tell(Outcome.CHANGED, exc.reason, table, id, row["tags"])
        kept: list[str] = exc.kept
        return kept


def _time(rows: Rows, table: str, id: str, row: Row, reading: Reading) -> datetime | None:  # noqa: A002
    value = row.get("createdAt")
    time = values.moment(value, reading.zone)
    if time is None and value not in (None, ""):
        rows.tell(Outcome.CHANGED, "createdAt is not a time", table, id, value)
    return time
