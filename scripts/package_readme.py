"""The README as a package index shows it: a hook of hatchling, named in pyproject.toml.

An index has only this page. So links to other files are made absolute, with the address of the
repository in ``[project.urls] Source`` of pyproject.toml. As long as that is not set, they become
plain text and the picture is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

README = Path(__file__).resolve().parents[1] / "README.md"

_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]+)\]\((?P<target>(?![a-z]+://|#)[^)\s]+)\)")


class PackageReadme(MetadataHookInterface):
    """Sets the field ``readme`` of the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README to ``metadata``, hatchling's form of ``[project]``."""
        source = metadata.get("urls", {}).get("Source")
        text = for_package_index(README.read_text(encoding="utf-8"), source)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def for_package_index(text: str, repository: str | None) -> str:
    """``text`` without relative links; ``repository`` is an address such as GitHub's, or None."""

    def absolute(link: re.Match[str]) -> str:
        if repository is None:
            return "" if link["picture"] else link["text"]
        folder = "raw" if link["picture"] else "blob"
        address = f"{repository.rstrip('/')}/{folder}/main/{link['target']}"
        return f"{link['picture']}[{link['text']}]({address})"

    return _LINK.sub(absolute, text)
