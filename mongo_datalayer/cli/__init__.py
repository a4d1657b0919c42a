"""The command line ``mongo-datalayer``: one module a command. It does not import Chainlit."""

from __future__ import annotations

import click

from mongo_datalayer import __version__
from mongo_datalayer.cli.demo import demo
from mongo_datalayer.cli.doctor import doctor
from mongo_datalayer.cli.erase_user import erase_user
from mongo_datalayer.cli.export import export
from mongo_datalayer.cli.files import files
from mongo_datalayer.cli.import_ import import_
from mongo_datalayer.cli.indexes import indexes
from mongo_datalayer.cli.prune import prune
from mongo_datalayer.cli.role import role
from mongo_datalayer.cli.schema import schema
from mongo_datalayer.cli.search_index import search_index
from mongo_datalayer.cli.stats import stats
from mongo_datalayer.cli.views import views

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mongo-datalayer")
def main() -> None:
    """Chainlit conversations in MongoDB."""


main.add_command(demo)
main.add_command(doctor)
main.add_command(erase_user)
main.add_command(export)
main.add_command(files)
main.add_command(import_)
main.add_command(indexes)
main.add_command(role)
main.add_command(schema)
main.add_command(search_index)
main.add_command(stats)
main.add_command(prune)
main.add_command(views)
