"""The wheels of the extra ``demo``: what is in them, on every platform.

They are too large to be loaded in a test. ``python -m tests.testing.wheels`` reads the
listings anew, a few kilobytes of each wheel, and writes them beside this file.
"""

from __future__ import annotations

import io
import json
import re
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LISTINGS = Path(__file__).with_suffix(".json")
INDEX = "https://pypi.org/simple/{name}/"
INDEX_TYPE = "application/vnd.pypi.simple.v1+json"


class Platform(NamedTuple):
    """A platform, as environment markers call it.

    Attributes:
        sys_platform: What ``sys.platform`` is there.
        machine: What ``platform.machine()`` is there.
        tag: The platform tag of its wheels begins and ends so.
    """

    sys_platform: str
    machine: str
    tag: tuple[str, str]


PLATFORMS = (
    Platform("linux", "x86_64", ("manylinux", "x86_64")),
    Platform("linux", "aarch64", ("manylinux", "aarch64")),
    Platform("darwin", "arm64", ("macosx", "arm64")),
    Platform("darwin", "x86_64", ("macosx", "x86_64")),
    Platform("win32", "AMD64", ("win", "amd64")),
)


def requirements(platform: Platform) -> list[Requirement]:
    """What the extra ``demo`` installs on a platform."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^demo = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    all_of_them = [Requirement(text) for text in re.findall(r'^  "(.*)"', extra, re.MULTILINE)]
    environment = {"sys_platform": platform.sys_platform, "platform_machine": platform.machine}
    return [each for each in all_of_them if each.marker and each.marker.evaluate(environment)]


def wheel_of(requirement: Requirement, platform: Platform, names: Iterable[str]) -> str:
    """The wheel that pip takes on a platform for a requirement, among names of files."""
    version = str(requirement.specifier).removeprefix("==")
    first, last = platform.tag
    pattern = f"{requirement.name.replace('-', '_')}-{version}-.*-{first}[^-]*{last}.whl"
    fitting = [name for name in names if re.fullmatch(pattern, name)]
    assert len(fitting) == 1, f"{requirement} on {platform}: {names}"
    return fitting[0]


class RangeFile(io.RawIOBase):
    """A file behind HTTP that is read in pieces."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {0: 0, 1: self._position, 2: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        content = get(self._url, Range=f"bytes={self._position}-{end - 1}")
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def get(url: str, **headers: str) -> bytes:
    """The content at an address."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - https, see INDEX
    with urllib.request.urlopen(request) as response:  # noqa: S310
        content: bytes = response.read()
    return content


def read_listing(url: str, size: int) -> dict[str, int]:
    """The files in a wheel, as they are installed, with their sizes."""
    with zipfile.ZipFile(io.BufferedReader(RangeFile(url, size), 16 * 1024)) as wheel:
        # What a wheel has for site-packages may lie in a folder that says so.
        installed = {re.sub(r"^[^/]+\.data/purelib/", "", i.filename): i for i in wheel.infolist()}
        return {name: info.file_size for name, info in installed.items()}


def main() -> None:
    """Write the listings of all wheels that the extra ``demo`` may install."""
    listings: dict[str, dict[str, int]] = {}
    for platform in PLATFORMS:
        for requirement in requirements(platform):
            page = json.loads(get(INDEX.format(name=requirement.name), Accept=INDEX_TYPE))
            files = {file["filename"]: file for file in page["files"]}
            name = wheel_of(requirement, platform, list(files))
            listings[name] = read_listing(files[name]["url"], files[name]["size"])
    LISTINGS.write_text(json.dumps(listings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
