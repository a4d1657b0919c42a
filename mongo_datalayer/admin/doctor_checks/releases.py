"""What is known of MongoDB's releases: until when they get fixes, and which lack an urgent one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

Release = tuple[int, ...]

# https://www.mongodb.com/legal/support-policy/lifecycles
_SUPPORTED_UNTIL: Mapping[Release, date] = {
    (4, 4): date(2024, 2, 29),
    (5, 0): date(2024, 10, 31),
    (6, 0): date(2025, 7, 31),
    (7, 0): date(2027, 8, 31),
    (8, 0): date(2029, 10, 31),
    (8, 1): date(2025, 9, 30),
    (8, 2): date(2026, 7, 31),
}
_FIRST_OF_UNKNOWN_END: Release = (8, 3)

HOLE = "CVE-2025-14847"
"""Anybody who reaches the port reads the server's memory, without a login, where it offers zlib."""

# https://nvd.nist.gov/vuln/detail/CVE-2025-14847; the releases in between got no fix.
_HOLE_CLOSED: Mapping[Release, int] = {
    (4, 4): 30,
    (5, 0): 32,
    (6, 0): 27,
    (7, 0): 28,
    (8, 0): 17,
    (8, 2): 3,
}
_FIRST_WITHOUT_HOLE: Release = (8, 3)


def numbers(version: str) -> Release:
    """The leading numbers of a version: ``7.0.14-rc1`` is 7, 0, 14."""
    matched = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in matched[0].split(".")) if matched else ()


def dotted(release: Release) -> str:
    """A release as people write it."""
    return ".".join(map(str, release))


def supported_until(version: str) -> date | None:
    """The last day with fixes for a version; None where MongoDB has not named one.

    A release between two that are listed ended before the older of them.
    """
    release = numbers(version)[:2]
    if release >= _FIRST_OF_UNKNOWN_END:
        return None
    listed = max((known for known in _SUPPORTED_UNTIL if known <= release), default=(4, 4))
    until = _SUPPORTED_UNTIL[listed]
    # The releases of a quarter: 7.1 to 7.3 ended long before 7.0.
    return until if listed == release else min(until, date(2024, 10, 31))


def has_hole(version: str) -> bool:
    """Whether this version has :data:`HOLE`."""
    release = numbers(version)
    if release[:2] >= _FIRST_WITHOUT_HOLE:
        return False
    fixed = _HOLE_CLOSED.get(release[:2])
    return fixed is None or (*release, 0, 0, 0)[2] < fixed


def first_without_hole(version: str) -> str:
    """The release to install instead of a version with :data:`HOLE`."""
    release = numbers(version)[:2]
    if release not in _HOLE_CLOSED:
        release = min((known for known in _HOLE_CLOSED if known > release), default=(8, 2))
    return f"{dotted(release)}.{_HOLE_CLOSED[release]}"
