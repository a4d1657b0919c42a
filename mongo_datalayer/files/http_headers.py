"""How a browser may use a file: content type, inline or attachment, and the protecting headers.

An uploaded file must never run scripts as the site. So only types that no browser executes keep
their content type, and only some of them are shown in place. The rest is saved.
"""

from __future__ import annotations

import re
from email.message import Message
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

from mongo_datalayer.files.stored_file import DEFAULT_MIME, StoredFile

PLAIN_TEXT = "text/plain; charset=utf-8"
MAX_NAME = 200

_SHOWN = {"application/json", "application/pdf", "text/plain"}
_SHOWN |= {f"image/{kind}" for kind in ("avif", "bmp", "gif", "jpeg", "png", "webp")}
_MEDIA_TYPE = re.compile(r"(?:audio|image|text|video|application)/[a-z0-9][a-z0-9.+_-]{0,100}")

# `sandbox` gives the document an origin of its own and forbids scripts. Safari and older Chromes
# refuse to open their PDF viewer in a sandbox; the viewer is isolated from the site by itself.
_POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_SANDBOX_POLICY = f"{_POLICY}; sandbox"
_PDF_POLICY = f"{_POLICY}; object-src 'self'"

# Old clients take `filename` literally; `filename*` may have the attr-char of RFC 8187 unencoded.
_NOT_ASCII_NAME = re.compile(r"[^A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]")
_ATTR_CHAR = "!#$&+-.^_`|~"

# Control characters, lone surrogates, and what turns the direction of text around: with it
# "gpj.exe" reads as a picture. Nothing that leaves the folder or breaks the header, either.
_UNSAFE_IN_NAME = re.compile(
    r'[/\\"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)


class Presentation(NamedTuple):
    """The ``Content-Type`` of a file, and whether a browser may show it in place."""

    content_type: str
    inline: bool


def presentation_of(mime: str) -> Presentation:
    """How a file with this declared type is served; an unknown type is saved unopened."""
    media_type = mime.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        return Presentation(DEFAULT_MIME, inline=False)
    family = media_type.partition("/")[0]
    inline = media_type in _SHOWN or family in {"audio", "video"}
    if family == "text":
        return Presentation(PLAIN_TEXT, inline)
    # An SVG keeps its type for `<img>`, which runs no scripts in it; opened by itself it is saved.
    if inline or family == "image":
        return Presentation(media_type, inline)
    return Presentation(DEFAULT_MIME, inline=False)


def protecting_headers(content_type: str = PLAIN_TEXT) -> dict[str, str]:
    """The headers that every answer carries, refusals too."""
    policy = _PDF_POLICY if content_type == "application/pdf" else _SANDBOX_POLICY
    return {
        "content-security-policy": policy,
        # The address carries the token: it must not reach other sites.
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def file_headers(stored: StoredFile) -> dict[str, str]:
    """The headers of an answer with the file."""
    presentation = presentation_of(stored.mime)
    kind = "inline" if presentation.inline and not stored.attachment else "attachment"
    return {
        "content-type": presentation.content_type,
        "content-disposition": content_disposition(kind, file_name(stored)),
        **protecting_headers(presentation.content_type),
    }


def file_name(stored: StoredFile) -> str:
    """The name to save the file under: its own, else the last part of its key."""
    name = stored.object_key.rpartition("/")[2] if stored.name is None else stored.name
    visible = _UNSAFE_IN_NAME.sub("_", name).strip(" .")
    if len(visible) > MAX_NAME:  # more than file systems take
        suffix = PurePosixPath(visible).suffix[:20]
        visible = visible[: MAX_NAME - len(suffix)] + suffix
    return visible or "file"


def content_disposition(kind: str, name: str) -> str:
    """The header of RFC 6266, with an ASCII name for old clients."""
    plain_name = _NOT_ASCII_NAME.sub("_", name)
    header = f'{kind}; filename="{plain_name}"'
    if plain_name == name:
        return header
    return f"{header}; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def parse_disposition(header: str | None) -> tuple[bool, str | None]:
    """Whether a ``Content-Disposition`` asks for saving, and the name in it."""
    if header is None:
        return False, None
    message = Message()
    message["content-disposition"] = " ".join(header.split())
    return message.get_content_disposition() != "inline", message.get_filename()
