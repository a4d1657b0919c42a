"""What keyword search costs: the plain pattern beside the one in use, over one user's threads.

Run by ``scripts/bench_search``. Each text is searched for with both patterns, in turn, so that the
machine's noise hits both alike, and both must find the same threads.
"""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pydoc_data.topics import topics
from typing import Any, NamedTuple
from unittest import mock

import click
from chainlit.types import Pagination, ThreadFilter
from pymongo import AsyncMongoClient
from rich.console import Console
from rich.table import Table

from mongo_datalayer import MongoDataLayer, pipelines
from mongo_datalayer.search import search_pattern
from mongo_datalayer.server import LocalServer

DATABASE = "search"
USER = "u1"
PAGE = 20
THREAD_BYTES = 8_000
"""At least so much text a thread has; it is about 10 kB then."""

STEPS = 12
POOL = 20_000
"""How many different sentences in each language, besides the rare words."""

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
GERMAN = ("ähnlich", "Äpfel", "öde", "Öffnung", "österlich", "über", "Übung", "ürig")
CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф"
SYLLABLES = ("ka", "ro", "lin", "ber", "to", "mas", "vi", "el", "dor", "an", "wie", "ton", "qui")


class Needle(NamedTuple):
    """A text to look for, and what kind of text it is."""

    kind: str
    text: str


class Corpus:
    """Texts with the words, and so the letters, of the Python manual as often as they are there.

    One thread of 30 is in Russian, one in Chinese, both made of random letters.
    """

    def __init__(self) -> None:
        self.random = random.Random(7)  # noqa: S311 - texts, not secrets
        self.words = Counter(re.findall(r"[A-Za-z]{2,}", " ".join(topics.values())))
        self._english = [self._sentence(list(self.words), self.words.values()) for _ in range(POOL)]
        han = [chr(self.random.randrange(0x4E00, 0x9FA5)) for _ in range(3000)]
        russian = ["".join(self.random.choices(CYRILLIC, k=7)) for _ in range(8000)]
        self._others = {
            0: [self._sentence(russian, range(8000, 0, -1)) for _ in range(POOL)],
            1: ["".join(self.random.choices(han, k=20)) + "。" for _ in range(POOL)],
        }

    def _sentence(self, words: Sequence[str], weights: Any) -> str:
        chosen = self.random.choices(words, weights=list(weights), k=60)
        if self.random.random() < 0.2:
            chosen[7] = self.random.choice(GERMAN)
        return " ".join(chosen) + ". "

    def name(self) -> str:
        """A word that is in few threads."""
        return "".join(self.random.choices(SYLLABLES, k=4))

    def thread(self, number: int) -> dict[str, Any]:
        """A thread as it is stored."""
        sentences = self._others.get(number % 30, self._english)
        made = START + timedelta(minutes=number)
        steps = []
        for step in range(STEPS):
            texts = [f"{self.name()} {self.random.randrange(10**6)} "]
            while sum(len(text.encode()) for text in texts) < THREAD_BYTES / STEPS:
                texts.append(self.random.choice(sentences))
            steps.append({"id": f"{number}-{step}", "input": "", "output": "".join(texts)})
        return {
            "_id": f"t{number:06d}",
            "userId": USER,
            "userIdentifier": "ada",
            "name": self.name(),
            "createdAt": made,
            "updatedAt": made,
            "metadata": {},
            "steps": steps,
            "elements": [],
        }

    def needles(self, each: int) -> list[Needle]:
        """What is looked for: ``each`` texts of each kind."""
        return [
            Needle(kind, text)
            for kind, make in self._kinds().items()
            for text in make_all(make, each)
        ]

    def _kinds(self) -> dict[str, Callable[[], str]]:
        choice = self.random.choice
        common = [word for word, _ in self.words.most_common(400) if len(word) > 3]
        russian, chinese = self._others[0], self._others[1]
        kinds: dict[str, Callable[[], str]] = {"a common word": lambda: choice(common)}
        for title, letters in (("s, k", "sk"), ("e, t, a, o, i, n", "etaoin"), ("others", None)):
            words = [word for word in self.words if begins(word, letters)]
            kinds[f"two words, first of {title}"] = partial(self._joined, words, words)
            kinds[f"absent, first of {title}"] = partial(self._absent, words)
        kinds["two words, first of ä, ö, ü"] = partial(self._joined, GERMAN, common)
        kinds["a rare name"] = self.name
        kinds["digits"] = lambda: str(self.random.randrange(10**5, 10**6))
        kinds["two Chinese letters"] = lambda: choice(chinese)[:2]
        kinds["five Chinese letters, absent"] = lambda: "".join(
            sentence[0] for sentence in self.random.choices(chinese, k=5)
        )
        kinds["a Russian word, absent"] = lambda: choice(russian)[:6] + "ёёё"
        return kinds

    def _joined(self, *words: Sequence[str]) -> str:
        return " ".join(self.random.choice(of) for of in words)

    def _absent(self, words: Sequence[str]) -> str:
        return self.random.choice(words) + self.name()


def begins(word: str, letters: str | None) -> bool:
    """Whether it begins with one of the letters; None means none of those that are told apart."""
    first = word[0].lower()
    return len(word) > 4 and (first in letters if letters else first not in "sketaoin")


def make_all(make: Callable[[], str], count: int) -> Iterator[str]:
    """So many texts."""
    for _ in range(count):
        yield make()


@contextmanager
def pattern(of: Callable[[str], str]) -> Iterator[None]:
    """Searches inside the block use this pattern."""
    with mock.patch.object(pipelines, "search_pattern", of):
        yield


def plain(search: str) -> str:
    """The text itself, escaped."""
    return re.escape(search).replace("\0", r"\x00")


async def searched(layer: MongoDataLayer, text: str) -> tuple[list[str], float]:
    """The ids of a page, and how long it took, in milliseconds."""
    began = time.perf_counter()
    page = await layer.list_threads(Pagination(first=PAGE), ThreadFilter(userId=USER, search=text))
    return [thread["id"] for thread in page.data], 1000 * (time.perf_counter() - began)


async def measured(layer: MongoDataLayer, needles: Sequence[Needle]) -> Table:
    """A table with a row for each kind."""
    table = Table("text", "hits", "plain p50, ms", "plain max", "used p50", "used max", "ratio")
    rows: dict[str, list[tuple[int, float, float]]] = {}
    for number, (kind, text) in enumerate(needles):
        times = {}
        for of in (plain, search_pattern) if number % 2 else (search_pattern, plain):
            with pattern(of):
                times[of] = await searched(layer, text)
        (found, before), (same, after) = times[plain], times[search_pattern]
        if found != same:
            raise SystemExit(f"{text!r} was found elsewhere: {found} and {same}.")
        rows.setdefault(kind, []).append((len(found), before, after))
    for kind, values in rows.items():
        hits, *both = ([value[column] for value in values] for column in range(3))
        row = (f"{figure(each):.1f}" for each in both for figure in (statistics.median, max))
        ratio = statistics.median(after / before for _, before, after in values)
        table.add_row(kind, f"{statistics.median(hits):.0f}", *row, f"{ratio:.2f}")
    return table


async def run(threads: int, each: int) -> None:
    """Store, measure and print."""
    corpus = Corpus()
    with LocalServer() as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri) as client:
            layer = MongoDataLayer(client=client, database=DATABASE, timeout_ms=120_000)
            await layer.create_indexes()
            stored = client[DATABASE]["threads"]
            for first in range(0, threads, 500):
                numbers = range(first, min(first + 500, threads))
                await stored.insert_many([corpus.thread(number) for number in numbers])
            await searched(layer, "warm up: in no thread at all")
            table = await measured(layer, corpus.needles(each))
            size = (await client[DATABASE].command("collStats", "threads"))["size"]
            version = (await client.server_info())["version"]
            table.title = f"{threads} threads, {size / 1e6:.0f} MB, MongoDB {version}"
    Console(width=130).print(table)


@click.command()
@click.option("--threads", default=10_000, show_default=True, help="Threads of the user.")
@click.option("--each", default=12, show_default=True, help="Texts of each kind.")
def main(threads: int, each: int) -> None:
    """What keyword search costs with the plain pattern and with the one in use."""
    asyncio.run(run(threads, each))


if __name__ == "__main__":
    main()
