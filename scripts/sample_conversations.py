#!/usr/bin/env python3
"""Fills a database with the conversations of a shop's assistant, to try the console or a query on.

Weeks of questions by forty people, with tools that fail now and then, feedback, tokens, tags and
profiles, some very long conversations, and ChatKit's threads. The newest end now. A --seed gives
the same conversations again, and those that are in the database already stay as they are.

Example:
    python scripts/sample_conversations.py --uri mongodb://localhost:27017 --database samples
    python scripts/sample_conversations.py --database samples --count 500 --weeks 4
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click

if find_spec("mongo_datalayer") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mongo_datalayer.admin.importer import Import
from mongo_datalayer.chatkit.payloads import date_of, sort_key
from mongo_datalayer.cli.app import database_command
from mongo_datalayer.cli.terminal import count_list
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.schema.indexes import apply_console_indexes, apply_indexes

Record = dict[str, Any]

NAMES = (
    *("alice", "bob", "carol", "david", "emma", "farid", "grace", "hana", "ivan", "julia"),
    *("karim", "lena", "marco", "nadia", "oscar", "priya", "quinn", "rosa", "samir", "tara"),
    *("ugo", "vera", "wei", "xenia", "yusuf", "zoe", "anton", "bella", "chen", "dora"),
    *("eli", "fatima", "georg", "helen", "imran", "jana", "kofi", "luis", "maya", "nils"),
)
PROFILES, PROFILE_WEIGHTS = ("Support", "Sales", "Expert"), (70, 20, 10)
TAGS, TAG_WEIGHTS = ("billing", "delivery", "returns", "bug", "vip"), (30, 30, 25, 10, 5)
MODELS, MODEL_WEIGHTS = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4"), (70, 20, 10)
PRAISE = ("Exactly what I needed", "Quick and right", "Thanks, that helped", "Very clear")
COMPLAINTS = (
    "That is another order",
    "It did not answer my question",
    "The link is dead",
    "Far too slow",
    "Wrong price, the shop says something else",
)
SENTENCES = (
    "Parcels leave the warehouse on the same day if you order before noon.",
    "You can send back what you have not used within thirty days, and we pay the postage.",
    "The invoice is in your account under **Orders**, and a copy went to your e-mail address.",
    "The carrier tried to deliver it twice, so it waits at the pick-up point nearby.",
    "If the parcel was damaged, take a photograph of it before you open it.",
    "The refund takes three to five working days, depending on your bank.",
    "Both sizes are in stock. The larger one comes from another warehouse and takes a day longer.",
    "You can change the address as long as the parcel has not been handed to the carrier.",
)
FOLLOW_UPS = (
    "And when does it arrive?",
    "Can somebody else pick it up?",
    "How much is the postage?",
    "Please send me the invoice as well.",
    "What about order {order}?",
    "Are you sure?",
    "What do I have to do now?",
)


class Tool(NamedTuple):
    """A tool of the assistant: how long it takes as a rule, and how often it fails."""

    name: str
    seconds: float
    failing: float
    answer: str


SEARCH = Tool("search_handbook", 0.4, 0.003, "Delivery, Returns, Invoices")
ORDERS = Tool("find_order", 0.2, 0.01, '{{"order": {order}, "state": "sent", "items": 2}}')
PARCEL = Tool("track_parcel", 2.5, 0.06, '{{"order": {order}, "place": "Utrecht"}}')
REFUND = Tool("issue_refund", 1.1, 0.12, '{{"order": {order}, "refund": "requested"}}')
STOCK = Tool("query_warehouse", 6.0, 0.02, '{{"size": "M", "stock": 14}}')


class Topic(NamedTuple):
    """What people ask about, and the tools that the assistant then calls."""

    questions: Sequence[str]
    tools: Sequence[Tool]


TOPICS, TOPIC_WEIGHTS = (
    (
        Topic(
            ("Where is my order {order}?", "Has order {order} been sent?", "Order {order} is late"),
            (ORDERS, PARCEL),
        ),
        Topic(
            (
                "I want to return order {order}",
                "How do I send something back?",
                "Where is my refund?",
            ),
            (ORDERS, SEARCH, REFUND),
        ),
        Topic(
            ("Please send me the invoice of order {order}", "The invoice has the wrong address"),
            (ORDERS, SEARCH),
        ),
        Topic(("Do you have the jacket in M?", "When are the boots back?"), (STOCK,)),
        Topic(
            ("How long do you keep my data?", "Do you deliver abroad?", "Opening hours?"), (SEARCH,)
        ),
    ),
    (40, 20, 15, 10, 15),
)


@dataclass
class Samples:
    """Conversations made from a seed.

    Attributes:
        now: The end of the newest ones.
        weeks: How far back the oldest begin.
        seed: Gives the same conversations again.
    """

    now: datetime
    weeks: int = 13
    seed: int = 1

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - no secret

    def records(self, count: int) -> Iterator[Record]:
        """The people, ``count`` conversations, and a ChatKit thread for every tenth of them."""
        since = self.now - timedelta(weeks=self.weeks)
        users = [
            {"_id": self._id(), "identifier": f"{name}@example.com", "metadata": {}}
            | {"displayName": name.title(), "createdAt": since}
            for name in NAMES
        ]
        yield from ({"type": "user", "document": user} for user in users)
        busy = [1 / (rank + 3) for rank in range(len(users))]
        for number, begin in enumerate(self._begins(count, since)):
            (user,) = self._random.choices(users, busy)
            yield {"type": "thread", "document": self._thread(user, begin)}
            if number % 10 == 0:
                (user,) = self._random.choices(users, busy)
                yield {"type": "chatkit-thread", "document": self._chatkit_thread(user, begin)}

    def _begins(self, count: int, since: datetime) -> list[datetime]:
        """When the conversations begin: in growing numbers, by day, and rarely at weekends."""
        days = [since + timedelta(days=number) for number in range(7 * self.weeks)]
        weights = [
            (0.6 + number / len(days)) * (0.3 if day.weekday() > 4 else 1)
            for number, day in enumerate(days)
        ]
        return sorted(
            # Two hours before the end at least, as a conversation takes its time.
            min(
                day.replace(hour=0, minute=0, second=0)
                + timedelta(hours=self._random.triangular(6, 22, 13)),
                self.now - timedelta(hours=self._random.uniform(2, 9)),
            )
            for day in self._random.choices([*days[1:], self.now], weights, k=count)
        )

    def _thread(self, user: Record, begin: datetime) -> Record:
        is_long = self._random.random() < 0.005
        turns = self._random.randint(50, 150) if is_long else self._length()
        thread_id = self._id()
        at, steps = begin, []
        (topic,) = self._random.choices(TOPICS, TOPIC_WEIGHTS)
        for number in range(turns):
            question = self._random.choice(FOLLOW_UPS if number else topic.questions)
            steps += self._turn(user, topic, question.format(order=self._order()), at)
            at = _moment(steps[-1]["createdAt"]) + timedelta(seconds=self._random.uniform(10, 25))
            if self._random.random() < 0.02 and at < self.now - timedelta(days=2):
                at += timedelta(days=1)  # the person comes back to it
        if self._random.random() < 0.12:
            self._rate(self._random.choice([step for step in steps if step["type"] == "run"]))
        metadata = {"chat_profile": self._random.choices(PROFILES, PROFILE_WEIGHTS)[0]}
        shared = {"is_shared": True} if self._random.random() < 0.02 else {}
        tagged = self._random.random() < 0.3
        return {
            "_id": thread_id,
            "name": steps[0]["output"],
            "userId": user["_id"],
            "userIdentifier": user["identifier"],
            "tags": self._random.choices(TAGS, TAG_WEIGHTS) if tagged else [],
            "metadata": {**metadata, **shared},
            "createdAt": begin,
            "updatedAt": _moment(steps[-1]["createdAt"]),
            "steps": steps,
            "elements": [],
        }

    def _turn(self, user: Record, topic: Topic, question: str, at: datetime) -> list[Record]:
        """A question, its run, the tools, the model's generation and the answer."""
        asked = self._step("user_message", user["identifier"], at, output=question)
        run = self._step("run", "on_message", at, parent=asked, input=question)
        steps = [asked, run]
        failed = False
        for tool in topic.tools if self._random.random() < 0.8 else ():
            failed = self._random.random() < tool.failing
            output = "TimeoutError: no answer" if failed else tool.answer.format(order=4711)
            step = self._step("tool", tool.name, at, parent=run, input=question, output=output)
            at += timedelta(seconds=tool.seconds * self._random.lognormvariate(0, 0.5))
            steps.append(step | {"isError": failed, "end": _text(at)})
        answer = " ".join(self._random.sample(SENTENCES, self._random.randint(2, 5)))
        if failed:
            answer = f"I could not look that up just now. {answer}"
        model = self._step("llm", "answer", at, parent=run, input=question, output=answer)
        model["generation"] = self._generation(question, answer)
        at += timedelta(seconds=model["generation"]["duration"])
        model["end"] = run["end"] = _text(at)
        return [*steps, model, self._step("assistant_message", "Shop", at, run, output=answer)]

    def _generation(self, question: str, answer: str) -> Record:
        given = self._random.randint(300, 1800)
        returned = len(answer) // 4
        return {
            "type": "CHAT",
            "provider": "a provider",
            "model": self._random.choices(MODELS, MODEL_WEIGHTS)[0],
            "settings": {"temperature": 0.2},
            "messages": [{"role": "user", "content": question}],
            "messageCompletion": {"role": "assistant", "content": answer},
            "inputTokenCount": given,
            "outputTokenCount": returned,
            "tokenCount": given + returned,
            "duration": round(self._random.lognormvariate(0.5, 0.5), 3),
        }

    def _step(
        self,
        kind: str,
        name: str,
        at: datetime,
        parent: Record | None = None,
        *,
        input: str = "",  # noqa: A002 - Chainlit's name
        output: str = "",
    ) -> Record:
        return {
            "id": self._id(),
            "type": kind,
            "name": name,
            **({} if parent is None else {"parentId": parent["id"]}),
            "createdAt": _text(at),
            "start": _text(at),
            "end": _text(at),
            **({"input": input, "showInput": "json"} if input else {}),
            "output": output,
            "isError": False,
            "waitForAnswer": False,
            "metadata": {},
        }

    def _rate(self, run: Record) -> None:
        value = int(self._random.random() < 0.75)
        comments = (PRAISE if value else COMPLAINTS) if self._random.random() < 0.5 else (None,)
        comment = self._random.choice(comments)
        run["feedback"] = {
            "id": self._id(),
            "forId": run["id"],
            "value": value,
            **({} if comment is None else {"comment": comment}),
            "updatedAt": _moment(run["end"]) + timedelta(seconds=self._random.randint(5, 90)),
        }

    def _chatkit_thread(self, user: Record, begin: datetime) -> Record:
        owner, at = user["identifier"], begin
        thread_id = f"thr_{self._id()[:8]}"
        items: list[Record] = []
        for _ in range(self._length()):
            for kind, text in (
                ("user_message", {"type": "input_text", "text": self._random.choice(FOLLOW_UPS)}),
                ("assistant_message", {"type": "output_text", "annotations": []}),
            ):
                text.setdefault("text", self._random.choice(SENTENCES))
                items.append(self._chatkit_item(thread_id, kind, text, at))
                at += timedelta(seconds=self._random.uniform(2, 20))
        if self._random.random() < 0.1:
            items[-1]["feedback"] = {"kind": "positive", "at": at}
        payload = {"id": thread_id, "title": None, "created_at": _local(begin)}
        return {
            "_id": {"owner": owner, "id": thread_id},
            "sortKey": f"{sort_key(begin, _microseconds(begin))} {thread_id}",
            "createdAt": date_of(begin),
            "updatedAt": at,
            "thread": {**payload, "status": {"type": "active"}, "metadata": {}},
            "sequence": _microseconds(at),
            "items": items,
        }

    def _chatkit_item(self, thread_id: str, kind: str, text: Record, at: datetime) -> Record:
        item_id = f"msg_{self._id()[:8]}"
        asked: Record = {"attachments": [], "quoted_text": None, "inference_options": {}}
        own = {"id": item_id, "thread_id": thread_id, "created_at": _local(at), "type": kind}
        return {
            "id": item_id,
            "type": kind,
            "createdAt": date_of(at),
            "sortKey": sort_key(at, _microseconds(at)),
            "item": {**own, "content": [text], **(asked if kind == "user_message" else {})},
        }

    def _length(self) -> int:
        """How many questions a conversation has: three or four on average."""
        return 1 + min(int(self._random.expovariate(0.4)), 20)

    def _order(self) -> int:
        return self._random.randint(1000, 9999)

    def _id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _text(at: datetime) -> str:
    """A time as Chainlit writes it."""
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:-1] + "+00:00")


def _local(at: datetime) -> str:
    """A time as ChatKit writes it."""
    return at.astimezone().replace(tzinfo=None).isoformat()


def _microseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


async def fill(database: Database, samples: Samples, count: int) -> dict[str, int]:
    """Store ``count`` conversations with the indexes; returns what was stored, by kind."""
    importer = Import(database, FileBucket(database), replace=False)
    imported = await importer.store(samples.records(count))
    # Afterwards: an index is built in less time than it is kept.
    await apply_indexes(database)
    await apply_console_indexes(database)
    return dict(imported.stored)


@click.command()
@database_command(creates=True)
@click.option(
    "--count",
    default=10_000,
    show_default=True,
    type=click.IntRange(1),
    help="How many conversations.",
)
@click.option(
    "--weeks",
    default=13,
    show_default=True,
    type=click.IntRange(1, 520),
    help="Over how many weeks until now.",
)
@click.option(
    "--seed", default=1, show_default=True, help="Another number makes other conversations."
)
async def main(database: Database, *, count: int, weeks: int, seed: int) -> None:
    """Fill a database with sample conversations."""
    began = time.monotonic()
    stored = await fill(database, Samples(datetime.now(timezone.utc), weeks, seed), count)
    kinds = (("users", "user"), ("threads", "thread"), ("chatkit_threads", "ChatKit thread"))
    counts = count_list((stored.get(name, 0), noun) for name, noun in kinds)
    print(f"Stored in {database.name}: {counts}, in {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
