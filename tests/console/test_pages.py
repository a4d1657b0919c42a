"""What the pages show, of texts that attack them."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.console.conversation import STEPS
from mongo_datalayer.console.pages import USAGE
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import FileDetails
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.storage.overflow import Bounds
from mongo_datalayer.testing.contract import step
from tests.console import hostile
from tests.console.served_page import ServedPage
from tests.console.test_access import csrf

Database = AsyncDatabase[dict[str, Any]]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/feedback", "/feedback?open=1&feedback=down", "/usage?days=90"),
        *(f"/usage?show={topic}&order=<script>" for topic in USAGE),
        "/?search=<script>alert",
        "/?user=%22><script>alert(1)</script>&tag=%22 onx=&tool='&since=2026-01-01",
        "/?since=<script>alert(1)</script>",
        "/?cursor=<script>",
        "/?min_steps=<script>",
        "/feedback?feedback=<script>&cursor=",
        "/feedback/counts",
        "/feedback/counts?tool=%22><script>alert(1)</script>",
    ],
)
async def test_no_page_runs_what_is_stored(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)

    assert answer.status_code in (200, 400)
    page = ServedPage(answer.text)
    assert page.harmful == []
    assert bool(page.scripts) is ("script-src" in answer.headers["content-security-policy"])


async def test_a_hostile_conversation(http: httpx.AsyncClient, database: Database) -> None:
    answer = await http.get("/conversation", params={"id": hostile.THREAD_ID})

    assert answer.status_code == 200
    page = ServedPage(answer.text)
    assert (page.harmful, page.scripts) == ([], [])
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "<strong>bold</strong>" in answer.text
    assert 'href="https://example.org/" rel="nofollow noreferrer noopener"' in answer.text
    assert "evil.test/p.png" not in re.findall(r'src="([^"]+)"', answer.text)
    assert "2.5 s" in answer.text
    assert "{{7*7}}" in answer.text  # it is no template
    entry = await database.console_audit.find_one()
    assert entry is not None
    assert (entry["who"], entry["threadId"]) == ("zoe", hostile.THREAD_ID)


async def test_links_lead_to_the_conversation_and_the_step(http: httpx.AsyncClient) -> None:
    queue = await http.get("/feedback")
    (address,) = re.findall(r'href="(/conversation[^"]+)"', queue.text)
    opened = await http.get(address.replace("&amp;", "&"))

    assert opened.status_code == 200
    assert 'id="step-&#34;&gt;&lt;script&gt;' in opened.text


async def test_the_list_goes_on_from_page_to_page(
    http: httpx.AsyncClient, database: Database
) -> None:
    await database.threads.insert_many([hostile.thread(number) for number in range(3, 60)])
    names: list[str] = []
    address = "/"
    for _ in range(3):
        page = await http.get(address)
        names += re.findall(r"<bdi>(Name \d+)</bdi>", page.text)
        address = "".join(re.findall(r'rel="next" href="([^"]+)"', page.text)).replace("&amp;", "&")

    assert names == [f"Name {number}" for number in range(1, 60)]
    assert address == ""


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"user": "bob"}, ["Bob's"]),
        ({"user": "bob", "since": "2026-01-01", "until": "2026-02-01"}, ["Bob's"]),
        ({"until": "2026-02-28"}, ["Bob's"]),
        ({"since": "2026-03-05"}, []),
        ({"tag": "vip"}, ["Bob's"]),
        ({"profile": "expert"}, ["Bob's"]),
        ({"feedback": "up"}, ["Bob's"]),
        ({"errors": "1", "user": "bob"}, ["Bob's"]),
        ({"tool": "calculator"}, ["Bob's"]),
        ({"tool": "calcul"}, []),
        ({"shared": "1", "user": "bob"}, ["Bob's"]),
        ({"min_steps": "3", "user": "bob"}, ["Bob's"]),
        ({"min_steps": "3", "max_steps": "3", "shared": "1", "user": "bob"}, ["Bob's"]),
        ({"max_steps": "2"}, ["Name 1", "Name 2"]),
        ({"min_steps": "4"}, []),
        ({"search": "needle IN"}, ["Bob's"]),
        ({"search": "needle in", "user": "alice"}, []),
        ({"search": "question 1"}, ["Name 1"]),
        ({"user": "nobody"}, []),
    ],
)
async def test_filters(
    http: httpx.AsyncClient, database: Database, query: dict[str, str], found: list[str]
) -> None:
    at = datetime(2026, 2, 1, 12, tzinfo=timezone.utc)
    vote = {"id": "f", "forId": "s", "value": 1, "updatedAt": at}
    steps = [
        hostile.step(0, output="A hay and a needle in it", feedback=vote),
        hostile.step(1, "tool", name="calculator", isError=True),
        hostile.step(2, "assistant_message", output="It was in the hay"),
    ]
    metadata = {"chat_profile": "expert", "is_shared": True}
    whose = {"userId": "u2", "userIdentifier": "bob", "createdAt": at, "updatedAt": at}
    await database.users.insert_one({"_id": "u2", "identifier": "bob", "metadata": {}})
    await database.threads.insert_one(
        hostile.thread(9, name="Bob&#39;s", tags=["vip"], metadata=metadata, steps=steps, **whose)
        | {"name": "Bob's"}
    )
    page = await http.get("/", params=query)

    listed = re.findall(r'<a href="/conversation[^"]+"><bdi>(.*?)</bdi>', page.text)
    assert [name.replace("&#39;", "'") for name in listed] == found
    if query.get("search") == "needle IN":
        assert "A hay and a <mark>needle in</mark> it" in page.text


async def test_what_stands_in_overflow_is_found_and_shown(
    http: httpx.AsyncClient, database: Database
) -> None:
    documents = ThreadDocuments(database, bounds=Bounds(main=2000, kept=200, long=1000))
    vote = {"id": "old", "forId": "step 0", "value": 1, "updatedAt": hostile.NOW}
    steps = [hostile.step(n, output=f"number {n} of many " + "x" * 100) for n in range(40)]
    steps[0]["feedback"] = vote
    main = await documents.overflow.store(hostile.thread(7, name="Long", steps=steps))
    await database.threads.insert_one(main)
    assert main["overflowIds"]

    for query in ("search=number 0 of", "feedback=up", "min_steps=40", "min_steps=4&max_steps=40"):
        page = await http.get(f"/?{query}")
        assert re.findall(r"<bdi>(\w+)</bdi></a>", page.text) == ["Long"], query
    for query in ("min_steps=41", "min_steps=4&max_steps=39", "max_steps=39"):
        assert "<bdi>Long</bdi>" not in (await http.get(f"/?{query}")).text, query
    assert "<mark>number 0 of</mark>" in (await http.get("/?search=number 0 of")).text
    opened = await http.get("/conversation?id=thread 7")
    assert opened.text.count('class="step') == 40
    assert "number 0 of many" in (await http.get("/feedback?feedback=up")).text


async def test_a_long_conversation_is_shown_page_by_page(
    http: httpx.AsyncClient, database: Database
) -> None:
    steps = [hostile.step(n, output=f"number {n}") for n in range(2 * STEPS + 5)]
    await database.threads.insert_one(hostile.thread(7, steps=steps))

    first = await http.get("/conversation?id=thread 7")
    assert first.text.count('class="step') == STEPS
    assert "Page 1 of 3" in first.text
    linked = await http.get(f"/conversation?id=thread 7&step=step {STEPS + 1}")
    assert "Page 2 of 3" in linked.text
    assert "Page 3 of 3" in (await http.get("/conversation?id=thread 7&page=99")).text


async def test_a_long_text_is_behind_a_link(http: httpx.AsyncClient, database: Database) -> None:
    text = "<script>" + "x" * 50_000 + "the end"
    await database.threads.insert_one(
        hostile.thread(7, steps=[hostile.step(0, "assistant_message", output=text)])
    )
    page = await http.get("/conversation?id=thread 7")
    assert "the end" not in page.text
    (address,) = re.findall(r'href="(/text[^"]+)"', page.text)
    whole = await http.get(address.replace("&amp;", "&"))

    assert whole.text == text
    assert whole.headers["content-type"].startswith("text/plain")
    assert "sandbox" in whole.headers["content-security-policy"]


async def test_files_open_by_links_of_the_page(http: httpx.AsyncClient, database: Database) -> None:
    await FileBucket(database).write("k/evil.html", b"<script>", FileDetails(mime="text/html"))
    element = {"id": "e", "type": "file", "name": "evil.html", "objectKey": "k/evil.html"}
    await database.threads.insert_one(hostile.thread(7, elements=[element]))

    page = await http.get("/conversation?id=thread 7")
    (address,) = re.findall(r'href="(/mongo/files[^"]+)"', page.text)
    served = await http.get(address)
    http.cookies.clear()

    assert (served.status_code, served.content) == (200, b"<script>")
    assert served.headers["content-type"].startswith("text/plain")
    assert "sandbox" in served.headers["content-security-policy"]
    assert (await http.get(address)).status_code == 403


async def test_feedback_with_its_question_and_answer_is_marked(
    http: httpx.AsyncClient, database: Database
) -> None:
    queue = await http.get("/feedback?feedback=down&open=1")
    assert "Thumbs down" in queue.text
    assert "Question</div>" in queue.text
    form = {"feedback": hostile.ATTRIBUTE, "looked_at": "1", "here": "?feedback=down&open=1"}
    assert (await http.post("/feedback", data=form)).status_code == 403
    assert await database.console_reviews.count_documents({}) == 0

    form["csrf"] = csrf(queue)
    marked = await http.post("/feedback", data=form)
    assert str(marked.url) == "http://console.test/feedback?feedback=down&open=1"
    assert "There is no such feedback." in marked.text
    assert "Looked at by <bdi>zoe</bdi>" in (await http.get("/feedback")).text
    away = await http.post("/feedback", data={**form, "looked_at": "0", "here": "//evil.test"})
    assert away.url.host == "console.test"
    assert await database.console_reviews.count_documents({}) == 0


async def test_an_empty_page_says_why(http: httpx.AsyncClient) -> None:
    page = await http.get("/", params={"tag": "no such"})
    cursor = Cursor(datetime(1999, 1, 1, tzinfo=timezone.utc), "t").encode()
    beyond = await http.get("/", params={"tag": "no such", "cursor": cursor})

    assert "<li>Nothing was found.</li>" in page.text
    assert "<li>Nothing else was found.</li>" in beyond.text
    assert "<title>Conversations · Console</title>" in page.text


async def test_an_unknown_conversation_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get("/conversation?id=none")).status_code == 404
    assert (await http.get("/text?id=none&step=s")).status_code == 404
    assert (await http.get("/conversation")).status_code == 404


async def test_a_value_in_gridfs_is_shown_by_its_beginning(
    http: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    layer = MongoDataLayer(client=database.client, database=database.name)
    await layer.create_step(step("huge", output="begin " + "y" * 400_000, input="z" * 400_000))
    answer = await http.get("/conversation", params={"id": "huge"})
    assert answer.status_code == 200
    assert "begin yyy" in answer.text
    assert "y" * 100_000 not in answer.text
