"""The demo as a user sees it: a real browser on the real command, with a real MongoDB.

Everything here is synchronous: while Playwright's synchronous API is open, no other event loop
can run, so these fixtures end with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.demo_process import DemoProcess
from tests.end_to_end.browser.chat import Chat
from tests.end_to_end.chromium import running_browser
from tests.programs import require_chromium


@pytest.fixture(scope="package")
def chromium() -> Path:
    return require_chromium()


@pytest.fixture(scope="package")
def demo(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """The running demo; asked for after ``chromium``, as without it there is nothing to run."""
    with DemoProcess(tmp_path_factory.mktemp("demo")) as demo:
        yield demo
        demo.stop()
        assert_no_failures(demo.app_log)


def assert_no_failures(log: str) -> None:
    """What Chainlit and the data layer do in the background fails in the log only."""
    assert "Traceback" not in log, log
    assert "ERROR - mongo_datalayer" not in log, log


@pytest.fixture(scope="package")
def browser(chromium: Path) -> Iterator[Browser]:
    with running_browser(chromium) as browser:
        yield browser


@pytest.fixture
def log_in(browser: Browser, demo: DemoProcess) -> Iterator[Callable[[str], Chat]]:
    """Opens a browser profile of its own and logs a user in."""
    contexts = []

    def log_in(name: str) -> Chat:
        context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
        contexts.append(context)
        chat = Chat(context.new_page(), demo.address)
        chat.log_in(name)
        return chat

    yield log_in
    for context in contexts:
        context.close()


@pytest.fixture
def alice(log_in: Callable[[str], Chat]) -> Chat:
    return log_in("alice")


@contextmanager
def stored_threads(demo: DemoProcess) -> Iterator[Collection[dict[str, Any]]]:
    """What is in MongoDB, read by PyMongo; to be left before the demo is stopped.

    Else it waits for half a minute for a server that is gone, to tell it goodbye.
    """
    with MongoClient[dict[str, Any]](demo.mongo_uri) as client:
        yield client.chainlit.threads


@pytest.fixture
def threads(demo: DemoProcess) -> Iterator[Collection[dict[str, Any]]]:
    """What is in MongoDB; for tests that do not stop the demo."""
    with stored_threads(demo) as threads:
        yield threads
