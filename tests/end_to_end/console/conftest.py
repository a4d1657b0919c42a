"""A real browser, on a console that each file of tests makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request

from tests.end_to_end.chromium import running_browser
from tests.end_to_end.console.process import ConsoleProcess
from tests.programs import require_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser(require_chromium()) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, console: ConsoleProcess) -> Iterator[Page]:
    """A page on which nothing may complain, be refused by the policy, or leave the console."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))

    def failed(request: Request) -> None:
        # The next page ends what the one before still asked for.
        if request.failure != "net::ERR_ABORTED":
            complaints.append(f"failed: {request.url}: {request.failure}")

    page.on("requestfailed", failed)
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(console.address) else complaints.append(request.url)
        ),
    )
    page.goto(console.link)
    yield page
    context.close()
    assert complaints == []
