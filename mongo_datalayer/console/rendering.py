"""How stored texts become HTML. They are hostile: whatever they hold is shown and never runs."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import nh3
from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markupsafe import Markup

from mongo_datalayer.model.bson_values import to_bson
from mongo_datalayer.model.printable import readable_size
from mongo_datalayer.model.times import parse_time

SCHEMES = {"http", "https", "mailto"}
_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "code", "pre"),
    *("blockquote", "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_JSON_CHARS = 50_000
_MINUTE = 60

# Without pictures: they would be fetched from elsewhere. The rule's text remains, as a link.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_MARKDOWN.disable("image")


def markdown(text: str) -> Markup:
    """Markdown as HTML: no HTML of its own, no pictures, links to the web and to mail only."""
    html = nh3.clean(
        _MARKDOWN.render(text),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes=SCHEMES,
        link_rel="nofollow noreferrer noopener",
    )
    return Markup(html)  # noqa: S704 - sanitised just now


def web_address(value: Any) -> str | None:
    """The address, if a browser may be sent there; else None."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.netloc else None


def as_json(value: Any) -> str:
    """A stored value as indented JSON, cut where it is very long."""
    text = json.dumps(to_bson(value), indent=2, ensure_ascii=False, default=str)
    return (
        text if len(text) <= _JSON_CHARS else f"{text[:_JSON_CHARS]}\n… ({len(text):,} characters)"
    )


def as_time(value: Any) -> str:
    """A stored time to the second, in UTC."""
    moment = value if isinstance(value, datetime) else parse_time(value)
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def as_duration(seconds: float | None) -> str:
    """A duration as people read it."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"


def as_size(size: float | None) -> str:
    """A size in bytes as people read it."""
    return "" if size is None else readable_size(size)


def as_number(value: float) -> str:
    """A count with its thousands apart."""
    return f"{value:,.0f}"


def texts(value: Any) -> list[str]:
    """The texts in a stored list; nothing where it is no list."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def segment(text: Any) -> str:
    """A text as a value in the query of an address, or after its ``#``."""
    return quote(str(text).encode(errors="replace"), safe="")


@cache
def templates() -> Environment:
    """The templates of the console; everything in them is escaped."""
    environment = Environment(
        loader=PackageLoader("mongo_datalayer.console"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        markdown=markdown,
        json=as_json,
        time=as_time,
        duration=as_duration,
        size=as_size,
        number=as_number,
        segment=segment,
        texts=texts,
    )
    return environment
