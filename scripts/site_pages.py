"""Makes the pages in ``docs/`` a site: a hook of mkdocs, named in ``scripts/mkdocs.yml``.

README.md and CHANGELOG.md are pages of the site too. A link to another file, such as
a test, becomes the path of that file, which is not on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_IMAGE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in the folder ``docs``."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links that lead somewhere on the site."""
    source = next((key for key, value in PAGES.items() if value == page.file.src_uri), None)
    path = source or posixpath.join("docs", page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        if "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        name, hash_sign, anchor = target.partition("#")
        name = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        if name.startswith("docs/") or name in PAGES:
            name = PAGES.get(name, name.removeprefix("docs/"))
            link = posixpath.relpath(name, here or ".")
            return match[0].replace(f"({target})", f"({link}{hash_sign}{anchor})")
        return f"{text} (`{name}`)" if text != f"`{name}`" else text

    return _IMAGE.sub(replaced, _LINK.sub(replaced, markdown))
