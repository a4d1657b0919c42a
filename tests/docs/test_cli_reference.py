"""The reference of the command line is what the commands say."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click import Group
from click.testing import CliRunner

from mongo_datalayer.cli import main
from tests.cli.commands import subcommands
from tests.docs.pages import DOCS, ROOT

SCRIPT = ROOT / "scripts" / "cli_reference.py"


def test_the_page_is_not_stale() -> None:
    check = [sys.executable, str(SCRIPT), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", subcommands(main))
def test_every_command_has_its_section_and_an_example(name: str) -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    command = subcommands(main)[name]
    ends = (
        [f"{name} {inner}" for inner in subcommands(command)]
        if isinstance(command, Group)
        else [name]
    )

    for words in ends:
        section = page.partition(f"\n## mongo-datalayer {words}\n")[2].partition("\n## ")[0]
        assert f"Example: mongo-datalayer {words}" in section, words


GROUPS = [name for name, command in subcommands(main).items() if isinstance(command, Group)]


@pytest.mark.parametrize("group", [[], *([name] for name in GROUPS)], ids=str)
def test_80_columns_show_what_each_command_does(group: list[str]) -> None:
    done = CliRunner().invoke(main, [*group, "--help"], terminal_width=80)
    _, _, listed = done.output.partition("Commands:")

    assert listed
    assert "..." not in listed
