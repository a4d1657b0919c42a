"""The Python that a reader copies into an app: it does what its page says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from chainlit.config import config
from chainlit.element import Text
from chainlit.types import Feedback
from chainlit.user_session import user_session
from moto.server import ThreadedMotoServer

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.testing.contract import step
from tests.chainlit.chats import in_chat
from tests.docs.pages import DOCS, code_blocks
from tests.docs.reader import environment, free_port, serving


@pytest.fixture(autouse=True)
def _app(mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app's environment; takes back what an example registers with Chainlit."""
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)
    monkeypatch.setattr(config, "code", config.code.model_copy())


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)  # noqa: S102 - our own documentation
    return names


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Boto3's client for a server in the place of Amazon's, which boto3 finds by itself."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield boto3.client("s3")
    server.stop()


async def test_files_of_the_example_with_s3_are_in_s3(s3: Any) -> None:
    s3.create_bucket(Bucket="my-bucket")
    (code,) = (c for c in code_blocks(DOCS / "getting-started.md", "python") if "S3" in c)
    layer: MongoDataLayer = run(code)["data_layer"]()

    await layer.create_element(Text(name="note", content="kept in S3", thread_id="t"))
    thread = await layer.get_thread("t")
    await layer.close()

    assert thread is not None
    (element,) = thread["elements"] or []
    (stored,) = s3.list_objects_v2(Bucket="my-bucket")["Contents"]
    assert element["objectKey"] == stored["Key"]
    async with httpx.AsyncClient() as browser:
        assert (await browser.get(str(element["url"]))).text == "kept in S3"


async def test_an_app_reads_redacts_and_hears(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("\n".join(code_blocks(DOCS / "in-your-app.md", "python")[:-1]))
    layer: MongoDataLayer = names["data_layer"]()
    question = step("t", 1, type="user_message", output="My card is 4111 1111 1111 1111.")
    await layer.create_step(question)
    vote = Feedback(forId=question["id"], threadId="t", value=0, comment="Slow")

    await layer.upsert_feedback(vote)
    with in_chat("t"):
        await names["resume"]({"id": "t"})
        messages = user_session.get("messages")  # type: ignore[no-untyped-call]
    await layer.close()

    assert messages == [{"role": "user", "content": "My card is [card]."}]
    assert capsys.readouterr().out == f"t ('{question['id']}',) Slow\n"


async def test_the_class_of_praisonai_is_a_data_layer(mongo_uri: str) -> None:
    code = code_blocks(DOCS / "praisonai.md", "python")[1]
    layer = run(code.replace("mongodb://localhost:27017", mongo_uri))["layer"]

    assert await layer.get_user("nobody") is None
    await layer.close()


def test_a_chat_that_is_part_of_an_app_begins_with_it(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(code_blocks(DOCS / "in-your-app.md", "python")[-1])
    (tmp_path / "chat.py").write_text(code_blocks(DOCS / "getting-started.md", "python")[0])
    env = environment(MONGODB_URI=mongo_uri, MONGODB_DATABASE=database_name)
    env |= {"CHAINLIT_APP_ROOT": str(tmp_path), "CHAINLIT_AUTH_SECRET": "a secret of the tests"}
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    command = ["uvicorn", "main:app", "--port", str(port)]
    with serving(command, tmp_path, port, env) as log:
        at_start, ready, _ = log.read_text().partition("Application startup complete.")
        login = {"username": "alice", "password": "alice"}
        logged_in = httpx.post(f"{address}/chat/login", data=login, timeout=30)
        probes = [httpx.get(f"{address}{path}").status_code for path in ("/healthz", "/readyz")]

    assert ready
    assert "Indexes missing: " in at_start
    assert ". Run `mongo-datalayer setup apply" in at_start
    assert logged_in.status_code == 200
    assert probes == [200, 503]  # as indexes are missing
    assert "Traceback" not in log.read_text()
    assert "Application shutdown complete." in log.read_text()
