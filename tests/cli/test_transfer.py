from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import stat
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.export_format import RecordWriter, document_text, read_records
from mongo_datalayer.admin.exporter import Export, Scope
from mongo_datalayer.admin.importer import Import
from mongo_datalayer.errors import ExportFormatError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import CHUNK_BYTES, FileDetails
from tests.cli.commands import NOBODY, kill_when, run, slowed
from tests.cli.people import Documents, put_long_thread, put_person, snapshot, storage_of
from tests.docs.pages import DOCS, code_blocks

ALICE, BOB = "alice@example.com", "bob@example.com"
ODD_THREAD = {
    "_id": "odd \u2028 id",
    "name": "Zürich 🙂",
    "createdAt": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc),
    "updatedAt": datetime(1969, 1, 2, tzinfo=timezone.utc),
    "metadata": {
        "int": 1,
        "long": Int64(1),
        "big": Int64(2**62),
        "float": 1.0,
        "nan": float("inf"),
        "none": None,
        "a.b": {"$date": "no date", "deep": [{"$oid": 5}]},
        "foreign": [ObjectId("656565656565656565656565"), b"bytes", Decimal128("1.10")],
    },
    "steps": [{"id": "s", "output": "line\nline\u2028line"}],
    "elements": [],
}


async def documents(database: Documents) -> dict[str, list[bytes]]:
    """Users and threads as their BSON: equal bytes are equal types too.

    Without the size of a thread's steps, which is a bound, and exact after an import.
    """
    stored = await snapshot(database)
    for thread in stored.get("threads", []):
        thread.pop("bytes", None)
    return {name: [bson.encode(d) for d in stored.get(name, [])] for name in ("users", "threads")}


async def contents(database: Documents) -> dict[str, tuple[bytes, str, str | None, str | None]]:
    bucket = FileBucket(database)
    return {
        key: (await bucket.read(key), file.mime, file.name, file.thread_id)
        async for key in bucket.list_keys()
        if (file := await bucket.find(key)) is not None
    }


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def put_file(database: Documents, key: str, content: bytes, **details: Any) -> None:
    await FileBucket(database).write(key, content, FileDetails(**details))


async def test_an_import_into_another_database_gives_the_same(
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    await put_person(database, ALICE, threads=3)
    await put_person(database, BOB, threads=120)
    await database.threads.insert_one(dict(ODD_THREAD))
    await database.threads.insert_one({"_id": "gone", "deletedAt": datetime.now(timezone.utc)})
    big = os.urandom(5 * CHUNK_BYTES + 1)
    await put_file(database, "reports/1", big, mime="a/b", name="r", attachment=True)
    await put_file(database, "empty", b"")
    path = tmp_path / "chats.jsonl"

    written = await run("export", "--files", "--output", str(path), *where)
    stored = await run("import", str(path), *there)

    assert (written.code, written.err) == (0, ""), written
    assert written.out == "2 users, 124 threads, 125 files written.\n"
    assert (stored.code, stored.err) == (0, ""), stored
    assert "Stored: 2 users, 124 threads, 125 files." in stored.out
    await database.threads.delete_one({"_id": "gone"})
    assert await documents(other) == await documents(database)
    assert await contents(other) == await contents(database)
    assert (await FileBucket(other).require("reports/1")).attachment
    key = next(iter((await other.threads.find_one({"_id": f"{BOB}/7"}) or {})["elements"]))
    assert await storage_of(other).download_file(key["objectKey"]) == f"file of {BOB}/7".encode()

    again = await run("import", str(path), *there)

    assert again.code == 0, again
    assert "Stored: 0 users, 0 threads, 0 files." in again.out
    assert "left as they are: 2 users, 124 threads, 125 files." in again.out
    assert await documents(other) == await documents(database)
    assert os.listdir(tmp_path) == ["chats.jsonl"]  # noqa: PTH208 - no coroutine may use pathlib here
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_marks_of_a_search_index_stay_where_they_are(
    where: tuple[str, ...],
    there: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    """A mark names a segment of its own database."""
    await put_person(database, ALICE, threads=2)
    path = str(tmp_path / "chats.jsonl")
    built = await run("search-index", "build", "--user", ALICE, *where)
    marked = await documents(database)

    exported = await run("export", "--output", path, *where)
    imported = await run("import", path, *there)
    replaced = await run("import", path, "--on-conflict", "replace", "--yes", *where)

    assert [done.code for done in (built, exported, imported, replaced)] == [0, 0, 0, 0]
    assert b"searchSegment" in b"".join(marked["threads"])
    assert b"searchSegment" not in (tmp_path / "chats.jsonl").read_bytes()
    for place in (database, other):
        assert await place.threads.count_documents({"steps.1": {"$exists": True}}) == 2
        assert await place.threads.count_documents({"searchSegment": {"$exists": True}}) == 0


@pytest.mark.parametrize("replace", [False, True])
async def test_a_mark_in_an_export_is_not_stored(database: Documents, replace: bool) -> None:
    thread = {"_id": "t", "userId": "u", "searchSegment": f"{ObjectId()}0000", "steps": []}
    writer = RecordWriter()
    lines = [writer.header(), writer.document("thread", thread), writer.trailer()]
    records = read_records(io.BytesIO(b"".join(lines)))

    done = await Import(database, FileBucket(database), replace=replace).store(records)

    stored = await database.threads.find_one({"_id": "t"})
    assert done.stored["threads"] == 1
    assert stored is not None
    assert stored["userId"] == "u"
    assert "searchSegment" not in stored


async def test_standard_output_and_the_trailer(
    where: tuple[str, ...], database: Documents, tmp_path: Path
) -> None:
    await put_person(database, ALICE, threads=2)

    done = await run("export", *where)

    assert done.code == 0
    assert done.err == "1 user, 2 threads, 0 files written.\n"
    before, _, last = done.out.rstrip("\n").rpartition("\n")
    assert json.loads(before.splitlines()[0])["version"] == 3
    assert json.loads(last) == {
        "type": "trailer",
        "users": 1,
        "threads": 2,
        "files": 0,
        "chatkitThreads": 0,
        "chatkitAttachments": 0,
        "sha256": hashlib.sha256(f"{before}\n".encode()).hexdigest(),
    }


async def test_one_user(where: tuple[str, ...], database: Documents, tmp_path: Path) -> None:
    await put_person(database, ALICE, threads=2)
    await put_person(database, BOB, threads=2)
    path = tmp_path / "alice.jsonl"

    done = await run("export", "--user", ALICE, "--files", "--output", str(path), *where)

    assert done.out == "1 user, 2 threads, 2 files written.\n"
    text = path.read_text()
    assert ALICE in text
    assert BOB not in text


async def test_one_thread(where: tuple[str, ...], database: Documents, tmp_path: Path) -> None:
    await put_person(database, ALICE, threads=2)
    path = tmp_path / "thread.jsonl"

    done = await run("export", "--thread", f"{ALICE}/1", "--files", "--output", str(path), *where)

    assert done.out == "0 users, 1 thread, 1 file written.\n"
    assert [record["type"] for record in records(path)] == [
        "header",
        "thread",
        "file",
        "chunk",
        "file-end",
        "trailer",
    ]
    assert records(path)[1]["document"]["_id"] == f"{ALICE}/1"


async def test_an_empty_database_is_an_export_of_nothing(
    there: tuple[str, ...], where: tuple[str, ...], other: Documents, tmp_path: Path
) -> None:
    path = tmp_path / "nothing.jsonl"

    written = await run("export", "--files", "--output", str(path), *where)
    stored = await run("import", str(path), *there)

    assert written.out == "0 users, 0 threads, 0 files written.\n"
    assert stored.code == 0, stored
    assert await other.list_collection_names() == []


@pytest.mark.parametrize("scope", [("--user", "nobody"), ("--thread", "none")])
async def test_what_is_not_there(
    where: tuple[str, ...], database: Documents, tmp_path: Path, scope: tuple[str, str]
) -> None:
    await put_person(database, ALICE, threads=1)
    path = tmp_path / "x.jsonl"

    done = await run("export", *scope, "--output", str(path), *where)

    assert (done.code, done.out) == (1, "")
    assert done.err == f"Error: There is no {scope[0][2:]} {scope[1]!r}.\n"
    assert not path.exists()


async def test_an_earlier_export_stays_until_the_new_one_is_whole(
    mongo_uri: str, where: tuple[str, ...], database: Documents, tmp_path: Path
) -> None:
    await put_person(database, ALICE, threads=30)
    path = tmp_path / "chats.jsonl"
    path.write_text("the earlier one")
    partial = tmp_path / "chats.jsonl.partial"

    async def begun() -> bool:
        return partial.exists()

    async with slowed(database, "find") as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(begun, "export", "--files", "--output", str(path), *slow)
    assert code == -signal.SIGKILL
    assert path.read_text() == "the earlier one"

    done = await run("export", "--files", "--output", str(path), *where)

    assert (done.code, done.err) == (0, ""), done
    assert records(path)[-1]["files"] == 30
    assert not partial.exists()


@pytest.mark.parametrize("command", ["insert", "findAndModify"], ids=["threads", "files"])
async def test_a_killed_import_is_completed_by_the_next(
    mongo_uri: str,
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
    command: str,
) -> None:
    await put_person(database, ALICE, threads=30)
    path = tmp_path / "chats.jsonl"
    await run("export", "--files", "--output", str(path), *where)

    async def in_the_middle() -> bool:
        name = "threads" if command == "insert" else "fs.files"
        return await other[name].count_documents({}) >= 5

    async with slowed(database, command) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", "--database", other.name)
        assert await kill_when(in_the_middle, "import", str(path), *slow) == -signal.SIGKILL
    assert await other["fs.files"].count_documents({}) < 30

    done = await run("import", str(path), *there)

    assert (done.code, done.err) == (0, ""), done
    assert await documents(other) == await documents(database)
    assert await contents(other) == await contents(database)


async def test_a_dry_run_counts_and_changes_nothing(
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    await put_person(database, ALICE, threads=2)
    path = tmp_path / "chats.jsonl"
    await run("export", "--files", "--output", str(path), *where)
    before = await snapshot(database)

    fresh = await run("import", str(path), "--dry-run", *there)
    same = await run("import", str(path), "--dry-run", *where)
    replaced = await run("import", str(path), "--dry-run", "--on-conflict", "replace", *where)

    assert fresh.out.startswith("Would be stored: 1 user, 2 threads, 2 files.\n")
    assert same.out.startswith("Would be stored: 0 users, 0 threads, 0 files.\n")
    assert replaced.out.startswith("Would be stored: 1 user, 2 threads, 0 files.\n")
    assert await other.list_collection_names() == []
    assert await snapshot(database) == before


@pytest.mark.parametrize("conflict", ["skip", "replace"])
async def test_what_is_there_is_kept_or_replaced(
    where: tuple[str, ...], database: Documents, tmp_path: Path, conflict: str
) -> None:
    await put_person(database, ALICE, threads=2)
    path = tmp_path / "chats.jsonl"
    await run("export", "--files", "--output", str(path), *where)
    exported = await documents(database), await contents(database)
    thread = await database.threads.find_one({"_id": f"{ALICE}/0"})
    assert thread is not None
    key = thread["elements"][0]["objectKey"]
    await database.threads.update_one({"_id": f"{ALICE}/0"}, {"$set": {"name": "renamed"}})
    await database.users.update_one({}, {"$set": {"displayName": "Alice"}})
    await put_file(database, key, b"another", thread_id=f"{ALICE}/0")
    changed = await documents(database), await contents(database)

    done = await run("import", str(path), "--on-conflict", conflict, "--yes", *where)

    assert (done.code, done.err) == (0, ""), done
    now = await documents(database), await contents(database)
    assert now == (changed if conflict == "skip" else exported)


async def test_threads_go_to_the_user_who_has_the_identifier_there(
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    await put_person(database, ALICE, threads=1)
    await put_person(other, ALICE, threads=0)
    there_before = await other.users.find_one({})
    assert there_before is not None
    path = tmp_path / "chats.jsonl"
    await run("export", "--output", str(path), *where)

    for conflict in ("skip", "replace"):
        done = await run("import", str(path), "--on-conflict", conflict, "--yes", *there)

        assert done.code == 0, done
        assert await other.users.find().to_list(None) == [there_before]
        thread = await other.threads.find_one({})
        assert thread is not None
        assert thread["userId"] == there_before["_id"]


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    if kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "no trailer":
        path.write_bytes(b"".join(lines[:-1]))
    elif kind == "altered":
        path.write_bytes(data.replace(b"text 0 of", b"text 9 of", 1))
    elif kind == "line removed":
        path.write_bytes(b"".join(lines[:2] + lines[3:]))
    elif kind == "garbage":
        path.write_bytes(b"".join([*lines[:2], b"{nonsense}\n", *lines[2:]]))
    elif kind == "appended":
        path.write_bytes(data + lines[1])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "another file":
        path.write_bytes(b"{}\n" * 10)
    elif kind == "newer":
        path.write_bytes(data.replace(b'"version": 3', b'"version": 4', 1))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("cut", "truncated"),
        ("no trailer", "truncated"),
        ("altered", "SHA-256"),
        ("line removed", "SHA-256"),
        ("garbage", "line 3 cannot be read"),
        ("appended", "after its last line"),
        ("empty", "empty"),
        ("another file", "not an export"),
        ("newer", "version 3"),
    ],
)
async def test_a_file_that_is_not_whole_is_named_before_anything_is_written(
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
    kind: str,
    says: str,
) -> None:
    await put_person(database, ALICE, threads=2)
    path = tmp_path / "chats.jsonl"
    await run("export", "--files", "--output", str(path), *where)
    damage(path, kind)

    done = await run("import", str(path), *there)

    assert says in done.failed_with_one_line()
    assert await other.list_collection_names() == []


async def test_a_file_replaced_while_it_is_exported_is_there_once_and_whole(
    there: tuple[str, ...], database: Documents, other: Documents, tmp_path: Path
) -> None:
    bucket = FileBucket(database)
    old, new = os.urandom(20 * CHUNK_BYTES), os.urandom(3 * CHUNK_BYTES)
    await put_file(database, "key", old)
    await put_file(database, "removed", old)
    export = Export(database, bucket, Scope(), with_files=True)
    path = tmp_path / "chats.jsonl"
    seen: list[str] = []
    with path.open("wb") as file:
        async for line in export.lines():
            file.write(line)
            record = json.loads(line)
            if record["type"] == "file":
                seen.append(record["objectKey"])
            if record["type"] == "chunk" and seen == ["key"]:
                await put_file(database, "key", new)
                seen.append("replaced")
            if record["type"] == "chunk" and seen[-1] == "removed":
                await bucket.delete(["removed"])

    assert seen == ["key", "replaced", "key", "removed"]
    assert export.damaged == []
    assert records(path)[-1]["files"] == 1
    done = await run("import", str(path), *there)
    assert (done.code, done.err) == (0, ""), done
    assert {key: content[0] for key, content in (await contents(other)).items()} == {"key": new}
    left = {chunk["files_id"] async for chunk in other["fs.chunks"].find()}
    assert left == {file["_id"] async for file in other["fs.files"].find()}


@pytest.mark.parametrize("lost", ["overflow", "large value", "step"])
async def test_a_damaged_thread_is_left_out_and_named(
    where: tuple[str, ...], database: Documents, tmp_path: Path, lost: str
) -> None:
    for thread_id in ("damaged", "whole"):
        await put_long_thread(database, thread_id)
    if lost == "overflow":
        await database.thread_overflow.delete_many({"thread": "damaged", "value": None})
    elif lost == "large value":
        await database["fs.files"].delete_many({"filename": {"$regex": "^values/damaged/"}})
    else:
        await database.threads.update_one({"_id": "damaged"}, {"$push": {"steps": None}})
    path = tmp_path / "chats.jsonl"

    done = await run("export", "--output", str(path), *where)

    assert done.code == 1
    assert done.err == "Error: The thread 'damaged' is damaged; left out.\n"
    threads = [record["document"] for record in records(path) if record["type"] == "thread"]
    assert [thread["_id"] for thread in threads] == ["whole"]


async def test_a_damaged_file_is_left_out_and_named(
    where: tuple[str, ...], database: Documents, tmp_path: Path
) -> None:
    await put_file(database, "whole", b"1")
    await put_file(database, "hole", b"1" * 3 * CHUNK_BYTES)
    await put_file(database, "changed", b"1")
    hole, changed = [await FileBucket(database).require(key) for key in ("hole", "changed")]
    await database["fs.chunks"].delete_one({"files_id": hole.file_id, "n": 1})
    await database["fs.chunks"].update_one({"files_id": changed.file_id}, {"$set": {"data": b"2"}})
    path = tmp_path / "chats.jsonl"

    done = await run("export", "--files", "--output", str(path), *where)

    assert done.code == 1
    assert done.out == "0 users, 0 threads, 1 file written.\n"
    assert "'hole' is damaged" in done.err
    assert "'changed' is damaged" in done.err


@pytest.mark.parametrize("command", [("export",), ("import",)])
async def test_a_server_that_does_not_answer(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    if command == ("import",):
        path.write_text("{}")
        command = ("import", str(path))

    done = await run(*command, "--uri", NOBODY)

    assert "No MongoDB answered at 127.0.0.1:1" in done.failed_with_one_line()


async def test_an_output_that_cannot_be_written(where: tuple[str, ...], tmp_path: Path) -> None:
    done = await run("export", "--output", str(tmp_path / "no" / "folder"), *where)

    assert (done.code, done.out) == (2, "")
    assert "cannot be written" in done.err.splitlines()[-1]


@pytest.mark.parametrize("command", ["export", "import"])
async def test_help_has_an_example(command: str) -> None:
    done = await run(command, "--help")

    assert done.code == 0
    assert f"Example: mongo-datalayer {command} " in done.out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_does_not_grow_with_the_export(
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    text = "x" * 500_000
    for number in range(100):
        await database.threads.insert_one(
            {"_id": str(number), "steps": [{"id": "s", "output": text}]}
        )
    await put_file(database, "big", os.urandom(100_000_000))
    path = tmp_path / "chats.jsonl"

    peaks = [
        await _peak("export", "--files", "--output", str(path), *where),
        await _peak("import", str(path), *there),
    ]

    assert path.stat().st_size > 180_000_000
    assert max(peaks) < 200_000_000, peaks
    assert await other.threads.count_documents({}) == 100


async def _peak(*arguments: str) -> int:
    """The most memory, in bytes, that the command had in use at a time."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mongo_datalayer.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.partition('VmHWM:')[2].split()[0])\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return int(output.split()[-1]) * 1024


@pytest.mark.parametrize("command", ["export", "import", "prune", "erase-user"])
async def test_a_person_who_waits_sees_progress(
    where: tuple[str, ...], database: Documents, tmp_path: Path, command: str
) -> None:
    await put_person(database, ALICE, threads=3)
    old = {"updatedAt": datetime(2020, 1, 1, tzinfo=timezone.utc)}
    await database.threads.update_many({}, {"$set": old})
    path = tmp_path / "chats.jsonl"
    await run("export", "--output", str(path), *where)
    arguments, shown = {
        "export": (("--output", str(path)), ("lines written", "5 ")),
        "import": ((str(path),), ("importing", "100%")),
        "prune": (("--days", "1", "--yes"), ("threads removed", "3 ")),
        "erase-user": ((ALICE, "--yes"), ("threads", "100%")),
    }[command]
    terminal, stderr = os.openpty()

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mongo_datalayer.cli", command, *arguments, *where),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=stderr,
    )
    code = await process.wait()
    os.close(stderr)
    seen = os.read(terminal, 65536).decode()
    os.close(terminal)

    assert code == 0, seen
    assert all(words in seen for words in shown), seen


# Long threads ---------------------------------------------------------------------------------

MB = 1024 * 1024


async def put_longest_thread(
    database: Documents, thread_id: str, *, steps: int = 131, megabytes: int = 17
) -> None:
    """A thread of 30 MB: a message of 17 MB, and 130 of 100 kB."""
    layer = MongoDataLayer(client=database.client, database=database.name)
    for number in range(steps):
        size = megabytes * MB if number == 60 else 100_000
        await layer.create_step(
            {
                "id": f"{thread_id}/{number}",
                "threadId": thread_id,
                "type": "user_message",
                "output": f"{number} Zürich 🙂 " + "x" * size,
                "createdAt": f"2026-01-02T03:{number // 60:02}:{number % 60:02}Z",
            }
        )


async def read(database: Documents, thread_id: str) -> Any:
    layer = MongoDataLayer(client=database.client, database=database.name)
    return await layer.get_thread(thread_id)


async def test_a_long_thread_is_the_same_after_an_import_that_was_killed_before(
    mongo_uri: str,
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    await put_longest_thread(database, "t")
    thread = await read(database, "t")
    path = tmp_path / "chats.jsonl"

    exported = await run("export", "--files", "--output", str(path), *where)
    kinds = [record["type"] for record in records(path)]

    async def in_the_middle() -> bool:
        return await other.thread_overflow.count_documents({"value": None}) >= 3

    async with slowed(database, "insert") as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", "--database", other.name)
        assert await kill_when(in_the_middle, "import", str(path), *slow) == -signal.SIGKILL
    begun = await other.threads.count_documents({})
    imported = await run("import", str(path), *there)

    assert (exported.code, exported.err) == (0, ""), exported
    assert kinds == ["header", "thread", "trailer"]  # the text is in the thread, and no file
    assert begun == 0
    assert imported.out.startswith("Stored: 0 users, 1 thread, 0 files."), imported
    assert await read(other, "t") == thread
    assert len(thread["steps"]) == 131
    assert len(thread["steps"][60]["output"]) > 17 * MB
    stored = await snapshot(other)
    listed = stored["threads"][0]["overflowIds"]
    assert len(listed) > 1
    largest = max(len(bson.encode(one)) for name in stored for one in stored[name])
    assert largest < 2 * MB

    replaced = await run("import", str(path), "--on-conflict", "replace", "--yes", *there)

    assert replaced.code == 0, replaced
    assert await read(other, "t") == thread


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_no_more_than_one_long_thread_is_in_memory(
    there: tuple[str, ...],
    where: tuple[str, ...],
    database: Documents,
    other: Documents,
    tmp_path: Path,
) -> None:
    path = tmp_path / "chats.jsonl"
    peaks = []
    for thread_ids in ("ab", "cdefgh"):
        for thread_id in thread_ids:
            await put_longest_thread(database, thread_id, steps=61, megabytes=9)
        written = await _peak("export", "--output", str(path), *where)
        stored = await _peak("import", str(path), *there)
        peaks.append((written, stored))

    assert path.stat().st_size > 8 * 15_000_000
    (few, few_stored), (many, many_stored) = peaks
    assert many < few + 40 * MB, peaks
    assert many_stored < few_stored + 40 * MB, peaks


# The format -----------------------------------------------------------------------------------

keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats(allow_nan=False)
    | keys
    | st.datetimes().map(lambda time: time.replace(tzinfo=timezone.utc))
    | st.binary(max_size=3)
    | st.sampled_from(["$date", "$oid", "$numberLong"])
)
names = keys | st.sampled_from(["$date", "$oid", "$numberLong", "$binary", "$ref", "a.b"])
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(names, trees, max_size=4))
def test_every_document_comes_back_as_the_same_bson(fields: dict[str, Any]) -> None:
    options: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
    stored = bson.decode(bson.encode({**fields, "_id": "id"}), options)
    writer = RecordWriter()
    export = writer.header() + writer.document("thread", stored) + writer.trailer()

    (record,) = read_records(io.BytesIO(export))

    assert export.count(b"\n") == 3
    assert bson.encode(record["document"]) == bson.encode(stored)


def test_what_a_thread_ordinarily_holds_is_readable_text() -> None:
    name, text = document_text(
        {"_id": "t", "updatedAt": datetime(2026, 1, 2, tzinfo=timezone.utc), "value": 1}
    )

    assert name == "document"
    assert json.loads(text) == {
        "_id": "t",
        "updatedAt": {"$date": "2026-01-02T00:00:00Z"},
        "value": 1,
    }


def test_a_file_that_ends_inside_of_a_file_is_refused() -> None:
    writer = RecordWriter()
    file = writer.record("file", objectKey="k", sha256="", mime="a/b")
    export = writer.header() + file + writer.trailer()

    with pytest.raises(ExportFormatError, match="line 3 is out of place"):
        list(read_records(io.BytesIO(export)))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "user", "document": {"_id": "u"}},
        {"kind": "thread", "document": {"name": "no id"}},
        {"kind": "thread"},
        {"kind": "thread", "bson": "AAAA"},
        {"kind": "file", "objectKey": "k"},
        {"kind": "step"},
    ],
)
def test_a_record_that_lacks_what_it_needs_is_refused(fields: dict[str, Any]) -> None:
    writer = RecordWriter()
    export = writer.header() + writer.record(**fields) + writer.trailer()

    with pytest.raises(ExportFormatError, match="line 2"):
        list(read_records(io.BytesIO(export)))


def test_the_page_shows_a_whole_export() -> None:
    (example,) = code_blocks(DOCS / "export-format.md", "jsonl")

    shown = [record["type"] for record in read_records(io.BytesIO(example.encode()))]

    documents = ["user", "thread", "thread", "chatkit-thread", "chatkit-attachment"]
    assert shown == [*documents, "file", "chunk", "file-end"]


async def test_the_page_describes_every_record_and_field(
    database: Documents, tmp_path: Path
) -> None:
    page = (DOCS / "export-format.md").read_text()
    await put_person(database, ALICE, threads=1)
    export = Export(database, FileBucket(database), Scope(), with_files=True)

    async for line in export.lines():
        record = json.loads(line)
        assert f"`{record['type']}`" in page
        for name in set(record) - {"type"}:
            assert f"`{name}`" in page, name
