"""The log of a mongod: why did it not start, or stop?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAST_LINES = 8
MAX_BYTES = 10_000_000
_ERRORS = frozenset({"E", "F"})


class MongodLog:
    """The log of one start; :meth:`explain` passes over earlier starts in the same file.

    Args:
        path: The file that mongod appends to. It is emptied when it is larger than 10 MB, never
            replaced: a server that runs on the same directory may be writing to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size if path.exists() else 0
        if size > MAX_BYTES:
            path.write_bytes(b"")
            size = 0
        self._start = size

    def explain(self) -> str:
        """The errors since the start as one sentence; without errors, the last lines."""
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
    # A crash may leave lines that are no JSON, such as a stack trace.
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.get("s") not in _ERRORS:
        return None
    details = json.dumps(entry.get("attr", {}), ensure_ascii=False)
    return f"{entry.get('msg', line)} {details}"
