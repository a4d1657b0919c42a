"""What a server's error says, without the data that was sent."""

from __future__ import annotations

import re

from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

# What a login may not do fails with: not authorized on DB to execute command { insert: …
_NO_RETRYABLE_WRITES = re.compile(r"retryable writes (are|is) not supported", re.IGNORECASE)
_COMMAND = re.compile(r"(to execute command) \{ (\w+):.*", re.DOTALL)

# https://www.mongodb.com/docs/manual/reference/error-codes/
_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18

# What the driver's errors mean; the first that fits. Their texts are the operating system's,
# asyncio's and OpenSSL's.
_MEANINGS = (
    (("No replica set members",), "it is in no replica set of that name. Is replicaSet= right?"),
    (("uthentication failed", "bad auth"), "it refused the login"),
    (("SSL", "TLS", "certificate"), "the TLS handshake failed"),
    (
        (
            "Name or service",
            "name resolution",
            "nodename nor servname",
            "getaddrinfo",
            "No address",
        ),
        "DNS does not know the host",
    ),
    (("refused", "Errno 111", "Errno 61"), "it refuses connections"),
    (("timed out", "NetworkTimeout"), "it does not answer"),
    (("closed", "reset"), "it closed the connection (does it expect TLS?)"),
)


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


def meaning(text: str) -> str | None:
    """What a text of the driver on a connection means; None if that is not known."""
    return next((said for marks, said in _MEANINGS if any(mark in text for mark in marks)), None)


def unreachable_reason(exc: ConnectionFailure, server: str) -> str:
    """Why ``server`` did not answer."""
    reason = error_reason(exc).rstrip(".").removeprefix(f"{server}: ")
    # Of several servers the driver names each, and of a certificate what is wrong with it.
    if "," in server or "certificate" in reason:
        return reason
    return meaning(reason) or reason


def is_unauthorized(exc: BaseException) -> bool:
    """Whether the login was accepted, and may not do what was asked."""
    return isinstance(exc, OperationFailure) and exc.code == _UNAUTHORIZED


def is_login_refused(exc: BaseException) -> bool:
    """Whether the server refused user or password."""
    # Atlas has a code of its own for all that it refuses.
    return isinstance(exc, OperationFailure) and (
        exc.code == _AUTHENTICATION_FAILED or "bad auth" in str(exc)
    )
