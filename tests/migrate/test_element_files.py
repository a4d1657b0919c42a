"""Files are read below one folder or from one storage, and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import migrate
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.migrate import Options
from mongo_datalayer.migrate.files import FolderFiles, MissingFileError, close_content
from tests.migrate.sources import SqliteSource

Documents = AsyncDatabase[dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file, in one with a secret."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "files"
    (folder / "u" / "e").mkdir(parents=True)
    (folder / "u" / "e" / "a..b.txt").write_text("content")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inner").symlink_to(tmp_path, target_is_directory=True)
    (folder / "own").symlink_to(folder / "u", target_is_directory=True)
    os.mkfifo(folder / "pipe")
    return folder


async def test_a_file_of_the_folder(folder: Path) -> None:
    content: Any = await FolderFiles(folder).open("u/e/a..b.txt")

    assert content.read(100) == b"content"
    close_content(content)


@pytest.mark.parametrize(
    "key",
    [
        *("../secret.txt", "u/../../secret.txt", "link.txt", "inner/secret.txt", "own/e/a..b.txt"),
        *("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x", "", ".", "..", "u", "pipe"),
        *("u/e/a..b.txt\0", "gone.txt", "x" * 5000, "//etc/passwd", "\\..\\secret.txt"),
    ],
)
async def test_nothing_else_is_read(folder: Path, key: str) -> None:
    with pytest.raises(MissingFileError):
        await FolderFiles(folder).open(key)


async def test_what_cannot_be_read_is_listed_and_the_rest_is_moved(
    source: SqliteSource, folder: Path, database: Documents
) -> None:
    thread = source.thread("hello", id="t")
    keys = {"good": "u/e/a..b.txt", "up": "../secret.txt", "link": "link.txt", "gone": "x.txt"}
    for element_id, key in keys.items():
        url = "file:///etc/passwd"
        source.add("elements", id=element_id, threadId=thread, objectKey=key, url=url)
    source.add("elements", id="theirs", threadId=thread, url="http://127.0.0.1:1/x")

    with await migrate.run(str(source.path), database, Options(files=folder)) as report:
        assert not report.complete
        files = {
            each["id"]: each["reason"] for each in report.findings() if each["table"] == "files"
        }

    refused = "file may not be read"
    assert files == {"up": refused, "link": refused, "gone": "file is not there"}
    stored = [file async for file in FileBucket(database).list_files()]
    assert [(file.object_key, file.element_id) for file in stored] == [("t/good", "good")]
    assert await FileBucket(database).read("t/good") == b"content"


async def test_files_stay_where_they_are_without_a_folder(
    source: SqliteSource, database: Documents
) -> None:
    thread = source.thread("hello")
    source.add("elements", threadId=thread, objectKey="u/e/a.txt", url="https://signed")

    with await migrate.run(str(source.path), database) as report:
        assert report.complete
        assert any("--files" in warning for warning in report.warnings)

    stored = await database.threads.find_one({})
    assert stored is not None
    assert stored["elements"][0]["objectKey"] == "u/e/a.txt"


async def test_a_later_run_brings_the_files_that_were_missing(
    source: SqliteSource, folder: Path, database: Documents
) -> None:
    thread = source.thread("hello", id="t")
    source.add("elements", id="e", threadId=thread, objectKey="u/e/late.txt")
    options = Options(files=folder)
    with await migrate.run(str(source.path), database, options) as report:
        assert not report.complete
    (folder / "u" / "e" / "late.txt").write_text("late")

    with await migrate.run(str(source.path), database, options) as report:
        assert report.complete
        assert report.counts["files"]["stored"] == 1

    assert await FileBucket(database).read("t/e") == b"late"


@pytest.mark.usefixtures("aws")
async def test_files_of_s3_are_read_through_chainlits_client(
    source: SqliteSource, database: Documents, s3_url: str
) -> None:
    thread = source.thread("hello", id="t")
    source.add("elements", id="e", threadId=thread, objectKey="u/e/a.txt")
    source.add("elements", id="gone", threadId=thread, objectKey="u/gone.txt")

    with await migrate.run(str(source.path), database, Options(storage=s3_url)) as report:
        assert report.counts["files"]["stored"] == 1
        files = {each["id"] for each in report.findings() if each["table"] == "files"}

    assert files == {"gone"}
    assert await FileBucket(database).read("t/e") == b"of s3"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def s3_url(aws: None) -> Any:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="chat")
    client.put_object(Bucket="chat", Key="u/e/a.txt", Body=b"of s3")
    yield f"s3://chat?endpoint_url=http://{host}:{port}"
    client.close()
    server.stop()


@pytest.mark.parametrize(
    ("url", "kind", "variables", "wanted"),
    [
        (
            "gs://chat",
            "gcs.GCSStorageClient",
            {"APP_GCS_PROJECT_ID": "p"},
            {"project_id": "p"},
        ),
        (
            "azure://chat",
            "azure_blob.AzureBlobStorageClient",
            {"APP_AZURE_STORAGE_ACCOUNT": "a", "APP_AZURE_STORAGE_ACCESS_KEY": "k"},
            {"storage_account": "a", "storage_key": "k"},
        ),
    ],
)
async def test_files_of_google_and_azure_are_read_through_a_stub_of_chainlits_client(
    source: SqliteSource,
    database: Documents,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    kind: str,
    variables: dict[str, str],
    wanted: dict[str, str],
) -> None:
    """Their libraries are not installed here: what is shown is what the client is given."""
    given: list[Any] = []
    s3 = boto3.client("s3", endpoint_url=s3_url.partition("endpoint_url=")[2])

    class Stub:
        def __init__(self, *arguments: str, **options: str) -> None:
            given.append((arguments, options))

        async def get_read_url(self, object_key: str) -> str:
            place = {"Bucket": "chat", "Key": object_key}
            return str(s3.generate_presigned_url("get_object", Params=place))

    module, _, name = kind.partition(".")
    stub = SimpleNamespace(**{name: Stub})
    monkeypatch.setitem(sys.modules, f"chainlit.data.storage_clients.{module}", stub)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    thread = source.thread("hello", id="t")
    source.add("elements", id="e", threadId=thread, objectKey="u/e/a.txt")

    with await migrate.run(str(source.path), database, Options(storage=url)) as report:
        assert report.complete
    s3.close()
    assert given == [(("chat",), wanted)]
    assert await FileBucket(database).read("t/e") == b"of s3"


@pytest.mark.usefixtures("aws")
def test_s3_takes_the_variables_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_AWS_REGION", "eu-central-1")
    monkeypatch.setenv("DEV_AWS_ENDPOINT", "http://localhost:9000")

    client: Any = Options(storage="s3://chat?region_name=eu-west-1").open_files()

    assert client._client.client.meta.region_name == "eu-west-1"
    assert client._client.client.meta.endpoint_url == "http://localhost:9000"
    client._client.client.close()


def test_storages_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"APP_AZURE_STORAGE_ACCOUNT and .*ACCESS_KEY"):
        Options(storage="azure://chat").open_files()
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    with pytest.raises(ConfigurationError, match="pip install google-cloud-storage"):
        Options(storage="gs://chat").open_files()
    broken = SimpleNamespace(S3StorageClient=lambda *_, **__: 1 / 0)
    monkeypatch.setitem(sys.modules, "chainlit.data.storage_clients.s3", broken)
    with pytest.raises(ConfigurationError, match="s3://chat cannot be opened: division by zero"):
        Options(storage="s3://chat").open_files()


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no folder"):
        Options(files=tmp_path / "nowhere").open_files()
    with pytest.raises(ConfigurationError, match="not from both"):
        Options(files=tmp_path, storage="s3://x").open_files()
    with pytest.raises(ConfigurationError, match="no storage"):
        Options(storage="ftp://x").open_files()
