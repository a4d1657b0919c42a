"""The command line ``mongo-datalayer``: one module a command. It does not import Chainlit."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from mongo_datalayer import __version__

__all__ = ["main"]

_MODULES = {
    module.strip("_").replace("_", "-"): module
    for module in (
        *("setup", "indexes", "schema", "views", "search_index", "role", "scaling"),
        *("doctor", "stats", "prune", "erase_user", "files", "export", "import_", "migrate"),
        *("dataset", "threads", "init", "demo", "console"),
    )
}

READER_GONE = 141
"""The exit code when the reader of a pipe ended early: 128 and SIGPIPE, as of other programs."""


class _Commands(click.Group):
    """Loads a command on use: each starts sooner, and one needs only the packages it uses.

    scripts/create_indexes.py runs from a checkout where few are installed.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # `export | head`: nobody reads what is still to come, also at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(READER_GONE) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        name = _MODULES[cmd_name]
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="mongo-datalayer")
def main() -> None:
    """Chainlit and ChatKit conversations in MongoDB.

    Commands read MONGODB_URI and MONGODB_DATABASE from the environment, or from .env in the current
    folder.
    """
