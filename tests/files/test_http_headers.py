from __future__ import annotations

from datetime import datetime, timezone
from email.message import Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongo_datalayer.files import StoredFile
from mongo_datalayer.files.http_headers import (
    MAX_NAME,
    content_disposition,
    file_headers,
    file_name,
    parse_disposition,
    presentation_of,
)

PLAIN = "text/plain; charset=utf-8"
OCTETS = "application/octet-stream"


def stored(
    mime: str = OCTETS, name: str | None = None, key: str = "key", attachment: bool = False
) -> StoredFile:
    return StoredFile(
        file_id="id",
        object_key=key,
        size=1,
        mime=mime,
        sha256="00",
        uploaded_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
        name=name,
        attachment=attachment,
    )


@pytest.mark.parametrize(
    ("mime", "content_type", "inline"),
    [
        ("image/png", "image/png", True),
        ("IMAGE/PNG ; x=y", "image/png", True),
        ("image/svg+xml", "image/svg+xml", False),
        ("image/tiff", "image/tiff", False),
        ("audio/mpeg", "audio/mpeg", True),
        ("video/mp4", "video/mp4", True),
        ("application/pdf", "application/pdf", True),
        ("application/json", "application/json", True),
        ("text/plain", PLAIN, True),
        ("text/plain; charset=utf-7", PLAIN, True),
        ("text/csv", PLAIN, False),
        ("text/html", PLAIN, False),
        ("text/javascript", PLAIN, False),
        ("text/css", PLAIN, False),
        ("text/xml", PLAIN, False),
        ("application/javascript", OCTETS, False),
        ("application/xhtml+xml", OCTETS, False),
        ("application/xml", OCTETS, False),
        ("application/wasm", OCTETS, False),
        ("application/ld+json", OCTETS, False),
        ("multipart/x-mixed-replace", OCTETS, False),
        ("image/png\r\nset-cookie: a=b", OCTETS, False),
        ("image", OCTETS, False),
        ("", OCTETS, False),
    ],
)
def test_how_a_type_is_served(mime: str, content_type: str, inline: bool) -> None:
    shown = presentation_of(mime)
    assert (shown.content_type, shown.inline) == (content_type, inline)


@given(st.text())
@example("text/html")
@example("application/x-shockwave-flash")
def test_no_type_gets_out_that_a_browser_executes(mime: str) -> None:
    shown = presentation_of(mime)
    family, _, subtype = shown.content_type.partition("/")
    assert family in {"image", "audio", "video"} or shown.content_type in {
        PLAIN,
        OCTETS,
        "application/pdf",
        "application/json",
    }
    assert not (shown.inline and "xml" in subtype)
    assert shown.content_type.isascii()
    assert shown.content_type.isprintable()


def test_the_uploader_can_forbid_showing_a_file_but_not_allow_it() -> None:
    assert file_headers(stored("image/png"))["content-disposition"].startswith("inline;")
    refused = file_headers(stored("image/png", attachment=True))
    assert refused["content-disposition"].startswith("attachment;")
    html = file_headers(stored("text/html", attachment=False))
    assert html["content-disposition"].startswith("attachment;")


def test_everything_but_a_pdf_is_sandboxed() -> None:
    for mime in ("image/png", "image/svg+xml", "text/html", "video/mp4", "text/plain", "x"):
        headers = file_headers(stored(mime))
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert headers["content-security-policy"].endswith("; sandbox")
        assert headers["x-content-type-options"] == "nosniff"
    pdf = file_headers(stored("application/pdf"))["content-security-policy"]
    assert pdf.startswith("default-src 'none';")
    assert "sandbox" not in pdf


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("report.pdf", 'inline; filename="report.pdf"'),
        ("a b (1).txt", 'inline; filename="a b (1).txt"'),
        (
            "Ünïcödé 漢.txt",
            'inline; filename="_n_c_d_ _.txt"; '
            "filename*=UTF-8''%C3%9Cn%C3%AFc%C3%B6d%C3%A9%20%E6%BC%A2.txt",
        ),
        ("100%.txt", "inline; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
    ],
)
def test_a_name_in_the_header(name: str, header: str) -> None:
    assert content_disposition("inline", name) == header


@pytest.mark.parametrize(
    ("name", "key", "clean"),
    [
        (None, "threads/1/photo.png", "photo.png"),
        (None, "threads/1/", "file"),
        ("", "key", "file"),
        ("...", "key", "file"),
        ('a"b\\c/d.txt', "key", "a_b_c_d.txt"),
        ("../../etc/passwd", "key", "_.._etc_passwd"),
        ("line\r\nbreak.txt", "key", "line__break.txt"),
        ("line\u2028break.txt", "key", "line_break.txt"),
        ("photo_\u202egpj.exe", "key", "photo__gpj.exe"),
        ("\u2066\u200f\u061ca\u2069.txt", "key", "___a_.txt"),
        ("\U0001f469\u200d\U0001f4bb.png", "key", "\U0001f469\u200d\U0001f4bb.png"),
    ],
)
def test_a_name_to_save_under(name: str | None, key: str, clean: str) -> None:
    assert file_name(stored(name=name, key=key)) == clean


@given(st.text(st.characters()))
@example("x" * 300 + ".tar.gz")
@example("\ud83d")
@example('";x')
def test_any_name_makes_one_valid_header_that_can_be_read_back(name: str) -> None:
    clean = file_name(stored(name=name))
    header = content_disposition("attachment", clean)
    assert 0 < len(clean) <= MAX_NAME
    assert header.isascii()
    assert header.isprintable()
    assert not set(clean) & set('/\\"\r\n\0')
    message = Message()
    message["content-disposition"] = header
    assert message.get_content_disposition() == "attachment"
    if "filename*=" in header:
        del message["content-disposition"]
        message["content-disposition"] = "attachment; " + header[header.index("filename*=") :]
    # The email package strips what looks like a folded line; a browser does not.
    assert (message.get_filename() or "").strip() == clean.strip()


@pytest.mark.parametrize(
    ("header", "attachment", "name"),
    [
        ('attachment; filename="a b.txt"', True, "a b.txt"),
        ("attachment", True, None),
        ("INLINE; filename=x", False, "x"),
        ("attachment; filename*=UTF-8''%C3%A4.txt", True, "ä.txt"),
        ('attachment; filename="a\r\nb"', True, "a b"),
        ("nonsense", True, None),
    ],
)
def test_a_disposition_is_read(header: str, attachment: bool, name: str | None) -> None:
    assert parse_disposition(header) == (attachment, name)
