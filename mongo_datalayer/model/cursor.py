"""Opaque cursors of a list of threads: a time and an id, so that equal times do not lose threads.

A cursor says where a page ended, not which thread ended it: it stays good when that thread is
deleted.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime

from mongo_datalayer.errors import InvalidCursorError
from mongo_datalayer.values import from_milliseconds, milliseconds


@dataclass(frozen=True)
class Cursor:
    """The place just after a thread in a list.

    Attributes:
        time: The time the list is ordered by, to the millisecond.
        id: The thread's id, which orders threads of the same time.
    """

    time: datetime
    id: str

    def encode(self) -> str:
        """The cursor as URL-safe text."""
        return (
            base64.urlsafe_b64encode(json.dumps([milliseconds(self.time), self.id]).encode())
            .decode()
            .rstrip("=")
        )

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read what :meth:`encode` wrote.

        Raises:
            InvalidCursorError: ``text`` is no cursor of ours.
        """
        try:
            padded = text + "=" * (-len(text) % 4)
            number, thread_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
            if type(number) is not int or type(thread_id) is not str:
                raise ValueError(text)
            thread_id.encode()  # JSON can spell lone surrogates, which MongoDB cannot compare
            return cls(from_milliseconds(number), thread_id)
        except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise InvalidCursorError(
                f"{text[:200]!r} is not a page cursor. Pass the endCursor of a page that "
                "list_threads returned, or None for the first page."
            ) from exc
