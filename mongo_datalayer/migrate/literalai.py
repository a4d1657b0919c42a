"""What Literal AI's SDK wrote with ``to_dict()``: one thread a line, or a list of threads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from mongo_datalayer.errors import ConfigurationError, SourceError
from mongo_datalayer.migrate import values
from mongo_datalayer.migrate.chainlit_rows import (
    USER_FEEDBACK,
    Reading,
    Row,
    ThreadRows,
    thread_record,
    user_record,
)
from mongo_datalayer.migrate.records import (
    Leftover,
    MatchedTable,
    Outcome,
    Rows,
    ThreadRecord,
    UserRecord,
)
from mongo_datalayer.model.documents import Document

BLOCK_CHARACTERS = 1024 * 1024

# Chainlit's name for a score that a person gave; others are evaluations.
_FEEDBACK = "user-feedback"
# Chainlit keeps these in the metadata of Literal AI's steps.
_IN_METADATA = ("showInput", "language", "waitForAnswer")
_TIMES = {"startTime": "start", "endTime": "end"}
# What stands between two values, in a list and in lines alike.
_SEPARATORS = " \t\r\n,[]"


class LiteralAISource:
    """Threads in a file of JSON.

    Args:
        path: The file.
        reading: How rows are to be understood.

    Raises:
        ConfigurationError: the file does not begin with a thread.
    """

    kind = "Literal AI's threads as JSON"

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._reading = reading
        self.identity = str(path.resolve())
        self.tables: list[MatchedTable] = []
        self.warnings: list[str] = []
        try:
            first = next(self._values(), None)
        except SourceError as exc:
            raise ConfigurationError(str(exc)) from exc
        if not _is_thread(first) or "steps" not in first:
            raise ConfigurationError(f"{path} holds no threads of Literal AI, with id and steps.")

    def close(self) -> None:
        """Nothing is open between two calls."""

    def users(self) -> Iterator[UserRecord | Leftover]:
        """The participants, each once."""
        seen: set[int] = set()  # hashes: the ids of all participants may not fit into memory
        for thread in filter(_is_thread, self._values()):
            participant = _participant(thread)
            user_id = values.text(participant.get("id"))
            if user_id and hash(user_id) not in seen:
                seen.add(hash(user_id))
                yield user_record({"identifier": user_id, **participant}, self._reading)

    def threads(self) -> Iterator[ThreadRecord | Leftover]:
        """The threads, in the order of the file; of several with one id, the last."""
        last = {hash(_id_of(value)): number for number, value in enumerate(self._values())}
        for number, value in enumerate(self._values()):
            if not _is_thread(value):
                rows = Rows(Counter(threads=1))
                rows.tell(Outcome.LEFT_OUT, "it is no thread", "threads", "", value)
                yield Leftover(rows)
            elif last[hash(_id_of(value))] != number:
                yield _replaced(_rows(value))
            else:
                yield thread_record(_rows(value), self._reading)

    def _values(self) -> Iterator[Any]:
        try:
            # Some editors begin a file with a byte order mark, which json refuses.
            with self._path.open(encoding="utf-8-sig", errors="replace") as file:
                yield from json_values(lambda: file.read(BLOCK_CHARACTERS))
        except (OSError, ValueError) as exc:
            raise SourceError(f"{self._path} cannot be read as JSON: {exc}") from exc


def _is_thread(value: Any) -> TypeGuard[Document]:
    return isinstance(value, dict) and bool(_id_of(value))


def _id_of(value: Any) -> str:
    return values.text(value.get("id")) if isinstance(value, dict) else ""


def _replaced(found: ThreadRows) -> Leftover:
    """A thread that the file has again further on; steps that only this one has are lost."""
    rows = Rows(Counter({table: len(each) for table, each in found.each() if each}))
    for table, each in found.each():
        for row in each:
            reason = "a later thread has the same id"
            rows.tell(Outcome.LEFT_OUT, reason, table, row.get("id", ""), found.thread_id)
    return Leftover(rows)


def json_values(read: Any) -> Iterator[Any]:
    """The values of a JSON list, of JSON lines or of one value, of which one is in memory.

    Args:
        read: Gives the next piece of text; an empty one at the end.

    Raises:
        ValueError: the text is not JSON.
    """
    decoder = json.JSONDecoder()
    text, ended = "", False
    while True:
        text = text.lstrip(_SEPARATORS)
        try:
            if not text and not ended:
                raise ValueError("more is to be read")
            if not text:
                return
            value, end = decoder.raw_decode(text)
            if end == len(text) and not ended:  # a number may go on
                raise ValueError("more is to be read")
        except ValueError:
            if ended:
                raise
            # As much again: a long value is not parsed once for each block.
            pieces = [text]
            wanted = len(text) + 1
            while wanted > 0 and (piece := read()):
                pieces.append(piece)
                wanted -= len(piece)
            ended = wanted > 0
            text = "".join(pieces)
            continue
        yield value
        text = text[end:]


def _rows(thread: Document) -> ThreadRows:
    thread_id, participant = _id_of(thread), _participant(thread)
    row = _present({name: thread.get(name) for name in ("name", "metadata", "tags", "createdAt")})
    row |= _present({"id": thread_id, "userId": participant.get("id")})
    owner = participant.get("identifier") or participant.get("id")
    row |= _present({"userIdentifier": owner, "ownerName": owner})
    rows = ThreadRows(thread_id, [row])
    for step in _maps(thread.get("steps")):
        rows.steps.append(_step(step))
        rows.feedbacks += [_vote(score, step) for score in _maps(step.get("scores"))]
        for attachment in _maps(step.get("attachments")):
            rows.elements.append({**_present(attachment), "forId": step.get("id")})
    return rows


def _participant(thread: Document) -> Document:
    found = thread.get("participant")
    return _present(found) if isinstance(found, dict) else _present({"id": found})


def _maps(value: Any) -> list[Document]:
    """The maps of a list; anything else is one that has a name alone, and will be listed."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [item if isinstance(item, dict) else {"name": item} for item in items]


def _step(step: Document) -> Row:
    metadata = values.decoded(step.get("metadata"))
    if isinstance(metadata, dict):
        metadata = dict(metadata)
        row = _present({name: metadata.pop(name, None) for name in _IN_METADATA})
    else:
        row = {}
    for name, value in _present(step).items():
        if name in _TIMES:
            row[_TIMES[name]] = value
        elif name in {"input", "output"}:
            row[name] = _content(value)
        elif name not in {"metadata", "scores", "attachments", "threadId"}:
            row[name] = value
    row |= _present({"metadata": metadata}) | {"isError": bool(step.get("error"))}
    return row | _present({"createdAt": step.get("startTime") or step.get("createdAt")})


def _content(value: Any) -> Any:
    """A text that the SDK wrapped."""
    if isinstance(value, dict) and value.keys() == {"content"}:
        return value["content"]
    return "" if value == {} else value


def _vote(score: Document, step: Document) -> Row:
    name = USER_FEEDBACK if score.get("name") == _FEEDBACK else values.text(score.get("name"))
    return {**_present(score), "name": name, "forId": step.get("id")}


def _present(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if value is not None}
