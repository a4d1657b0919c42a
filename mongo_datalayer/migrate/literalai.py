"""What Literal AI's SDK wrote with ``to_dict()``: one thread a line, or a list of threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mongo_datalayer.errors import ConfigurationError, SourceError
from mongo_datalayer.migrate.chainlit_rows import (
    USER_FEEDBACK,
    Reading,
    Row,
    ThreadRows,
    thread_record,
    user_record,
)
from mongo_datalayer.migrate.records import Leftover, MatchedTable, ThreadRecord, UserRecord
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
            first = next(self._threads(), None)
        except SourceError as exc:
            raise ConfigurationError(str(exc)) from exc
        if first is None or "steps" not in first:
            raise ConfigurationError(f"{path} holds no threads of Literal AI, with id and steps.")

    def close(self) -> None:
        """Nothing is open between two calls."""

    def users(self) -> Iterator[UserRecord | Leftover]:
        """The participants, each once."""
        seen: set[int] = set()  # hashes: the ids of all participants may not fit into memory
        for thread in self._threads():
            participant = thread.get("participant") or {}
            user_id = participant.get("id")
            if user_id and hash(user_id) not in seen:
                seen.add(hash(user_id))
                yield user_record({"identifier": user_id, **_present(participant)}, self._reading)

    def threads(self) -> Iterator[ThreadRecord | Leftover]:
        """The threads, in the order of the file."""
        for thread in self._threads():
            yield thread_record(_rows(thread), self._reading)

    def _threads(self) -> Iterator[Document]:
        try:
            # Some editors begin a file with a byte order mark, which json refuses.
            with self._path.open(encoding="utf-8-sig", errors="replace") as file:
                for value in json_values(lambda: file.read(BLOCK_CHARACTERS)):
                    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
                        raise SourceError(f"{self._path} holds something that is no thread.")
                    yield value
        except (OSError, ValueError) as exc:
            raise SourceError(f"{self._path} cannot be read as JSON: {exc}") from exc


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
    participant = thread.get("participant") or {}
    row = _present({name: thread.get(name) for name in ("name", "metadata", "tags", "createdAt")})
    row |= _present({"id": thread["id"], "userId": participant.get("id")})
    owner = participant.get("identifier") or participant.get("id")
    row |= _present({"userIdentifier": owner, "ownerName": owner})
    rows = ThreadRows(thread["id"], [row])
    for step in thread.get("steps") or ():
        rows.steps.append(_step(step))
        for score in step.get("scores") or ():
            rows.feedbacks.append(_vote(score, step))
        for attachment in step.get("attachments") or ():
            rows.elements.append({**_present(attachment), "forId": step.get("id")})
    return rows


def _step(step: Document) -> Row:
    metadata = dict(step.get("metadata") or {})
    row = _present({name: metadata.pop(name, None) for name in _IN_METADATA})
    for name, value in _present(step).items():
        if name in _TIMES:
            row[_TIMES[name]] = value
        elif name in {"input", "output"}:
            row[name] = _content(value)
        elif name not in {"metadata", "scores", "attachments", "threadId"}:
            row[name] = value
    row |= {"metadata": metadata, "isError": bool(step.get("error"))}
    return row | _present({"createdAt": step.get("startTime") or step.get("createdAt")})


def _content(value: Any) -> Any:
    """A text that the SDK wrapped."""
    if isinstance(value, dict) and value.keys() == {"content"}:
        return value["content"]
    return "" if value == {} else value


def _vote(score: Document, step: Document) -> Row:
    name = USER_FEEDBACK if score.get("name") == _FEEDBACK else score.get("name") or ""
    return {**_present(score), "name": name, "forId": step.get("id")}


def _present(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if value is not None}
