from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import gridfs
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from mongo_datalayer.errors import ConfigurationError, NotFoundError, StorageError
from mongo_datalayer.files import FileLinks, GridFSStorageClient, StoredFile
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import CHUNK_BYTES, FileDetails
from mongo_datalayer.testing.storage_contract import StorageClientContract
from tests.files.conftest import SECRET

Database = AsyncDatabase[dict[str, Any]]


class TestOnPyMongo(StorageClientContract):
    @pytest.fixture
    def storage(self, database: Database) -> GridFSStorageClient:
        return GridFSStorageClient(database, links=FileLinks(SECRET))


class TestOnMotor(StorageClientContract):
    @pytest.fixture
    async def storage(
        self, mongo_uri: str, database_name: str
    ) -> AsyncIterator[GridFSStorageClient]:
        from motor.motor_asyncio import AsyncIOMotorClient

        client: Any = AsyncIOMotorClient(mongo_uri)
        yield GridFSStorageClient(client[database_name], links=FileLinks(SECRET))
        client.close()


class TestOnMongomock(StorageClientContract):
    @pytest.fixture
    def storage(self, database_name: str) -> GridFSStorageClient:
        from mongomock_motor import AsyncMongoMockClient

        return GridFSStorageClient(AsyncMongoMockClient()[database_name], links=FileLinks(SECRET))


async def chunk_count(database: Database) -> int:
    return await database["fs.chunks"].count_documents({})


async def test_the_constructor_does_no_io(mongo_uri: str, database_name: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as unconnected:
        storage = GridFSStorageClient(unconnected[database_name], links=FileLinks(SECRET))
        await storage.get_read_url("key")
        await storage.close()
        assert unconnected.nodes == frozenset()
        assert await storage.find_file("key") is None
        assert unconnected.nodes != frozenset()


async def test_what_is_recorded(storage: GridFSStorageClient, database: Database) -> None:
    await storage.upload_file(
        "threads/1/report",
        b"content",
        mime="text/csv",
        name="Report.csv",
        thread_id="thread",
        element_id="element",
    )
    document = await database["fs.files"].find_one()
    assert document is not None
    assert document["filename"] == "threads/1/report"
    assert document["length"] == 7
    assert document["metadata"] == {
        "owner": "mongo_datalayer",
        "contentType": "text/csv",
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "name": "Report.csv",
        "threadId": "thread",
        "elementId": "element",
    }
    stored = await storage.find_file("threads/1/report")
    assert stored is not None
    age = datetime.now(timezone.utc) - stored.uploaded_at
    assert timedelta(seconds=-5) < age < timedelta(seconds=60)


async def test_other_gridfs_tools_can_read_our_files(
    storage: GridFSStorageClient, database: Database
) -> None:
    content = bytes(range(256)) * 5000
    await storage.upload_file("key", content)
    bucket = gridfs.AsyncGridFSBucket(database)
    async with await bucket.open_download_stream_by_name("key") as stream:
        assert await stream.read() == content


async def test_files_of_other_applications_are_not_seen_and_not_touched(
    storage: GridFSStorageClient, database: Database
) -> None:
    bucket = gridfs.AsyncGridFSBucket(database)
    await bucket.upload_from_stream("key", b"theirs", metadata={"threadId": "thread"})
    assert await storage.find_file("key") is None
    with pytest.raises(NotFoundError):
        await storage.download_file("key")

    await storage.upload_file("key", b"ours", thread_id="thread")
    await storage.upload_file("key", b"ours again", overwrite=True, thread_id="thread")
    assert await storage.download_file("key") == b"ours again"
    await storage.delete_file("key")
    await storage.delete_thread_files("thread")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert [file async for file in storage.bucket.list_files()] == []
    assert [file_id async for file_id in storage.bucket.list_unfinished(before=later)] == []
    async with await bucket.open_download_stream_by_name("key") as stream:
        assert await stream.read() == b"theirs"


async def test_a_second_bucket_is_apart(
    storage: GridFSStorageClient, database: Database, links: FileLinks
) -> None:
    other = GridFSStorageClient(database, bucket="other", links=links)
    await other.upload_file("key", b"other")
    assert await storage.find_file("key") is None
    assert await database["other.chunks"].count_documents({}) == 1


async def test_an_overwrite_leaves_one_revision(
    storage: GridFSStorageClient, database: Database
) -> None:
    for number in range(5):
        await storage.upload_file("key", b"%d" % number)
    assert await database["fs.files"].count_documents({}) == 1
    assert await chunk_count(database) == 1


async def test_overwrites_beside_each_other_leave_one_whole_file(
    storage: GridFSStorageClient, database: Database
) -> None:
    contents = [bytes([number]) * 600_000 for number in range(10)]
    await asyncio.gather(*(storage.upload_file("key", content) for content in contents))
    assert await storage.download_file("key") in contents
    # Those that lost the race are gone with the next upload, at the latest.
    await storage.upload_file("key", b"last")
    assert await storage.download_file("key") == b"last"
    assert await database["fs.files"].count_documents({}) == 1
    assert await chunk_count(database) == 1


async def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(
    storage: GridFSStorageClient,
) -> None:
    await storage.upload_file("key", b"old" * 200_000)
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    class SlowFile(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
            return super().read(size)

    upload = asyncio.create_task(storage.upload_file("key", SlowFile(b"new" * 1_000_000)))
    await asyncio.sleep(0.1)
    assert not upload.done()
    assert await storage.download_file("key") == b"old" * 200_000
    go_on.set()
    await upload
    assert await storage.download_file("key") == b"new" * 1_000_000


async def test_readers_during_overwrites_get_whole_files(storage: GridFSStorageClient) -> None:
    contents = {bytes([number]) * 1_500_000 for number in range(6)}
    await storage.upload_file("key", next(iter(contents)))

    async def overwrite() -> None:
        for content in contents:
            await storage.upload_file("key", content)

    writer = asyncio.create_task(overwrite())
    reads = 0
    while not writer.done():
        assert await storage.download_file("key") in contents
        reads += 1
    await writer
    assert reads > 0


@pytest.mark.parametrize("new", [b"new" * 400_000, None])
async def test_a_download_starts_again_when_the_file_is_replaced_under_it(
    storage: GridFSStorageClient, monkeypatch: pytest.MonkeyPatch, new: bytes | None
) -> None:
    await storage.upload_file("key", b"old" * 400_000)
    bucket = storage.bucket
    iterate = bucket.iterate
    changed = False

    async def change_in_between(stored: StoredFile) -> AsyncIterator[bytes]:
        nonlocal changed
        if not changed:
            changed = True
            await storage.delete_file("key")
            if new is not None:
                await storage.upload_file("key", new)
        async for piece in iterate(stored):
            yield piece

    monkeypatch.setattr(bucket, "iterate", change_in_between)
    if new is None:
        with pytest.raises(NotFoundError):
            await storage.download_file("key")
    else:
        assert await storage.download_file("key") == new


async def test_a_stream_of_a_replaced_file_ends_in_an_error(storage: GridFSStorageClient) -> None:
    await storage.upload_file("key", b"a" * 3_000_000)
    stream = storage.stream_file("key")
    received = [await anext(stream)]
    await storage.upload_file("key", b"b" * 3_000_000)
    with pytest.raises(StorageError):
        received.extend([piece async for piece in stream])
    assert set(b"".join(received)) == set(b"a")


async def test_a_damaged_file_is_an_error(storage: GridFSStorageClient, database: Database) -> None:
    await storage.upload_file("key", b"a" * 600_000)
    await database["fs.chunks"].delete_one({"n": 1})
    with pytest.raises(StorageError, match="damaged"):
        await storage.download_file("key")


@pytest.mark.parametrize("delay", [0, 0.002, 0.005, 0.01])
async def test_a_cancelled_upload_leaves_nothing(
    storage: GridFSStorageClient, database: Database, delay: float
) -> None:
    await storage.upload_file("other", b"other")

    class EndlessFile:
        def read(self, size: int, /) -> bytes:
            return bytes(size)

    upload = asyncio.create_task(storage.upload_file("key", EndlessFile()))
    while await chunk_count(database) < 10:  # noqa: ASYNC110 - only the database knows
        await asyncio.sleep(0.01)
    await asyncio.sleep(delay)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await storage.find_file("key") is None
    assert await chunk_count(database) == 1


async def test_an_upload_cancelled_while_it_is_published_leaves_nothing(
    storage: GridFSStorageClient, database: Database, client: AsyncMongoClient[dict[str, Any]]
) -> None:
    await storage.upload_file("other", b"other")
    slow = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 300}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=slow)
    upload = asyncio.create_task(storage.upload_file("key", b"content"))
    while await chunk_count(database) < 2:  # noqa: ASYNC110 - only the database knows
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await asyncio.sleep(0.4)
    assert await storage.find_file("key") is None
    assert await chunk_count(database) == 1


async def test_a_failed_read_leaves_nothing_and_keeps_the_old_file(
    storage: GridFSStorageClient, database: Database
) -> None:
    await storage.upload_file("key", b"old")

    class BrokenFile:
        reads = 0

        def read(self, size: int, /) -> bytes:
            self.reads += 1
            if self.reads > 2:
                raise OSError("the disk is gone")
            return bytes(size)

    with pytest.raises(StorageError, match="the disk is gone"):
        await storage.upload_file("key", BrokenFile())
    assert await storage.download_file("key") == b"old"
    assert await chunk_count(database) == 1


async def test_a_failure_of_the_database_is_raised_and_leaves_nothing(
    storage: GridFSStorageClient,
    database: Database,
    client: AsyncMongoClient[dict[str, Any]],
) -> None:
    await storage.upload_file("other", b"other")
    fail = {"failCommands": ["findAndModify"], "errorCode": 8000}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
    with pytest.raises(OperationFailure):
        await storage.upload_file("key", b"new")
    assert await storage.find_file("key") is None
    assert await chunk_count(database) == 1


async def test_of_two_uploads_of_a_key_that_may_not_be_taken_one_is_told(
    storage: GridFSStorageClient, database: Database
) -> None:
    contents = [b"one", b"two"]
    uploads = [storage.upload_file("key", content, overwrite=False) for content in contents]
    results = await asyncio.gather(*uploads, return_exceptions=True)
    errors = [str(result) for result in results if isinstance(result, StorageError)]
    assert errors == ["A file is already stored under 'key'."]
    assert await chunk_count(database) == 1


@pytest.mark.parametrize("size", [0, 10, 2_500_000], ids=["empty", "small", "of three blocks"])
@pytest.mark.parametrize("command", ["insert", "findAndModify", "find"])
@pytest.mark.parametrize(
    "fault",
    [{"closeConnection": True}, {"writeConcernError": {"code": 64, "errmsg": "timed out"}}],
    ids=["lost connection", "applied, then no majority"],
)
async def test_an_upload_is_retried_after_a_transient_fault(
    storage: GridFSStorageClient,
    database: Database,
    client: AsyncMongoClient[dict[str, Any]],
    fault: dict[str, Any],
    command: str,
    size: int,
) -> None:
    await storage.upload_file("key", b"old")
    content = bytes(index % 251 for index in range(size))

    async def arriving() -> AsyncIterator[bytes]:
        yield content

    fail = {"failCommands": [command], **fault}
    # Twice: the driver itself retries once on a replica set.
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=fail)
    try:
        await storage.upload_file("key", arriving())
    finally:
        await client.admin.command("configureFailPoint", "failCommand", mode="off")

    assert await storage.download_file("key") == content
    assert await database["fs.files"].count_documents({}) == 1
    assert await chunk_count(database) == -(-size // CHUNK_BYTES)


async def test_a_failed_clean_up_does_not_fail_the_upload(
    storage: GridFSStorageClient,
    database: Database,
    client: AsyncMongoClient[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await storage.upload_file("key", b"old")
    fail = {"failCommands": ["delete"], "errorCode": 8000}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
    await storage.upload_file("key", b"new")
    assert await storage.download_file("key") == b"new"
    assert "Left behind" in caplog.text
    # What stayed is never served, and goes with the file.
    assert await chunk_count(database) == 2
    assert await storage.delete_file("key") is True
    assert await chunk_count(database) == 0


async def test_text_mode_files_and_other_types_are_refused(storage: GridFSStorageClient) -> None:
    with pytest.raises(TypeError, match="rb"):
        await storage.upload_file("key", io.StringIO("text"))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="int"):
        await storage.upload_file("key", 7)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("object_key", ["", ".", "..", "half \ud83d"])
async def test_keys_that_no_url_can_carry_are_refused(
    storage: GridFSStorageClient, object_key: str
) -> None:
    with pytest.raises(StorageError):
        await storage.upload_file(object_key, b"content")


async def test_surrogates_elsewhere_do_not_stop_an_upload(storage: GridFSStorageClient) -> None:
    await storage.upload_file("key", "half \ud83d", name="half \ud83d", thread_id="half \ud83d")
    assert await storage.download_file("key") == b"half ?"
    assert await storage.delete_thread_files("half \ud83d") == 1


async def test_a_changing_buffer_is_stored_as_it_was(storage: GridFSStorageClient) -> None:
    buffer = bytearray(b"before" * 300_000)
    upload = asyncio.create_task(storage.upload_file("key", buffer))
    while await storage.find_file("key") is None and not upload.done():
        buffer[:] = b"after!" * 300_000
    await upload
    assert await storage.download_file("key") == b"before" * 300_000


async def test_without_a_secret_the_file_is_kept_and_the_log_says_what_to_set(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    storage = GridFSStorageClient(database)
    assert await storage.upload_file("key", b"content") == {"object_key": "key", "url": ""}
    assert await storage.download_file("key") == b"content"
    assert "Set MONGO_DATALAYER_FILES_SECRET" in caplog.text
    with pytest.raises(ConfigurationError, match="MONGO_DATALAYER_FILES_SECRET"):
        await storage.get_read_url("key")


async def test_many_files_are_deleted_with_few_commands(
    storage: GridFSStorageClient, database: Database
) -> None:
    for number in range(5):
        await storage.upload_file(f"key {number}", b"x" * 300_000)
    assert await storage.delete_files(["key 0", "key 3", "never there"]) == 2
    assert await storage.delete_files([]) == 0
    assert [file.object_key async for file in storage.bucket.list_files()] == [
        "key 1",
        "key 2",
        "key 4",
    ]
    assert await chunk_count(database) == 6


async def test_files_of_a_thread_are_deleted(
    storage: GridFSStorageClient, database: Database
) -> None:
    await storage.upload_file("1", b"1", thread_id="a")
    await storage.upload_file("2", b"2", thread_id="a")
    await storage.upload_file("3", b"3", thread_id="b")
    assert await storage.delete_thread_files("a") == 2
    assert [file.object_key async for file in storage.bucket.list_files()] == ["3"]
    assert await chunk_count(database) == 1


async def test_chunks_of_a_killed_upload_are_found_and_discarded(
    storage: GridFSStorageClient, database: Database
) -> None:
    for key in ("kept", "lost"):
        await storage.upload_file(key, b"x" * 600_000)
    lost = await storage.find_file("lost")
    assert lost is not None
    await database["fs.files"].delete_one({"_id": lost.file_id})
    bucket = storage.bucket

    now = datetime.now(timezone.utc)
    early, late = now - timedelta(hours=1), now + timedelta(hours=1)
    assert [file_id async for file_id in bucket.list_unfinished(before=early)] == []
    unfinished = [file_id async for file_id in bucket.list_unfinished(before=late)]
    assert unfinished == [lost.file_id]
    await bucket.delete_revisions(unfinished)
    assert await chunk_count(database) == 3
    assert await storage.download_file("kept") == b"x" * 600_000


async def test_files_are_listed_by_age(storage: GridFSStorageClient) -> None:
    await storage.upload_file("key", b"content")
    now = datetime.now(timezone.utc)
    early, late = now - timedelta(hours=1), now + timedelta(hours=1)
    assert [file.object_key async for file in storage.bucket.list_files(before=late)] == ["key"]
    assert [file.object_key async for file in storage.bucket.list_files(before=early)] == []


async def test_the_indexes_of_the_gridfs_specification_are_made(
    storage: GridFSStorageClient, database: Database
) -> None:
    await storage.upload_file("key", b"content")
    files = await database["fs.files"].index_information()
    chunks = await database["fs.chunks"].index_information()
    assert files["filename_1_uploadDate_1"]["key"] == [("filename", 1), ("uploadDate", 1)]
    assert chunks["files_id_1_n_1"]["unique"] is True


# Long lists ---------------------------------------------------------------------------------------

# More than the first batch that a cursor gives.
MANY = 250


async def open_cursors(database: Database) -> list[dict[str, Any]]:
    """The cursors that the server holds for somebody who will ask for more of this database."""
    admin = database.client.admin
    held = await admin.aggregate([{"$currentOp": {"idleCursors": True}}])
    return [
        operation
        for operation in await held.to_list()
        if operation["type"] == "idleCursor" and operation["ns"].startswith(f"{database.name}.")
    ]


async def put_files(database: Database, revisions: dict[str, int]) -> list[tuple[str, str]]:
    """Files without content; their object keys and ids, in the order of keys and of age."""
    began = datetime(2026, 1, 2, tzinfo=timezone.utc)
    names = [(key, f"{key} {n}") for key in sorted(revisions) for n in range(revisions[key])]
    await database["fs.files"].insert_many(
        {
            "_id": file_id,
            "filename": key,
            "length": 0,
            "chunkSize": 1,
            "uploadDate": began + timedelta(seconds=age),
            "metadata": {"owner": "mongo_datalayer", "sha256": ""},
        }
        for age, (key, file_id) in enumerate(names)
    )
    return names


async def test_nothing_is_held_on_the_server_while_a_reader_of_the_files_works(
    storage: GridFSStorageClient, database: Database
) -> None:
    names = await put_files(database, {f"key {n:03}": 1 for n in range(MANY)})
    listed = []
    held = []

    async for file in storage.bucket.list_files():
        listed.append((file.object_key, file.file_id))
        if len(listed) in (1, MANY // 2):
            held += await open_cursors(database)

    assert listed == names
    assert held == []


async def test_nothing_is_held_while_a_reader_of_unfinished_uploads_works(
    storage: GridFSStorageClient, database: Database
) -> None:
    ids = [f"mongo_datalayer:{number:024x}" for number in range(MANY)]
    await database["fs.chunks"].insert_many(
        {"files_id": file_id, "n": n, "data": b""} for file_id in ids for n in range(2)
    )
    listed = []
    held = []

    async for file_id in storage.bucket.list_unfinished(before=datetime.now(timezone.utc)):
        listed.append(file_id)
        if len(listed) in (1, MANY // 2):
            held += await open_cursors(database)

    assert listed == ids
    assert held == []


async def test_a_cursor_that_is_held_would_be_seen(database: Database) -> None:
    await put_files(database, {f"key {n:03}": 1 for n in range(MANY)})

    async with database["fs.files"].find() as cursor:
        await anext(cursor)
        assert len(await open_cursors(database)) == 1


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 100])
async def test_a_page_may_end_anywhere(
    storage: GridFSStorageClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr("mongo_datalayer.files.bucket.BATCH", batch)
    names = await put_files(database, {"a": 1, "b": 9, "c": 2, "d": 3})
    left = [f"mongo_datalayer:{number:024x}" for number in (1, 2, 4)]
    finished = f"mongo_datalayer:{3:024x}"
    await database["fs.files"].insert_one({"_id": finished})
    await database["fs.chunks"].insert_many(
        {"files_id": file_id, "n": n, "data": b""}
        for file_id in (*left, finished)
        for n in range(5 if file_id == left[1] else 2)
    )
    bucket = storage.bucket
    now = datetime.now(timezone.utc)

    listed = [(file.object_key, file.file_id) async for file in bucket.list_files(before=now)]
    keys = [key async for key in bucket.list_keys()]
    unfinished = [file_id async for file_id in bucket.list_unfinished(before=now)]

    assert listed == names
    assert keys == ["a", "b", "c", "d"]
    assert unfinished == left


async def test_what_was_listed_may_be_deleted_meanwhile(
    storage: GridFSStorageClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.files.bucket.BATCH", 2)
    names = await put_files(database, {"a": 3, "b": 1, "c": 4})
    listed = []

    async for file in storage.bucket.list_files():
        listed.append((file.object_key, file.file_id))
        await storage.bucket.delete_revisions([file.file_id])

    assert listed == names
    assert await database["fs.files"].count_documents({}) == 0


async def test_it_takes_an_asynchronous_database() -> None:
    blocking = MongoClient[dict[str, Any]]("mongodb://localhost:1")
    async with AsyncMongoClient[dict[str, Any]]("mongodb://localhost:1") as client:
        for wrong in (blocking["d"], client, "chainlit"):
            with pytest.raises(ConfigurationError, match="takes the database of an asynchronous"):
                GridFSStorageClient(wrong)  # type: ignore[arg-type]  # wrong on purpose
    blocking.close()


ODD_SIZES = [None, "text", [1], -1, 0.5, True, float("nan"), float("inf"), 10**12]
ODD_FILES: list[dict[str, Any]] = [
    *({name: value} for name in ("length", "chunkSize") for value in ODD_SIZES),
    {"chunkSize": 0},
    {"uploadDate": "today"},
    {"metadata.contentType": 5},
    {"metadata.sha256": None},
    {"metadata.name": ["n"]},
    {"metadata.threadId": {"a": 1}},
]


@pytest.mark.parametrize("edited", ODD_FILES, ids=repr)
async def test_a_file_that_was_edited_by_hand_is_read_or_named(
    database: AsyncDatabase[dict[str, Any]], edited: dict[str, Any]
) -> None:
    bucket = FileBucket(database)
    await bucket.write("edited", b"x" * 300_000, FileDetails())
    await bucket.write("other", b"y", FileDetails())
    await database.fs.files.update_one({"filename": "edited"}, {"$set": edited})

    try:
        # A chunk of less than a byte would never end.
        assert await asyncio.wait_for(bucket.read("edited"), 10) == b"x" * 300_000
    except StorageError as exc:
        assert "'edited'" in str(exc)  # noqa: PT017
        assert edited.keys() <= {"length", "chunkSize"}
    assert [file.object_key async for file in bucket.list_files()] == ["edited", "other"]
