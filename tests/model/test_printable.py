from __future__ import annotations

import pytest

from mongo_datalayer.model.printable import printable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nERROR forged\r\tb", r"a\nERROR forged\r\tb"),
        ("\x9b31m \x7f \x00", r"\x9b31m \x7f \x00"),
        ("fdp.\u202eexe \u2066 \u200f", r"fdp.\u202eexe \u2066 \u200f"),
        ("\u2028\u2029\udc80", r"\u2028\u2029\udc80"),
        ({"id": "\x1b"}, r"{'id': '\x1b'}"),
    ],
)
def test_what_acts_on_a_terminal_is_escaped(value: object, text: str) -> None:
    assert printable(value) == text


@pytest.mark.parametrize("text", ["", "Grüße, 世界", "👩‍💻", "שלום", "\\x1b", "a b"])
def test_all_other_text_stays(text: str) -> None:
    assert printable(text) == text
