"""The small text the demo answers from, and the search in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TEXT = Path(__file__).with_name("handbook.md")

# A title says what its section is about: a word found there counts for more.
TITLE_WEIGHT = 4
MOST_SECTIONS = 2

_COMMON_WORDS = """
a about all am an and any are as at be been by can could did do does for from get give go had has
have hello hi how i if in into is it its kept know make may me my not of on or our please say show
so some tell that the their them then there they this to us use used was we were what when where
which who why will with work works would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True)
class Section:
    """One section of the handbook."""

    title: str
    text: str


def read_handbook() -> tuple[Section, ...]:
    """All sections, in their order in the text."""
    parts = TEXT.read_text(encoding="utf-8").split("# ")[1:]
    titles_and_texts = (part.partition("\n") for part in parts)
    return tuple(Section(title.strip(), text.strip()) for title, _, text in titles_and_texts)


def telling_words(question: str) -> tuple[str, ...]:
    """The words worth searching for, in their order, each once."""
    words = (word for word in _words(question) if word not in _COMMON)
    return tuple(dict.fromkeys(words))


def find_sections(words: Sequence[str], sections: Iterable[Section]) -> tuple[Section, ...]:
    """The sections that say most about ``words``, best first; none when no word occurs.

    A section that says less than half as much as the best is left out.
    """
    stems = {_stem(word) for word in words}
    scores = {section: _score(section, stems) for section in sections}
    enough = max(1, max(scores.values(), default=0) // 2)
    found = sorted(
        (section for section, score in scores.items() if score >= enough),
        key=lambda section: (-scores[section], section.title),
    )
    return tuple(found[:MOST_SECTIONS])


def _score(section: Section, stems: set[str]) -> int:
    in_title = Counter(_stem(word) for word in _words(section.title))
    in_text = Counter(_stem(word) for word in _words(section.text))
    return sum(TITLE_WEIGHT * in_title[stem] + in_text[stem] for stem in stems)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _stem(word: str) -> str:
    """One form for `step`, `steps`, `favourite`, `favorites`, `sharing`, `shared`."""
    short = word.replace("favour", "favor")
    for ending in ("ing", "ed", "es", "s", "e"):
        if short.endswith(ending) and len(short) - len(ending) >= 3:
            return short.removesuffix(ending)
    return short
