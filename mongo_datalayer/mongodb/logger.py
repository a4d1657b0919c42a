"""Loggers whose lines hold nothing that acts on a terminal, and no text of a chat."""

from __future__ import annotations

import logging
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from mongo_datalayer.config import RUN_DOCTOR
from mongo_datalayer.model.printable import printable
from mongo_datalayer.mongodb.error_reason import error_reason

_LOGGED = "logged_by_mongo_datalayer"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; what its calls pass as arguments is made printable.

    Browsers choose names and ids, so these may hold line breaks and escape sequences. Of a server's
    error only the reason is logged, as MongoDB quotes the documents that it refuses.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_make_printable)
    return logger


def reason_of(exc: BaseException) -> str:
    """What an error says, without the documents that a server's error quotes."""
    return error_reason(exc) if isinstance(exc, PyMongoError) else str(exc)


def log_failure(logger: logging.Logger, name: str, exc: BaseException) -> None:
    """Log that an operation failed for good, once however many callers the exception meets.

    Args:
        logger: Of the caller.
        name: What to call the operation.
        exc: Its error. Where the server refused it, the line says what explains more.
    """
    if getattr(exc, _LOGGED, False):
        return
    setattr(exc, _LOGGED, True)
    if isinstance(exc, OperationFailure):
        logger.error("%s failed: %s. %s", name, exc, RUN_DOCTOR)
    else:
        logger.error("%s failed: %s", name, exc)


def _make_printable(record: logging.LogRecord) -> bool:
    # A single map is the arguments by name, which our messages never use.
    if isinstance(record.args, tuple):
        record.args = tuple(map(_argument, record.args))
    return True


def _argument(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value  # formatted by their own rules
    return printable(reason_of(value) if isinstance(value, BaseException) else value)
