"""Reads the recipes from the page that the users read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "mongo-shell.md"
_RECIPE = re.compile(
    r"^### (?P<title>.+)\n(?P<text>(?:(?!#|```).*\n)*)```js\n(?P<code>[\s\S]*?)```$",
    re.MULTILINE,
)
_INDEXES = re.compile(r"^// index: (?P<names>.+)$")
_READS = re.compile(r"^// reads .+$")


@dataclass(frozen=True)
class Recipe:
    """One recipe of the page.

    Attributes:
        title: Its heading.
        text: What is said before the code.
        code: The code, with its first line.
    """

    title: str
    text: str
    code: str

    @property
    def indexes(self) -> list[set[str | None]]:
        """For each query the indexes the first line allows; empty where a collection is read whole.

        Their names are ``collection.index``.
        """
        first = self.code.splitlines()[0]
        named = _INDEXES.match(first)
        if named is None:
            assert _READS.match(first), f"{self.title}: {first!r} names no index"
            return []
        return [set(names.split(" or ")) for names in named["names"].split(", ")]

    @property
    def script(self) -> str:
        """The code, with the documents of its last statement's cursor as the result.

        A person at the prompt is shown the first documents of a cursor; ``--eval`` is not.
        """
        lines = self.code.splitlines()
        last = max(n for n, line in enumerate(lines) if line[:1].isalpha())
        before, statement = "\n".join(lines[:last]), "\n".join(lines[last:])
        return (
            f"{before}\nconst shown = {statement};\n"
            "typeof shown?.toArray === 'function' ? shown.toArray() : shown"
        )


def read_recipes(page: Path = PAGE) -> list[Recipe]:
    """The recipes of the page, in its order."""
    found = _RECIPE.finditer(page.read_text(encoding="utf-8"))
    return [Recipe(match["title"], match["text"].strip(), match["code"]) for match in found]
