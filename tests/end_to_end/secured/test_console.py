"""The console with the roles that are printed: its own, and one that only reads."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer.console import console_app
from mongo_datalayer.console.pages import USAGE
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails
from tests.console import hostile
from tests.console.conftest import TOKEN, browser
from tests.console.test_access import csrf
from tests.end_to_end.secured.conftest import DATABASE, Secured

VOTE = {"id": "vote", "forId": "step 0", "value": 1, "updatedAt": hostile.NOW}
KEY = "console/file"


@pytest.mark.parametrize("login", ["console", "analyst"])
async def test_the_console_works_with_a_login_that(secured: Secured, login: str) -> None:
    element = {"id": "e", "type": "file", "name": "f", "objectKey": KEY}
    steps = [hostile.step(0, output="Asked", feedback=VOTE)]
    stored = hostile.thread(0, _id="of the console", steps=steps, elements=[element])
    async with AsyncMongoClient[dict[str, Any]](secured.root) as root:
        chat = root[DATABASE]
        await chat.threads.replace_one({"_id": stored["_id"]}, stored, upsert=True)
        await FileBucket(chat).write(KEY, b"content", FileDetails(mime="text/plain"))
        app = console_app(secured.uri(login), name=DATABASE, token=TOKEN, token_name=login)
        async with app.router.lifespan_context(app), browser(app) as http:
            listed = await http.get("/login", params={"token": TOKEN})
            usage = [await http.get(f"/usage?show={topic}") for topic in USAGE]
            opened = await http.get("/conversation?id=of the console")
            queue = await http.get("/feedback?open=1")
            address = opened.text.partition('href="/mongo')[2].partition('"')[0]
            file = await http.get(f"/mongo{address}")
            form = {"csrf": csrf(queue), "feedback": "vote", "looked_at": "1"}
            marked = await http.post("/feedback", data=form)
        recorded = await chat.console_audit.count_documents({"who": login})
        # Other tests of this server count what there is.
        await chat.threads.delete_one({"_id": stored["_id"]})
        await FileBucket(chat).delete([KEY])
        for name in ("console_audit", "console_reviews"):
            await chat.drop_collection(name)

    assert [page.status_code for page in (listed, *usage, opened, queue)] == [200] * 7
    assert "Asked" in opened.text
    may_write = login == "console"
    assert recorded == may_write
    assert ("are not recorded" in queue.text) is not may_write
    assert (file.status_code, marked.status_code) == ((200, 200) if may_write else (403, 403))
