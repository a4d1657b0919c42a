"""Elements with files: stored, linked, replaced and removed, with two storage clients."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pandas as pd
import plotly.graph_objects as go
import pytest
from chainlit.data.storage_clients.base import BaseStorageClient
from chainlit.data.storage_clients.s3 import S3StorageClient
from chainlit.element import (
    Audio,
    Dataframe,
    Element,
    File,
    Image,
    Pdf,
    Plotly,
    TaskList,
    Text,
    Video,
)
from moto.server import ThreadedMotoServer
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette

from mongo_datalayer import GridFSStorageClient, MongoDataLayer, StorageError
from mongo_datalayer.files import FileLinks, files_route
from mongo_datalayer.testing.contract import step

BUCKET = "chat"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class FileStore:
    """A storage client and a way to look into it."""

    def __init__(self, client: BaseStorageClient, http: httpx.AsyncClient) -> None:
        self.client = client
        self.http = http

    async def keys(self) -> list[str]:
        """Object keys of all stored files."""
        raise NotImplementedError


class GridFSStore(FileStore):
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        client = GridFSStorageClient(
            database, links=FileLinks("a secret of thirty-two bytes and more")
        )
        transport = httpx.ASGITransport(Starlette(routes=[files_route(client)]))
        super().__init__(client, httpx.AsyncClient(transport=transport, base_url="http://files"))
        self.files = database["fs.files"]

    async def keys(self) -> list[str]:
        return sorted([file["filename"] async for file in self.files.find()])


class S3Store(FileStore):
    def __init__(self, endpoint: str) -> None:
        options: dict[str, Any] = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }
        self.s3 = boto3.client("s3", **options)
        self.s3.create_bucket(Bucket=BUCKET)
        super().__init__(S3StorageClient(bucket=BUCKET, **options), httpx.AsyncClient())

    async def keys(self) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET)
        return sorted(found["Key"] for found in listed.get("Contents", []))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["gridfs", "s3"])
async def store(
    request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]
) -> AsyncIterator[FileStore]:
    if request.param == "gridfs":
        store: FileStore = GridFSStore(database)
    else:
        endpoint = request.getfixturevalue("s3_endpoint")
        await asyncio.to_thread(httpx.post, f"{endpoint}/moto-api/reset")
        store = S3Store(endpoint)
    yield store
    await store.http.aclose()


@pytest.fixture
async def layer(
    mongo_uri: str, database_name: str, store: FileStore
) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name, storage_client=store.client)
    await layer.create_indexes()
    yield layer
    await layer.close()  # Chainlit's S3 client raises here; the layer must not


async def elements(layer: MongoDataLayer, thread_id: str = "t") -> list[Any]:
    thread = await layer.get_thread(thread_id)
    assert thread is not None
    json.dumps(thread, allow_nan=False)
    return list(thread["elements"] or [])


def with_mime(element: Element, mime: str) -> Element:
    element.mime = mime
    return element


def kinds(folder: Path) -> list[tuple[Element, bytes, str]]:
    """One element of each kind that has a file, its content, and its content type."""
    image, pdf = folder / "i.png", folder / "d.pdf"
    image.write_bytes(PNG)
    pdf.write_bytes(b"%PDF-1.4")
    figure = go.Figure(data=[go.Bar(y=[1, 2])])
    frame = Dataframe(name="frame", data=pd.DataFrame({"a": [1, 2]}), thread_id="t")
    plot = Plotly(name="plot", figure=figure, thread_id="t")
    tasks = TaskList(thread_id="t")
    return [
        (with_mime(Image(name="i", path=str(image), thread_id="t"), "image/png"), PNG, "image/png"),
        (
            with_mime(Pdf(name="d", path=str(pdf), thread_id="t"), "application/pdf"),
            b"%PDF-1.4",
            "application/pdf",
        ),
        (
            with_mime(Text(name="t", content="Grüße", thread_id="t"), "text/plain"),
            "Grüße".encode(),
            "text/plain",
        ),
        (
            with_mime(Audio(name="a", content=b"ID3", thread_id="t"), "audio/mpeg"),
            b"ID3",
            "audio/mpeg",
        ),
        (
            with_mime(Video(name="v", content=b"mp4", thread_id="t"), "video/mp4"),
            b"mp4",
            "video/mp4",
        ),
        (
            File(name="f", content=b"\0\1", thread_id="t"),
            b"\0\1",
            "application/octet-stream",
        ),
        (with_mime(plot, "application/json"), str(plot.content).encode(), "application/json"),
        (frame, str(frame.content).encode(), "application/octet-stream"),
        (
            with_mime(tasks, "application/json"),
            str(tasks.content).encode(),
            "application/json",
        ),
    ]


async def test_every_kind_of_element_can_be_read_by_its_link(
    layer: MongoDataLayer, store: FileStore, tmp_path: Path
) -> None:
    made = kinds(tmp_path)
    for element, _, _ in made:
        element.for_id = "s"
        await layer.create_element(element)
    read = {element["id"]: element for element in await elements(layer)}
    assert len(read) == len(made)
    for element, content, mime in made:
        response = await store.http.get(read[element.id]["url"])
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == mime, element.type
        assert response.content == content
        one = await layer.get_element("t", element.id)
        assert one is not None
        assert (await store.http.get(str(one["url"]))).content == response.content


async def test_links_are_made_when_read_and_never_stored(
    layer: MongoDataLayer, store: FileStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await layer.create_element(Text(id="e", name="t", content="text", thread_id="t"))
    (read,) = await elements(layer)
    thread = await database["threads"].find_one({"_id": "t"})
    assert thread is not None
    (stored,) = thread["elements"]
    assert "url" not in stored
    assert "content" not in stored
    assert stored["objectKey"] == read["objectKey"]
    assert str(read["url"]) not in str(thread)


async def test_the_same_element_again_replaces_its_file(
    layer: MongoDataLayer, store: FileStore
) -> None:
    for text in ("first", "second"):
        await layer.create_element(Text(id="e", name="t", content=text, thread_id="t"))
    (read,) = await elements(layer)
    assert (await store.http.get(read["url"])).text == "second"
    assert len(await store.keys()) == 1


async def test_an_element_that_moves_elsewhere_leaves_no_file(
    layer: MongoDataLayer, store: FileStore
) -> None:
    await layer.create_element(Image(id="e", name="i", content=PNG, thread_id="t"))
    await layer.create_element(
        Image(id="e", name="i", url="https://example.org/i.png", thread_id="t")
    )
    (read,) = await elements(layer)
    assert read["url"] == "https://example.org/i.png"
    assert await store.keys() == []


async def test_deleting_takes_the_files(layer: MongoDataLayer, store: FileStore) -> None:
    await layer.create_step(step_dict=step("t", id="parent"))
    await layer.create_step(step_dict=step("t", id="child", parentId="parent"))
    await layer.create_step(step_dict=step("t", id="other"))
    for number, for_id in enumerate(["child", "other", "other", None]):
        await layer.create_element(
            Text(id=f"e{number}", name="t", content="text", thread_id="t", for_id=for_id)
        )
    await layer.create_element(Text(id="kept", name="t", content="text", thread_id="another"))
    assert len(await store.keys()) == 5
    await layer.delete_step("parent")
    assert len(await store.keys()) == 4
    await layer.delete_element("e1", "t")
    assert len(await store.keys()) == 3
    await layer.delete_thread("t")
    assert await store.keys() == ["another/kept"]


async def test_a_late_element_of_a_deleted_thread_leaves_no_file(
    layer: MongoDataLayer, store: FileStore
) -> None:
    await layer.create_step(step_dict=step("t"))
    await layer.delete_thread("t")
    await layer.create_element(Text(id="late", name="t", content="text", thread_id="t"))
    assert await store.keys() == []


async def test_a_late_version_of_a_deleted_element_leaves_no_file(
    layer: MongoDataLayer, store: FileStore
) -> None:
    await layer.create_step(step_dict=step("t"))
    late = Text(id="late", name="t", content="text", thread_id="t")
    await layer.delete_element("late", "t")
    await layer.create_element(late)
    assert (await elements(layer), await store.keys()) == ([], [])


@pytest.mark.parametrize("thread_id", ["a/../b", "..", ".", "ä ö?#%", "$x"])
async def test_odd_thread_ids_make_working_links(
    layer: MongoDataLayer, store: FileStore, thread_id: str
) -> None:
    await layer.create_element(Text(id="e", name="t", content="text", thread_id=thread_id))
    (read,) = await elements(layer, thread_id)
    assert (await store.http.get(read["url"])).text == "text"


async def test_a_file_that_is_gone_is_an_error_and_the_element_is_kept(
    layer: MongoDataLayer, store: FileStore, tmp_path: Path
) -> None:
    element = File(id="e", name="f", path=str(tmp_path / "gone"), thread_id="t")
    with pytest.raises(StorageError, match="cannot be read"):
        await layer.create_element(element)
    (read,) = await elements(layer)
    assert (read["id"], read["url"]) == ("e", None)


async def test_a_failed_upload_leaves_the_earlier_version(
    layer: MongoDataLayer, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await layer.create_element(File(id="e", name="first", content=b"first", thread_id="t"))

    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the disk is full")

    gone = File(id="e", name="gone", path=str(tmp_path / "gone"), thread_id="t")
    with pytest.raises(StorageError, match="cannot be read"):
        await layer.create_element(gone)
    if isinstance(store.client, GridFSStorageClient):
        monkeypatch.setattr(store.client.bucket, "write", fail)
    else:
        monkeypatch.setattr(store.client, "upload_file", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        await layer.create_element(File(id="e", name="second", content=b"second", thread_id="t"))
    monkeypatch.undo()

    (read,) = await elements(layer)
    assert read["name"] == "first"
    assert (await store.http.get(read["url"])).content == b"first"
    await layer.create_element(File(id="e", name="third", content=b"third", thread_id="t"))
    (read,) = await elements(layer)
    assert (await store.http.get(read["url"])).content == b"third"


@pytest.mark.parametrize("command", ["insert", "findAndModify", "update"])
async def test_a_lost_connection_loses_neither_version(
    mongo_uri: str,
    database: AsyncDatabase[dict[str, Any]],
    client: AsyncMongoClient[dict[str, Any]],
    tmp_path: Path,
    command: str,
) -> None:
    store = GridFSStore(database)
    path = tmp_path / "second"
    path.write_bytes(b"second" * 500_000)
    layer = MongoDataLayer(mongo_uri, database=database.name)
    await layer.create_element(File(id="e", name="f", content=b"first", thread_id="t"))
    fault = {"failCommands": [command], "closeConnection": True}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=fault)
    await layer.create_element(File(id="e", name="f", path=str(path), thread_id="t"))

    (read,) = await elements(layer)
    assert await layer.storage_client.download_file(read["objectKey"]) == path.read_bytes()  # type: ignore[attr-defined]  # it is GridFS's
    assert await store.keys() == ["t/e"]
    await store.http.aclose()
    await layer.close()


class FaultyClient(BaseStorageClient):
    """Does what Chainlit's own clients do when they fail."""

    async def upload_file(
        self,
        object_key: str,
        data: bytes | str,
        mime: str = "",
        overwrite: bool = True,
        content_disposition: str | None = None,
    ) -> dict[str, Any]:
        if isinstance(data, bytes) and data == b"raise":
            raise RuntimeError("the network is down")
        return {"object_key": object_key, "url": object_key} if data == b"stored" else {}

    async def get_read_url(self, object_key: str) -> str:
        return object_key

    async def delete_file(self, object_key: str) -> bool:
        raise RuntimeError("the network is down")

    async def close(self) -> None:
        raise TypeError("object NoneType can't be used in 'await' expression")


@pytest.fixture
async def faulty(mongo_uri: str, database_name: str) -> AsyncIterator[MongoDataLayer]:
    layer = MongoDataLayer(mongo_uri, database=database_name, storage_client=FaultyClient())
    yield layer
    await layer.close()


@pytest.mark.parametrize("content", [b"raise", b"answer {}"])
async def test_an_upload_that_failed_is_an_error_and_the_element_is_kept(
    faulty: MongoDataLayer, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StorageError, match="FaultyClient"):
        await faulty.create_element(File(id="e", name="f", content=content, thread_id="t"))
    assert "FaultyClient" in caplog.text
    (read,) = await elements(faulty)
    assert (read["id"], read["url"], read["objectKey"]) == ("e", None, None)


async def test_a_key_instead_of_a_link_is_logged_and_the_thread_is_read(
    faulty: MongoDataLayer, caplog: pytest.LogCaptureFixture
) -> None:
    await faulty.create_element(File(id="e", name="f", content=b"stored", thread_id="t"))
    (read,) = await elements(faulty)
    assert (read["objectKey"], read["url"]) == ("t/e", None)
    assert "FaultyClient made no link" in caplog.text
    await faulty.delete_thread("t")
    assert "FaultyClient could not delete" in caplog.text


async def test_an_open_file_is_closed_when_it_is_stored(
    layer: MongoDataLayer, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[io.IOBase] = []
    original = Path.open

    def remembered(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = original(self, *args, **kwargs)
        opened.append(file)
        return file

    path = tmp_path / "f.bin"
    path.write_bytes(b"content")
    monkeypatch.setattr(Path, "open", remembered)
    await layer.create_element(File(name="f", path=str(path), thread_id="t"))
    assert opened
    assert all(file.closed for file in opened)


async def test_the_address_of_an_element_is_never_asked_for(layer: MongoDataLayer) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret"
        await layer.create_element(Image(id="e", name="i", url=address, thread_id="t"))
        (read,) = await elements(layer)
        await layer.get_element("t", "e")
        await layer.delete_thread("t")
    assert read["url"] == address
    assert asked == []
