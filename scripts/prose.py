#!/usr/bin/env python3
"""Prints how the documentation's pages read: figures per 1000 words, and words per sentence.

Code, links' targets and headings do not count. Tables count, but not for the length of sentences.
The bounds in ``MOST`` and ``LEAST_YOU`` are held by tests/docs/test_prose.py.

Example:
    python scripts/prose.py                 # every page
    python scripts/prose.py docs/files.md   # some pages
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MOST = {"semicolons": 1.7, "negations": 4.1, "subjects": 0.6, "sentence": 16.0}
"""What a page may have at most; a short page may have one of each in any case."""

LEAST_YOU = 6.0
"""How often a page for users says "you" at least."""

LABEL = 3
"""Words that a label may have: "What it costs." is not meant as a sentence."""

_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)
_IGNORED = re.compile(r"<!--.*?-->|^#+ [^\n]*$|^\|[-: |]+\|$|`[^`]*`|(?<=\])\([^)]*\)", re.M | re.S)
_SENTENCE = re.compile(r".+?(?:[.!?:](?=[\s)*_]|$)|$)", re.S)
_WORD = re.compile(r"\w[\w'-]*")
_SUBJECTS = ("who", "whose", "whoever", "what", "whatever")


@dataclass(frozen=True)
class Figures:
    """How one page reads.

    Attributes:
        words: How many words it has.
        counts: How many semicolons, "you", negations and relative subjects ("Who ends what …").
        sentence: Words of a sentence, on the average.
    """

    words: int
    counts: dict[str, int]
    sentence: float

    def rate(self, name: str) -> float:
        """``counts[name]`` per 1000 words."""
        return 1000 * self.counts[name] / max(self.words, 1)

    def excess(self) -> dict[str, float]:
        """The figures that are beyond :data:`MOST`."""
        found = {
            name: self.rate(name)
            for name, count in self.counts.items()
            if name in MOST and count > 1 and self.rate(name) > MOST[name]
        }
        return found | ({"sentence": self.sentence} if self.sentence > MOST["sentence"] else {})


def measure(text: str) -> Figures:
    """The figures of a page in Markdown."""
    prose = _IGNORED.sub(_replacement, _GENERATED.sub("", _CODE.sub("", text)))
    sentences = [words for block in _blocks(prose) for words in _sentences(block)]
    counts = {
        "semicolons": prose.count(";"),
        "you": len(re.findall(r"\byou(?:r|rs|rself)?\b", prose, re.I)),
        "negations": len(re.findall(r"\b(?:no|none|nobody)\b", prose, re.I)),
        "subjects": sum(
            words[0].lower() in _SUBJECTS and len(words) > LABEL for words in sentences
        ),
    }
    length = sum(map(len, sentences)) / max(len(sentences), 1)
    return Figures(len(_WORD.findall(prose)), counts, length)


def _blocks(prose: str) -> list[str]:
    """The paragraphs and the items of lists, without tables."""
    lines = ("" if line.startswith("|") else line for line in prose.splitlines())
    return re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", "\n" + "\n".join(lines))


def _sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence that is no question."""
    for sentence in _SENTENCE.findall(text):
        words = _WORD.findall(sentence)
        if words and not sentence.rstrip().endswith("?"):
            yield words


def _replacement(ignored: re.Match[str]) -> str:
    # Code in a sentence is one of its words.
    return "code" if ignored[0].startswith("`") else ""


def pages() -> list[Path]:
    """The README, the users' pages and the design notes."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    """Print a table."""
    paths = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    print(f"{'':38} semicolons  you    no/none  who/what  words  words of a sentence")
    for path in paths:
        figures = measure(path.read_text(encoding="utf-8"))
        rates = [figures.rate(name) for name in ("semicolons", "you", "negations", "subjects")]
        shown = "{:8.1f} {:6.1f} {:8.1f} {:9.1f}".format(*rates)
        mark = " <- " + ", ".join(figures.excess()) if figures.excess() else ""
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        print(f"{name!s:38} {shown} {figures.words:8} {figures.sentence:8.1f}{mark}")
    print(f"{'well-kept projects':38}  0.2-1.7   6-31   0.9-4.1     0-0.6")


if __name__ == "__main__":
    main()
