#!/usr/bin/env python3
"""Opens each page of the console in a real browser, and prints what it cost.

For each page the documents that the server looked at, the milliseconds until it was answered and
until it was loaded: medians of a few visits. Made for a database of sample conversations that
nobody else uses. Needs the extra ``test`` and Debian's chromium.

Example:
    python scripts/sample_conversations.py --uri mongodb://localhost:27017 --database samples
    python scripts/console_pages.py --uri mongodb://localhost:27017 --database samples
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import click
from pictures import browser_page
from pymongo import MongoClient

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.end_to_end.console.process import ConsoleProcess  # noqa: E402

PAGES = (
    *("/", "/?user=alice@example.com", "/?since=2000-01-01", "/?feedback=down", "/?errors=1"),
    *("/?shared=1", "/?profile=Expert", "/?tag=vip", "/?tag=none", "/?tool=issue_refund"),
    *("/?tool=none", "/?min_steps=200", "/?max_steps=1", "/?search=invoice", "/?search=nowhere"),
    *("/feedback", "/feedback?open=1", "/feedback?tool=issue_refund", "/feedback?profile=Expert"),
    *("/feedback/counts", "/usage?days=7", "/usage?days=30", "/usage?days=90"),
    *("/usage?days=90&show=tools", "/usage?days=90&show=models", "/usage?show=storage"),
)
TIMES = """() => {
  const {startTime, responseEnd, loadEventEnd} = performance.getEntriesByType("navigation")[0]
  return [responseEnd - startTime, loadEventEnd - startTime]
}"""


@click.command()
@click.option("--uri", required=True)
@click.option("--database", default="samples", show_default=True)
@click.option("--visits", default=5, show_default=True, type=click.IntRange(1))
def main(uri: str, database: str, visits: int) -> None:
    """Print what each page of the console costs."""
    with (
        MongoClient[dict[str, object]](uri) as client,
        tempfile.TemporaryDirectory() as folder,
        ConsoleProcess(Path(folder), uri, database, "--create-index") as console,
        browser_page() as page,
    ):

        def looked_at() -> int:
            metrics = client.admin.command("serverStatus")["metrics"]
            return int(metrics["queryExecutor"]["scannedObjects"])

        page.goto(console.link)
        print(f"{'page':32}{'documents':>10}{'answered':>10}{'loaded':>8}")
        for path in PAGES:
            documents, times = [], []
            for _ in range(visits):
                before = looked_at()
                page.goto(console.address + path)
                documents.append(looked_at() - before)
                times.append(page.evaluate(TIMES))
            answered, loaded = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{path:32}{statistics.median(documents):10,.0f}{answered:10.0f}{loaded:8.0f}")


if __name__ == "__main__":
    main()
