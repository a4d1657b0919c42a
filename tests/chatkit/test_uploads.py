"""Attachments: announced, sent once as announced, shown, and deleted with their files."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from chatkit.types import Attachment, AttachmentCreateParams, InferenceOptions, UserMessageItem
from pydantic import AnyUrl
from starlette.applications import Starlette

from mongo_datalayer import ConfigurationError, NotFoundError
from mongo_datalayer.chatkit import MongoChatKitStore, chatkit_routes, mount_chatkit
from mongo_datalayer.files import FileLinks
from mongo_datalayer.testing.chatkit_contract import at, thread
from tests.chatkit.conftest import ADDRESS

Store = MongoChatKitStore[Any]
BOB = {"user_id": "bob"}
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 1000


@pytest.fixture
async def http(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=chatkit_routes(store))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as http:
        yield http


async def announce(
    store: Store, context: Any, size: int = len(PNG), mime: str = "image/png", name: str = "a.png"
) -> Any:
    params = AttachmentCreateParams(name=name, size=size, mime_type=mime)
    made: Attachment = await store.create_attachment(params, context)
    await store.save_attachment(made, context)  # as the server does
    return made


async def send(http: httpx.AsyncClient, attachment: Any, content: Any, **headers: str) -> int:
    where = attachment.upload_descriptor
    sent = {**where.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    response = await http.request(where.method, str(where.url), content=content, headers=sent)
    return response.status_code


async def files(store: Store) -> int:
    return await store._database["fs.files"].count_documents({})


async def chunks(store: Store) -> int:
    return await store._database["fs.chunks"].count_documents({})


async def test_an_image_is_sent_and_shown(store: Store, http: httpx.AsyncClient, ada: Any) -> None:
    made = await announce(store, ada)
    assert (await http.get(str(made.preview_url))).status_code == 404

    assert await send(http, made, PNG) == 204

    shown = await http.get(str(made.preview_url))
    assert (shown.status_code, shown.content) == (200, PNG)
    assert shown.headers["content-type"] == "image/png"
    loaded: Any = await store.load_attachment(made.id, ada)
    assert loaded.upload_descriptor is None
    assert await store.read_attachment(made.id, ada) == PNG
    with pytest.raises(NotFoundError):
        await store.read_attachment(made.id, BOB)


async def test_a_file_is_taken_once(store: Store, http: httpx.AsyncClient, ada: Any) -> None:
    made = await announce(store, ada)
    assert await send(http, made, PNG) == 204
    assert await send(http, made, PNG[::-1]) == 409
    assert await store.read_attachment(made.id, ada) == PNG
    assert await files(store) == 1


async def test_of_uploads_at_once_one_is_kept(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    made = await announce(store, ada)
    bodies = [bytes([number]) * len(PNG) for number in range(6)]
    answers = await asyncio.gather(*(send(http, made, body) for body in bodies))
    assert sorted(answers) == [204, *[409] * 5]
    assert await store.read_attachment(made.id, ada) == bodies[answers.index(204)]
    assert (await files(store), await chunks(store)) == (1, 1)


@pytest.mark.parametrize("streamed", [False, True], ids=["with a length", "without"])
@pytest.mark.parametrize(("size", "status"), [(-1, 400), (1, 413), (5_000_000, 413)])
async def test_another_size_is_refused(
    store: Store, http: httpx.AsyncClient, ada: Any, size: int, status: int, streamed: bool
) -> None:
    made = await announce(store, ada)
    body = b"x" * (len(PNG) + size)

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 65536):
            yield body[begin : begin + 65536]

    assert await send(http, made, pieces() if streamed else body) == status
    assert (await files(store), await chunks(store)) == (0, 0)
    assert await send(http, made, PNG) == 204  # the right one may still come


@pytest.mark.parametrize("kind", ["text/html", "image/jpeg", ""])
async def test_another_type_is_refused(
    store: Store, http: httpx.AsyncClient, ada: Any, kind: str
) -> None:
    made = await announce(store, ada)
    assert await send(http, made, PNG, Content_Type=kind) == 415
    assert await files(store) == 0


async def test_a_link_is_for_one_attachment_and_for_uploads_only(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    made = await announce(store, ada)
    url = str(made.upload_descriptor.url)
    reading = parse_qs(urlsplit(str(made.preview_url)).query)["token"][0]
    sending = parse_qs(urlsplit(url).query)["token"][0]
    bare = url.partition("?")[0]
    for wrong in (bare, f"{bare}?token={reading}", f"{url}x", f"{bare}?token="):
        answer = await http.put(wrong, content=PNG, headers={"content-type": "image/png"})
        assert answer.status_code == 403
    assert await send(http, made, PNG) == 204
    shown = str(made.preview_url).partition("?")[0]
    assert (await http.get(f"{shown}?token={sending}")).status_code == 403
    assert (await http.get(shown)).status_code == 403


async def test_an_expired_link_is_refused(
    store: Store, http: httpx.AsyncClient, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await announce(store, ada)
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    old = store.files.upload_descriptor({"owner": "ada", "id": made.id}, "image/png")
    monkeypatch.undo()
    stale = made.model_copy(update={"upload_descriptor": old})
    assert await send(http, stale, PNG) == 403
    assert await send(http, made, PNG) == 204


async def test_an_unfinished_upload_leaves_nothing(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    made = await announce(store, ada, size=3_000_000)

    class GoneError(Exception):
        pass

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000
        raise GoneError

    with pytest.raises(GoneError):
        await send(http, made, pieces())
    assert (await files(store), await chunks(store)) == (0, 0)


async def test_a_large_upload_takes_little_memory(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    size = 40_000_000
    made = await announce(store, ada, size=size, mime="application/zip")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // 100_000):
            yield b"x" * 100_000

    tracemalloc.start()
    try:
        assert await send(http, made, pieces()) == 204
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


async def test_a_deleted_attachment_takes_no_file_and_leaves_none(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    early, late, during = [await announce(store, ada) for _ in range(3)]
    await store.delete_attachment(early.id, ada)
    assert await send(http, early, PNG) == 404

    assert await send(http, late, PNG) == 204
    await store.delete_attachment(late.id, BOB)
    assert await store.read_attachment(late.id, ada) == PNG
    for _ in range(2):
        await store.delete_attachment(late.id, ada)
    assert (await http.get(str(late.preview_url))).status_code == 404

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG[:10]
        await store.delete_attachment(during.id, ada)
        yield PNG[10:]

    assert await send(http, during, pieces()) == 404
    assert (await files(store), await chunks(store)) == (0, 0)


async def test_a_deleted_thread_takes_its_files_along(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    await store.save_thread(thread(), ada)
    made = await announce(store, ada)
    assert await send(http, made, PNG) == 204
    await store.save_attachment(made.model_copy(update={"thread_id": "t"}), ada)
    await store.delete_thread("t", ada)
    assert (await files(store), await chunks(store)) == (0, 0)


async def test_previews_in_messages_are_signed_anew(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    made = await announce(store, ada)
    assert await send(http, made, PNG) == 204
    old = str(made.preview_url).partition("?")[0] + "?token=expired"
    foreign = made.model_copy(update={"preview_url": AnyUrl("https://cdn.example/a.png?token=1")})
    stale = made.model_copy(update={"preview_url": AnyUrl(old)})
    said = UserMessageItem(
        id="m",
        thread_id="t",
        created_at=at(),
        content=[],
        attachments=[stale, foreign],
        inference_options=InferenceOptions(),
    )
    await store.save_thread(thread(), ada)
    await store.add_thread_item("t", said, ada)

    one: Any = await store.load_item("t", "m", ada)
    page: Any = await store.load_thread_items("t", None, 9, "asc", ada)
    for item in (one, *page.data):
        fresh, other = item.attachments
        assert (await http.get(str(fresh.preview_url))).content == PNG
        assert other == foreign
    await store.save_attachment(stale, ada)
    loaded: Any = await store.load_attachment(made.id, ada)
    assert (await http.get(str(loaded.preview_url))).status_code == 200


async def test_two_owners_files_of_one_id_are_two(
    mongo_uri: str, database_name: str, store: Store, http: httpx.AsyncClient
) -> None:
    class Same(MongoChatKitStore[Any]):
        def generate_attachment_id(self, mime_type: str, context: Any) -> str:
            return "b/c"

    same = Same(client=store._client, database=database_name, links=store.files.links)
    owners = [{"user_id": "a"}, {"user_id": "a/b"}, {"user_id": "a%2Fb"}, {"user_id": ".."}]
    made = [await announce(same, owner) for owner in owners]
    for number, attachment in enumerate(made):
        assert await send(http, attachment, bytes([number]) * len(PNG)) == 204
    for number, owner in enumerate(owners):
        assert await same.read_attachment("b/c", owner) == bytes([number]) * len(PNG)
    params = AttachmentCreateParams(name="x", size=1, mime_type="text/plain")
    with pytest.raises(Exception, match="Another attachment 'b/c'"):
        await same.create_attachment(params, owners[0])


@pytest.mark.parametrize("size", [-1, 0, 100 * 1024 * 1024 + 1])
async def test_a_size_that_cannot_be_is_not_announced(store: Store, ada: Any, size: int) -> None:
    with pytest.raises(ValueError, match="104857600"):
        await announce(store, ada, size=size)


async def test_without_the_apps_address_the_error_says_what_to_set(
    mongo_uri: str, database_name: str, ada: Any
) -> None:
    for links, name in (
        (FileLinks("secret"), "MONGO_DATALAYER_FILES_URL"),
        (FileLinks(url=ADDRESS), "MONGO_DATALAYER_FILES_SECRET"),
    ):
        store = MongoChatKitStore[Any](mongo_uri, database=database_name, links=links)
        with pytest.raises(ConfigurationError, match=name):
            await announce(store, ada)
        await store.close()


async def test_mounting_again_replaces_the_routes(store: Store) -> None:
    app = Starlette()
    for _ in range(2):
        mount_chatkit(store, app)
    assert len(app.router.routes) == 2
    mount_chatkit(store, app, prefix="/deep/")
    paths = [getattr(route, "path", "") for route in app.router.routes]
    assert paths[0] == "/deep/mongo/uploads"
