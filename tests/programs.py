"""Programs that some tests drive and that pip does not install."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRE_ALL = "MONGO_DATALAYER_TESTS_REQUIRE_ALL"


def require_program(*names: str, what: str, how: str) -> Path:
    """The first of ``names`` that is found on the PATH.

    Where none is, the test is skipped, saying that ``what`` is left out and ``how`` to get the
    program; with ``MONGO_DATALAYER_TESTS_REQUIRE_ALL=1`` it fails instead.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    return left_out(f"{what}, as no {names[0]} was found. {how}")


def left_out(message: str) -> NoReturn:
    """Skip the test, saying what is left out; with ``MONGO_DATALAYER_TESTS_REQUIRE_ALL=1`` fail."""
    message = f"left out: {message}"
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(message)
    pytest.skip(message)


def require_chromium() -> Path:
    """Debian's Chromium, which the browser tests drive."""
    return require_program(
        "chromium",
        "chromium-browser",
        what="the tests in a real browser",
        how="On Debian: apt-get install chromium",
    )


def require_mongosh() -> Path:
    """The mongo shell, which runs the recipes of the docs."""
    return require_program(
        "mongosh", what="the tests in the mongo shell", how="npm install --global mongosh"
    )


def require_curl() -> Path:
    """The program that a page's examples send requests with."""
    return require_program(
        "curl", what="requests as a page shows them", how="On Debian: apt-get install curl"
    )
