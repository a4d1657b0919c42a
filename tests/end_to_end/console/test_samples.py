"""Every filter, order and chart in a real browser, on the sample conversations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pymongo import AsyncMongoClient
from sample_conversations import Samples, fill

from tests.end_to_end.console.charts import drawn, numbers, point_at, table_of
from tests.end_to_end.console.process import ConsoleProcess

FILTERS = (
    ("Search in messages", "invoice"),
    ("User", "alice@example.com"),
    ("Since", "2000-01-01"),
    ("Until", "2100-01-01"),
    ("Tag", "delivery"),
    ("Profile", "Sales"),
    ("Tool", "issue_refund"),
    ("Steps, at least", "100"),
    ("Steps, at most", "4"),
)


@pytest.fixture
def console(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[ConsoleProcess]:
    async def prepare() -> None:
        async with AsyncMongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
            samples = Samples(datetime.now(timezone.utc), weeks=4)
            await fill(client[database_name], samples, 300)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, prepare()).result()
    with ConsoleProcess(tmp_path, mongo_uri, database_name) as console:
        yield console
        assert "Traceback" not in console.output


def test_every_filter_finds_some(page: Page, console: ConsoleProcess) -> None:
    listed = page.locator("ul.list > li:has(a)")
    for label, value in FILTERS:
        page.goto(console.address)
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("link", name="Clear the filters")).to_be_visible()
        expect(listed.first).to_be_visible()
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    for label in ("With errors", "Shared"):
        page.goto(console.address)
        page.get_by_label(label).check()
        page.get_by_role("button", name="Show").click()
        expect(listed.first).to_be_visible()
    page.goto(console.address)
    page.get_by_label("Feedback").select_option("Thumbs down")
    page.get_by_role("button", name="Show").click()
    expect(listed.first.get_by_text("thumbs down")).to_be_visible()


COLUMNS = {
    "Conversations per day": (1,),
    "Messages per day": (2,),
    "People per day": (3,),
    "Feedback per day": (4, 5),
    "Tokens per day": (1, 2),
    "Feedback per week": (1, 2),
    "Errors": (2,),
}
"""Where the table of a chart has the numbers of its series."""


def test_every_chart_has_the_numbers_of_its_table(page: Page, console: ConsoleProcess) -> None:
    for path, count in (
        ("/usage?days=30", 8),
        ("/usage?days=30&show=models", 1),
        ("/feedback/counts", 1),
        ("/usage?days=30&show=tools&order=failing", 1),
    ):
        page.goto(console.address + path)
        highest = []
        for chart, title in zip(
            drawn(page, count), page.locator("figcaption").all_text_contents(), strict=True
        ):
            labels, *series = numbers(chart)
            table = table_of(chart)
            if title != "Errors":  # days and weeks are listed from the newest one
                table.reverse()
            for values, column in zip(series, COLUMNS[title], strict=True):
                assert values == [int(row[column].replace(",", "")) for row in table], title
            last = [[labels[-1], values[-1]] for values in series]
            assert point_at(chart) == last, title
            highest += [max(values) for values in series]
        assert sum(number > 0 for number in highest) > len(highest) / 2, path


def test_tools_in_every_order(page: Page, console: ConsoleProcess) -> None:
    page.goto(f"{console.address}/usage?days=30")
    for order in ("Busiest", "Slowest", "Failing"):
        page.get_by_role("link", name="Tools", exact=True).click()
        page.get_by_role("link", name=f"{order} first").click()
        expect(page.get_by_role("link", name=f"{order} first")).to_have_attribute(
            "aria-current", "true"
        )
        (chart,) = drawn(page, 1)
        labels, first, *_ = numbers(chart)
        assert labels == [row[0] for row in table_of(chart)]
        assert "issue_refund" in labels
        assert max(first) > 0
