"""What a browser makes of a page: its scripts, its charts, and what would do harm."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class ServedPage(HTMLParser):
    """A page, taken apart.

    Attributes:
        scripts: The attributes of each script that is a file of the console.
        styles: The addresses of the styles and of the icon.
        charts: The numbers of each chart.
        tables: The ``id`` of what each chart names as its table.
        ids: Every ``id``.
        harmful: What else would run, or be fetched from elsewhere.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.styles: list[str] = []
        self.charts: list[dict[str, Any]] = []
        self.tables: list[str | None] = []
        self.ids: list[str | None] = []
        self.harmful: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "script" and "/static/" in (values.get("src") or ""):
            self.scripts.append(values)
        elif tag in ("script", "iframe", "object", "embed", "base", "style"):
            self.harmful.append(tag)
        elif tag == "link":
            self.styles.append(values.get("href") or "")
        for name, value in attrs:
            text = (value or "").strip().lower()
            is_link = name in ("href", "src", "action", "formaction")
            if name.startswith("on") or name == "style" or (is_link and "script:" in text[:20]):
                self.harmful.append(f"{tag} {name}={value}")
            if name == "src" and not text.startswith("/"):
                self.harmful.append(f"{tag} {name}={value}")
        if "data-chart" in values:
            self.charts.append(json.loads(values["data-chart"] or ""))
        if "aria-details" in values:
            self.tables.append(values["aria-details"])
        if "id" in values:
            self.ids.append(values["id"])

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script" and data.strip():
            self.harmful.append(data)
