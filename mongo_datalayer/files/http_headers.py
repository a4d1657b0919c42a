"""How a browser may use a file: content type, inline or attachment, and the protecting headers.

Whoever can upload a file must not get a script to run as the site. So only types that no browser
executes keep their content type, and only some of them are shown in place. The rest is saved.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from email.message import Message
from pathlib import PurePosixPath
from urllib.parse import quote

from mongo_datalayer.files.documents import DEFAULT_MIME, StoredFile

PLAIN_TEXT = "text/plain; charset=utf-8"
MAX_NAME = 200

_SHOWN = frozenset(
    {
        "application/json",
        "application/pdf",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
    }
)
_MEDIA_TYPE = re.compile(r"(?:audio|image|text|video|application)/[a-z0-9][a-z0-9.+_-]{0,100}")

# `sandbox` gives the document an origin of its own and forbids scripts. Safari and older Chromes
# refuse to open their PDF viewer in a sandbox; the viewer is isolated from the site by itself.
_POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_SANDBOX_POLICY = f"{_POLICY}; sandbox"
_PDF_POLICY = f"{_POLICY}; object-src 'self'"

# What may stand in a token-like `filename`, and unencoded in `filename*` (RFC 8187, attr-char).
_NOT_ASCII_NAME = re.compile(r"[^A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]")
_ATTR_CHAR = "!#$&+-.^_`|~"


@dataclass(frozen=True)
class Presentation:
    """How one file is served.

    Attributes:
        content_type: Value of ``Content-Type``.
        inline: True when a browser may show it in place.
    """

    content_type: str
    inline: bool


def presentation_of(mime: str) -> Presentation:
    """How a file with this declared type is served; the default is to save it unopened.

    An SVG keeps its type, because ``<img>`` needs it and runs no scripts in it; opened by itself
    it is saved.
    """
    media_type = mime.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        return Presentation(DEFAULT_MIME, inline=False)
    family = media_type.partition("/")[0]
    inline = media_type in _SHOWN or family in {"audio", "video"}
    if family == "text":
        return Presentation(PLAIN_TEXT, inline)
    if inline or family == "image":
        return Presentation(media_type, inline)
    return Presentation(DEFAULT_MIME, inline=False)


def protecting_headers(content_type: str = PLAIN_TEXT) -> dict[str, str]:
    """The headers that every answer carries, whatever it is."""
    policy = _PDF_POLICY if content_type == "application/pdf" else _SANDBOX_POLICY
    return {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",  # the link is the permission to read
        "x-content-type-options": "nosniff",
    }


def file_headers(stored: StoredFile) -> dict[str, str]:
    """The headers that describe the file itself."""
    shown = presentation_of(stored.mime)
    kind = "inline" if shown.inline and not stored.attachment else "attachment"
    return {
        "content-type": shown.content_type,
        "content-disposition": content_disposition(kind, file_name(stored)),
        **protecting_headers(shown.content_type),
    }


def file_name(stored: StoredFile) -> str:
    """The name to save the file under: its own, else the last part of its key."""
    name = stored.name if stored.name is not None else stored.object_key.rpartition("/")[2]
    return _clean(name)


def content_disposition(kind: str, name: str) -> str:
    """The header of RFC 6266, with a plain name for old clients when the name is not ASCII."""
    plain_name = _NOT_ASCII_NAME.sub("_", name)
    header = f'{kind}; filename="{plain_name}"'
    if plain_name == name:
        return header
    return f"{header}; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def parse_disposition(header: str) -> tuple[bool, str | None]:
    """Whether a ``Content-Disposition`` asks for saving, and the name in it."""
    message = Message()
    message["content-disposition"] = " ".join(header.split())
    return message.get_content_disposition() != "inline", message.get_filename()


def _clean(name: str) -> str:
    """Without what could leave the folder or the header, and short enough for both."""
    visible = "".join(
        "_" if character in '/\\"' or unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in name
    ).strip(" .")
    if len(visible) > MAX_NAME:
        suffix = PurePosixPath(visible).suffix[:20]
        visible = visible[: MAX_NAME - len(suffix)] + suffix
    return visible or "file"
