"""The command line ``mongo-datalayer``: one module a command. It does not import Chainlit."""

from __future__ import annotations

import click

from mongo_datalayer import __version__
from mongo_datalayer.cli.demo import demo
from mongo_datalayer.cli.files import files
from mongo_datalayer.cli.indexes import indexes

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mongo-datalayer")
def main() -> None:
    """Chainlit conversations in MongoDB."""


main.add_command(demo)
main.add_command(files)
main.add_command(indexes)
