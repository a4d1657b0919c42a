"""The page about ChatKit, followed as a reader would: its server runs, its classes work."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from chatkit.types import GeneratedImage, GeneratedImageItem
from fastapi import Request
from fastapi.responses import Response

from mongo_datalayer.chatkit import MongoChatKitStore
from mongo_datalayer.files import FileLinks
from mongo_datalayer.testing.chatkit_contract import at, thread
from tests.docs.pages import DOCS, code_blocks
from tests.docs.reader import environment, free_port, serving
from tests.programs import require_curl

PAGE = DOCS / "chatkit.md"
PYTHON = code_blocks(PAGE, "python")
SHELL = code_blocks(PAGE, "bash")
PNG = b"\x89PNG\r\n\x1a\nx"


def example(words: str) -> dict[str, Any]:
    """The names that the example with ``words`` defines."""
    (code,) = [code for code in PYTHON if words in code]
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own documentation
    return names


@pytest.fixture
def address(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[str]:
    """The page's server, started by its own command."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = dict(
        line.removeprefix("export ").split("=", 1)
        for line in SHELL[1].splitlines()
        if line.startswith("export ")
    )
    assert set(variables) == {
        *("MONGODB_URI", "MONGO_DATALAYER_FILES_URL", "MONGO_DATALAYER_FILES_SECRET")
    }
    variables |= {"MONGODB_URI": mongo_uri, "MONGODB_DATABASE": database_name}
    variables["MONGO_DATALAYER_FILES_URL"] = address
    (tmp_path / "server.py").write_text(PYTHON[0], encoding="utf-8")
    command = [*SHELL[1].splitlines()[-1].split(), "--port", str(port)]
    assert command[0] == "uvicorn"
    with serving(command, tmp_path, port, environment(**variables)):
        yield address


def test_the_server_of_the_page_answers_its_requests(address: str) -> None:
    require_curl()
    script = SHELL[2].replace("http://localhost:8000", address)

    done = subprocess.run(
        ["bash", "-ec", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert '"text":"Hello!"' in done.stdout
    _, _, threads = done.stdout.rpartition("\n\n")
    assert threads.count('"created_at"') == 1
    refused = {"name": "a", "size": 0, "mime_type": "text/plain"}
    request = {"type": "attachments.create", "params": refused}
    answer = httpx.post(f"{address}/chatkit", json=request, headers={"x-user": "ada"})
    assert answer.status_code == 400
    assert missing_thread(address, {"x-user": "ada"}) == 404


def missing_thread(address: str, headers: dict[str, str]) -> int:
    request = {"type": "threads.get_by_id", "params": {"thread_id": "thr_gone"}}
    return httpx.post(f"{address}/chatkit", json=request, headers=headers).status_code


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> AsyncIterator[MongoChatKitStore[Any]]:
    links = FileLinks("a long random text for tests", url="http://chat.test")
    store = MongoChatKitStore[Any](mongo_uri, database=database_name, links=links)
    await store.save_thread(thread("thr_1"), {"user_id": "ada"})
    yield store
    await store.close()


async def test_a_generated_image_goes_into_the_file_store(store: MongoChatKitStore[Any]) -> None:
    ada = {"user_id": "ada"}
    images = example("class Images")["Images"](store, SimpleNamespace(id="thr_1"), ada)
    encoded = base64.b64encode(PNG).decode()

    preview = await images.base64_image_to_url("ig_1", encoded, 0)
    url = await images.base64_image_to_url("ig_1", encoded)

    assert preview.startswith("data:image/png;base64,")
    assert url.startswith("http://chat.test/mongo/files/")
    image = GeneratedImage(id="ig_1", url=url)
    item = GeneratedImageItem(id="msg_1", thread_id="thr_1", created_at=at(1), image=image)
    await store.add_thread_item("thr_1", item, ada)
    assert await store._database["fs.files"].count_documents({}) == 1


@pytest.mark.parametrize(
    ("mime", "kind"), [("image/png", "input_image"), ("text/csv", "input_file")]
)
async def test_an_attachment_is_given_to_the_model(
    store: MongoChatKitStore[Any], mime: str, kind: str
) -> None:
    ada = {"user_id": "ada"}
    attachment = await store.add_attachment("thr_1", "a", mime, PNG, ada)

    content = await example("class Inputs")["Inputs"](store, ada).attachment_to_message_content(
        attachment
    )

    assert content["type"] == kind
    data = content.get("image_url") or content["file_data"]
    assert base64.b64decode(data.partition(",")[2]) == PNG


def test_a_browser_without_a_login_is_recognised_by_its_cookie() -> None:
    recipe = example("def visitor")
    first = recipe["visitor"](Request({"type": "http", "headers": []}))
    answer = recipe["remember"](Response(), first)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "Secure" in cookie

    sent = cookie.partition(";")[0].encode()
    again = recipe["visitor"](Request({"type": "http", "headers": [(b"cookie", sent)]}))

    assert again == first
    assert recipe["context_of"](again) == {"user_id": f"visitor-{first}"}


async def test_another_place_of_the_owner_is_named_by_a_function() -> None:
    store = example("user_id=lambda")["store"]
    user = SimpleNamespace(state=SimpleNamespace(user=SimpleNamespace(id="ada")))

    assert store._user_id({"request": user}) == "ada"
    await store.close()
