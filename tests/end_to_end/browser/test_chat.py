from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.demo_process import DemoProcess
from tests.end_to_end.browser.chat import Chat
from tests.end_to_end.browser.conftest import assert_no_failures, stored_threads

Threads = Collection[dict[str, Any]]

TOOLS = ["Search the handbook", "Pick the telling words", "Read a section"]


@pytest.fixture
def word() -> str:
    """A word no other test says."""
    return f"w{uuid.uuid4().hex[:8]}"


def stored(threads: Threads, thread_id: str) -> dict[str, Any]:
    thread = threads.find_one({"_id": thread_id})
    assert thread is not None
    return thread


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_an_answer_shows_with_its_tool_steps_and_is_stored(
    alice: Chat, threads: Threads, word: str
) -> None:
    question = f"What is a step, {word}?"

    alice.ask(question)

    assert [kind for kind, _ in alice.transcript()] == [
        *("user_message", "tool", "tool", "tool", "assistant_message")
    ]
    shown = alice.steps("tool").first.inner_text()
    assert all(tool in shown for tool in TOOLS)
    expect(alice.sidebar_entry(alice.thread_id)).to_contain_text(question)
    thread = stored(threads, alice.thread_id)
    assert (thread["name"], thread["userIdentifier"]) == (question, "alice")
    by_name = {step["name"]: step for step in thread["steps"]}
    assert by_name["alice"]["output"] == question
    assert by_name[TOOLS[0]]["parentId"] == by_name["on_message"]["id"]
    assert by_name[TOOLS[1]]["parentId"] == by_name[TOOLS[0]]["id"]
    assert by_name[TOOLS[1]]["output"] == f"step, {word}"
    assert "Messages and steps." in by_name["Handbook"]["output"]


def test_a_thumb_down_with_a_comment_is_in_mongodb(
    alice: Chat, threads: Threads, word: str
) -> None:
    alice.ask(f"feedback {word}")

    alice.answers.last.locator("button:has(svg.lucide-thumbs-down)").click()
    alice.dialog.locator("textarea").fill(f"too short {word}")
    alice.dialog.locator("#submit-feedback").click()
    alice.expect_notice("Feedback updated")

    steps = stored(threads, alice.thread_id)["steps"]
    feedback = [step["feedback"] for step in steps if "feedback" in step]
    assert [(given["value"], given["comment"]) for given in feedback] == [(0, f"too short {word}")]
    run = next(step for step in steps if step["type"] == "run")
    assert run["feedback"]["forId"] == run["id"]

    alice.page.reload()
    alice.answers.last.locator("button:has(svg.lucide-message-circle)").click()
    expect(alice.dialog).to_contain_text(f"too short {word}")


def test_the_search_dialog_finds_a_thread_by_a_word_of_a_message(alice: Chat, word: str) -> None:
    alice.ask("How does the search work?")
    alice.ask(f"Something about {word.upper()}")
    thread_id = alice.thread_id

    found = alice.search(word)
    expect(found).to_have_count(1)
    expect(found).to_have_text("How does the search work?")
    alice.dialog.locator("input").fill(f"{word}.*")
    expect(alice.dialog).to_contain_text("No threads found")
    alice.dialog.locator("input").fill(word)
    found.click()

    alice.page.wait_for_url(f"**/thread/{thread_id}")
    expect(alice.questions).to_have_count(2)


def test_a_new_name_stays_after_a_reload(alice: Chat, threads: Threads, word: str) -> None:
    alice.ask(f"users {word}")
    thread_id = alice.thread_id

    alice.choose(thread_id, "rename")
    alice.dialog.locator("input#name").fill(f"Renamed {word}")
    alice.dialog.get_by_role("button", name="Confirm").click()
    alice.expect_notice("Thread renamed!")

    assert stored(threads, thread_id)["name"] == f"Renamed {word}"
    alice.page.reload()
    expect(alice.sidebar_entry(thread_id)).to_contain_text(f"Renamed {word}")
    alice.ask("and one more question")
    assert stored(threads, thread_id)["name"] == f"Renamed {word}"


def test_a_chat_is_resumed_in_order_after_a_restart(
    alice: Chat, demo: DemoProcess, word: str
) -> None:
    alice.ask(f"messages {word}")
    alice.ask("And the sharing?")
    alice.answers.last.locator("button:has(svg.lucide-thumbs-up)").click()
    alice.dialog.locator("#submit-feedback").click()
    alice.expect_notice("Feedback updated")
    thread_id = alice.thread_id
    alice.page.reload()
    expect(alice.answers).to_have_count(2)
    before = alice.transcript()

    assert demo.stop() == 0
    assert_no_failures(demo.app_log)
    demo.start()
    alice.open(thread_id)

    expect(alice.answers).to_have_count(2)
    assert alice.transcript() == before
    assert [kind for kind, _ in before] == [
        *("user_message", "tool", "tool", "tool", "tool", "assistant_message"),
        *("user_message", "tool", "tool", "tool", "assistant_message"),
    ]
    assert f"messages {word}" in before[0][1]
    expect(alice.answers.last.locator("svg.lucide-thumbs-up")).to_be_visible()
    alice.ask("What is MongoDB?")
    assert alice.thread_id == thread_id
    expect(alice.questions).to_have_count(3)
    expect(alice.sidebar_entry(thread_id)).to_have_count(1)


def test_a_message_becomes_a_favourite_and_stops_being_one(
    alice: Chat, threads: Threads, word: str
) -> None:
    question = f"favourites {word}"
    alice.ask(question)
    thread_id = alice.thread_id

    def favourites() -> list[str]:
        steps = stored(threads, thread_id)["steps"]
        return [step["output"] for step in steps if step["metadata"].get("favorite") is True]

    def star() -> None:
        alice.questions.first.hover()
        alice.questions.first.locator("button.favorite-message").click()

    offer = alice.page.locator("#message-composer button:has(svg.lucide-star)")
    offered = alice.dialog.locator("[role=option]", has_text=question)

    star()
    wait_until(lambda: favourites() == [question])
    alice.page.locator("#new-chat-button").click()
    offer.click()
    expect(offered).to_have_count(1)
    alice.page.keyboard.press("Escape")

    # From a fresh chat, where the message is another thread's.
    offer.click()
    offered.get_by_role("button", name="Remove favorite").click()
    wait_until(lambda: favourites() == [])

    alice.open(thread_id)
    star()
    wait_until(lambda: favourites() == [question])
    star()
    wait_until(lambda: favourites() == [])
    # Question, run, three tools, answer: marking adds no step.
    assert len(stored(threads, thread_id)["steps"]) == 6


def test_a_shared_link_works_until_it_is_taken_back(
    alice: Chat, log_in: Callable[[str], Chat], threads: Threads, word: str
) -> None:
    alice.ask(f"sharing {word}")
    thread_id = alice.thread_id
    link = f"{alice.address}/share/{thread_id}"
    bob = log_in("bob")
    assert bob.fetch("GET", f"/project/share/{thread_id}") == 404

    alice.choose(thread_id, "share")
    alice.dialog.get_by_role("button", name="Share", exact=True).click()
    alice.expect_notice("Share link created!")
    alice.page.keyboard.press("Escape")

    bob.page.goto(link)
    expect(bob.questions).to_have_text([f"sharing {word}"])
    expect(bob.answers).to_contain_text("Everyone who can log in to this app can then read it")
    expect(bob.sidebar).to_have_count(0)

    # The session that resumes now takes the mark of the sharing along, and writes it at its end.
    alice.open(thread_id)
    session = stored(threads, thread_id)["session"]["id"]
    alice.choose(thread_id, "share")
    alice.dialog.get_by_role("button", name="Unshare").click()
    alice.expect_notice("Sharing disabled for this thread")
    assert stored(threads, thread_id)["metadata"]["is_shared"] is False
    alice.page.close()
    wait_until(lambda: stored(threads, thread_id)["session"]["id"] != session)

    assert stored(threads, thread_id)["metadata"]["is_shared"] is False
    assert bob.fetch("GET", f"/project/share/{thread_id}") == 404
    bob.page.goto(link)
    bob.expect_notice("Failed to load thread")
    expect(bob.questions).to_have_count(0)


def test_files_show_after_a_restart_and_go_with_their_thread(
    alice: Chat, demo: DemoProcess, word: str
) -> None:
    alice.ask(f"{word} first")
    thread_id = alice.thread_id
    alice.attach("files", f"{word}.txt", "text/plain", word.encode())
    expect(alice.answers.last).to_contain_text("Files of every kind")
    kinds = {"image", "text", "pdf", "audio", "file", "custom", "dataframe"}
    with stored_threads(demo) as threads:
        wait_until(lambda: {e["type"] for e in stored(threads, thread_id)["elements"]} == kinds)
    assert demo.stop() == 0
    demo.start()

    alice.open(thread_id)

    picture = alice.answers.last.locator("img[alt='picture.png']")
    expect(picture).to_have_js_property("naturalWidth", 320)
    # Chainlit draws a PDF itself; one it cannot read has no canvas.
    expect(alice.answers.last.locator(".inline-pdf canvas").first).to_be_visible()
    expect(alice.answers.last.locator("audio")).to_have_js_property("duration", 1)
    expect(alice.answers.last).to_contain_text("A text, kept in GridFS.")
    expect(alice.answers.last).to_contain_text("one document is")
    link = alice.questions.last.locator(f"a:has-text('{word}.txt')").get_attribute("href")
    assert link is not None
    address = alice.address + link
    response = alice.page.request.get(address)
    assert (response.status, response.text()) == (200, word)

    alice.page.get_by_role("button", name="One more").click()
    expect(alice.answers.last).to_contain_text("Clicks: 1")
    alice.page.reload()
    expect(alice.answers.last).to_contain_text("Clicks: 1")

    with MongoClient[dict[str, Any]](demo.mongo_uri) as client:
        files = client.chainlit["fs.files"]
        assert files.count_documents({"metadata.threadId": thread_id}) >= 7
        assert alice.fetch("DELETE", "/project/thread", {"threadId": thread_id}) == 200
        wait_until(lambda: files.count_documents({"metadata.threadId": thread_id}) == 0)
    assert alice.page.request.get(address).status == 404


@pytest.mark.parametrize(
    ("name", "mime"), [("evil.svg", "image/svg+xml"), ("evil.html", "text/html")]
)
def test_an_uploaded_file_never_runs_as_the_site(
    alice: Chat, threads: Threads, word: str, name: str, mime: str
) -> None:
    script = "<script>fetch('/ran?' + document.cookie); document.title = 'ran'</script>"
    content = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{script}</svg>'
    asked: list[str] = []
    alice.page.context.on("request", lambda request: asked.append(request.url))
    alice.attach(f"a file {word}", name, mime, content.encode())
    expect(alice.questions.last).to_contain_text(word)
    thread_id = alice.thread_id
    wait_until(lambda: bool(stored(threads, thread_id)["elements"]))
    alice.open(thread_id)
    thread = alice.page.request.get(f"{alice.address}/project/thread/{thread_id}").json()
    link = alice.address + thread["elements"][0]["url"]

    with alice.page.expect_download():
        alice.page.evaluate("link => { window.open(link) }", link)
    with alice.page.expect_download():
        alice.page.evaluate("link => { location.href = link }", link)

    assert alice.page.title() != "ran"
    assert not [url for url in asked if "/ran?" in url]
    headers = alice.page.request.get(link).headers
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


def test_a_deleted_thread_is_gone(alice: Chat, threads: Threads, word: str) -> None:
    alice.ask(f"deleting {word}")
    thread_id = alice.thread_id

    alice.choose(thread_id, "delete")
    alice.dialog.get_by_role("button", name="Confirm").click()
    alice.expect_notice("Chat deleted")

    expect(alice.sidebar_entry(thread_id)).to_have_count(0)
    alice.page.reload()
    expect(alice.composer).to_be_visible()
    expect(alice.sidebar_entry(thread_id)).to_have_count(0)
    assert threads.find_one({"steps.output": {"$regex": word}}) is None
    assert set(threads.find_one({"_id": thread_id}) or ()) <= {"_id", "deletedAt"}
    assert alice.fetch("GET", f"/project/thread/{thread_id}") == 404


def test_a_second_user_sees_nothing_and_is_refused(
    alice: Chat, log_in: Callable[[str], Chat], threads: Threads, demo: DemoProcess, word: str
) -> None:
    alice.ask(f"users {word}")
    thread_id = alice.thread_id
    before = stored(threads, thread_id)
    bob = log_in("bob")

    expect(bob.sidebar).to_have_count(0)
    expect(bob.search(word)).to_have_count(0)
    expect(bob.dialog).to_contain_text("No threads found")

    bob.page.goto(f"{bob.address}/thread/{thread_id}")
    bob.page.wait_for_url(f"{bob.address}/")
    expect(bob.page.get_by_text("Could not reach the server")).to_be_visible()
    assert "Authorization for the thread failed." in demo.app_log
    assert word not in bob.page.content()
    assert bob.fetch("GET", f"/project/thread/{thread_id}") in {401, 403, 404}
    assert bob.fetch("GET", f"/project/share/{thread_id}") == 404
    assert bob.fetch("PUT", "/project/thread", {"threadId": thread_id, "name": "mine"}) >= 400
    assert bob.fetch("DELETE", "/project/thread", {"threadId": thread_id}) >= 400
    assert (
        bob.fetch("PUT", "/project/thread/share", {"threadId": thread_id, "isShared": True}) >= 400
    )
    assert stored(threads, thread_id) == before
