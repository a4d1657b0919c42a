"""Conditional and partial requests, as RFC 9110 has them (sections 13 and 14).

Written out here because the parsers at hand differ from the RFC: Starlette's answers 400 to what
must be ignored, Werkzeug's refuses a suffix longer than the file.
"""

from __future__ import annotations

import re

_UNIT = re.compile(r"[ \t]*bytes[ \t]*=", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")
_ETAG = re.compile(r'(?:W/)?("[^"]*")')


class RangeNotSatisfiableError(Exception):
    """The range is outside of the file."""


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The part of a file of ``size`` bytes that a ``Range`` header asks for, end exclusive.

    None, for the whole file, without a header, or when it is malformed or asks for several parts.

    Raises:
        RangeNotSatisfiableError: no byte of the file is in the range.
    """
    # RFC 9110, 14.2: a server ignores a malformed range, and may ignore several.
    unit = None if header is None else _UNIT.match(header)
    if header is None or unit is None:
        return None
    specs = [spec.strip(" \t") for spec in header[unit.end() :].split(",")]
    specs = [spec for spec in specs if spec]  # RFC 9110, 5.6.1: empty list elements are ignored
    match = _SPEC.fullmatch(specs[0]) if len(specs) == 1 else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        return _from_first(int(first), int(last) if last else None, size)
    return _from_suffix(int(last), size) if last else None


def matches(header: str | None, etag: str) -> bool:
    """Whether an ``If-None-Match`` header names the file's ETag (weak comparison)."""
    if header is None:
        return False
    return header.strip() == "*" or etag in _ETAG.findall(header)


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether ``If-Range`` lets the range be served (strong comparison; dates never match)."""
    return if_range is None or if_range.strip() == etag


def _from_first(first: int, last: int | None, size: int) -> tuple[int, int] | None:
    if last is not None and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiableError
    return first, size if last is None else min(last + 1, size)


def _from_suffix(length: int, size: int) -> tuple[int, int] | None:
    if length == 0:
        raise RangeNotSatisfiableError
    # A suffix of an empty file is satisfiable, but no Content-Range can say so.
    return (max(size - length, 0), size) if size > 0 else None
