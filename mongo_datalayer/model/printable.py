"""Text for a terminal or a log: what the ids and names of browsers hold cannot act there."""

from __future__ import annotations

import unicodedata

# Escape sequences and line breaks, halves of surrogate pairs, and the separators of lines.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Marks of writing direction, which show text in another order than it has.
_BIDI_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_BYTES = 1024
_UNITS = ("B", "kB", "MB", "GB", "TB")


def printable(value: object) -> str:
    """The value as one line of text: control characters and direction marks are escaped."""
    return "".join(map(_escaped, str(value)))


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as ``1 thread`` and ``1,200 threads``.

    Args:
        count: The count.
        noun: The noun in the singular. Its plural ends in s; ``{s}`` says where, if not at the end.
    """
    plural = "" if count == 1 else "s"
    return f"{count:,} {noun.format(s=plural) if '{s}' in noun else noun + plural}"


def readable_size(size: float) -> str:
    """A size in bytes as people read it, such as ``1.5 MB``."""
    for unit in _UNITS[:-1]:
        if size < _BYTES:
            return f"{size:.0f} {unit}" if unit == _UNITS[0] else f"{size:.1f} {unit}"
        size /= _BYTES
    return f"{size:.1f} {_UNITS[-1]}"


def _escaped(character: str) -> str:
    if character in _BIDI_MARKS or unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character
