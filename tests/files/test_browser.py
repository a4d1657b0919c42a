"""What Chromium makes of stored files: media is shown, and nothing that was uploaded runs."""

from __future__ import annotations

import io
import math
import struct
import uuid
import wave
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright
from pymongo import AsyncMongoClient

from mongo_datalayer.files import FileLinks, GridFSStorageClient
from tests.files.conftest import SECRET, file_server
from tests.programs import require_chromium

# One browser and one server for all: starting them takes longer than all the tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")

DATABASE = f"test_{uuid.uuid4().hex}"

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20" onload="top.ran = 1">'
    '<rect width="30" height="20" style="fill: red"/><script>top.ran = 1</script></svg>'
)
HTML = "<script>top.ran = 1; document.title = 'ran'</script>"
PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj
trailer<</Root 1 0 R>>
"""


def png() -> bytes:
    """Two by two red pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\0" + b"\xff\0\0" * 2) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", header)
        + part(b"IDAT", zlib.compress(rows))
        + part(b"IEND", b"")
    )


def wav(seconds: int) -> bytes:
    """A tone."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 44_100, 0, "NONE", "not compressed"))
        file.writeframes(
            b"".join(
                struct.pack("<h", int(9000 * math.sin(n / 16))) for n in range(44_100 * seconds)
            )
        )
    return buffer.getvalue()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    chromium = require_chromium()
    async with async_playwright() as playwright:
        # The PDF viewer exists only in the new headless mode.
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=["--headless=new", "--no-sandbox"],
            ignore_default_args=["--headless"],
        )
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def address(mongo_uri: str) -> Iterator[str]:
    with file_server(mongo_uri, DATABASE) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def storage(mongo_uri: str, address: str) -> AsyncIterator[GridFSStorageClient]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        yield GridFSStorageClient(client[DATABASE], links=FileLinks(SECRET, url=address))
        await client.drop_database(DATABASE)


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, address: str) -> AsyncIterator[Page]:
    """A page of the same site as the files."""
    page = await browser.new_page()
    await page.goto(f"{address}/memory")
    yield page
    await page.close()


async def show(page: Page, html: str) -> None:
    await page.evaluate("html => { document.body.innerHTML = html }", html)


async def upload(storage: GridFSStorageClient, content: bytes | str, mime: str) -> str:
    return str((await storage.upload_file(f"file of {mime}", content, mime))["url"])


@pytest.mark.parametrize(
    ("content", "mime", "width"),
    [(png(), "image/png", 2), (SVG, "image/svg+xml", 30)],
    ids=["png", "svg"],
)
async def test_images_are_shown_and_scripts_in_them_do_not_run(
    page: Page, storage: GridFSStorageClient, content: bytes | str, mime: str, width: int
) -> None:
    link = await upload(storage, content, mime)
    await show(page, f'<img src="{link}">')
    await page.wait_for_function(
        "width => document.querySelector('img').naturalWidth === width", arg=width
    )
    assert await page.evaluate("window.ran") is None


async def test_audio_plays_from_the_middle(page: Page, storage: GridFSStorageClient) -> None:
    link = await upload(storage, wav(60), "audio/wav")
    await show(page, f'<audio src="{link}" preload="metadata"></audio>')
    await page.wait_for_function("document.querySelector('audio').duration === 60")
    await page.evaluate("document.querySelector('audio').currentTime = 45")
    await page.wait_for_function(
        "(a => !a.seeking && a.currentTime === 45 && a.readyState >= 2)"
        "(document.querySelector('audio'))"
    )


async def test_a_pdf_opens_in_a_frame(page: Page, storage: GridFSStorageClient) -> None:
    link = await upload(storage, PDF, "application/pdf")
    await show(page, f'<iframe src="{link}" width="600" height="400"></iframe>')
    async with page.expect_event("framenavigated", lambda f: f.url.startswith("chrome-extension")):
        pass


async def test_text_and_json_can_be_fetched(page: Page, storage: GridFSStorageClient) -> None:
    fetch = "link => fetch(link).then(answer => answer.text())"
    assert await page.evaluate(fetch, await upload(storage, "Grüße", "text/plain")) == "Grüße"
    assert await page.evaluate(fetch, await upload(storage, "[1]", "application/json")) == "[1]"


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (HTML, "text/html"),
        (SVG, "image/svg+xml"),
        (f"<html xmlns='http://www.w3.org/1999/xhtml'>{HTML}</html>", "application/xhtml+xml"),
    ],
    ids=["html", "svg", "xhtml"],
)
async def test_documents_with_scripts_are_saved(
    page: Page, storage: GridFSStorageClient, content: str, mime: str
) -> None:
    link = await upload(storage, content, mime)
    async with page.expect_download() as framed:
        await show(page, f'<iframe src="{link}"></iframe>')
    await framed.value
    async with page.expect_download() as opened:
        await page.evaluate("link => { location.href = link }", link)
    await opened.value
    assert await page.evaluate("window.ran") is None


@pytest.mark.parametrize("mime", ["text/javascript", "application/javascript", "text/plain"])
async def test_a_stored_script_cannot_be_included(
    page: Page, storage: GridFSStorageClient, mime: str
) -> None:
    link = await upload(storage, "window.ran = 1", mime)
    outcome = await page.evaluate(
        """link => new Promise(done => {
            const script = document.createElement('script');
            script.onload = () => done('ran');
            script.onerror = () => done('refused');
            script.src = link;
            document.body.append(script);
        })""",
        link,
    )
    assert outcome == "refused"
    assert await page.evaluate("window.ran") is None
