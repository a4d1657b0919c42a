#!/usr/bin/env python3
"""Takes the picture of the demo for the README: docs/images/demo.png.

Runs the demo on a fresh database, has the conversation, and photographs it in a real browser.
Needs the extra ``test`` and Debian's chromium; optipng, where it is found, makes the file smaller.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.chat import Chat  # noqa: E402 - the checkout comes first on the path
from tests.browser.conftest import ARGUMENTS  # noqa: E402
from tests.demo_process import DemoProcess  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "demo.png"
WIDTH, HEIGHT = 1280, 900


def main() -> None:
    """Write the picture and say how large it is."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, DemoProcess(Path(folder)) as demo:
        photograph(demo.address)
    if shutil.which("optipng") is not None:
        subprocess.run(["optipng", "-quiet", "-o5", str(PICTURE)], check=True)  # noqa: S603, S607
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def photograph(address: str) -> None:
    """Have a conversation at ``address`` and photograph it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        size: ViewportSize = {"width": WIDTH, "height": HEIGHT}
        context = browser.new_context(locale="en-US", viewport=size)
        chat = Chat(context.new_page(), address)
        chat.log_in("alice")
        for question in ("Where are my messages kept?", "Can I share a chat?"):
            chat.ask(question)
            chat.page.locator("#new-chat-button").click()
            expect(chat.answers).to_have_count(0)
        chat.ask("What happens when I press the thumb?")
        chat.page.locator('button[id="step-Search the handbook"]').click()
        chat.answers.last.locator("button:has(svg.lucide-thumbs-up)").click()
        chat.dialog.locator("textarea").fill("Good to know")
        chat.dialog.locator("#submit-feedback").click()
        chat.expect_notice("Feedback updated")
        expect(chat.page.locator("[data-sonner-toast]")).to_have_count(0)
        chat.questions.first.hover()
        chat.questions.first.locator("button.favorite-message").click()
        chat.page.mouse.move(WIDTH - 2, HEIGHT // 2)
        chat.page.screenshot(path=PICTURE, animations="disabled")
        context.close()
        browser.close()


if __name__ == "__main__":
    main()
