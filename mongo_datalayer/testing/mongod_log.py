"""Reads why a mongod did not start from what it logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAST_LINES = 8
LARGEST_BYTES = 10_000_000
_ERRORS = frozenset({"E", "F"})


class ServerLog:
    """The log of one start; what earlier starts left in the file is not read.

    The file is appended to, never replaced: a server that runs on the same directory may be
    writing it. It is emptied when it has grown large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size if path.exists() else 0
        if size > LARGEST_BYTES:
            path.write_bytes(b"")
            size = 0
        self._start = size

    def explain(self) -> str:
        """The errors logged since the start; without any, the last lines."""
        lines = self._lines()
        if not lines:
            return f"No log was written to {self.path}."
        errors = [line for line in map(_error, lines) if line is not None]
        if errors:
            return "Its log ({}) says: {}".format(self.path, "; ".join(errors[:LAST_LINES]))
        return "The end of its log ({}):\n{}".format(self.path, "\n".join(lines[-LAST_LINES:]))

    def _lines(self) -> list[str]:
        try:
            text = self.path.read_bytes()[self._start :]
        except FileNotFoundError:
            return []
        return text.decode("utf-8", errors="replace").splitlines()


def _error(line: str) -> str | None:
    """What an entry says when it is an error; None for others, and for what is not an entry."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.get("s") not in _ERRORS:
        return None
    details = json.dumps(entry.get("attr", {}), ensure_ascii=False)
    return f"{entry.get('msg', line)} {details}"
