"""Datasets: read back by those who read them, filtered, interrupted and resumed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import shlex
import signal
import stat
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.admin.dataset import (
    COLUMNS,
    Dataset,
    csv_lines,
    markdown_text,
    openai_line,
    sharegpt_line,
    turns,
)
from mongo_datalayer.admin.dataset_parquet import ROW_GROUP
from mongo_datalayer.admin.selection import Selection
from tests.chainlit.order.turn import Turn
from tests.cli.commands import DEADLINE_SECONDS, NOBODY, Done, run, slowed
from tests.cli.people import LARGE, Documents, put_long_thread, put_person
from tests.docs.pages import DOCS

MESSAGES = TypeAdapter(list[ChatCompletionMessageParam])
TOOL = "search"


@pytest.fixture
async def filled(database: Documents) -> Documents:
    """Two people with short conversations, a turn with a tool, and a long conversation."""
    await put_person(database, "alice", threads=2)
    await put_long_thread(database, "long", "carol")
    layer = MongoDataLayer(client=database.client, database=database.name)
    user = await layer.get_user("carol")
    assert user is not None
    for call in Turn("turn", user.id).calls:
        if call.item != "chart":  # its file needs a storage client
            await call.run(layer)
    await layer.update_thread("turn", metadata={"chat_profile": "GPT", "is_shared": True})
    return database


async def dataset(where: tuple[str, ...], *options: str) -> Done:
    done = await run("dataset", *options, *where)
    assert done.code == 0, done
    return done


def frame(text: str) -> Any:
    return pd.read_csv(io.StringIO(text), keep_default_na=False)


@pytest.mark.usefixtures("filled")
async def test_openai_takes_each_line(where: tuple[str, ...]) -> None:
    done = await dataset(where, "--format", "openai-jsonl")

    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [list(line) for line in lines] == [["messages"]] * 4
    for line in lines:
        MESSAGES.validate_python(line["messages"], strict=True)
    roles = [message["role"] for message in lines[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert done.err == "4 conversations written.\n"


@pytest.mark.usefixtures("filled")
async def test_the_form_of_sharegpt(where: tuple[str, ...]) -> None:
    done = await dataset(where, "--format", "sharegpt", "--tag", "production")

    (line,) = [json.loads(line) for line in done.out.splitlines()]
    assert list(line) == ["id", "conversations"]
    assert [set(message) for message in line["conversations"]] == [{"from", "value"}] * 4
    people = [message["from"] for message in line["conversations"]]
    assert people == ["human", "function_call", "observation", "gpt"]
    call = json.loads(line["conversations"][1]["value"])
    assert call == {"name": TOOL, "arguments": {"query": "$100"}}


@pytest.mark.usefixtures("filled")
async def test_pandas_reads_a_row_a_turn(where: tuple[str, ...]) -> None:
    done = await dataset(where, "--format", "csv")

    rows = frame(done.out)
    assert tuple(rows.columns) == COLUMNS
    long = rows[rows.thread_id == "long"]
    assert list(long.turn) == list(range(1, 9))
    assert list(long.question) == [LARGE if n == 1 else f"text {n}" for n in range(8)]
    assert list(long.feedback) == ["up"] + [""] * 7
    turn = rows[rows.thread_id == "turn"].iloc[0]
    assert (turn.question, turn.answer) == ("edited on the way", "Once upon a time.")
    assert (turn.user, turn.profile, turn.shared, turn.errors) == ("carol", "GPT", True, 1)
    assert (turn.feedback, json.loads(turn.tools), json.loads(turn.tags)) == (
        *("down", [TOOL]),
        ["production", "a.b"],
    )
    # What comes before a user's message is turn 0; here every message has one.
    assert len(rows) == 2 + 8 + 1


@pytest.mark.usefixtures("filled")
async def test_pandas_reads_parquet_in_two_parts(where: tuple[str, ...], tmp_path: Path) -> None:
    csv = frame((await dataset(where, "--format", "csv")).out)
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    options = ("--format", "parquet", *where, "--output")
    await run("dataset", *options, str(first))
    resumed = ("--after", "alice/1")
    done = await run("dataset", *resumed, *options, str(second))
    again = await run("dataset", *resumed, *options, str(second))
    piped = await run("dataset", "--format", "parquet", *where)

    rows = pd.read_parquet(first)
    assert tuple(rows.columns) == COLUMNS
    for name in ("thread_id", "turn", "question", "answer", "errors", "shared"):
        assert list(rows[name]) == list(csv[name])
    assert list(rows.iloc[-1].tags) == ["production", "a.b"]
    assert (done.code, done.out) == (0, "2 conversations written.\n")
    assert pd.read_parquet(second).equals(rows[2:].reset_index(drop=True))
    assert (again.code, piped.code) == (2, 2)
    assert "cannot be appended to" in again.err
    assert "Parquet needs a file" in piped.err


@pytest.mark.usefixtures("filled")
async def test_markdown_has_each_message(where: tuple[str, ...]) -> None:
    done = await dataset(where, "--format", "markdown", "--user", "alice")

    message = "## user\n\n> text 0 of alice\n\n## assistant\n\n> text 1 of alice\n\n"
    times = "2026-01-02T03:04:00.123000Z"
    pages = [f"# of alice\n\nConversation `alice/{n}`, {times}\n\n{message}" for n in (0, 1)]
    assert done.out == "".join(pages)


EVERY = ["alice/0", "alice/1", "long", "turn"]
DAY = datetime(2026, 1, 2, tzinfo=timezone.utc)
NEXT_DAY = DAY + timedelta(days=1)
SELECTIONS: list[tuple[Selection, list[str]]] = [
    (Selection(), EVERY),
    (Selection(feedback="up"), EVERY[:3]),
    (Selection(feedback="down"), EVERY[3:]),
    (Selection(feedback="any"), EVERY),
    (Selection(feedback="up", user="carol"), EVERY[2:3]),
    (Selection(tool=TOOL), EVERY[3:]),
    (Selection(tool="model"), []),
    (Selection(errors=True), EVERY[3:]),
    (Selection(shared=True), EVERY[3:]),
    (Selection(profile="GPT"), EVERY[3:]),
    (Selection(tag="a.b"), EVERY[3:]),
    (Selection(since=DAY), EVERY[:3]),
    (Selection(since=NEXT_DAY), []),
    (Selection(before=NEXT_DAY), EVERY),
    (Selection(before=DAY), EVERY[3:]),
]


async def test_what_is_selected(filled: Documents) -> None:
    for selection, ids in SELECTIONS:
        source = Dataset(filled, selection)
        found = [thread["id"] async for thread in source.threads(await source.filter())]

        assert found == ids, selection


@pytest.mark.usefixtures("filled")
async def test_every_option(where: tuple[str, ...]) -> None:
    days = ("--since", "2024-05-06", "--until", "2024-05-06")
    contents = ("--feedback", "down", "--tool", TOOL, "--errors", "--shared", "--after", "long")
    of = ("--user", "carol", "--tag", "a.b", "--profile", "GPT")
    done = await dataset(where, "--format", "sharegpt", *days, *contents, *of)

    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["turn"]


@pytest.mark.parametrize(
    ("format", "number"),
    [("csv", signal.SIGINT), ("sharegpt", signal.SIGHUP), ("parquet", signal.SIGTERM)],
)
async def test_interrupted_and_resumed_gives_the_same(
    database: Documents, mongo_uri: str, tmp_path: Path, format: str, number: signal.Signals
) -> None:
    await put_long_thread(database, "a long", "carol")
    await put_turns(database, "b", ROW_GROUP)
    ids = [f"it's {number:04}" for number in range(1050)]  # several pages
    await database.threads.insert_many([{"_id": thread_id, "steps": [SHORT]} for thread_id in ids])
    options = ("dataset", "--database", database.name, "--format", format)
    whole, piece = tmp_path / "whole", tmp_path / "piece"
    done = await run(*options, "--uri", mongo_uri, "--output", str(whole))

    async with slowed(database, "find", milliseconds=1000) as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", "--output", str(piece))
        process = await started(*options, *slow)
        # The turns of "b" are a row group, and with it all formats have written a page.
        while not (piece.exists() and piece.stat().st_size > PAGE_BYTES):
            assert process.returncode is None
            await asyncio.sleep(0.01)
        process.send_signal(number)
        _, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    option = err.decode().splitlines()[0].partition("Continue with ")[2]
    written = piece.read_bytes()
    rest = tmp_path / "rest" if format == "parquet" else piece
    again = ("--uri", mongo_uri, *shlex.split(option), "--output", str(rest))
    resumed = await run(*options, *again)

    assert (done.code, process.returncode, resumed.code) == (0, 130, 0), resumed
    assert 0 < len(written) < len(whole.read_bytes())
    assert stat.S_IMODE(piece.stat().st_mode) == 0o600
    if format == "parquet":
        pieces = [pd.read_parquet(path) for path in (piece, rest)]
        assert min(map(len, pieces)) > 0
        assert pd.concat(pieces, ignore_index=True).equals(pd.read_parquet(whole))
    else:
        assert piece.read_bytes() == whole.read_bytes()


SHORT = {"id": "s", "type": "user_message", "output": "short"}
PAGE_BYTES = 16_000


async def put_turns(database: Documents, thread_id: str, count: int) -> None:
    steps = [{**SHORT, "id": str(n), "output": f"turn {n}"} for n in range(count)]
    await database.threads.insert_one({"_id": thread_id, "steps": steps})


async def started(
    *arguments: str, preexec: Callable[[], object] = lambda: None
) -> asyncio.subprocess.Process:
    """The command as a process, also where the tests run under nohup."""

    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        preexec()

    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mongo_datalayer.cli", *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=prepare,
    )


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_a_full_disk_ends_it_in_one_line(
    database: Documents,
    where: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
) -> None:
    # Coverage would write a file as well, and complain at the end.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    await put_turns(database, "a", 1)
    await put_turns(database, "b", ROW_GROUP)
    limit = PAGE_BYTES, PAGE_BYTES

    process = await started(
        *("dataset", "--format", format, "--output", str(tmp_path / "file"), *where),
        preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)

    # A Parquet file without its end cannot be read, so there is nothing to go on from.
    told = ["Incomplete. Continue with --after a"] if format == "csv" else []
    *lines, error = err.decode().splitlines()
    assert (process.returncode, lines) == (2, told)
    assert error.startswith("Error: The output cannot be written: ")


@pytest.mark.parametrize("command", [("dataset", "--format", "csv"), ("export",)])
async def test_without_a_standard_output_it_asks_for_a_file(
    where: tuple[str, ...], command: tuple[str, ...]
) -> None:
    process = await started(*command, *where, preexec=lambda: os.close(1))
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)

    assert process.returncode == 2
    assert err.decode().splitlines()[-1] == (
        "Error: There is no standard output to write to. Name a file with --output."
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--after", ""), "--after is empty"),
        (("--since", "2026-03-01", "--until", "2026-02-28"), "--since is a later day than --until"),
        (("--since", "2026-02-30"), "'--since': '2026-02-30' is not like 2026-01-31.\n"),
    ],
)
async def test_options_that_cannot_be_meant(
    where: tuple[str, ...], options: tuple[str, ...], reason: str
) -> None:
    done = await run("dataset", "--format", "csv", *options, *where)

    assert (done.code, done.out) == (2, "")
    assert reason in done.err


def thread(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    header = {"id": "t", "name": "n", "userIdentifier": "u", "tags": [], "metadata": {}}
    empty = {"name": "", "input": "", "output": "", "isError": None, "feedback": None}
    times = {"createdAt": "2026-01-02T03:04:05Z"}
    filled = [{"id": str(n), **empty, **times, **step} for n, step in enumerate(steps)]
    return {**header, **times, "steps": filled, "elements": [], **fields}


def test_a_cell_is_no_formula() -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1", 'quoted "=1"\nline']
    rows = frame(
        ",".join(COLUMNS)
        + "\n"
        + csv_lines(thread(*({"type": "user_message", "output": text} for text in texts)))
    )

    assert list(rows.question) == [f"'{text}" for text in texts[:6]] + texts[6:]


def test_what_comes_before_the_first_message_is_turn_0() -> None:
    welcome = {"type": "assistant_message", "output": "Hello"}
    found = list(turns(thread(welcome, {"type": "user_message", "output": "Hi"}, welcome, welcome)))

    assert [(t.turn, t.question, t.answer) for t in found] == [
        (0, "", "Hello"),
        (1, "Hi", "Hello\n\nHello"),
    ]
    assert list(turns(thread())) == []


def test_a_fence_in_a_result_does_not_end_its_block() -> None:
    result = {"type": "tool", "name": "run", "output": "```\n# not a heading"}

    assert "> ````\n> ```\n> # not a heading\n> ````" in markdown_text(thread(result))


HOSTILE = "x\n## user\n\u2028# Other\n\nTitle\n===\n<!-- open\n```\nopen"


def test_no_text_of_a_chapter_looks_like_a_message() -> None:
    element = {
        "id": "e",
        "forId": "0",
        "type": "file",
        "name": HOSTILE,
        "url": "https://x.example/",
    }
    text = markdown_text(
        thread(
            {"type": "user_message", "output": HOSTILE},
            {"type": "tool", "name": "run\n## user", "output": HOSTILE},
            {"type": "assistant_message", "output": HOSTILE},
            name="x\n## user",
            elements=[element],
        )
    )

    headings = ["# x ## user", "## user", "## tool run ## user", "## assistant"]
    assert [line for line in text.splitlines() if line.startswith("#")] == headings
    assert "[x\n> ## user" in text
    # A reader of Markdown finds the same: what is open in a quotation ends with it.
    found = [
        inline.content
        for token, inline in pairwise(MarkdownIt().parse(text))
        if token.type == "heading_open" and token.level == 0
    ]
    assert found == [heading.lstrip("# ") for heading in headings]


def test_a_tool_has_its_own_name_where_no_api_reads_it() -> None:
    called = thread({"type": "tool", "name": "Order lookup", "output": "found"})

    assert "## tool Order lookup" in markdown_text(called)
    (function, _) = json.loads(sharegpt_line(called))["conversations"]
    assert json.loads(function["value"])["name"] == "Order lookup"
    (call, _) = json.loads(openai_line(called))["messages"]
    assert call["tool_calls"][0]["function"]["name"] == "Order_lookup"


def test_a_line_stays_one_for_every_reader() -> None:
    said = "".join(map(chr, range(0x3000)))
    message = thread({"type": "user_message", "output": said})

    for line, key in (
        (openai_line(message), "messages"),
        (sharegpt_line(message), "conversations"),
    ):
        (whole,) = line.splitlines()
        (read,) = json.loads(whole)[key]
        assert said in read.values()


@pytest.mark.usefixtures("filled")
async def test_a_missing_user_leaves_an_earlier_file(
    where: tuple[str, ...], tmp_path: Path
) -> None:
    target = tmp_path / "earlier"
    target.write_text("kept")

    options = ("--user", "nobody", "--output", str(target))
    done = await run("dataset", "--format", "csv", *options, *where)

    assert (done.code, done.err) == (1, "Error: There is no user 'nobody'.\n")
    assert target.read_text() == "kept"


async def test_a_damaged_thread_is_left_out_and_told(
    filled: Documents, where: tuple[str, ...]
) -> None:
    await filled.thread_overflow.delete_many({"thread": "long", "steps": {"$exists": True}})

    done = await run("dataset", "--format", "csv", *where)

    assert done.code == 1
    assert "Error: The thread 'long' is damaged; left out." in done.err
    assert set(frame(done.out).thread_id) == {"alice/0", "alice/1", "turn"}


@pytest.mark.usefixtures("filled")
async def test_no_output_and_no_server(where: tuple[str, ...], tmp_path: Path) -> None:
    unwritable = await run(
        "dataset", "--format", "csv", "--output", str(tmp_path / "no" / "file"), *where
    )
    down = await run("dataset", "--format", "csv", "--uri", NOBODY)

    assert "cannot be written" in unwritable.failed_with_one_line()
    assert "No MongoDB answered" in down.failed_with_one_line()


async def test_the_summary_as_json(
    filled: Documents, where: tuple[str, ...], tmp_path: Path
) -> None:
    await filled.thread_overflow.delete_many({"thread": "long", "steps": {"$exists": True}})
    options = ("dataset", "--format", "sharegpt", "--json", *where)

    done = await run(*options, "--output", str(tmp_path / "lines"))
    piped = await run(*options)

    summary = {"conversations": 3, "complete": True, "last": "turn", "damaged": ["long"]}
    assert done.code == piped.code == 1
    assert json.loads(done.out) == summary
    assert json.loads(piped.err.partition("Error:")[0]) == summary
    assert len(piped.out.splitlines()) == 3


def test_the_page_has_every_column() -> None:
    page = (DOCS / "datasets.md").read_text(encoding="utf-8")

    listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for name in listed if name in COLUMNS] == list(COLUMNS)
