"""A person goes on under the id of a deleted thread, in each way that Chainlit's pages allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pymongo.collection import Collection

from tests.end_to_end.browser.chat import PATIENCE_MS, Chat
from tests.end_to_end.browser.test_chat import stored, wait_until, word

Threads = Collection[dict[str, Any]]

__all__ = ["word"]


def delete_in_sidebar(chat: Chat, thread_id: str) -> None:
    """Delete the thread that the page shows.

    The page begins to resume it at the same moment. Where it wins it goes on showing the thread,
    else the welcome screen: use ``say`` afterwards, which knows both.
    """
    chat.choose(thread_id, "delete")
    chat.dialog.get_by_role("button", name="Confirm").click()
    chat.expect_notice("Chat deleted")


def delete_elsewhere(chat: Chat, thread_id: str) -> None:
    assert chat.fetch("DELETE", "/project/thread", {"threadId": thread_id}) == 200


def assert_kept(threads: Threads, new: str, old: str) -> None:
    """The new conversation is stored with its answer, owned and named; nothing is of the old."""
    wait_until(lambda: threads.count_documents({"name": new, "userIdentifier": "alice"}) == 1)
    thread = threads.find_one({"name": new}) or {}
    wait_until(lambda: len(stored(threads, thread["_id"])["steps"]) >= 5)
    steps = stored(threads, thread["_id"])["steps"]
    assert {step["type"] for step in steps} >= {"user_message", "run", "tool", "assistant_message"}
    assert threads.find_one({"steps.output": {"$regex": old}}) is None


@pytest.fixture
def second_tab(alice: Chat) -> Iterator[Chat]:
    page = alice.page.context.new_page()
    yield Chat(page, alice.address)
    page.close()


def test_deleted_in_the_sidebar(alice: Chat, threads: Threads, word: str) -> None:
    alice.ask(f"old {word}")
    delete_in_sidebar(alice, alice.thread_id)

    say(alice, f"new {word}")

    assert_kept(threads, f"new {word}", f"old {word}")
    alice.page.reload()
    expect(alice.sidebar.filter(has_text=f"new {word}")).to_have_count(1)


def test_opened_by_an_old_link(alice: Chat, threads: Threads, word: str) -> None:
    alice.ask(f"old {word}")
    thread_id = alice.thread_id
    delete_elsewhere(alice, thread_id)

    alice.page.goto(f"{alice.address}/thread/{thread_id}")
    alice.expect_notice("Thread not found")
    say(alice, f"new {word}")

    assert_kept(threads, f"new {word}", f"old {word}")


def test_deleted_in_another_tab(alice: Chat, second_tab: Chat, threads: Threads, word: str) -> None:
    alice.ask(f"old {word}")
    thread_id = alice.thread_id
    second_tab.open(thread_id)
    delete_in_sidebar(alice, thread_id)

    second_tab.ask(f"new {word}")

    assert_kept(threads, f"new {word}", f"old {word}")
    assert stored(threads, thread_id)["name"] == f"new {word}"


def test_a_copilot_keeps_the_id(alice: Chat, threads: Threads, word: str) -> None:
    """The widget has the id in the browser's storage, and uses it again after a reload."""
    mount_copilot(alice.page, alice.address)
    say(alice, f"old {word}")
    wait_until(lambda: threads.count_documents({"name": f"old {word}"}) == 1)
    thread_id = (threads.find_one({"name": f"old {word}"}) or {})["_id"]
    delete_elsewhere(alice, thread_id)

    mount_copilot(alice.page, alice.address)
    say(alice, f"new {word}")

    assert_kept(threads, f"new {word}", f"old {word}")


def mount_copilot(page: Page, address: str) -> None:
    page.goto(f"{address}/copilot-host")
    page.evaluate("document.body.innerHTML = ''")
    page.add_script_tag(url=f"{address}/copilot/index.js")
    page.evaluate(
        "address => mountChainlitWidget({chainlitServer: address, opened: true})", address
    )


def say(chat: Chat, words: str) -> None:
    """Send words where the page's state is none that ``ask`` knows, and wait for an answer."""
    composer, submit = chat.composer, chat.submit
    expect(composer).to_be_visible()
    answered = chat.answers.count()

    def typed() -> bool:
        # The field may be replaced while the page settles.
        composer.fill(words)
        chat.page.wait_for_timeout(300)
        text = composer.evaluate("field => field.value ?? field.innerText")
        return str(text).strip() == words and submit.is_enabled()

    wait_until(typed, PATIENCE_MS / 1000)
    submit.click()
    expect(chat.answers).not_to_have_count(answered)
    expect(chat.answers.last.locator("svg.lucide-thumbs-down")).to_be_visible()
