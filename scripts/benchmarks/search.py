"""What keyword search costs over one user's threads: without the search index and with it.

Run by ``scripts/bench_search``. Each text is searched for in three ways: with the text itself,
escaped, as the pattern; with the pattern in use; and with the search index. They take turns, so
that the machine's noise hits all alike, and all must find the same threads.
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
from pymongo.asynchronous.database import AsyncDatabase
from rich.console import Console
from rich.table import Table

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.chainlit import lists
from mongo_datalayer.model.documents import SEARCH_WORDS
from mongo_datalayer.search.indexer import SearchIndexer
from mongo_datalayer.search.pattern import escaped, search_patterns, unicode_forms
from mongo_datalayer.server import LocalServer

DATABASE = "search"
BESIDE = "beside"
"""The same threads, without the search index."""

WRITES = 400
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


Patterns = Callable[[str], list[str]]
Way = tuple[MongoDataLayer, Patterns]


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
        kinds["a part of a word"] = lambda: choice(list(self.words))[1:6]
        kinds["3 to 24 characters of a text"] = self._piece
        kinds["two common words"] = partial(self._joined, common, common)
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

    def _piece(self) -> str:
        sentence = self.random.choice(self._english)
        start = self.random.randrange(len(sentence) - 30)
        return sentence[start : start + self.random.randint(3, 24)]

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
def patterns(make: Patterns) -> Iterator[None]:
    """Searches inside the block use these patterns."""
    with mock.patch.object(lists, "search_patterns", make):
        yield


def plain(search: str) -> list[str]:
    """The forms of the text, escaped."""
    return [escaped(form) for form in unicode_forms(search)]


async def searched(layer: MongoDataLayer, make: Patterns, text: str) -> tuple[list[str], float]:
    """The ids of a page that is searched with these patterns, and how many milliseconds it took."""
    filters = ThreadFilter(userId=USER, search=text)
    with patterns(make):
        began = time.perf_counter()
        page = await layer.list_threads(Pagination(first=PAGE), filters)
        return [thread["id"] for thread in page.data], 1000 * (time.perf_counter() - began)


async def measured(
    plainly: MongoDataLayer, indexed: MongoDataLayer, needles: Sequence[Needle]
) -> tuple[Table, list[float]]:
    """A table with a row for each kind, and the times with the search index."""
    ways: dict[str, Way] = {
        "escaped": (plainly, plain),
        "in use": (plainly, search_patterns),
        "index": (indexed, search_patterns),
    }
    columns = [f"{name} {figure}" for name in ways for figure in ("p50", "max")]
    table = Table("text", "hits", *columns)
    rows: dict[str, list[tuple[int, list[float]]]] = {}
    for number, (kind, text) in enumerate(needles):
        names = list(ways) if number % 2 else list(reversed(ways))
        results = {name: await searched(*ways[name], text) for name in names}
        found = {name: ids for name, (ids, _) in results.items()}
        if any(ids != found["escaped"] for ids in found.values()):
            raise SystemExit(f"{text!r} was found elsewhere: {found}.")
        times = [results[name][1] for name in ways]
        rows.setdefault(kind, []).append((len(found["escaped"]), times))
    for kind, values in rows.items():
        hits = statistics.median(count for count, _ in values)
        each = zip(*(times for _, times in values), strict=True)
        figures = (f"{of(way):.1f}" for way in each for of in (statistics.median, max))
        table.add_row(kind, f"{hits:.0f}", *figures)
    return table, sorted(times[-1] for values in rows.values() for _, times in values)


async def build(database: AsyncDatabase[dict[str, Any]]) -> str:
    """Build the search index; what that took, for each step of the threads."""
    began, busy = time.perf_counter(), time.process_time()
    built = await SearchIndexer(database).build(USER)
    took, busy = time.perf_counter() - began, time.process_time() - busy
    steps = built.threads * STEPS
    return (
        f"Built {built.segments} segments of {built.threads} threads in {took:.0f} s, "
        f"{1000 * took / steps:.2f} ms a step ({1000 * busy / steps:.2f} ms of this process)."
    )


async def writes(layers: Sequence[MongoDataLayer]) -> str:
    """What appending a step takes where the thread is in the search index, and where there is none.

    The first layer's database has none. Each thread is written to once.
    """
    times: list[list[float]] = [[] for _ in layers]
    for number in range(WRITES):
        for place in (0, 1) if number % 2 else (1, 0):
            thread_id = f"t{number * 7:06d}"
            step: Any = {"id": f"new-{number}", "threadId": thread_id, "output": "a new step"}
            began = time.perf_counter()
            await layers[place].create_step(step)
            times[place].append(1000 * (time.perf_counter() - began))
    without, within = (statistics.median(each) for each in times)
    return f"Appending a step, p50: {without:.3f} ms without, {within:.3f} ms with the index."


async def space(database: AsyncDatabase[dict[str, Any]]) -> str:
    """What the search index takes, beside the threads."""
    threads = await database.command("collStats", "threads")
    words = await database.command("collStats", SEARCH_WORDS)
    marks = threads["indexSizes"]["user_search"]
    ratio = (words["size"] + words["totalIndexSize"] + marks) / threads["size"]
    stored = (words["storageSize"] + words["totalIndexSize"] + marks) / threads["storageSize"]
    return (
        f"The threads have {threads['size'] / 1e6:.0f} MB, the search index {ratio:.2f} times that "
        f"({stored:.2f} times compressed, on disk)."
    )


async def run(threads: int, each: int) -> None:
    """Store, measure and print."""
    corpus = Corpus()
    console = Console(width=150)
    with LocalServer() as server:
        async with AsyncMongoClient[dict[str, Any]](server.uri) as client:
            plainly = MongoDataLayer(client=client, database=DATABASE, timeout_ms=120_000)
            beside = MongoDataLayer(client=client, database=BESIDE, timeout_ms=120_000)
            await plainly.create_indexes()
            await beside.create_indexes()
            for first in range(0, threads, 500):
                numbers = range(first, min(first + 500, threads))
                stored = [corpus.thread(number) for number in numbers]
                await client[DATABASE]["threads"].insert_many(stored)
                await client[BESIDE]["threads"].insert_many(stored)
            indexed = MongoDataLayer(
                client=client, database=DATABASE, timeout_ms=120_000, search_index=True
            )
            await indexed.create_indexes()
            console.print(await build(client[DATABASE]))
            for layer in (plainly, indexed):
                await searched(layer, search_patterns, "warm up: in no thread at all")
            table, times = await measured(plainly, indexed, corpus.needles(each))
            version = (await client.server_info())["version"]
            table.title = f"{threads} threads, MongoDB {version}, ms"
            console.print(table)
            p50, p90, p99 = (times[int(len(times) * part)] for part in (0.5, 0.9, 0.99))
            console.print(f"With the index, all texts: p50 {p50:.1f}, p90 {p90:.1f}, p99 {p99:.1f}")
            await client.admin.command("fsync")
            console.print(await space(client[DATABASE]))
            console.print(await writes((beside, indexed)))
            await indexed.close()


@click.command()
@click.option("--threads", default=10_000, show_default=True, help="Threads of the user.")
@click.option("--each", default=12, show_default=True, help="Texts of each kind.")
def main(threads: int, each: int) -> None:
    """What keyword search costs, without the search index and with it."""
    asyncio.run(run(threads, each))


if __name__ == "__main__":
    main()
