"""The table of Chainlit's DynamoDB layer: live, or as its export to S3 wrote it.

A scan gives the items of one thread in no order, so they are put into a temporary SQLite database
first, and read from there thread by thread. DynamoDB has no snapshots: stop the app for the last
run, or export a point in time.
"""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from mongo_datalayer.errors import ConfigurationError, SourceError
from mongo_datalayer.migrate.chainlit_rows import (
    Reading,
    Row,
    ThreadRows,
    thread_record,
    user_record,
)
from mongo_datalayer.migrate.records import (
    Leftover,
    MatchedTable,
    Outcome,
    Rows,
    ThreadRecord,
    UserRecord,
)
from mongo_datalayer.model.documents import Document

_THREAD = "THREAD#"
# Conditions on the keys of the temporary database.
_USER = "pk GLOB 'USER#*' AND sk = 'USER'"
_PARTS = "pk GLOB 'THREAD#*' AND (sk = 'THREAD' OR sk GLOB 'STEP#*' OR sk GLOB 'ELEMENT#*')"
_KEYS = frozenset({"PK", "SK", "UserThreadPK", "UserThreadSK", "path", "content"})


class DynamoDBSource:
    """The items of one table.

    Args:
        items: The items as DynamoDB types them.
        kind: What they were read from, for people.
        identity: Where that is.
        reading: How rows are to be understood.
    """

    def __init__(
        self, items: Iterable[Document], kind: str, identity: str, reading: Reading
    ) -> None:
        self.kind = kind
        self.identity = identity
        self.warnings: list[str] = []
        self._reading = reading
        self._stack = ExitStack()
        try:
            # The file loses its name before it is read: a killed run must not leave it behind.
            with tempfile.TemporaryDirectory(
                prefix="migrate-", ignore_cleanup_errors=True
            ) as folder:
                path = Path(folder) / "items.sqlite"
                self._spool = sqlite3.connect(path, check_same_thread=False)
                self._stack.callback(self._spool.close)
                self._spool.execute("CREATE TABLE items (pk TEXT, sk TEXT, item BLOB)")
                self._spool.executemany("INSERT INTO items VALUES (?, ?, ?)", map(_spooled, items))
                # After the rows: sorting all once is quicker than an index that grows with each.
                self._spool.execute("CREATE INDEX by_key ON items (pk, sk)")
                self._spool.commit()
        except BaseException:
            self.close()
            raise
        (count,) = self._spool.execute("SELECT count(*) FROM items").fetchone()
        self.tables = [MatchedTable("items", identity, {}, (), (), count)]

    def close(self) -> None:
        """Delete the temporary database."""
        self._stack.close()

    def users(self) -> Iterator[UserRecord | Leftover]:
        """Every user; the layer's id of a user is the identifier."""
        for _, item in self._items(_USER):
            yield user_record(_row(item), self._reading)

    def threads(self) -> Iterator[ThreadRecord | Leftover]:
        """Every thread, in the order of ids, items whose thread is missing, and other items."""
        found = self._items(_PARTS)
        for key, items in groupby(found, key=lambda each: each[0]):
            rows = ThreadRows(key.removeprefix(_THREAD))
            for _, item in items:
                _add(rows, item)
            yield thread_record(rows, self._reading)
        for key, item in self._items(f"NOT ({_USER}) AND NOT ({_PARTS})"):
            yield _foreign(key, item)

    def _items(self, condition: str) -> Iterator[tuple[str, Document]]:
        statement = f"SELECT pk, item FROM items WHERE {condition} ORDER BY pk, sk"  # noqa: S608 - ours
        found = self._spool.execute(statement)
        for key, item in found:
            yield key, pickle.loads(item)  # noqa: S301 - written just before, in a folder of its own


def scan_table(address: str) -> Iterator[Document]:
    """Every item of a live table, as DynamoDB types them.

    Args:
        address: The table's name; what follows ``?`` goes to boto3, ``region_name`` for example.

    Raises:
        ConfigurationError: boto3 is not installed.
        SourceError: the table cannot be read.
    """
    name, _, query = address.partition("?")
    try:
        boto3: Any = import_module("boto3")
        errors: Any = import_module("botocore.exceptions")
    except ModuleNotFoundError as exc:
        raise ConfigurationError("DynamoDB is read with boto3: pip install boto3.") from exc
    options = dict(parse_qsl(query))
    try:
        client = boto3.client("dynamodb", **options)
    except (errors.BotoCoreError, TypeError, ValueError) as exc:  # it takes them as arguments
        raise ConfigurationError(f"The table {name} cannot be opened: {exc}") from exc
    try:
        # A scan by itself may lack the writes of the last moment.
        for page in client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True):
            yield from page["Items"]
    except (errors.BotoCoreError, errors.ClientError) as exc:
        raise SourceError(f"The table {name} cannot be read: {exc}") from exc


def read_export(path: Path) -> Iterator[Document]:
    """Every item of an export to S3 in DynamoDB's JSON: one file, or a folder of them.

    Raises:
        SourceError: a file is none of an export.
    """
    files = sorted(path.rglob("*.json.gz")) if path.is_dir() else [path]
    if not files:
        raise SourceError(f"The folder {path} holds no export from DynamoDB: no *.json.gz.")
    for file in files:
        try:
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)["Item"]
        except (OSError, EOFError, ValueError, KeyError, TypeError) as exc:
            raise SourceError(f"{file} is no file of an export from DynamoDB: {exc}") from exc


def plain(value: Document) -> Any:
    """A typed value of DynamoDB's as a plain one: numbers are integers where they are whole."""
    ((kind, content),) = value.items()
    if kind == "N":
        return _number(content)
    if kind == "NS":
        return [_number(number) for number in content]
    if kind == "M":
        return {name: plain(item) for name, item in content.items()}
    if kind == "L":
        return [plain(item) for item in content]
    if kind == "NULL":
        return None
    if kind == "B" and isinstance(content, str):
        return base64.b64decode(content)
    return content


def _number(text: str) -> int | float:
    number = float(text)
    # Not through a float, which has 53 bits.
    if "." not in text and "e" not in text.lower():
        return int(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _spooled(item: Document) -> tuple[str, str, bytes]:
    # Pickled and not JSON, which has no bytes.
    values = {name: plain(value) for name, value in item.items()}
    return str(values.get("PK", "")), str(values.get("SK", "")), pickle.dumps(values)


def _row(item: Document) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value is not None if name not in _KEYS}


def _foreign(key: str, item: Document) -> Leftover:
    """An item that is no user's and no thread's: an app may keep its own in the table."""
    rows = Rows(Counter(items=1))
    reason = "no item of Chainlit's layer"
    rows.tell(Outcome.SKIPPED, reason, "items", f"{key} {item.get('SK', '')}")
    return Leftover(rows)


def _add(rows: ThreadRows, item: Document) -> None:
    row: dict[str, Any] = _row(item)
    kind = item["SK"].partition("#")[0]
    if kind == "THREAD":
        # The layer has no other id of a user than the identifier.
        named: Row = {"ownerName": row["userIdentifier"]} if "userIdentifier" in row else {}
        rows.threads.append({**row, **named})
    elif kind == "ELEMENT":
        rows.elements.append(row)
    else:
        # This layer keeps the vote in the step's own item.
        if feedback := row.pop("feedback", None):
            vote = feedback if isinstance(feedback, dict) else {"value": feedback}
            votes = {name: value for name, value in vote.items() if value is not None}
            rows.feedbacks.append({**votes, "forId": row.get("id")})
        rows.steps.append(row)
