"""What a server's error says, without the data that was sent."""

from __future__ import annotations

import re

from pymongo.errors import OperationFailure, PyMongoError

# What a login may not do fails with: not authorized on DB to execute command { insert: …
_NO_RETRYABLE_WRITES = re.compile(r"retryable writes (are|is) not supported", re.IGNORECASE)
_COMMAND = re.compile(r"(to execute command) \{ (\w+):.*", re.DOTALL)

# https://www.mongodb.com/docs/manual/reference/error-codes/
_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18


def error_reason(exc: PyMongoError) -> str:
    """Why an operation failed, in one line.

    A server quotes documents in its messages: a refused command whole, with the texts of a chat,
    and the value of a duplicate key. They begin with a brace, and all before is the reason. The
    driver appends what it knows of the servers, which is left out as well.
    """
    message = str(exc)
    if isinstance(exc, OperationFailure):
        details = exc.details or {}
        # A bulk write has no message of its own, only those of its writes.
        errors = details.get("writeErrors") or [{}]
        message = details.get("errmsg") or errors[0].get("errmsg") or message
        message = _COMMAND.sub(r"\1 \2", message)
        message = message.partition("{")[0].removesuffix("dup key: ")
    for appended in (" (configured timeouts", ", Timeout:", ", full error:"):
        message = message.partition(appended)[0]
    reason = message.strip(" ,:;").partition("\n")[0]
    if _NO_RETRYABLE_WRITES.search(reason) and "retrywrites=false" not in reason.lower():
        reason = f"{reason.rstrip('.')}. Add retryWrites=false to the MongoDB URI"
    return reason


def is_unauthorized(exc: BaseException) -> bool:
    """Whether the login was accepted, and may not do what was asked."""
    return isinstance(exc, OperationFailure) and exc.code == _UNAUTHORIZED


def is_login_refused(exc: BaseException) -> bool:
    """Whether the server refused user or password."""
    # Atlas has a code of its own for all that it refuses.
    return isinstance(exc, OperationFailure) and (
        exc.code == _AUTHENTICATION_FAILED or "bad auth" in str(exc)
    )
