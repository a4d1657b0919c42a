"""PraisonAI's own chat, with the app file of the docs, in a browser.

Left out is what needs a model: LiteLLM is a stub that streams a few words, and PraisonAI's agents
and their tools are not installed.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from pymongo import MongoClient
from pymongo.database import Database

from mongo_datalayer.demo.app_process import AppProcess
from tests.docs.pages import DOCS, code_blocks
from tests.end_to_end.browser.chat import Chat
from tests.end_to_end.browser.conftest import assert_no_failures
from tests.end_to_end.browser.test_migrated import PIXEL
from tests.praisonai.wheel import unpack_wheel

STUBS = Path(__file__).parents[2] / "praisonai" / "stubs"
ANSWER = "This is an answer. Seen: {}."


@pytest.fixture
def chat(browser: Browser, mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[Chat]:
    """PraisonAI's chat with its one user logged in."""
    wheel = unpack_wheel(tmp_path)
    app = tmp_path / "app.py"
    app.write_text(code_blocks(DOCS / "praisonai.md", "python")[0])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = AppProcess(
        host="127.0.0.1",
        port=port,
        app_root=tmp_path,
        log=tmp_path / "app.log",
        program=("chainlit", "run", str(app), "--headless"),
        environment={
            "MONGODB_URI": mongo_uri,
            "MONGODB_DATABASE": database_name,
            "CHAINLIT_AUTH_SECRET": "x" * 32,
            "PYTHONPATH": os.pathsep.join(
                [str(wheel), str(STUBS), os.environ.get("PYTHONPATH", "")]
            ),
        },
    )
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    try:
        process.start()
        chat = Chat(context.new_page(), f"http://127.0.0.1:{port}")
        chat.log_in("admin")
        yield chat
    finally:
        context.close()
        process.stop()
    assert_no_failures((tmp_path / "app.log").read_text())


def test_praisonais_chat_keeps_its_conversations_here(
    chat: Chat, server_client: MongoClient[dict[str, Any]], database_name: str
) -> None:
    expect(chat.answers.first).to_contain_text("PraisonAI Chat Ready")
    choose_model(chat, "a-model-of-ours")
    # Not chat.ask(): a chat that begins with a message has no welcome screen.
    chat.composer.fill("What is a data layer?")
    chat.submit.click()
    expect(chat.answers.last).to_contain_text(ANSWER.format(1))
    chat.attach("And this?", "dot.png", "image/png", base64.b64decode(PIXEL))
    expect(chat.answers.last).to_contain_text(ANSWER.format(3))
    thread_id = chat.thread_id

    chat.page.goto(chat.address)  # the session ends
    expect(chat.sidebar_entry(thread_id)).to_contain_text("What is a data layer?")
    chat.open(thread_id)
    expect(chat.page.locator("img[alt='dot.png']")).to_have_js_property("naturalWidth", 1)
    chat.ask("Go on.")
    expect(chat.answers.last).to_contain_text("This is an answer.")

    assert_stored(server_client[database_name], thread_id)


def choose_model(chat: Chat, name: str) -> None:
    """Change a setting on the page; PraisonAI's chat saves all of them."""
    chat.page.locator("#chat-settings-open-modal").click()
    chat.page.fill("#model_name", name)
    chat.page.get_by_role("button", name="Confirm").click()


def assert_stored(database: Database[dict[str, Any]], thread_id: str) -> None:
    thread = database.threads.find_one({"_id": thread_id})
    assert thread is not None
    assert thread["userIdentifier"] == "admin"
    kinds = [step["type"] for step in thread["steps"] if step["type"] != "run"]
    assert kinds.count("user_message") == 3
    assert [element["name"] for element in thread["elements"]] == ["dot.png"]
    settings = {each["_id"]: each["value"] for each in database.praisonai_settings.find()}
    assert settings["model_name"] == "a-model-of-ours"
    assert settings["tools_enabled"] == "true"
