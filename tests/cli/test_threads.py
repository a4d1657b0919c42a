"""Conversations on the terminal: listed, searched, shown."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import run
from tests.cli.people import Documents, put_long_thread, put_person


@pytest.fixture(autouse=True)
async def _filled(database: Documents) -> None:
    await put_person(database, "alice", threads=2)
    await put_long_thread(database, "long", "carol")


async def test_the_list_goes_on_at_its_cursor(where: tuple[str, ...]) -> None:
    first = await run("threads", "list", "--limit", "1", *where)
    cursor = first.err.split()[-1]
    rest = await run("threads", "list", "--cursor", cursor, *where)
    of = await run("threads", "list", "--user", "carol", "--feedback", "up", *where)
    none = await run("threads", "list", "--tool", "none", *where)

    assert first.err.startswith("There is more: --cursor ")
    assert "long" in first.out
    assert "alice/1" in rest.out
    assert "alice/0" in rest.out
    assert "long" not in rest.out
    assert "long" in of.out
    assert "alice" not in of.out
    assert (none.code, none.out) == (0, "No conversations.\n")


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("search", "text")], ids=str)
async def test_a_user_who_does_not_exist_is_told(
    where: tuple[str, ...], command: tuple[str, ...]
) -> None:
    missing = await run("threads", *command, "--user", "alcie", *where)
    silent = await run("threads", "list", "--user", "alice", "--tool", "none", *where)

    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "Error: There is no user 'alcie'.\n"
    assert (silent.code, silent.out) == (0, "No conversations.\n")


async def test_the_search_shows_its_hit(where: tuple[str, ...]) -> None:
    found = await run("threads", "search", "text 1 of", *where)
    overflowed = await run("threads", "search", "text 2", *where)
    empty = await run("threads", "search", " ", *where)

    assert "text 1 of alice" in found.out
    assert "long" not in found.out
    assert "text 2" in overflowed.out
    assert empty.code == 2


async def test_lists_and_conversations_as_json(where: tuple[str, ...]) -> None:
    first = await run("threads", "list", "--limit", "1", "--json", *where)
    listed = json.loads(first.out)
    rest = await run("threads", "list", "--json", "--cursor", listed["cursor"], *where)
    found = await run("threads", "search", "text 1 of", "--json", *where)
    shown = await run("threads", "show", "long", "--json", *where)

    assert (first.code, first.err, rest.err) == (0, "", "")
    (entry,) = listed["threads"]
    assert (entry["id"], entry["userIdentifier"], entry["tags"]) == ("long", "carol", [])
    assert entry["updatedAt"].endswith("Z")
    assert "hit" not in entry
    assert [thread["id"] for thread in json.loads(rest.out)["threads"]] == ["alice/1", "alice/0"]
    assert (json.loads(rest.out)["cursor"], listed["searched_back_to"]) == (None, None)
    assert [t["hit"] for t in json.loads(found.out)["threads"]] == ["text 1 of alice"] * 2
    thread = json.loads(shown.out)
    assert (thread["id"], len(thread["steps"]), len(thread["elements"])) == ("long", 8, 1)


async def test_a_long_conversation_is_shown_whole(where: tuple[str, ...]) -> None:
    shown = await run("threads", "show", "long", *where)
    missing = await run("threads", "show", "none", *where)

    assert shown.out.count("## user") == 8
    assert (missing.code, missing.err) == (1, "Error: There is no thread 'none'.\n")


async def test_a_cursor_of_somebody_else_is_refused(where: tuple[str, ...]) -> None:
    done = await run("threads", "list", "--cursor", "no cursor", *where)

    assert "cursor" in done.failed_with_one_line()
