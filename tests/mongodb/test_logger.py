"""What reaches the log: one line for each record, and nothing of a document."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

import mongo_datalayer
from mongo_datalayer import MongoDataLayer
from mongo_datalayer.mongodb.logger import get_logger, reason_of
from mongo_datalayer.testing.contract import step

logger = get_logger("mongo_datalayer.test")

FORGED = "T\nERROR forged \x1b[2J\x07\u202eend"

REFUSED = OperationFailure(
    'not authorized on chainlit to execute command { update: "threads", updates: [ { q: { _id: '
    '"t" }, u: { $push: { steps: { output: "secret words" } } } } ] }',
    13,
)


def test_control_characters_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    logger.error("%s and %r of %d in %.1f s: %s", FORGED, FORGED, 3, 0.25, [FORGED])
    (message,) = caplog.messages
    assert message.isprintable()
    assert message.startswith(r"T\nERROR forged \x1b[2J\x07\u202eend and ")
    assert " of 3 in 0.2 s: " in message


def test_of_a_servers_error_only_the_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger.error("A write failed: %s", REFUSED)
    reason = "not authorized on chainlit to execute command update"
    assert caplog.messages == [f"A write failed: {reason}"]
    assert reason_of(REFUSED) == reason
    assert reason_of(ValueError("words")) == "words"


async def test_a_refused_write_tells_neither_the_log_nor_the_error_what_was_said(
    mongo_uri: str,
    database_name: str,
    database: AsyncDatabase[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await database.create_collection("threads", validator={"steps.name": {"$ne": "refused"}})
    layer = MongoDataLayer(mongo_uri, database=database_name)
    with pytest.raises(OperationFailure) as raised:
        await layer.create_step(step("t", name="refused", output="secret words"))
    assert str(raised.value) == "Document failed validation"
    assert raised.value.code == 121
    assert "details" in str(raised.value.details)
    assert "create_step" in caplog.text
    assert "secret words" not in caplog.text
    await layer.close()


async def test_ids_forge_no_lines(
    mongo_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    layer = MongoDataLayer(mongo_uri, database=database_name)
    await layer.delete_thread(FORGED)
    await layer.create_step(step(FORGED))
    await layer.close()
    ours = [record for record in caplog.records if record.name.startswith("mongo_datalayer")]
    assert ours
    assert all(record.getMessage().isprintable() for record in ours)


def test_no_module_has_a_logger_that_lets_them_through() -> None:
    folder = Path(mongo_datalayer.__file__).parent
    unescaped = [
        path.name
        for path in folder.rglob("*.py")
        if "logging.getLogger(" in path.read_text(encoding="utf-8")
    ]
    assert unescaped == ["logger.py"]
