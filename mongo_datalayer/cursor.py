"""Opaque cursors of a list of threads: a time and an id, so that equal times do not lose threads.

A cursor says where a page ended, not which thread ended it: it stays good when that thread is
deleted.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from mongo_datalayer.errors import InvalidCursorError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


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
        milliseconds = (self.time - _EPOCH) // timedelta(milliseconds=1)
        return (
            base64.urlsafe_b64encode(json.dumps([milliseconds, self.id]).encode())
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
            milliseconds, thread_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
            if type(milliseconds) is not int or type(thread_id) is not str:
                raise ValueError(text)
            thread_id.encode()  # JSON can spell lone surrogates, which MongoDB cannot compare
            return cls(_EPOCH + timedelta(milliseconds=milliseconds), thread_id)
        except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise InvalidCursorError(
                f"{text[:200]!r} is not a page cursor. Pass the endCursor of a page that "
                "list_threads returned, or None for the first page."
            ) from exc
