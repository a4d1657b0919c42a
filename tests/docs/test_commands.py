"""The commands on the pages, run in their order on a small database, as a reader would."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from chainlit.user import User
from click.testing import CliRunner

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.cli import main
from tests.cli.commands import subcommands
from tests.docs.pages import DOCS, README, code_blocks, page_name
from tests.migrate.sources import TABLES

PROGRAM = "mongo-datalayer"
THREAD = "5f0c8f6e-2f4b-4f0e-9a59-6a1f3f1b2c10"
PAGES = [README, *sorted(page for page in DOCS.glob("*.md") if page.name != "cli.md")]
ELSEWHERE = re.compile(r"postgresql|\$DATABASE_URL|\.praison|^(?:demo|init|console)\b")
"""Commands that need another server, or serve until they are stopped: they are only parsed."""

_ASSIGNMENT = re.compile(r"^[A-Z_]+=\S*$")


def commands(page: Path) -> Iterator[tuple[list[str], str | None]]:
    """The arguments of each command on a page, and the file that its output goes to."""
    for language in ("sh", "bash"):
        for block in code_blocks(page, language):
            for line in block.replace("\\\n", " ").splitlines():
                if PROGRAM not in line:  # several lines may share a quotation
                    continue
                words = shlex.split(line, comments=True)
                while words and _ASSIGNMENT.match(words[0]):
                    del words[0]
                if words[:1] == [PROGRAM]:
                    arguments, _, target = " ".join(map(shlex.quote, words[1:])).partition(" '>' ")
                    yield shlex.split(arguments), target or None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_commands_of_a_crontab_are_understood(page: Path) -> None:
    for block in code_blocks(page, "text"):
        for line in re.findall(rf"^[0-9* ]+{PROGRAM} (.*)$", block, re.MULTILINE):
            _parsed(shlex.split(line.partition(" > ")[0]))


@pytest.fixture
async def _database(
    mongo_uri: str, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person with a thread, an old database to migrate, and the reader's folder."""
    layer = MongoDataLayer(mongo_uri, database=database_name)
    user = await layer.create_user(User(identifier="alice@example.com"))
    assert user is not None
    await layer.update_thread(THREAD, name="Where is my order?", user_id=user.id)
    step = {"id": "s1", "threadId": THREAD, "type": "user_message", "output": "Where is it?"}
    await layer.create_step({**step, "name": "alice"})  # type: ignore[typeddict-item]
    await layer.close()
    with sqlite3.connect(tmp_path / "chainlit.db") as old:
        for name, columns in TABLES.items():
            old.execute(f"CREATE TABLE {name} ({columns})")
    old.close()
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)


@pytest.mark.usefixtures("_database")
@pytest.mark.parametrize("page", [p for p in PAGES if any(commands(p))], ids=page_name)
def test_the_commands_of_a_page_run(page: Path, database_name: str) -> None:
    for arguments, target in commands(page):
        shown = shlex.join(arguments)
        command = _parsed(arguments)
        if ELSEWHERE.search(shown):
            continue
        arguments = [database_name if a == "chainlit" else a for a in arguments]
        asks = any(option.name == "yes" for option in command.params)
        result = CliRunner().invoke(main, [*arguments, *(["--yes"] if asks else [])])

        assert result.exit_code in (0, 1), f"{shown}\n{result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit), shown
        if target is not None:
            Path(target).write_text(result.stdout, encoding="utf-8")


def _parsed(arguments: list[str]) -> click.Command:
    """The command, once its arguments have been taken without running it."""
    command: click.Command = main
    while isinstance(command, click.Group):
        command, arguments = subcommands(command)[arguments[0]], arguments[1:]
    command.make_context(PROGRAM, list(arguments))
    return command
