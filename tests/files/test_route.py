from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from pymongo import AsyncMongoClient, monitoring
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette

from mongo_datalayer.files import FileLinks, GridFSStorageClient, files_route
from mongo_datalayer.testing.storage_contract import ODD_KEYS
from tests.files.conftest import SECRET

CONTENT = hashlib.shake_128(b"content").digest(1_000_003)


@pytest.fixture
async def link(storage: GridFSStorageClient) -> str:
    result = await storage.upload_file("dir/sound.mp3", CONTENT, mime="audio/mpeg")
    return str(result["url"])


async def test_the_whole_file(http: httpx.AsyncClient, link: str) -> None:
    response = await http.get(link)
    assert response.status_code == 200
    assert response.content == CONTENT
    assert response.headers["content-length"] == str(len(CONTENT))
    assert response.headers["content-type"] == "audio/mpeg"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["content-disposition"] == 'inline; filename="sound.mp3"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["referrer-policy"] == "no-referrer"


async def test_head(http: httpx.AsyncClient, link: str) -> None:
    full = await http.get(link)
    response = await http.head(link, headers={"range": "bytes=0-9"})
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers == full.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods(http: httpx.AsyncClient, link: str, method: str) -> None:
    assert (await http.request(method, link)).status_code == 405


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=0-0", 0, 1),
        ("bytes=261119-261121", 261_119, 261_122),
        ("bytes=261120-522239", 261_120, 522_240),
        ("bytes=500000-", 500_000, len(CONTENT)),
        ("bytes=0-", 0, len(CONTENT)),
        ("bytes=-7", len(CONTENT) - 7, len(CONTENT)),
        ("bytes=1000002-2000000", 1_000_002, len(CONTENT)),
    ],
)
async def test_a_range(
    http: httpx.AsyncClient, link: str, header: str, start: int, stop: int
) -> None:
    response = await http.get(link, headers={"range": header})
    assert response.status_code == 206
    assert response.content == CONTENT[start:stop]
    assert response.headers["content-length"] == str(stop - start)
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_range_that_cannot_be_satisfied(http: httpx.AsyncClient, link: str) -> None:
    response = await http.get(link, headers={"range": f"bytes={len(CONTENT)}-"})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=9-5", "chapters=1-2"])
async def test_a_range_that_is_ignored(http: httpx.AsyncClient, link: str, header: str) -> None:
    response = await http.get(link, headers={"range": header})
    assert response.status_code == 200
    assert response.content == CONTENT


async def test_an_empty_file(http: httpx.AsyncClient, storage: GridFSStorageClient) -> None:
    link = (await storage.upload_file("empty", b""))["url"]
    response = await http.get(link)
    assert (response.status_code, response.content) == (200, b"")
    assert (await http.get(link, headers={"range": "bytes=0-"})).status_code == 416
    assert (await http.get(link, headers={"range": "bytes=-5"})).status_code == 200


async def test_only_the_chunks_of_a_range_are_read(mongo_uri: str, database_name: str) -> None:
    class Finds(monitoring.CommandListener):
        def __init__(self) -> None:
            self.chunks: list[dict[str, Any]] = []

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command.get("find") == "fs.chunks":
                self.chunks.append(dict(event.command["filter"]["n"]))

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

        def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    finds = Finds()
    client = AsyncMongoClient[dict[str, Any]](mongo_uri, event_listeners=[finds])
    async with client:
        storage = GridFSStorageClient(client[database_name], links=FileLinks(SECRET))
        link = (await storage.upload_file("key", bytes(255 * 1024 * 20)))["url"]
        transport = httpx.ASGITransport(Starlette(routes=[files_route(storage)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
            finds.chunks.clear()
            start = 255 * 1024 * 10 + 5
            await http.get(link, headers={"range": f"bytes={start}-{start + 10}"})
            assert finds.chunks == [{"$gte": 10, "$lt": 11}]


class TestConditions:
    async def test_a_known_etag(self, http: httpx.AsyncClient, link: str) -> None:
        etag = (await http.get(link)).headers["etag"]
        for method in ("GET", "HEAD"):
            response = await http.request(method, link, headers={"if-none-match": etag})
            assert response.status_code == 304
            assert response.content == b""
            assert response.headers["etag"] == etag
            assert response.headers["cache-control"] == "private, no-cache"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "content-length" not in response.headers
            assert "content-type" not in response.headers

    async def test_a_changed_file(
        self, http: httpx.AsyncClient, link: str, storage: GridFSStorageClient
    ) -> None:
        etag = (await http.get(link)).headers["etag"]
        await storage.upload_file("dir/sound.mp3", b"new", mime="audio/mpeg")
        response = await http.get(link, headers={"if-none-match": etag})
        assert (response.status_code, response.content) == (200, b"new")
        stale = {"range": "bytes=0-1", "if-range": etag}
        response = await http.get(link, headers=stale)
        assert (response.status_code, response.content) == (200, b"new")

    async def test_if_range_of_the_same_file(self, http: httpx.AsyncClient, link: str) -> None:
        etag = (await http.get(link)).headers["etag"]
        response = await http.get(link, headers={"range": "bytes=0-1", "if-range": etag})
        assert (response.status_code, response.content) == (206, CONTENT[:2])

    async def test_a_known_etag_goes_before_a_range(
        self, http: httpx.AsyncClient, link: str
    ) -> None:
        headers = {"range": "bytes=99999999-", "if-none-match": "*"}
        assert (await http.get(link, headers=headers)).status_code == 304


class TestPermission:
    def check(self, response: httpx.Response, status: int, text: str) -> None:
        assert response.status_code == status
        assert response.text == text
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in response.headers["content-security-policy"]
        assert response.headers["cache-control"] == "no-store"
        assert not {"etag", "content-disposition", "accept-ranges"} & set(response.headers)

    async def test_no_token(self, http: httpx.AsyncClient, link: str) -> None:
        path = urlsplit(link).path
        for url in (path, f"{path}?token=", f"{path}?token=x.y.z", f"{path}?token=%ff%00"):
            self.check(await http.get(url), 403, "Forbidden")
            self.check(await http.head(url), 403, "")

    async def test_a_forged_token(self, http: httpx.AsyncClient, link: str) -> None:
        self.check(await http.get(FileLinks("wrong").link("dir/sound.mp3")), 403, "Forbidden")
        self.check(await http.get(f"{link[:-8]}AAAAAAAA"), 403, "Forbidden")

    async def test_an_expired_link(
        self, http: httpx.AsyncClient, link: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 4000)
        expired = FileLinks(SECRET).link("dir/sound.mp3")
        monkeypatch.setattr(time, "time", real)
        self.check(await http.get(expired), 403, "Forbidden")

    async def test_the_link_of_another_file(
        self, http: httpx.AsyncClient, link: str, storage: GridFSStorageClient
    ) -> None:
        await storage.upload_file("other", b"other")
        query = urlsplit(link).query
        self.check(await http.get(f"/mongo/files/other?{query}"), 403, "Forbidden")

    async def test_a_file_that_is_gone(
        self, http: httpx.AsyncClient, link: str, storage: GridFSStorageClient
    ) -> None:
        await storage.delete_file("dir/sound.mp3")
        self.check(await http.get(link), 404, "Not Found")

    async def test_existence_is_not_told_without_a_link(self, http: httpx.AsyncClient) -> None:
        self.check(await http.get("/mongo/files/never-there?token=x"), 403, "Forbidden")


@pytest.mark.parametrize("object_key", ODD_KEYS)
async def test_odd_keys(
    http: httpx.AsyncClient, storage: GridFSStorageClient, object_key: str
) -> None:
    link = (await storage.upload_file(object_key, b"odd"))["url"]
    response = await http.get(link)
    assert (response.status_code, response.content) == (200, b"odd")


@pytest.mark.parametrize("name", ["Übung 漢字.pdf", 'a"; x=y.pdf', "a\r\nset-cookie: x=y", "🎉"])
async def test_odd_names(http: httpx.AsyncClient, storage: GridFSStorageClient, name: str) -> None:
    link = (await storage.upload_file("key", b"content", "application/pdf", name=name))["url"]
    response = await http.get(link)
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert response.headers["content-disposition"].startswith("inline; filename=")
    if name.startswith("Ü"):
        assert f"filename*=UTF-8''{quote(name)}" in response.headers["content-disposition"]


SVG = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.mark.parametrize(
    ("mime", "content", "served"),
    [
        ("text/html", "<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("application/xhtml+xml", "<html/>", "application/octet-stream"),
        ("image/svg+xml", SVG, "image/svg+xml"),
        ("text/xml", "<x/>", "text/plain; charset=utf-8"),
        ("application/javascript", "alert(1)", "application/octet-stream"),
    ],
)
async def test_what_a_browser_would_execute_is_saved_instead(
    http: httpx.AsyncClient, storage: GridFSStorageClient, mime: str, content: str, served: str
) -> None:
    link = (await storage.upload_file("key", content, mime, name="x"))["url"]
    response = await http.get(link)
    assert response.text == content
    assert response.headers["content-type"] == served
    assert response.headers["content-disposition"] == 'attachment; filename="x"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"].endswith("; sandbox")


async def test_an_attachment_stays_one(
    http: httpx.AsyncClient, storage: GridFSStorageClient
) -> None:
    link = (
        await storage.upload_file(
            "key", b"x", "image/png", content_disposition='attachment; filename="my photo.png"'
        )
    )["url"]
    disposition = (await http.get(link)).headers["content-disposition"]
    assert disposition == 'attachment; filename="my photo.png"'


async def test_a_file_replaced_between_the_two_reads_is_served_new(
    http: httpx.AsyncClient,
    link: str,
    storage: GridFSStorageClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = storage.bucket.find
    replaced = False

    async def find_then_replace(object_key: str) -> Any:
        nonlocal replaced
        stored = await find(object_key)
        if not replaced:
            replaced = True
            await storage.upload_file(object_key, b"new")
        return stored

    monkeypatch.setattr(storage.bucket, "find", find_then_replace)
    response = await http.get(link)
    assert (response.status_code, response.content) == (200, b"new")


async def test_a_damaged_file_is_no_success(
    storage: GridFSStorageClient, link: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await database["fs.chunks"].delete_many({"n": 0})
    transport = httpx.ASGITransport(
        Starlette(routes=[files_route(storage)]), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
        assert (await http.get(link)).status_code == 500


async def test_fifty_downloads_at_once(http: httpx.AsyncClient, link: str) -> None:
    responses = await asyncio.gather(*(http.get(link) for _ in range(50)))
    assert all(response.content == CONTENT for response in responses)
