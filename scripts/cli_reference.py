#!/usr/bin/env python3
"""Writes docs/cli.md, the reference of the command line, from the commands' own help.

Example:
    python scripts/cli_reference.py          # writes the page
    python scripts/cli_reference.py --check  # changes nothing; exits with 1 when the page is stale
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mongo_datalayer.cli import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
PROGRAM = "mongo-datalayer"
WIDTH = 88

INTRODUCTION = """\
# Command line

What each command does, and when to use it, is in [administration](administration.md). Here is what
the commands say about themselves with `--help`. Every command that connects takes `--uri` and
`--database`, else `MONGODB_URI` and `MONGODB_DATABASE`. All end with exit code 2 and one line on
stderr when the server cannot be used or the arguments are wrong.

<!-- written by scripts/cli_reference.py -->
"""


def reference() -> str:
    """The page."""
    sections = (f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps(main, PROGRAM))
    return "\n".join([INTRODUCTION, *sections])


def helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of all below it."""
    context = click.Context(
        command,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=main.context_settings["help_option_names"],
    )
    yield name, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from helps(command.commands[below], f"{name} {below}")


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(reference(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != reference():
        print("docs/cli.md is stale. Run: python scripts/cli_reference.py", file=sys.stderr)
        sys.exit(1)
