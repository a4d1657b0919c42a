"""The counted costs are those on the page docs/design/costs.md; they change only on purpose."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from mongo_datalayer import MongoDataLayer
from tests.costs.figures import REWRITE, Figures, differences, markdown, read
from tests.costs.measure import SECTIONS, measure
from tests.costs.operations import NOT_OF_A_CHAT
from tests.costs.page import expected

SERVER = "6.0."
"""Which MongoDB the figures were counted on; others choose other plans."""

SMALL = {"A thread": {"get_thread": Figures(1, 2, 3, 4, 1_500, 1_234_567)}}


async def test_operations_cost_what_the_page_says(mongo_uri: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        version = (await client.server_info())["version"]
    if not version.startswith(SERVER):
        pytest.skip(f"the figures are those of MongoDB {SERVER}x, and this is {version}")
    differing = differences(expected(), await measure(mongo_uri))
    assert not differing, "\n".join(["", *differing, f"If that is meant: {REWRITE}"])


def test_every_operation_is_counted() -> None:
    counted = {name.split()[0] for section in SECTIONS.values() for name in section.operations}
    methods = {
        name
        for name, _ in inspect.getmembers(MongoDataLayer, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert counted == methods - NOT_OF_A_CHAT


def test_the_table_is_read_as_it_was_written() -> None:
    assert read(markdown(SMALL)) == SMALL
    assert "1,234,567" in markdown(SMALL)


@pytest.mark.parametrize("heading", range(len(Figures._fields)))
@pytest.mark.parametrize(("change", "said"), [(1, "grew"), (-1, "fell")])
def test_each_figure_is_compared_exactly(heading: int, change: int, said: str) -> None:
    figures = list(SMALL["A thread"]["get_thread"])
    figures[heading] += change
    (line,) = differences(SMALL, {"A thread": {"get_thread": Figures(*figures)}})
    assert line.startswith("A thread: get_thread: ")
    assert said in line
    assert (REWRITE in line) == (change < 0)


def test_what_is_only_in_one_table_is_told() -> None:
    assert "not counted any more" in differences(SMALL, {})[0]
    assert "not in the table" in differences({}, SMALL)[0]
    assert not differences(SMALL, SMALL)
