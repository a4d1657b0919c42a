from __future__ import annotations

import logging

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)

from mongo_datalayer.mongodb.error_reason import error_reason
from mongo_datalayer.mongodb.logger import get_logger

REFUSED = (
    "not authorized on chainlit to execute command "
    '{ insert: "threads", documents: [ { output: "a secret text" } ] }'
)
DUPLICATE = 'E11000 duplicate key error collection: a.users index: i dup key: { i: "ada" }'


def failure(message: str, code: int) -> OperationFailure:
    return OperationFailure(f"{message}, full error: {{…}}", code, {"errmsg": message})


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (failure(REFUSED, 13), "not authorized on chainlit to execute command insert"),
        (failure("Authentication failed.", 18), "Authentication failed."),
        (
            DuplicateKeyError(DUPLICATE, 11000, {"errmsg": DUPLICATE}),
            "E11000 duplicate key error collection: a.users index: i",
        ),
        (
            BulkWriteError({"writeErrors": [{"errmsg": DUPLICATE}]}),
            "E11000 duplicate key error collection: a.users index: i",
        ),
        (
            AutoReconnect("h:1: refused (configured timeouts: 1), Timeout: 30s, Topology: <…>"),
            "h:1: refused",
        ),
        (PyMongoError("one\ntwo"), "one"),
    ],
)
def test_only_the_reason_of_an_error(exc: PyMongoError, reason: str) -> None:
    assert error_reason(exc) == reason


def test_a_line_cannot_be_forged_nor_hold_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("mongo_datalayer.tests")

    with caplog.at_level(logging.INFO, "mongo_datalayer.tests"):
        logger.info("The thread %s of %d: %s", "t\nERROR forged \x1b[2J", 7, failure(REFUSED, 13))
        logger.info("The file %s: %s", {"id": "\x1b"}, ValueError("a\nb"))

    assert caplog.messages == [
        r"The thread t\nERROR forged \x1b[2J of 7: "
        "not authorized on chainlit to execute command insert",
        r"The file {'id': '\x1b'}: a\nb",
    ]
