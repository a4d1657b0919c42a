"""The demo as it opens: its login page, its history, and a quiet console."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from mongo_datalayer.demo.sample_files import picture
from tests.demo_process import DemoProcess
from tests.end_to_end.browser.chat import Chat


def test_the_demo_names_its_users_and_opens_with_a_history(
    browser: Browser, demo: DemoProcess
) -> None:
    context = browser.new_context(locale="de-DE", viewport={"width": 1280, "height": 800})
    chat = Chat(context.new_page(), demo.address)
    warnings: list[str] = []
    chat.page.on("console", lambda line: warnings.append(line.text))
    chat.page.goto(demo.address)
    expect(chat.page.get_by_text("Log in as alice / alice or bob / bob")).to_be_visible()

    chat.log_in("alice")
    chat.sidebar.filter(has_text="Show me a picture").click()

    shown = chat.answers.last.locator("img[alt='picture.png']")
    # Asked for and not looked at: it is loaded when it is seen, and the answer is long.
    address = demo.address + (shown.get_attribute("src") or "")
    assert chat.page.request.get(address).body() == picture()
    expect(chat.answers.last).to_contain_text("one document is")
    expect(chat.answers.last.locator("svg.lucide-thumbs-up")).to_be_visible()
    expect(chat.sidebar.filter(has_text="The whole handbook")).to_have_count(1)
    before = len(warnings)
    chat.composer.press_sequentially("every character was a warning")
    # One that Chainlit itself brings is there before its settings are.
    assert len([text for text in warnings[before:] if "Skipped" in text]) == 0
    assert "Translated markdown" not in demo.app_log
    context.close()
