"""Files that the server makes, such as generated images."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from chatkit.types import GeneratedImage, GeneratedImageItem
from pymongo.errors import AutoReconnect
from starlette.applications import Starlette

from mongo_datalayer import NotFoundError
from mongo_datalayer.chatkit import MissingError, MongoChatKitStore, chatkit_routes
from mongo_datalayer.testing.chatkit_contract import at, thread
from tests.chatkit.conftest import ADDRESS

Store = MongoChatKitStore[Any]
BOB = {"user_id": "bob"}
PNG = base64.b64decode("iVBORw0KGgo=") + b"x" * 1000


@pytest.fixture
async def http(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=chatkit_routes(store))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as http:
        yield http


def image_item(url: str, thread_id: str = "thr_1") -> GeneratedImageItem:
    image = GeneratedImage(id="ig_1", url=url)
    return GeneratedImageItem(id="msg_1", thread_id=thread_id, created_at=at(1), image=image)


async def files(store: Store) -> int:
    return await store._database["fs.files"].count_documents({})


async def test_a_generated_image_is_stored_shown_and_deleted_with_its_thread(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    await store.save_thread(thread("thr_1"), ada)

    made: Any = await store.add_attachment("thr_1", "cat.png", "image/png", PNG, ada)

    shown = await http.get(str(made.preview_url))
    assert (shown.status_code, shown.content) == (200, PNG)
    assert shown.headers["content-type"] == "image/png"
    assert await store.read_attachment(made.id, ada) == PNG
    loaded = await store.load_attachment(made.id, ada)
    assert (loaded.name, loaded.upload_descriptor) == ("cat.png", None)
    with pytest.raises(NotFoundError):
        await store.read_attachment(made.id, BOB)

    await store.delete_thread("thr_1", ada)

    with pytest.raises(MissingError):
        await store.load_attachment(made.id, ada)
    assert await files(store) == 0


async def test_the_link_of_a_generated_image_is_signed_again_when_its_item_is_read(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    await store.save_thread(thread("thr_1"), ada)
    made: Any = await store.add_attachment("thr_1", "cat.png", "image/png", PNG, ada)
    expired = re.sub("token=.*", "token=expired", str(made.preview_url))
    await store.add_thread_item("thr_1", image_item(expired), ada)
    assert (await http.get(expired)).status_code == 403

    (item,) = (await store.load_thread_items("thr_1", None, 5, "asc", ada)).data
    loaded = await store.load_item("thr_1", "msg_1", ada)

    for read in (item, loaded):
        assert isinstance(read, GeneratedImageItem)
        assert read.image is not None
        assert (await http.get(read.image.url)).content == PNG


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.test/cat.png?token=1",
        "data:image/png;base64,iVBORw0KGgo=",
        f"{ADDRESS}/mongo/files/chatkit/bob/atc_1?token=1",
    ],
)
async def test_other_addresses_of_generated_images_stay(store: Store, ada: Any, url: str) -> None:
    await store.save_thread(thread("thr_1"), ada)
    await store.add_thread_item("thr_1", image_item(url), ada)

    loaded = await store.load_item("thr_1", "msg_1", ada)

    assert isinstance(loaded, GeneratedImageItem)
    assert loaded.image is not None
    assert loaded.image.url == url


async def test_a_file_that_is_no_image_has_no_preview(store: Store, ada: Any) -> None:
    await store.save_thread(thread("thr_1"), ada)

    made = await store.add_attachment("thr_1", "report.csv", "text/csv", b"a,b\n", ada)

    assert made.type == "file"
    assert await store.read_attachment(made.id, ada) == b"a,b\n"


async def test_a_repeated_write_stores_one_file(store: Store, ada: Any) -> None:
    await store.save_thread(thread("thr_1"), ada)
    announce = store.attachments.announce
    failures = iter([AutoReconnect("lost")])

    async def lossy(*arguments: Any) -> None:
        await announce(*arguments)
        for failure in failures:
            raise failure

    with patch.object(store.attachments, "announce", lossy):
        made = await store.add_attachment("thr_1", "cat.png", "image/png", PNG, ada)

    assert await store.read_attachment(made.id, ada) == PNG
    assert await files(store) == 1
