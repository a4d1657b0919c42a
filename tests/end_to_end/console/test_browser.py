"""The console in a real browser, on the demo's history and a hostile conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pymongo import AsyncMongoClient

from mongo_datalayer.admin.importer import Import
from mongo_datalayer.demo.history import history_records
from mongo_datalayer.files.bucket import FileBucket
from tests.console.hostile import CHART, hostile_usage, store
from tests.end_to_end.browser.test_chat import wait_until
from tests.end_to_end.console.charts import drawn, numbers, point_at
from tests.end_to_end.console.process import ConsoleProcess


async def fill(uri: str, name: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        database = client[name]
        importer = Import(database, FileBucket(database), replace=False)
        await importer.store(history_records(datetime.now(timezone.utc)))
        await store(database)
        await database.threads.insert_one(hostile_usage(datetime.now(timezone.utc)))


@pytest.fixture
def console(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[ConsoleProcess]:
    # In a thread: Playwright's loop runs in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, fill(mongo_uri, database_name)).result()
    with ConsoleProcess(tmp_path, mongo_uri, database_name, "--create-index") as console:
        yield console
        assert "Traceback" not in console.output


def test_all_pages(page: Page, console: ConsoleProcess) -> None:
    expect(page.get_by_role("heading", name="Conversations")).to_be_visible()
    page.get_by_label("Search in messages").fill("accents")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("mark").first).to_have_text("accents")

    page.goto(f"{console.address}/?search=a+picture")
    page.get_by_role("link", name="Show me a picture, a page and a table").click()
    picture = page.locator("img.picture").first
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    expect(page.locator(".step.d3").or_(page.locator(".step.d2")).first).to_be_visible()

    page.get_by_role("link", name="Feedback").click()
    buttons = page.get_by_role("button", name="Mark as looked at", exact=True)
    count = buttons.count()
    assert count > 3
    buttons.first.click()
    expect(buttons).to_have_count(count - 1)
    page.get_by_role("link", name="By tool, profile and week").click()
    drawn(page, 1)
    page.get_by_role("rowheader", name="Search the handbook").get_by_role("link").click()
    expect(page.get_by_label("Tool")).to_have_value("Search the handbook")
    expect(page.locator("ul.list .tag", has_text="Search the handbook")).to_have_count(count - 1)

    page.get_by_role("link", name="Usage").click()
    conversations, *_ = drawn(page, 4)
    ((day, count),) = point_at(conversations)
    assert (day, count) == (numbers(conversations)[0][29], numbers(conversations)[1][29])
    page.get_by_role("link", name="Tools", exact=True).click()
    page.get_by_role("link", name="Slowest first").click()
    expect(page.get_by_role("link", name="Slowest first")).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("rowheader", name="Search the handbook")).to_be_visible()
    page.get_by_role("link", name="Models").click()
    drawn(page, 1)
    page.get_by_role("link", name="Storage").click()
    expect(page.get_by_role("rowheader", name="threads", exact=True)).to_be_visible()


def test_hostile_texts_do_not_run(page: Page, console: ConsoleProcess) -> None:
    page.goto(f"{console.address}/?user=%3Cscript%3Ealert(1)%3C/script%3E")
    page.goto(f"{console.address}/?tool=&shared=1")
    page.locator("ul.list a").first.click()
    expect(page.locator(".step")).to_have_count(3)
    assert page.evaluate("document.querySelectorAll('script, [onerror]').length") == 0

    page.goto(f"{console.address}/usage?show=tools&order=failing")
    (tools,) = drawn(page, 1)
    assert numbers(tools)[0][0] == CHART
    for path, count in (("/usage?show=models", 1), ("/feedback/counts", 1), ("/usage", 4)):
        page.goto(console.address + path)
        point_at(drawn(page, count)[0])
        assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0
        assert page.evaluate("document.scripts.length") == 2


def test_charts_follow_the_system(page: Page, console: ConsoleProcess) -> None:
    page.goto(f"{console.address}/usage?show=models")
    (chart,) = drawn(page, 1)

    def has_colour(colour: str) -> bool:
        fill = "canvas => Chart.getChart(canvas).data.datasets[0].backgroundColor"
        return bool(chart.evaluate(fill) == colour)

    page.emulate_media(color_scheme="dark")
    wait_until(lambda: has_colour("#6ad1ab"))
    point_at(chart)
    page.emulate_media(color_scheme="light")
    wait_until(lambda: has_colour("#0f6b50"))


def test_without_scripts_there_are_the_tables(
    browser: Browser, page: Page, console: ConsoleProcess
) -> None:
    session = page.context.storage_state()
    context = browser.new_context(java_script_enabled=False, storage_state=session)
    bare = context.new_page()
    for path, header in (
        ("/usage", "Conversations"),
        ("/usage?show=tools", "Calls"),
        ("/usage?show=models", "Tokens"),
        ("/feedback/counts", "Thumbs down"),
    ):
        bare.goto(console.address + path)
        expect(bare.get_by_role("columnheader", name=header, exact=True).first).to_be_visible()
        expect(bare.locator("figure:visible")).to_have_count(0)
    bare.goto(f"{console.address}/usage")
    bare.get_by_text("By day").click()
    expect(bare.locator("#chainlit-days tbody tr")).to_have_count(30)
    expect(bare.locator("#chainlit-days tbody tr").first).to_be_visible()
    context.close()


def test_on_a_phone_and_by_keyboard(page: Page, console: ConsoleProcess) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path, charts in (
        *(("/", 0), ("/feedback", 0), ("/feedback/counts", 1)),
        *(("/usage", 4), ("/usage?show=tools", 1), ("/usage?show=models", 1)),
    ):
        page.goto(console.address + path)
        for chart in drawn(page, charts):
            assert chart.evaluate("canvas => canvas.getBoundingClientRect().right") <= 360, path
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    page.goto(console.address)
    page.keyboard.press("Tab")
    expect(page.get_by_text("To the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
