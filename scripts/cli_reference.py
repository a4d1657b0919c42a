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

Every command with its options, as your terminal shows them:

```sh
mongo-datalayer --help
mongo-datalayer doctor --help
```

[Administration](administration.md) explains when you need which. A command that connects takes
`--uri` and `--database`, and else uses `MONGODB_URI` and `MONGODB_DATABASE`. If the server cannot
be used, or the arguments are wrong, you get one line on stderr and exit code 2.

## Completion

Let your shell complete commands and options. For Bash, put this into `~/.bashrc`:

```sh
eval "$(_MONGO_DATALAYER_COMPLETE=bash_source mongo-datalayer)"
```

For Zsh take `zsh_source`, in `~/.zshrc`. For fish, put this into a file in
`~/.config/fish/completions`:

```sh
_MONGO_DATALAYER_COMPLETE=fish_source mongo-datalayer | source
```

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
        for subcommand in sorted(command.list_commands(context)):
            child = command.get_command(context, subcommand)
            assert child is not None, subcommand  # noqa: S101 - the group has just listed it
            yield from helps(child, f"{name} {subcommand}")


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(reference(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != reference():
        print("docs/cli.md is stale. Run: python scripts/cli_reference.py", file=sys.stderr)
        sys.exit(1)
