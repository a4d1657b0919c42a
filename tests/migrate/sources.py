"""Databases to migrate: the documented tables, filled by the old layers themselves or by hand."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chainlit.context import init_http_context
from chainlit.element import Text
from chainlit.types import Feedback
from chainlit.user import User

TABLES = {
    "users": '"id" UUID PRIMARY KEY, "identifier" TEXT NOT NULL UNIQUE, "metadata" JSONB NOT NULL, '
    '"createdAt" TEXT',
    "threads": '"id" UUID PRIMARY KEY, "createdAt" TEXT, "name" TEXT, "userId" UUID, '
    '"userIdentifier" TEXT, "tags" TEXT[], "metadata" JSONB',
    "steps": '"id" UUID PRIMARY KEY, "name" TEXT NOT NULL, "type" TEXT NOT NULL, '
    '"threadId" UUID NOT NULL, "parentId" UUID, "streaming" BOOLEAN NOT NULL, '
    '"waitForAnswer" BOOLEAN, "isError" BOOLEAN, "metadata" JSONB, "tags" TEXT[], "input" TEXT, '
    '"output" TEXT, "createdAt" TEXT, "command" TEXT, "start" TEXT, "end" TEXT, '
    '"generation" JSONB, "showInput" TEXT, "language" TEXT, "indent" INT, "defaultOpen" BOOLEAN, '
    '"modes" JSONB, "autoCollapse" BOOLEAN',
    "elements": '"id" UUID PRIMARY KEY, "threadId" UUID, "type" TEXT, "url" TEXT, '
    '"chainlitKey" TEXT, "name" TEXT NOT NULL, "display" TEXT, "objectKey" TEXT, "size" TEXT, '
    '"page" INT, "language" TEXT, "forId" UUID, "mime" TEXT, "props" JSONB, "autoPlay" BOOLEAN, '
    '"playerConfig" JSONB',
    "feedbacks": '"id" UUID PRIMARY KEY, "forId" UUID NOT NULL, "threadId" UUID NOT NULL, '
    '"value" INT NOT NULL, "comment" TEXT',
}
"""The tables as Chainlit's documentation has them, with the columns that newer versions write."""

PRISMA = """
CREATE TYPE "StepType" AS ENUM ('assistant_message', 'embedding', 'llm', 'retrieval', 'rerank',
  'run', 'system_message', 'tool', 'undefined', 'user_message');
CREATE TABLE "User" (id TEXT PRIMARY KEY DEFAULT gen_random_uuid(),
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT now(), "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT now(),
  metadata JSONB NOT NULL, identifier TEXT NOT NULL UNIQUE);
CREATE TABLE "Thread" (id TEXT PRIMARY KEY DEFAULT gen_random_uuid(),
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT now(), "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT now(),
  "deletedAt" TIMESTAMP(3), name TEXT, metadata JSONB NOT NULL, "userId" TEXT,
  tags TEXT[] DEFAULT ARRAY[]::TEXT[]);
CREATE TABLE "Step" (id TEXT PRIMARY KEY DEFAULT gen_random_uuid(),
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT now(), "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT now(),
  "parentId" TEXT, "threadId" TEXT, input TEXT, metadata JSONB NOT NULL, name TEXT, output TEXT,
  type "StepType" NOT NULL, "showInput" TEXT DEFAULT 'json', "isError" BOOLEAN DEFAULT false,
  "startTime" TIMESTAMP(3) NOT NULL, "endTime" TIMESTAMP(3) NOT NULL);
CREATE TABLE "Element" (id TEXT PRIMARY KEY DEFAULT gen_random_uuid(),
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT now(), "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT now(),
  "threadId" TEXT, "stepId" TEXT NOT NULL, metadata JSONB NOT NULL, mime TEXT, name TEXT NOT NULL,
  "objectKey" TEXT, url TEXT, "chainlitKey" TEXT, display TEXT, size TEXT, language TEXT,
  page INTEGER, props JSONB);
CREATE TABLE "Feedback" (id TEXT PRIMARY KEY DEFAULT gen_random_uuid(),
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT now(), "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT now(),
  "stepId" TEXT, name TEXT NOT NULL, value DOUBLE PRECISION NOT NULL, comment TEXT);
"""
"""The tables of Chainlit/chainlit-datalayer."""

NOON = "2026-09-09T12:00:0{}.000000Z"


class FolderStorage:
    """A storage client of Chainlit that keeps files in a folder by object key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def upload_file(
        self, object_key: str, data: bytes | str, **_options: Any
    ) -> dict[str, Any]:
        path = self.folder / object_key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return {"object_key": object_key, "url": f"https://signed.example/{object_key}?expired"}

    async def delete_file(self, object_key: str) -> bool:
        return False

    async def get_read_url(self, object_key: str) -> str:
        return f"https://signed.example/{object_key}"

    async def close(self) -> None:
        """Nothing is open."""


class SqliteSource:
    """A SQLite database with the documented tables, for rows made by hand."""

    def __init__(self, path: Path, **tables: str) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        for name, columns in {**TABLES, **tables}.items():
            if columns:
                self.connection.execute(f"CREATE TABLE {name} ({columns})")

    def add(self, table: str, **values: Any) -> str:
        """Insert a row; returns its id."""
        row = {"id": str(uuid.uuid4()), **_DEFAULTS.get(table, {}), **values}
        names = ", ".join(f'"{name}"' for name in row)
        places = ", ".join("?" * len(row))
        statement = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - ours
        self.connection.execute(statement, [*row.values()])
        return str(row["id"])

    def thread(self, *outputs: str, **values: Any) -> str:
        """A thread with messages."""
        thread_id = self.add("threads", **values)
        for number, output in enumerate(outputs):
            self.add("steps", threadId=thread_id, output=output, createdAt=NOON.format(number))
        return thread_id


_DEFAULTS: dict[str, dict[str, Any]] = {
    "users": {"metadata": "{}", "createdAt": NOON.format(0)},
    "threads": {"createdAt": NOON.format(0), "metadata": "{}"},
    "steps": {"name": "ada", "type": "user_message", "streaming": 0, "createdAt": NOON.format(1)},
    "elements": {"name": "a.txt", "type": "file", "display": "inline"},
    "feedbacks": {"value": 1},
}


async def fill(layer: Any, threads: int = 3) -> list[str]:
    """Play conversations into one of Chainlit's layers; the ids of their threads.

    Each has a run, a question with a file, a tool, an answer, and feedback on the run.
    """
    init_http_context()
    user = await layer.create_user(User(identifier="ada@example.com", metadata={"role": "admin"}))
    ids = []
    for number in range(threads):
        thread_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number}"))
        ids.append(thread_id)
        await layer.update_thread(
            thread_id, name=f"Chat {number}", user_id=user.id, metadata={"a.b": {"$x": number}}
        )
        run = _step(thread_id, f"run-{number}", "run", 0)
        question = _step(thread_id, f"question-{number}", "user_message", 1, parent=run["id"])
        tool = _step(thread_id, f"tool-{number}", "tool", 2, parent=run["id"], input='{"q": 1}')
        answer = _step(thread_id, f"answer-{number}", "assistant_message", 3, parent=run["id"])
        for step in (run, question, tool, answer):
            await layer.create_step(step)
        element = Text(name="note.txt", content=f"file {number}", thread_id=thread_id)
        element.for_id = question["id"]
        await layer.create_element(element)
        await layer.upsert_feedback(
            Feedback(
                forId=answer["id"], threadId=thread_id, value=1 if number % 2 else 0, comment="fine"
            )
        )
    return ids


def _step(
    thread_id: str, name: str, kind: str, second: int, parent: str | None = None, **fields: Any
) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "threadId": thread_id,
        "parentId": parent,
        "name": name,
        "type": kind,
        "streaming": False,
        "input": "",
        "output": f"output of {name}",
        "createdAt": NOON.format(second),
        "start": NOON.format(second),
        "end": NOON.format(second),
        "metadata": {"favorite": second == 3},
        "showInput": "json",
        **fields,
    }


def as_json(value: Any) -> str:
    """JSON text, as the layers store it."""
    return json.dumps(value)


@contextmanager
def mariadb_server(left_out: Callable[[str], None]) -> Iterator[Callable[[str], str]]:
    """A MariaDB of one's own on the loopback interface; makes databases."""
    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if server is None or install is None:
        left_out("the tests with MySQL. On Debian: apt-get install mariadb-server")
        return
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        if os.getuid() == 0:
            shutil.chown(folder, "mysql")
        own = ["--no-defaults", f"--datadir={folder}/data", "--user=mysql"]
        made = [install, *own, "--auth-root-authentication-method=normal"]
        subprocess.run(made, check=True, capture_output=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket"]
        with subprocess.Popen(
            [server, *own, *options, f"--pid-file={folder}/pid"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield _databases(f"{folder}/socket", port)
            finally:
                process.terminate()


def _databases(path: str, port: int) -> Callable[[str], str]:
    import pymysql

    deadline = time.monotonic() + 60
    while True:
        try:
            connection = pymysql.connect(unix_socket=path, user="root", autocommit=True)
            break
        except pymysql.err.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'secret'")
        cursor.execute("GRANT ALL ON *.* TO reader@'127.0.0.1'")

    def new_database(name: str) -> str:
        with pymysql.connect(unix_socket=path, user="root", autocommit=True) as admin:
            admin.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return f"mysql://reader:secret@127.0.0.1:{port}/{name}"

    return new_database
