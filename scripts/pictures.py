#!/usr/bin/env python3
"""Takes the pictures of the documentation, in docs/images: the demo, and the console.

Runs the demo on a fresh database, has a conversation, and photographs it in a real browser. Runs
the console on 10,000 sample conversations, and photographs two of its pages.
Needs the extra ``test`` and Debian's chromium; optipng, where it is found, makes the files smaller.

Example:
    python scripts/pictures.py            # all of them
    python scripts/pictures.py console    # those of the console
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Page, ViewportSize, expect
from pymongo import AsyncMongoClient

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sample_conversations import Samples, fill  # noqa: E402

from mongo_datalayer.server import LocalServer  # noqa: E402
from tests.demo_process import DemoProcess  # noqa: E402
from tests.end_to_end.browser.chat import Chat  # noqa: E402 - the checkout comes first on the path
from tests.end_to_end.chromium import running_browser  # noqa: E402
from tests.end_to_end.console.charts import point_at  # noqa: E402
from tests.end_to_end.console.process import ConsoleProcess  # noqa: E402

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1280, 900
CONVERSATIONS = 10_000


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a real browser."""
    with running_browser(shutil.which("chromium")) as browser:
        size: ViewportSize = {"width": WIDTH, "height": HEIGHT}
        context = browser.new_context(locale="en-US", viewport=size)
        yield context.new_page()
        context.close()


def save(page: Page, name: str) -> None:
    """Write a picture of the page and say how large it is."""
    path = IMAGES / name
    page.screenshot(path=path, animations="disabled")
    if shutil.which("optipng") is not None:
        subprocess.run(["optipng", "-quiet", "-o5", str(path)], check=True)  # noqa: S603, S607
    print(f"{path}: {path.stat().st_size:,} bytes")


def photograph_demo() -> None:
    """Have a conversation in the demo and photograph it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        DemoProcess(Path(folder)) as demo,
        browser_page() as page,
    ):
        chat = Chat(page, demo.address)
        chat.log_in("alice")
        chat.ask("What happens when I press the thumb?")
        page.locator('button[id="step-Search the handbook"]').click()
        chat.answers.last.locator("button:has(svg.lucide-thumbs-up)").click()
        chat.dialog.locator("textarea").fill("Good to know")
        chat.dialog.locator("#submit-feedback").click()
        chat.expect_notice("Feedback updated")
        expect(page.locator("[data-sonner-toast]")).to_have_count(0)
        chat.questions.first.hover()
        chat.questions.first.locator("button.favorite-message").click()
        page.mouse.move(WIDTH - 2, HEIGHT // 2)
        save(page, "demo.png")


def photograph_console() -> None:
    """Photograph usage and a rated conversation in the console."""
    os.environ["LOGNAME"] = "zoe"  # who is logged in, at the upper right
    with tempfile.TemporaryDirectory() as folder, LocalServer() as server:
        asyncio.run(_fill(server.uri))
        with (
            ConsoleProcess(Path(folder), server.uri, "samples") as console,
            browser_page() as page,
        ):
            page.goto(console.link)
            page.goto(f"{console.address}/usage?days=90")
            point_at(page.locator("canvas").nth(3), -6)
            save(page, "console.png")
            page.goto(f"{console.address}/feedback?feedback=up&tool=track_parcel")
            page.locator("ul.list li").filter(has=page.locator("q")).get_by_role(
                "link"
            ).first.click()
            page.locator(".step.user_message").first.scroll_into_view_if_needed()
            save(page, "console-conversation.png")


async def _fill(uri: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        await fill(client["samples"], Samples(datetime.now(timezone.utc)), CONVERSATIONS)


PICTURES: dict[str, Callable[[], None]] = {"demo": photograph_demo, "console": photograph_console}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PICTURES)))
def main(names: tuple[str, ...]) -> None:
    """Take the pictures of the demo, of the console, or of both."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
