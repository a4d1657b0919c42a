"""The charts of a page, as a person sees them and points at them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.end_to_end.browser.test_chat import wait_until

NUMBERS = """canvas => {
  const {labels, datasets} = Chart.getChart(canvas).data
  return [labels, ...datasets.map(dataset => dataset.data)]
}"""
PLACE = """(canvas, number) => {
  const chart = Chart.getChart(canvas)
  const bar = chart.getDatasetMeta(0).data.at(number).tooltipPosition()
  const {left, top} = chart.chartArea
  return chart.options.indexAxis === "x" ? {x: bar.x, y: top + 5} : {x: left + 5, y: bar.y}
}"""
TOOLTIP = """canvas => {
  const {opacity, dataPoints} = Chart.getChart(canvas).tooltip
  return opacity === 1 ? dataPoints.map(point => [point.label, point.raw]) : null
}"""
INKED = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
  .data.some(value => value > 0)"""
CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"


def drawn(page: Page, count: int) -> list[Locator]:
    """The charts of the page, once all are drawn."""
    expect(page.locator("canvas:visible")).to_have_count(count)
    charts = page.locator("canvas").all()
    assert all(chart.evaluate(INKED) for chart in charts)
    return charts


def numbers(chart: Locator) -> list[list[Any]]:
    """The labels, and the numbers of each series."""
    found: list[list[Any]] = chart.evaluate(NUMBERS)
    return found


def point_at(chart: Locator, number: int = -1) -> list[list[Any]]:
    """Point beside a bar, the last one by default; the label and the numbers that show up."""
    chart.scroll_into_view_if_needed()
    chart.hover(position=chart.evaluate(PLACE, number))
    wait_until(lambda: chart.evaluate(TOOLTIP) is not None)
    shown: list[list[Any]] = chart.evaluate(TOOLTIP)
    return shown


def table_of(chart: Locator) -> list[list[str]]:
    """The cells of the table that the chart names for screen readers."""
    name = chart.get_attribute("aria-details")
    rows: list[list[str]] = chart.page.locator(f"#{name} tbody tr").evaluate_all(CELLS)
    return rows
