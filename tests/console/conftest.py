"""The console on a database with hostile conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer.console import console_app
from tests.console import hostile

TOKEN = "a token of the tests"


def browser(app: Any) -> httpx.AsyncClient:
    """A browser on the app: it keeps cookies and follows redirects."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://console.test", follow_redirects=True
    )


@pytest.fixture
async def http(database: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is logged in."""
    await hostile.store(database)
    async with browser(console_app(database, token=TOKEN, token_name="zoe")) as http:
        assert (await http.get("/login", params={"token": TOKEN})).status_code == 200
        yield http
