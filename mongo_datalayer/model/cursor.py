"""Opaque cursors of a list of threads: the time and the id that a page ended with.

A cursor is a position, so it stays valid when the thread at that position is deleted.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime

from mongo_datalayer.errors import InvalidCursorError
from mongo_datalayer.model.times import from_milliseconds, milliseconds


@dataclass(frozen=True)
class Cursor:
    """A position in a list: just after the thread with this time and id.

    Attributes:
        time: The time the list is ordered by, to the millisecond.
        id: The thread's id, which orders threads of the same time.
    """

    time: datetime
    id: str

    def encode(self) -> str:
        """The cursor as URL-safe text."""
        text = json.dumps([milliseconds(self.time), self.id])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

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
            # JSON can spell lone surrogates, which BSON cannot carry.
            thread_id.encode()
            return cls(from_milliseconds(number), thread_id)
        except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise InvalidCursorError(
                f"{text[:200]!r} is not a page cursor. Pass the cursor of the previous page, which "
                "Chainlit calls endCursor, or none for the first page."
            ) from exc
