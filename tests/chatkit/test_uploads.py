"""Attachments: announced, sent once as announced, shown, and deleted with their files."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    AttachmentUploadDescriptor,
    ImageAttachment,
    InferenceOptions,
    UserMessageItem,
)
from pydantic import AnyUrl
from pymongo.errors import OperationFailure
from starlette.applications import Starlette

from mongo_datalayer import ConfigurationError, NotFoundError
from mongo_datalayer.admin.garbage import Garbage
from mongo_datalayer.chatkit import (
    MongoChatKitStore,
    UploadRefusedError,
    chatkit_routes,
    mount_chatkit,
)
from mongo_datalayer.demo.chatkit_app import create_app
from mongo_datalayer.files import FileLinks
from mongo_datalayer.testing.chatkit_contract import at, message, thread
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


@pytest.mark.parametrize("answer", ["lost", "an error"])
async def test_an_upload_whose_last_command_fails_can_be_repeated(
    store: Store, http: httpx.AsyncClient, ada: Any, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await announce(store, ada)
    collection = store.attachments._attachments
    update_one = collection.update_one

    async def fail(*arguments: Any, **options: Any) -> Any:
        if answer == "lost":
            await update_one(*arguments, **options)
        raise OperationFailure("out of order", 8000)

    monkeypatch.setattr(collection, "update_one", fail)
    with pytest.raises(OperationFailure):
        await send(http, made, PNG)
    monkeypatch.undo()
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    collected = Garbage(store._database, "fs", tomorrow).collect(delete=True)
    assert [orphan async for orphan in collected] == []

    assert await send(http, made, PNG[::-1]) == 409
    for _ in range(2):
        assert await send(http, made, PNG) == 204
    loaded: Any = await store.load_attachment(made.id, ada)
    assert loaded.upload_descriptor is None
    assert await store.read_attachment(made.id, ada) == PNG
    assert (await files(store), await chunks(store)) == (1, 1)


@pytest.mark.parametrize("command", ["insert", "findAndModify", "update"])
async def test_an_upload_survives_a_lost_connection(
    store: Store, http: httpx.AsyncClient, ada: Any, client: Any, command: str
) -> None:
    made = await announce(store, ada)
    fault = {"failCommands": [command], "closeConnection": True}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=fault)
    assert await send(http, made, PNG) == 204
    assert await store.read_attachment(made.id, ada) == PNG


async def test_gc_leaves_an_upload_that_came_while_it_looked(
    store: Store, http: httpx.AsyncClient, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await announce(store, ada)
    garbage = Garbage(store._database, "fs", datetime.now(timezone.utc) + timedelta(days=1))
    orphans = [orphan async for orphan in garbage.attachments()]
    assert [orphan.id for orphan in orphans] == [made.id]

    async def fail(*_: Any, **__: Any) -> Any:
        raise OperationFailure("out of order", 8000)

    monkeypatch.setattr(store.attachments._attachments, "update_one", fail)
    with pytest.raises(OperationFailure):
        await send(http, made, PNG)
    monkeypatch.undo()
    assert await garbage.delete_attachments(orphans) == []
    assert await send(http, made, PNG) == 204
    assert await store.read_attachment(made.id, ada) == PNG


async def test_gc_of_another_bucket_leaves_an_upload_of_this_one(
    store: Store, http: httpx.AsyncClient, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await announce(store, ada)

    async def fail(*_: Any, **__: Any) -> Any:
        raise OperationFailure("out of order", 8000)

    monkeypatch.setattr(store.attachments._attachments, "update_one", fail)
    with pytest.raises(OperationFailure):
        await send(http, made, PNG)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    collected = Garbage(store._database, "other", tomorrow).collect(delete=True)
    assert [orphan async for orphan in collected] == []
    assert await store.read_attachment(made.id, ada) == PNG


async def test_a_sender_below_the_slowest_rate_is_cut_off(
    store: Store, http: httpx.AsyncClient, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.chatkit.attachments.UPLOAD_GRACE_SECONDS", 0.3)
    made = await announce(store, ada, size=100_000)

    async def pieces(size: int, pause: float) -> AsyncIterator[bytes]:
        for _ in range(0, 100_000, size):
            yield b"x" * size
            await asyncio.sleep(pause)

    began = time.monotonic()
    assert await send(http, made, pieces(100, 0.02)) == 408  # 5,000 bytes a second
    assert await send(http, made, pieces(10_000, 60)) == 408
    assert time.monotonic() - began < 10
    assert (await files(store), await chunks(store)) == (0, 0)
    assert await send(http, made, pieces(2_000, 0.02)) == 204


async def test_the_databases_time_is_not_the_senders(
    store: Store, http: httpx.AsyncClient, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.chatkit.attachments.UPLOAD_GRACE_SECONDS", 0.3)
    made = await announce(store, ada, size=2_500_000)
    bucket = store.files.bucket
    insert = bucket._insert

    async def slow(chunks: Any) -> None:
        await asyncio.sleep(0.5)
        await insert(chunks)

    monkeypatch.setattr(bucket, "_insert", slow)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(25):
            yield b"x" * 100_000

    assert await send(http, made, pieces()) == 204


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
    elsewhere = {"preview_url": AnyUrl("https://cdn.example/a.png?token=1")}
    foreign = made.model_copy(update={**elsewhere, "upload_descriptor": None})
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


def with_attachments(name: str, thread_id: str, *attachments: Any) -> UserMessageItem:
    return message(name, thread_id=thread_id, attachments=list(attachments))


async def test_an_attachment_lives_as_long_as_a_thread_has_it(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    made = await announce(store, ada)
    assert await send(http, made, PNG) == 204
    for name in ("one", "two", "three"):
        await store.save_thread(thread(name), ada)
        await store.save_attachment(made.model_copy(update={"thread_id": name}), ada)
    await store.save_attachment(made, ada)  # without a thread: as a late retry of its creation

    await store.delete_thread("three", ada)
    await store.delete_thread("one", ada)
    assert await store.read_attachment(made.id, ada) == PNG

    await store.delete_thread("two", ada)
    assert (await files(store), await chunks(store)) == (0, 0)
    with pytest.raises(NotFoundError):
        await store.load_attachment(made.id, ada)


async def test_where_chatkit_does_not_say_the_thread_a_message_does(
    store: Store, http: httpx.AsyncClient, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mongo_datalayer.chatkit.store.CHATKIT_LINKS_ATTACHMENTS", False)
    made = await announce(store, ada)
    assert await send(http, made, PNG) == 204
    for name in ("one", "two"):
        await store.save_thread(thread(name), ada)
        await store.add_thread_item(name, with_attachments("m", name, made), ada)

    await store.delete_thread("one", ada)
    assert await store.read_attachment(made.id, ada) == PNG

    await store.delete_thread("two", ada)
    with pytest.raises(NotFoundError):
        await store.load_attachment(made.id, ada)


async def test_of_threads_deleted_at_once_the_last_takes_the_attachment_along(
    stores: list[Store], http: httpx.AsyncClient, ada: Any
) -> None:
    store = stores[0]
    for _ in range(5):
        made = await announce(store, ada)
        assert await send(http, made, PNG) == 204
        names = ("one", "two", "three")
        for name in names:
            await store.save_attachment(made.model_copy(update={"thread_id": name}), ada)
            await store.save_thread(thread(name), ada)
        await asyncio.gather(
            *(each.delete_thread(name, ada) for each, name in zip(stores, names, strict=True))
        )
        assert (await files(store), await chunks(store)) == (0, 0)
        await store._database["chatkit_threads"].delete_many({})


async def test_a_message_that_was_sent_before_the_upload_has_nothing_to_upload(
    store: Store, http: httpx.AsyncClient, ada: Any
) -> None:
    made = await announce(store, ada)
    other = AttachmentUploadDescriptor(url=AnyUrl("https://cdn.example/a"), method="PUT")
    foreign = made.model_copy(update={"upload_descriptor": other})
    await store.save_thread(thread(), ada)
    await store.add_thread_item("t", with_attachments("m", "t", made, foreign), ada)
    assert (await store.load_attachment(made.id, ada)).upload_descriptor is not None
    assert await send(http, made, PNG) == 204

    one: Any = await store.load_item("t", "m", ada)
    assert [sent.upload_descriptor for sent in one.attachments] == [None, other]


@pytest.mark.parametrize("size", [10, 17_500_000], ids=["small", "larger than a document"])
async def test_a_preview_may_have_any_size(store: Store, ada: Any, size: int) -> None:
    """OpenAI's customer-support sample writes previews as ``data:`` URLs into the attachment."""
    url = AnyUrl("data:image/png;base64," + "A" * size)
    made = ImageAttachment(id="a", name="p", mime_type="image/png", preview_url=url)
    await store.save_attachment(made, ada)
    assert await store.load_attachment("a", ada) == made
    await store.save_attachment(made, BOB)
    big = made.model_copy(update={"metadata": {"number": 2**70}, "thread_id": "t"})
    await store.save_attachment(big, ada)
    assert await store.load_attachment("a", ada) == big

    await store.save_thread(thread(), ada)
    await store.add_thread_item("t", with_attachments("m", "t", big), ada)
    item: Any = await store.load_item("t", "m", ada)
    assert item.attachments[0].preview_url == url
    await store.delete_thread("t", ada)
    await store.delete_attachment("a", BOB)
    assert (await files(store), await chunks(store)) == (0, 0)


async def test_two_owners_files_of_one_id_are_two(
    mongo_uri: str, database_name: str, store: Store, http: httpx.AsyncClient
) -> None:
    class Same(MongoChatKitStore[Any]):
        def generate_attachment_id(self, mime_type: str, context: Any) -> str:
            return "b/c"

    same = Same(client=store._connection._client, database=database_name, links=store.files.links)
    owners = [{"user_id": "a"}, {"user_id": "a/b"}, {"user_id": "a%2Fb"}, {"user_id": ".."}]
    made = [await announce(same, owner) for owner in owners]
    for number, attachment in enumerate(made):
        assert await send(http, attachment, bytes([number]) * len(PNG)) == 204
    for number, owner in enumerate(owners):
        assert await same.read_attachment("b/c", owner) == bytes([number]) * len(PNG)
    params = AttachmentCreateParams(name="x", size=1, mime_type="text/plain")
    with pytest.raises(Exception, match="Another attachment 'b/c'"):
        await same.create_attachment(params, owners[0])


async def test_attachments_keep_the_order_of_their_message_whatever_the_uploads_take(
    store: Store, ada: Any, http: httpx.AsyncClient
) -> None:
    announced = [await announce(store, ada) for _ in range(4)]
    await store.save_thread(thread(), ada)
    await store.add_thread_item("t", message("m", attachments=announced), ada)
    for attachment in reversed(announced):
        assert await send(http, attachment, PNG) == 204
    item: Any = await store.load_item("t", "m", ada)
    assert [found.id for found in item.attachments] == [made.id for made in announced]


@pytest.mark.parametrize(("size", "status"), [(-1, 400), (0, 400), (100 * 1024 * 1024 + 1, 413)])
async def test_a_size_that_cannot_be_is_not_announced(
    store: Store, ada: Any, size: int, status: int
) -> None:
    with pytest.raises(UploadRefusedError, match="104857600") as refused:
        await announce(store, ada, size=size)
    assert refused.value.status == status


async def test_the_example_answers_a_refusal_with_its_status(store: Store) -> None:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as http:
        for size, status in ((0, 400), (10**9, 413), (1, 200)):
            params = {"name": "a", "size": size, "mime_type": "text/plain"}
            asked = {"type": "attachments.create", "params": params}
            answer = await http.post("/chatkit", json=asked)
            assert answer.status_code == status


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
