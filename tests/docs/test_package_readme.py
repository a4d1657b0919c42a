"""What a package index shows: the README without links into nothing, and known classifiers."""

from __future__ import annotations

import re
import runpy

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from trove_classifiers import classifiers

from tests.docs.pages import README, ROOT

RELATIVE = re.compile(r"\]\((?!https?://|#)[^)]*\)")
TEXT = "![A picture](docs/images/demo.png) and [a page](docs/cli.md#x), [Chainlit](https://x.org)"


@pytest.mark.parametrize(
    ("repository", "shown"),
    [
        (None, " and a page, [Chainlit](https://x.org)"),
        (
            "https://forge.example/a/b/",
            "![A picture](https://forge.example/a/b/raw/main/docs/images/demo.png) and "
            "[a page](https://forge.example/a/b/blob/main/docs/cli.md#x), [Chainlit](https://x.org)",
        ),
    ],
)
def test_a_link_is_absolute_or_plain_text(repository: str | None, shown: str) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "package_readme.py"))

    assert script["for_package_index"](TEXT, repository) == shown


def test_the_package_has_a_readme_that_an_index_can_show() -> None:
    core = ProjectMetadata(str(ROOT), PluginManager()).core

    assert core.readme_content_type == "text/markdown"
    assert core.readme.startswith("# mongo-datalayer\n")
    assert RELATIVE.search(README.read_text(encoding="utf-8"))
    assert not RELATIVE.search(core.readme)
    assert set(core.classifiers) <= set(classifiers)
